"""The one cycle of a run: settle what was answered, lease what has room, write down what will be sent. One commit."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any
from uuid import UUID

from brightrun.generation.engine import ledger
from brightrun.generation.engine.ledger import Intent, Settled
from brightrun.generation.engine.line import Connection
from brightrun.generation.engine.rows import Leased
from brightrun.ids import uuid7

_MICRO = Decimal("0.000001")


@dataclass(slots=True)
class CycleResult:
    """leased: may be sent now. stop: `pause` or `cancel` when somebody asked. capped: an item is there, and sending it
    could pass the cap. next_at: when an item that waits for its next try may be sent. open: items not settled, of all
    runs; pending: not leased by anyone, those that wait for a next try included.
    """

    leased: list[Leased] = field(default_factory=list)
    stop: str | None = None
    capped: bool = False
    next_at: datetime | None = None
    open: int = 0
    pending: int = 0


_BATCH = "select stop_requested, reserved, max_cost, concurrency from batch_jobs where id = %s for update"
_OPEN = """
select count(*) filter (where status = 'processing'), count(*) filter (where status = 'pending'),
  min(retry_at) filter (where status = 'pending' and retry_at > now())
from batch_items where batch_job_id = %s and status in ('pending', 'processing')
"""
_UNSETTLED = """
select count(*) from batch_items item join llm_requests request on request.id = item.request_id
where item.batch_job_id = %s and item.status = 'processing' and request.status = 'sent' and item.run_id <> %s
"""
_LEASE = """
update batch_items item set status = 'processing', run_id = %(run)s, request_id = fresh.request_id,
  message_batch_id = %(message_batch)s, updated_at = now()
from (
  select id, (%(requests)s::uuid[])[row_number() over (order by position)] as request_id from (
    select id, position from batch_items
    where batch_job_id = %(batch)s and status = 'pending' and (retry_at is null or retry_at <= now())
    order by position limit %(places)s for update skip locked
  ) free
) fresh
where item.id = fresh.id
returning item.id, item.position, item.persona_key, item.arc_key, item.topic_key, item.template_key, item.tier,
  item.work_key, item.system_hash, item.prompt, item.max_tokens, item.turns_min, item.turns_max, item.attempts,
  item.bound, item.replicate, item.source - 'text', item.request_id
"""
_BACK = "update batch_items set status = 'pending', run_id = null, message_batch_id = null where id = any(%s)"
_RESERVE = "update batch_jobs set reserved = greatest(0, reserved + %s) where id = %s"


@dataclass(slots=True)
class Journal:
    """What the cycles of one run share. capped: whether the batch has a cap, so that reservations are kept."""

    workspace_id: UUID
    batch_id: UUID
    run_id: UUID
    provider: str
    model: str
    via: str

    async def cycle(
        self, connection: Connection, settled: Sequence[Settled], places: int, mine: int,
        message_batch_id: UUID | None = None,
    ) -> CycleResult:  # fmt: skip
        """places: how many more this run could send. mine: of its requests, how many are unsettled after this cycle."""
        result = CycleResult()
        row = await (await connection.execute(_BATCH, [self.batch_id])).fetchone()
        if row is None:
            result.stop = "cancel"  # The workspace, and the batch with it, was deleted.
            return result
        result.stop, reserved, cap, concurrency = row
        change = Decimal(0)
        if settled:
            await ledger.settle(connection, settled)
            change += sum((one.reservation_change for one in settled), Decimal(0))
        if places > 0 and result.stop is None:
            others = await (await connection.execute(_UNSETTLED, [self.batch_id, self.run_id])).fetchone()
            assert others is not None
            if message_batch_id is None:
                places = min(places, concurrency - mine - int(others[0]))
            room = None if cap is None else cap - reserved - change
            if places > 0:
                change += await self._lease(connection, places, room, message_batch_id, result)
        if change and cap is not None:
            await connection.execute(_RESERVE, [change, self.batch_id])
        if not result.leased:
            counted = await (await connection.execute(_OPEN, [self.batch_id])).fetchone()
            assert counted is not None
            result.open, result.pending, result.next_at = int(counted[0]), int(counted[1]), counted[2]
        return result

    async def _lease(
        self, connection: Connection, places: int, room: Decimal | None, message_batch_id: UUID | None,
        result: CycleResult,
    ) -> Decimal:  # fmt: skip
        """USD that the leased items reserve."""
        rows = await (
            await connection.execute(
                _LEASE,
                {
                    "run": self.run_id,
                    "batch": self.batch_id,
                    "places": places,
                    "message_batch": message_batch_id,
                    "requests": [uuid7() for _ in range(places)],
                },
            )
        ).fetchall()
        items = sorted((leased_from(row) for row in rows), key=lambda item: item.position)
        taken = Decimal(0)
        if room is not None:
            for index, item in enumerate(items):
                assert item.bound is not None  # A cap without a price is refused.
                bound = item.bound.quantize(_MICRO, ROUND_CEILING)
                if taken + bound > room:
                    await connection.execute(_BACK, [[late.id for late in items[index:]]])
                    items = items[:index]
                    result.capped = True
                    break
                taken += bound
        if items:
            await ledger.intend(
                connection,
                [
                    Intent(
                        id=item.request_id, workspace_id=self.workspace_id, work_key=item.work_key,
                        provider=self.provider, model=self.model, via=self.via, bound=item.bound, item_id=item.id,
                        batch_id=self.batch_id,
                    )
                    for item in items
                ],
            )  # fmt: skip
        result.leased = items
        return taken


def leased_from(row: tuple[Any, ...]) -> Leased:
    return Leased(
        id=row[0], position=row[1], persona_key=row[2], arc_key=row[3], topic_key=row[4], template_key=row[5],
        tier=row[6], work_key=row[7], system_hash=row[8], prompt=row[9], max_tokens=row[10], turns=(row[11], row[12]),
        attempts=row[13], bound=row[14], replicate=row[15], source=row[16], request_id=row[17],
    )  # fmt: skip
