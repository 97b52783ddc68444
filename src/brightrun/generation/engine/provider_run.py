"""The other route: items go into the provider's batches, at half the price, and come back within a day.

What is intended is written down before the provider is asked to make a batch. A batch whose making was never answered
(the connection broke, this process was killed) is looked for among the provider's own and adopted; only when it is
surely not there do its items go back. A batch that goes on at the provider while nobody looks is collected later.
"""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from brightrun.clock import utcnow
from brightrun.generation.engine.journal import CycleResult, leased_from
from brightrun.generation.engine.ledger import Settled
from brightrun.generation.engine.line import Connection
from brightrun.generation.engine.recovery import count_reserved
from brightrun.generation.engine.rows import Leased, note
from brightrun.generation.engine.run import Run
from brightrun.generation.prompts import request_for
from brightrun.generation.tables import StoppedReason
from brightrun.ids import uuid7
from brightrun.llm import message_batches
from brightrun.llm.calls import Answer, CallError, ProviderUnusable, RejectedError, Throttled
from brightrun.llm.claude import Claude
from brightrun.logs import get_logger

log = get_logger(__name__)

_FIRST_POLL_S, _LONGEST_POLL_S = 0.5, 30.0
_MISSING_S = 60.0
"""A batch just made may be unknown to parts of the provider for so long."""
_APPEARS_S = 10.0
"""A batch that the provider's list does not show so long after it was asked for was never made."""
_CLOCKS_S = 120.0
_GROUP = 200
_NOTHING = Decimal(0)

_HELD = """
select id, provider_id, requests, created_at from message_batches
where batch_job_id = %s and status in ('intended', 'created')
"""
_ITEMS = """
select item.id, item.position, item.persona_key, item.arc_key, item.topic_key, item.template_key, item.tier,
  item.work_key, item.system_hash, item.prompt, item.max_tokens, item.turns_min, item.turns_max, item.attempts,
  item.bound, item.replicate, item.source - 'text', item.request_id, request.status, request.cost
from batch_items item join llm_requests request on request.id = item.request_id
where item.message_batch_id = %s and item.status = 'processing'
"""


@dataclass
class Held:
    """A batch at the provider, or one that may be there."""

    id: UUID
    provider_id: str | None
    requests: int
    intended_at: datetime
    not_ours: set[str] = field(default_factory=set)
    next_poll: float = 0.0
    pause_s: float = _FIRST_POLL_S
    cancelled: bool = False


class ProviderRun(Run):
    """As `Run`, by the provider's batches. One at a time for each batch: a second waits for the first."""

    async def go(self) -> Any:
        await self._presence.hold_alone(self.batch.id, self.stop)
        return await super().go()

    @property
    def _claude(self) -> Claude:
        assert isinstance(self.client, Claude)
        return self.client

    async def _work(self, writer: asyncio.Task[None]) -> None:
        held = await self._line.transaction(self._take_over)
        while True:
            if writer.done():
                writer.result()
            result = await self._fill(held) if self._ending is None else None
            for one in list(held):
                if one.next_poll <= time.monotonic() and await self._look(one):
                    held.remove(one)
                    self._look_again = True
            self._tell()
            if not held and self._rows_idle.is_set():
                if self._ending is not None:
                    return None
                if result is not None and result.capped:
                    return self._stop(StoppedReason.CAP)
                if result is not None and not result.open and not result.pending:
                    return None
            if self._ending in {StoppedReason.PAUSED, StoppedReason.ERROR}:
                return None  # The provider goes on with what it has; the next run collects it.
            await self._rest(held, result)

    async def _take_over(self, connection: Connection) -> list[Held]:
        rows = await (await connection.execute(_HELD, [self.batch.id])).fetchall()
        await connection.execute(
            "update batch_items set run_id = %s where batch_job_id = %s and status = 'processing'"
            " and message_batch_id is not null",
            [self.run_id, self.batch.id],
        )
        return [Held(*row) for row in rows]

    async def _rest(self, held: list[Held], result: CycleResult | None) -> None:
        until = min((one.next_poll for one in held), default=time.monotonic() + 0.5) - time.monotonic()
        if result is not None and result.next_at is not None:
            until = min(until, (result.next_at - utcnow()).total_seconds())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(1.0, max(0.02, until))):
                await self._wake.wait()
        self._wake.clear()
        if (stop := await self._line.transaction(self._asked_to_stop)) is not None:
            self._stop(StoppedReason.CANCELLED if stop == "cancel" else StoppedReason.PAUSED)

    async def _asked_to_stop(self, connection: Connection) -> str | None:
        row = await (
            await connection.execute("select stop_requested from batch_jobs where id = %s", [self.batch.id])
        ).fetchone()
        return "cancel" if row is None else row[0]

    # --- into a batch ------------------------------------------------------------------------------------------------

    async def _fill(self, held: list[Held]) -> CycleResult | None:
        """Everything that may be sent goes into batches."""
        while True:
            fresh = Held(uuid7(), None, 0, utcnow())
            result = await self._line.transaction(lambda connection, fresh=fresh: self._intend(connection, fresh))  # type: ignore[misc]
            if result.stop is not None:
                self._stop(StoppedReason.CANCELLED if result.stop == "cancel" else StoppedReason.PAUSED)
            if not result.leased:
                return result
            fresh.requests = len(result.leased)
            held.append(fresh)
            await self._create(fresh, result.leased)
            if self._ending is not None:
                return None

    async def _intend(self, connection: Connection, fresh: Held) -> CycleResult:
        await connection.execute(
            "insert into message_batches (id, workspace_id, batch_job_id, requests) values (%s, %s, %s, 0)",
            [fresh.id, self.batch.workspace_id, self.batch.id],
        )
        result = await self._journal.cycle(connection, [], message_batches.MOST, 0, message_batch_id=fresh.id)
        if result.leased:
            await connection.execute(
                "update message_batches set requests = %s where id = %s", [len(result.leased), fresh.id]
            )
        else:
            await connection.execute("delete from message_batches where id = %s", [fresh.id])
        return result

    async def _create(self, fresh: Held, items: list[Leased]) -> None:
        batch = self.batch
        requests = [
            (
                item.request_id.hex,
                request_for(
                    model=batch.model, system=batch.systems[item.system_hash], user=item.prompt,
                    max_tokens=min(item.max_tokens, batch.max_output or item.max_tokens), effort=batch.effort,
                    long=True,
                ),
            )
            for item in items
        ]  # fmt: skip
        while True:
            try:
                told = await message_batches.create(self._claude, requests)
            except Throttled as error:
                await asyncio.sleep(error.retry_after_s or 1.0)
                continue
            except (RejectedError, ProviderUnusable) as error:
                await self._line.transaction(lambda connection, why=error.message: self._lost(connection, fresh, why))  # type: ignore[misc]
                fresh.requests = 0
                self._stop(StoppedReason.ERROR, error)
                return
            except CallError as error:
                log.warning("whether a batch was made is not known; it is looked for", error=error.message)
                return
            break
        self.progress.sent += len(items)
        self.progress.first_sent = self.progress.first_sent or time.monotonic()
        fresh.provider_id = told.id
        await self._line.transaction(lambda connection: self._created(connection, fresh, "made"))

    async def _created(self, connection: Connection, one: Held, how: str) -> None:
        await connection.execute(
            "update message_batches set provider_id = %s, status = 'created' where id = %s and status = 'intended'",
            [one.provider_id, one.id],
        )
        text = f"{one.requests:,} requests are in the provider's batch {one.provider_id} ({how})."
        await note(connection, self._context, [(None, "batched", "info", text)])

    async def _lost(self, connection: Connection, one: Held, why: str) -> None:
        """The provider has no such batch: nothing was asked, nothing is charged."""
        await connection.execute(
            "update llm_requests set status = 'failed', cost = 0, error = %s, settled_at = now() where status = 'sent'"
            " and id in (select request_id from batch_items where message_batch_id = %s and status = 'processing')",
            [why, one.id],
        )
        await connection.execute(
            "update batch_items set status = 'pending', run_id = null, message_batch_id = null"
            " where message_batch_id = %s and status = 'processing'",
            [one.id],
        )
        await connection.execute("update message_batches set status = 'lost', ended_at = now() where id = %s", [one.id])
        await count_reserved(connection, self.batch.workspace_id, self.batch.id)

    # --- out of a batch ----------------------------------------------------------------------------------------------

    async def _look(self, one: Held) -> bool:
        """True when it is over: collected, or never made."""
        one.pause_s = min(one.pause_s * 1.5, _LONGEST_POLL_S)
        one.next_poll = time.monotonic() + one.pause_s
        if one.requests == 0:
            return True
        try:
            if one.provider_id is None:
                return await self._adopt(one)
            if self._ending is StoppedReason.CANCELLED and not one.cancelled:
                one.cancelled = True
                await message_batches.cancel(self._claude, one.provider_id)
            if not (await message_batches.get(self._claude, one.provider_id)).ended:
                return False
            await self._collect(one)
        except ProviderUnusable as error:
            if error.http_status == 404 and utcnow() - one.intended_at < timedelta(seconds=_MISSING_S):
                return False
            self._stop(StoppedReason.ERROR, error)
            return False
        except Throttled as error:
            one.next_poll = time.monotonic() + (error.retry_after_s or 1.0)
            return False
        except CallError as error:
            log.warning("the provider's batch could not be asked about; it will be again", error=error.message)
            return False
        return True

    async def _adopt(self, one: Held) -> bool:
        """Find the batch that was asked for among the provider's: its size and time fit, and its results name ours."""
        since = one.intended_at - timedelta(seconds=_CLOCKS_S)
        known = await self._line.transaction(self._known)
        fitting = [
            told
            for told in await message_batches.recent(self._claude, since)
            if told.total == one.requests and told.id not in known and told.id not in one.not_ours
        ]
        for told in fitting:
            if not told.ended:
                continue  # Its results will tell whose it is.
            ours = {item.request_id.hex for item, _, _ in await self._items(one)}
            first = await anext(message_batches.results(self._claude, told.id), None)
            if first is not None and first[0] in ours:
                one.provider_id = told.id
                self.progress.sent += one.requests
                await self._line.transaction(lambda connection: self._created(connection, one, "found and adopted"))
                one.next_poll = 0.0
                return False
            one.not_ours.add(told.id)
        if fitting or utcnow() - one.intended_at < timedelta(seconds=_APPEARS_S):
            return False
        why = "the provider never made the batch"
        await self._line.transaction(lambda connection: self._lost(connection, one, why))
        return True

    async def _known(self, connection: Connection) -> set[str]:
        rows = await connection.execute("select provider_id from message_batches where provider_id is not null")
        return {row[0] for row in await rows.fetchall()}

    async def _items(self, one: Held) -> list[tuple[Leased, str, Any]]:
        """(item, its request's status, cost) of the items that are in the batch still."""

        async def read(connection: Connection) -> list[tuple[Any, ...]]:
            return await (await connection.execute(_ITEMS, [one.id])).fetchall()

        return [(leased_from(row[:18]), row[18], row[19]) for row in await self._line.transaction(read)]

    async def _collect(self, one: Held) -> None:
        assert one.provider_id is not None
        waiting = {item.request_id.hex: (item, status, paid) for item, status, paid in await self._items(one)}
        group: list[tuple[Leased, Answer | CallError | None]] = []
        async for name, came in message_batches.results(self._claude, one.provider_id):
            found = waiting.pop(name, None)
            if found is None:
                continue  # Collected before a kill.
            item, status, paid = found
            if status == "sent":
                group.append((item, came))
            else:
                self._hand_over(item, came, paid)
            if len(group) >= _GROUP:
                await self._keep(group)
                group = []
        for item, _status, _paid in waiting.values():
            error = CallError("the provider's results do not name this request")
            error.charged = "unknown"
            group.append((item, error))
        await self._keep(group)
        await self._rows_idle.wait()
        await self._line.transaction(lambda connection: self._collected(connection, one))

    async def _keep(self, group: list[tuple[Leased, Answer | CallError | None]]) -> None:
        settled = [
            Settled(item.request_id, "failed", item.bound, _NOTHING) if came is None else self._settled(item, came)
            for item, came in group
        ]
        await self._line.transaction(lambda connection: self._journal.cycle(connection, settled, 0, 0))
        for (item, came), one in zip(group, settled, strict=True):
            self._hand_over(item, came, one.cost)
            if one.cost is not None:
                self.progress.spent += one.cost

    def _hand_over(self, item: Leased, came: Answer | CallError | None, paid: Any) -> None:
        self._to_read.append((item, came, paid))
        self._rows_idle.clear()
        self._rows_wake.set()

    async def _collected(self, connection: Connection, one: Held) -> None:
        await connection.execute(
            "update message_batches set status = 'collected', ended_at = now() where id = %s", [one.id]
        )
        await note(connection, self._context, [(None, "collected", "info", f"The batch {one.provider_id} has ended.")])
