"""A workspace's budget of a month: its default, who may change it, and who is told when how much of it is used."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from test_costs_pages import charge

from brightrun.accounts.roles import Role
from live import Live, Member
from page_client import PageClient, words


@pytest.fixture
def browser(live: Live, owner: Member) -> Iterator[PageClient]:
    with PageClient(live, owner) as made:
        yield made


def budget(member: Member) -> dict[str, Any]:
    told: dict[str, Any] = member.client.get("/api/budget").json()["data"]["budget"]
    return told


def alerts(member: Member) -> list[str]:
    items = member.client.get("/api/notifications").json()["data"]["items"]
    return [item["title"] for item in items if item["type"] == "cost_alert"]


def test_a_workspace_begins_with_five_hundred_dollars_a_month(live: Live, owner: Member) -> None:
    charge(live, owner, "125", "a")
    told = budget(owner)
    assert told["monthly_limit_usd"] == "500.000000"
    assert (told["spent_usd"], told["remaining_usd"], told["used_percent"]) == ("125.000000", "375.000000", 25.0)
    assert Decimal(told["projected_usd"]) >= 125
    assert told["first_day"].endswith("-01")


def test_a_change_is_for_owners_and_admins_and_is_kept_in_the_audit_log(live: Live, owner: Member) -> None:
    for role, status in ((Role.VIEWER, 403), (Role.TRAINER, 403), (Role.ADMIN, 200)):
        member = live.new_member(owner.workspace_id, role)
        body = {"monthly_limit_usd": "800.50", "reason": "A larger client"}
        assert member.client.put("/api/budget", json=body).status_code == status
    assert budget(owner)["monthly_limit_usd"] == "800.500000"
    entries = owner.client.get("/api/audit").json()["data"]["items"]
    (entry,) = [entry for entry in entries if entry["action"] == "budget.changed"]
    expected = {"before": "500.00", "after": "800.50", "reason": "A larger client"}
    assert {name: entry["details"][name] for name in expected} == expected


@pytest.mark.parametrize("limit", ["0", "-1", "1e9", "many"])
def test_what_is_no_limit_is_refused(owner: Member, limit: str) -> None:
    assert owner.client.put("/api/budget", json={"monthly_limit_usd": limit}).status_code == 400


def test_no_limit_is_a_limit_of_its_own(live: Live, owner: Member) -> None:
    owner.client.put("/api/budget", json={"monthly_limit_usd": None})
    charge(live, owner, "5000", "a")
    told = budget(owner)
    assert (told["monthly_limit_usd"], told["remaining_usd"], told["used_percent"]) == (None, None, None)
    assert alerts(owner) == []


def test_everyone_is_told_once_at_each_threshold(live: Live, owner: Member) -> None:
    charge(live, owner, "399.99", "a")
    assert alerts(owner) == []
    charge(live, owner, "0.01", "b")
    charge(live, owner, "10", "c")
    assert alerts(owner) == ["80 % of the monthly budget is used"]
    charge(live, owner, "200", "d")
    assert sorted(alerts(owner)) == [
        "80 % of the monthly budget is used", "95 % of the monthly budget is used", "The monthly budget is used up",
    ]  # fmt: skip
    owner.client.put("/api/budget", json={"monthly_limit_usd": "700"})
    charge(live, owner, "1", "e")
    assert len(alerts(owner)) == 4, "a new limit has thresholds of its own"


def test_another_workspace_has_a_budget_of_its_own(live: Live, owner: Member) -> None:
    owner.client.put("/api/budget", json={"monthly_limit_usd": "10"})
    assert budget(live.new_workspace())["monthly_limit_usd"] == "500.000000"


def test_every_way_to_look_at_a_period_adds_up_to_the_ledger(live: Live, owner: Member) -> None:
    amounts = [f"{number}.{number:06}" for number in range(1, 15)]
    for number, amount in enumerate(amounts):
        charge(live, owner, amount, f"k{number}", uuid4() if number % 3 else None)
    costs = owner.client.get("/api/costs").json()["data"]["costs"]
    total = sum(map(Decimal, amounts))
    assert Decimal(costs["total_cost"]) == total
    for part in ("by_job", "by_dataset", "by_preset"):
        assert sum(Decimal(share["amount"]) for share in costs[part]) == total
        assert sum(share["charges"] for share in costs[part]) == len(amounts)


def test_the_page_shows_the_budget_and_changes_it(live: Live, owner: Member, browser: PageClient) -> None:
    charge(live, owner, "123.45", "a")
    text = words(browser.get("/costs"))
    assert "$123.45 of $500.00" in text
    assert "$376.55 left to begin something new" in text
    assert browser.submit("/costs", "/costs/budget", monthly_limit_usd="$1,000", reason="More").status_code == 303
    assert "of $1,000.00" in words(browser.get("/costs"))
    browser.submit("/costs", "/costs/budget", monthly_limit_usd="nothing")
    assert "The budget was not changed" in words(browser.get("/costs"))
