"""Money: recorded once, exact to a millionth of a dollar, never changed; the audit log is as permanent."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from brightrun import audit
from brightrun.accounts.roles import Role
from brightrun.clock import utcnow
from brightrun.costs import service
from brightrun.costs.tables import CostType
from brightrun.db.session import Database
from brightrun.errors import ConflictError
from live import Live, Member


def charge(live: Live, member: Member, amount: str, key: str, **values: Any) -> Decimal:
    async def work(database: Database) -> Decimal:
        async with database.transaction(workspace_id=member.workspace_id) as session:
            record = await service.record(
                session,
                amount=Decimal(amount),
                dedupe_key=key,
                **{"cost_type": CostType.COMPUTE, **values},
            )
            return record.amount

    amount_recorded: Decimal = live.run(work)
    return amount_recorded


def costs(member: Member, **query: object) -> dict[str, Any]:
    response = member.client.get("/api/costs", params=query)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()["data"]["costs"]
    return answer


def test_sums_are_exact_by_type_by_day_and_this_month(live: Live, owner: Member) -> None:
    for number in range(10):
        charge(live, owner, "0.1", f"c{number}")
    charge(live, owner, "0.000001", "api", cost_type=CostType.API_CALLS)
    answer = costs(owner)
    assert answer["total_cost"] == answer["spent_this_month"] == "1.000001"
    assert answer["cost_by_type"] == {"compute": "1.000000", "api_calls": "0.000001"}
    assert len(answer["chart_data"]) == 30
    assert answer["chart_data"][-1] == {"date": utcnow().date().isoformat(), "amount": "1.000001"}
    assert answer["chart_data"][0]["amount"] == "0.000000"


def test_a_charge_is_recorded_once_however_often_its_task_runs(live: Live, owner: Member) -> None:
    for _ in range(3):
        assert charge(live, owner, "2.5", "job:1:compute") == Decimal("2.5")
    assert costs(owner)["total_cost"] == "2.500000"


def test_the_same_charge_with_another_amount_is_a_conflict_not_a_silence(live: Live, owner: Member) -> None:
    charge(live, owner, "2.5", "job:1:compute")
    with pytest.raises(ConflictError, match=r"2\.500000 USD"):
        charge(live, owner, "3", "job:1:compute")


def test_another_workspace_sees_none_of_it(live: Live, owner: Member) -> None:
    charge(live, owner, "2.5", "job:1:compute")
    other = live.new_workspace()
    assert costs(other)["total_cost"] == "0.000000"
    assert other.client.get("/api/costs/records").json()["data"]["total"] == 0


def test_records_are_listed_filtered_and_sorted(live: Live, owner: Member) -> None:
    job = uuid4()
    charge(live, owner, "3", "a", job_id=job, details={"hours": 1.5})
    charge(live, owner, "1", "b")
    charge(live, owner, "2", "c", cost_type=CostType.STORAGE)

    def amounts(**query: object) -> list[str]:
        data = owner.client.get("/api/costs/records", params=query).json()["data"]
        assert {"items", "total", "page", "limit"} == set(data)
        return [item["amount"] for item in data["items"]]

    assert amounts(sort="-amount") == ["3.000000", "2.000000", "1.000000"]
    assert amounts(cost_type="storage") == ["2.000000"]
    assert amounts(job_id=str(job)) == ["3.000000"]
    assert amounts(sort="amount", limit=1, page=2) == ["2.000000"]


def test_given_dates_are_both_included_and_wrong_ones_are_named(live: Live, owner: Member) -> None:
    charge(live, owner, "1", "today")
    today = utcnow().date()
    assert costs(owner, start_date=today, end_date=today)["total_cost"] == "1.000000"
    yesterday = today - timedelta(days=1)
    assert costs(owner, start_date=yesterday, end_date=yesterday)["total_cost"] == "0.000000"
    wrong = [
        {"start_date": today},
        {"end_date": today},
        {"start_date": today, "end_date": yesterday},
        {"start_date": "0001-01-01", "end_date": "9999-12-31"},
        {"period": "century"},
        {"sort": "password"},
    ]
    for query in wrong:
        response = owner.client.get("/api/costs/records", params=query)
        assert response.status_code == 400, query
        assert response.json()["details"], query


def test_a_viewer_may_not_see_costs(live: Live, owner: Member) -> None:
    viewer = live.new_member(owner.workspace_id, Role.VIEWER)
    assert viewer.client.get("/api/costs").status_code == 403


@given(st.decimals(min_value=0, max_value=Decimal("999999.999999"), allow_nan=False, allow_infinity=False))
def test_rounding_moves_an_amount_by_at_most_half_a_millionth(amount: Decimal) -> None:
    rounded = service.to_usd(amount)
    assert abs(rounded - amount) <= Decimal("0.0000005")
    assert rounded.as_tuple().exponent == -6


@pytest.mark.parametrize("amount", [Decimal(-1), Decimal("NaN"), Decimal("Infinity"), Decimal(1_000_000)])
def test_what_is_no_charge_is_refused(amount: Decimal) -> None:
    with pytest.raises(ValueError, match="is no charge"):
        service.to_usd(amount)


def test_a_float_is_no_money() -> None:
    with pytest.raises(TypeError, match="never a float"):
        service.to_usd(0.1)  # type: ignore[arg-type]


def test_a_billing_period_is_its_month() -> None:
    assert service.billing_period(date(2026, 11, 30)) == date(2026, 11, 1)


@pytest.mark.anyio
@pytest.mark.parametrize("table", ["audit_log", "cost_records"])
@pytest.mark.parametrize("role", ["app_db", "worker_db"])
async def test_what_was_charged_or_done_can_be_neither_changed_nor_deleted(
    table: str, role: str, request: pytest.FixtureRequest, app_db: Database, worker_db: Database
) -> None:
    database = app_db if role == "app_db" else worker_db
    for statement in (f"delete from {table}", f"update {table} set details = '{{}}'"):
        with pytest.raises(ProgrammingError, match="permission denied"):
            async with database.transaction() as session:
                await session.execute(text(statement))


@pytest.mark.anyio
async def test_the_audit_log_names_who_did_what_in_the_transaction_of_the_act(
    live: Live, owner: Member, app_db: Database
) -> None:
    async with app_db.transaction(user_id=owner.user_id, workspace_id=owner.workspace_id) as session:
        await audit.record(session, "dataset.deleted", "dataset", UUID(int=7), {"name": "pottery"})
    async with app_db.transaction(user_id=owner.user_id) as session:
        await audit.record(session, "signed_in", "user", owner.user_id)
    lines = text("select action, user_id, target_id, details from audit_log where action = any(:actions) order by id")
    asked = {"actions": ["dataset.deleted", "signed_in"]}
    async with app_db.transaction(user_id=owner.user_id, workspace_id=owner.workspace_id) as session:
        rows = (await session.execute(lines, asked)).all()
    assert [tuple(row) for row in rows] == [
        ("dataset.deleted", owner.user_id, str(UUID(int=7)), {"name": "pottery"}),
        ("signed_in", owner.user_id, str(owner.user_id), {}),
    ]
    other = live.new_workspace()
    async with app_db.transaction(user_id=other.user_id, workspace_id=other.workspace_id) as session:
        assert (await session.execute(lines, asked)).all() == []
    async with app_db.transaction() as session:
        with pytest.raises(LookupError, match="neither"):
            await audit.record(session, "x", "y", None)
