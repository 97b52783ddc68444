"""The costs page: sums that agree with the charges, a period in the address, and a CSV that a spreadsheet can trust."""

import csv
import io
import itertools
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brightrun.accounts.roles import Role
from brightrun.costs import service
from brightrun.costs.pages import TYPE_WORDS, bars
from brightrun.costs.schemas import DayCost
from brightrun.costs.tables import CostType
from brightrun.db.session import Database
from brightrun.web.text import plain_cell
from live import Live, Member
from page_client import PageClient, words


def charge(live: Live, member: Member, amount: str, key: str, job_id: UUID | None = None, **details: Any) -> None:
    async def work(database: Database) -> None:
        async with database.transaction(workspace_id=member.workspace_id) as session:
            await service.record(
                session,
                cost_type=CostType.COMPUTE,
                amount=Decimal(amount),
                dedupe_key=key,
                job_id=job_id,
                details=details,
            )

    live.run(work)


@pytest.fixture
def browser(live: Live, owner: Member) -> Iterator[PageClient]:
    with PageClient(live, owner) as made:
        yield made


def test_every_type_of_cost_has_a_name():
    assert TYPE_WORDS.keys() == set(CostType)


def test_nothing_spent_is_said_plainly(browser: PageClient):
    assert "Nothing spent in this period" in browser.get("/costs")


def test_the_page_shows_sums_by_job_and_each_charge(live: Live, owner: Member, browser: PageClient):
    job = uuid4()
    charge(live, owner, "2.25", "a", job, price_per_hour_usd="4.5")
    charge(live, owner, "0.25", "b", job)
    charge(live, owner, "0.0042", "c")
    page = words(browser.get("/costs"))
    assert "$2.50" in page
    assert "price per hour usd: 4.5" in page
    assert "$0.0042" in page
    assert "1–3 of 3 charges" in page
    assert words(browser.part("/costs")).startswith("Spent in this period $2.50")


def test_dates_that_make_no_period_are_told_and_the_last_days_shown(browser: PageClient):
    for query in ("start_date=2026-02-31", "start_date=2026-02-01", "start_date=2026-02-02&end_date=2026-02-01"):
        answer = browser.client.get(f"/costs?{query}")
        assert answer.status_code == 400
        assert "the last days are shown instead" in answer.text
        assert browser.client.get(f"/costs/export.csv?{query}").status_code == 400


def test_the_export_has_every_charge_to_the_last_digit(live: Live, owner: Member, browser: PageClient):
    for number in range(30):
        charge(live, owner, "0.000001", f"c{number}")
    answer = browser.client.get("/costs/export.csv?period=week")
    assert answer.headers["content-type"].startswith("text/csv")
    assert "attachment" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 30
    assert sum(Decimal(row["amount_usd"]) for row in rows) == Decimal("0.000030")


def test_who_may_not_see_costs_is_refused(live: Live, owner: Member):
    with PageClient(live, live.new_member(owner.workspace_id, Role.VIEWER)) as viewer:
        assert viewer.client.get("/costs").status_code == 403
        assert viewer.client.get("/costs/export.csv").status_code == 403


def test_a_name_that_begins_like_a_formula_becomes_text():
    assert plain_cell("=HYPERLINK(1)") == "'=HYPERLINK(1)"
    assert plain_cell("plain") == "plain"


@given(st.lists(st.decimals(0, 1000, places=6), min_size=1, max_size=400), st.integers(1, 70))
def test_bars_lose_no_cent_and_no_day(amounts: list[Decimal], most: int):
    first = date(2026, 1, 1)
    days = [DayCost(date=first + timedelta(days=place), amount=amount) for place, amount in enumerate(amounts)]
    made = bars(days, most)
    assert len(made) <= most
    assert sum(bar.amount for bar in made) == sum(amounts)
    assert (made[0].first, made[-1].last) == (days[0].date, days[-1].date)
    assert all(one.last + timedelta(days=1) == following.first for one, following in itertools.pairwise(made))
    assert all(0 <= bar.share <= 1 for bar in made)
