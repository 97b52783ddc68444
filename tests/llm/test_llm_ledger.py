"""The ledger: written before, settled after, exact sums, unknown ends at their bound, into the costs once."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text

from brightrun.clock import utcnow
from brightrun.costs.model_calls import record_model_calls
from brightrun.db.session import Database
from brightrun.ids import uuid7
from brightrun.llm import ledger
from brightrun.llm.calls import (
    Answer,
    ConnectionBroken,
    Message,
    Provider,
    RejectedError,
    Request,
    StopReason,
    Usage,
    Via,
)
from brightrun.llm.prices import cost, shipped
from brightrun.llm.raw import read_raw
from live import Live, Member

REQUEST = Request("claude-haiku-5-5", 1000, [Message("user", "hello")])
BATCH = Via.BATCH


def answer(tokens: int = 7) -> Answer:
    usage = {"input_tokens": tokens, "output_tokens": 3, "cache_read_input_tokens": 1}
    body = {"id": "m", "content": [{"type": "text", "text": "hi \x00"}], "stop_reason": "end_turn", "usage": usage}
    raw = orjson.dumps(body).decode()
    return Answer(raw, "hi", StopReason.END, "end_turn", Usage(tokens, 3, cache_read_tokens=1), "claude-haiku-5-5")


async def bought(session: Any, number: int, batch: UUID | None, came: Any, bound: str = "0.001") -> UUID:
    request_id = await ledger.intend(
        session, key=ledger.work_key(REQUEST, Provider.ANTHROPIC, number), provider=Provider.ANTHROPIC,
        model=REQUEST.model, via=BATCH, bound=Decimal(bound), batch_id=batch,
    )  # fmt: skip
    if came is not None:
        usd = cost(came.usage, shipped().price(REQUEST.model), BATCH) if isinstance(came, Answer) else None
        await ledger.settle(session, request_id, came, usd)
    return request_id


def run(live: Live, member: Member, work: Any) -> Any:
    async def main(database: Database) -> Any:
        async with database.transaction(workspace_id=member.workspace_id) as session:
            return await work(session)

    return live.run(main)


def test_sums_are_exact_far_below_a_millionth_and_what_is_unknown_stands_beside_them(live: Live, owner: Member) -> None:
    batch = uuid7()

    async def work(session: Any) -> Any:
        for number in range(3):
            await bought(session, number, batch, answer())
        await bought(session, 3, batch, ConnectionBroken("reset"), bound="0.25")
        await bought(session, 4, batch, RejectedError("no"))
        await bought(session, 5, batch, None, bound="0.125")
        await bought(session, 6, uuid7(), answer())
        return await ledger.spent(session, batch_id=batch), await ledger.spent(session)

    found, everything = run(live, owner, work)
    one = (7 * Decimal("0.10") + 3 * Decimal("0.50") + Decimal("0.01")) / 1_000_000 / 2
    assert found.cost == 3 * one == Decimal("0.000003315")
    assert (found.answered, found.unknown, found.failed, found.in_flight) == (3, 1, 1, 1)
    assert (found.unknown_max, found.in_flight_max) == (Decimal("0.25"), Decimal("0.125"))
    assert found.upper == found.cost + Decimal("0.375")
    assert everything.answered == 4
    assert run(live, live.new_workspace(), ledger.spent).answered == 0


def test_an_answer_is_found_by_what_was_asked_and_its_replicate_and_reads_as_it_came(live: Live, owner: Member) -> None:
    async def work(session: Any) -> Any:
        await bought(session, 0, None, answer())
        return [
            await ledger.answered(session, ledger.work_key(REQUEST, Provider.ANTHROPIC, replicate))
            for replicate in (0, 1)
        ]

    first, second = run(live, owner, work)
    assert second is None
    again = read_raw(Provider.ANTHROPIC, first.raw)
    assert (again.usage, again.stop_reason) == (answer().usage, StopReason.END)


def test_an_answer_that_turns_up_late_counts_and_one_that_is_settled_stays(live: Live, owner: Member) -> None:
    async def work(session: Any) -> Any:
        late = await bought(session, 0, None, None)
        assert await ledger.adopt(session, utcnow() + timedelta(minutes=1)) == 1
        assert (await ledger.spent(session)).unknown == 1
        await ledger.settle(session, late, answer(), Decimal("0.5"))
        await ledger.settle(session, late, ConnectionBroken("again"), None)
        return await ledger.spent(session)

    found = run(live, owner, work)
    assert (found.answered, found.unknown, found.cost) == (1, 0, Decimal("0.5"))


def test_a_cap_counts_what_is_on_its_way_and_two_at_once_do_not_both_take_the_rest(live: Live, owner: Member) -> None:
    batch, cap = uuid7(), Decimal("1")

    async def main(database: Database) -> int:
        async def one(number: int) -> bool:
            async with database.transaction(workspace_id=owner.workspace_id) as session:
                if not await ledger.has_room(session, cap, Decimal("0.3"), batch_id=batch):
                    return False
                await bought(session, number, batch, None, bound="0.3")
                return True

        return sum(await asyncio.gather(*(one(number) for number in range(8))))

    assert live.run(main) == 3
    assert run(live, owner, lambda session: ledger.has_room(session, cap, None, batch_id=batch)) is False


def test_what_was_settled_goes_into_the_costs_once_and_to_the_last_digit_kept(live: Live, owner: Member) -> None:
    batch = uuid7()

    async def work(session: Any) -> Any:
        for number in range(200):
            await bought(session, number, batch, answer(1000 + number))
        counts = [await record_model_calls(session), await record_model_calls(session)]
        return counts, (await ledger.spent(session)).cost

    counts, total = run(live, owner, work)
    assert counts == [1, 0]
    shown = owner.client.get("/api/costs").json()["data"]["costs"]
    assert Decimal(shown["cost_by_type"]["api_calls"]) == total.quantize(Decimal("0.000001"))

    async def unrecorded(session: Any) -> list[UUID]:
        rows = await session.execute(text("select workspace_id from llm_requests where not recorded and cost > 0"))
        return list(rows.scalars())

    assert run(live, owner, unrecorded) == []
