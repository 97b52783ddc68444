"""One run of one batch in one process: from the first lease to the last row."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import make_url

from brightrun.clock import utcnow
from brightrun.db.roles import libpq
from brightrun.errors import BrightRunError
from brightrun.generation.answers import Failure, read_answer
from brightrun.generation.engine import recovery
from brightrun.generation.engine.journal import CycleResult, Journal, leased_from
from brightrun.generation.engine.ledger import Settled
from brightrun.generation.engine.line import Connection, Line
from brightrun.generation.engine.rows import Context, Done, Leased, note, write_rows
from brightrun.generation.engine.sending import paced
from brightrun.generation.prompts import request_for
from brightrun.generation.tables import StoppedReason
from brightrun.ids import uuid7
from brightrun.llm.calls import Answer, CallError, ChatClient, Outcome, Provider, ProviderUnusable, Via
from brightrun.llm.prices import Price, cost
from brightrun.logs import get_logger

log = get_logger(__name__)

_LONGEST_LINGER_S = 0.02
_LINGER_SHARE = 0.02
"""How long a cycle waits for more answers, as a share of what one takes: the places they leave stay empty so long."""
_ROWS_LINGER_S = 0.03
_TICK_S = 0.5
"""How soon a pause, another run's death or an item's next try is noticed when nothing else happens."""
_BURY_S = 5.0
_UNREACHABLE = 20
"""So many requests in a row without an answer: the provider is away, and failing item by item would help nobody."""


@dataclass
class BatchFacts:
    """What a run has to know of its batch. systems: system parts by hash."""

    id: UUID
    workspace_id: UUID
    user_id: UUID | None
    name: str
    provider: Provider
    model: str
    via: Via
    systems: dict[str, str]
    concurrency: int
    max_attempts: int
    stop_on_error: bool
    capped: bool
    price: Price | None
    effort: str | None
    max_output: int | None
    pack_key: str
    pack_version: str
    names: dict[str, str]
    total: int


@dataclass
class Progress:
    """Where a run is. sent: requests that left, throttled ones too. rate: conversations a second, lately."""

    sent: int = 0
    written: int = 0
    failed: int = 0
    again: int = 0
    unknown: int = 0
    recovered: int = 0
    in_flight: int = 0
    throttled: int = 0
    spent: Decimal = Decimal(0)
    first_sent: float | None = None
    last_row: float | None = None
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=200))

    @property
    def latency_s(self) -> float | None:
        return sum(self.latencies) / len(self.latencies) if self.latencies else None


@dataclass
class RunEnd:
    reason: StoppedReason
    progress: Progress
    error: BrightRunError | None = None


class Run:
    """Call `go` once. stop: set it to end early; what is on its way is waited for."""

    def __init__(
        self,
        url: str,
        batch: BatchFacts,
        client: ChatClient,
        *,
        stop: asyncio.Event,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.batch = batch
        self.client = client
        self._paced = paced(client, batch.concurrency, self._left)
        self.stop = stop
        self.progress = Progress()
        self.run_id = uuid7()
        self._on_progress = on_progress
        self._presence = recovery.Presence(libpq(make_url(url)))
        self._line = Line(url, batch.workspace_id, batch.user_id, "brightrun batch")
        self._rows_line = Line(url, batch.workspace_id, batch.user_id, "brightrun batch rows")
        self._journal = Journal(
            batch.workspace_id, batch.id, self.run_id, batch.provider.value, batch.model, batch.via.value
        )
        self._context = Context(
            batch.workspace_id, batch.id, self.run_id, batch.user_id, batch.pack_key, batch.max_attempts,
            batch.names, batch.pack_version,
        )  # fmt: skip
        self._in_flight: dict[UUID, Leased] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._answered: list[tuple[Leased, Answer | CallError]] = []
        self._settling: list[Leased] = []
        self._reading: list[Leased] = []
        self._to_read: list[tuple[Leased, Answer | CallError | None, Decimal | None]] = []
        self._wake = asyncio.Event()
        self._rows_wake = asyncio.Event()
        self._rows_idle = asyncio.Event()
        self._rows_idle.set()
        self._ending: StoppedReason | None = None
        self._error: BrightRunError | None = None
        self._without_answer = 0
        self._look_again = True

    async def go(self) -> RunEnd:
        await self._presence.hold()
        self._line.on_reconnect = self._reconnected
        await self._line.transaction(self._begin)
        writer = asyncio.create_task(self._write(), name="rows of a batch")
        watcher = asyncio.create_task(self._watch(), name="stop of a batch")
        try:
            await self._work(writer)
            await self._rows_idle.wait()
            reason = self._ending or StoppedReason.FINISHED
            await self._line.transaction(lambda connection: self._end(connection, reason))
            return RunEnd(reason, self.progress, self._error)
        finally:
            for task in (watcher, writer, *self._tasks):
                task.cancel()
            await asyncio.gather(watcher, writer, *self._tasks, return_exceptions=True)
            await self._line.close()
            await self._rows_line.close()
            await self._presence.let_go()

    # --- beginning and end -------------------------------------------------------------------------------------------

    async def _begin(self, connection: Connection) -> None:
        batch = self.batch
        await recovery.register(connection, batch.workspace_id, batch.id, self.run_id, self._presence.key)
        await self._bury(connection)
        await recovery.count_reserved(connection, batch.workspace_id, batch.id)
        await connection.execute(
            "update batch_jobs set status = 'processing', stopped_reason = null, stop_requested = null,"
            " error_code = null, error_message = null, completed_at = null,"
            " started_at = coalesce(started_at, now()), updated_at = now() where id = %s",
            [batch.id],
        )

    async def _bury(self, connection: Connection) -> None:
        found = await recovery.bury(connection, self.batch.id, self.run_id)
        self.progress.unknown += found.unknown
        for row in found.answered:
            answer = recovery.answer_from(self.batch.provider.value, row[18], row[20])
            self.progress.recovered += 1
            self._to_read.append((leased_from(row[:18]), answer, row[19]))
        if found.answered:
            self._rows_idle.clear()
            self._rows_wake.set()
        if found.runs:
            self._look_again = True
            words = (
                f"A run ended without a word: {len(found.answered)} of its answers were kept, {found.unknown} requests "
                "have an unknown end and count at their upper bound."
            )
            await note(connection, self._context, [(None, "adopted", "warning", words)])

    async def _end(self, connection: Connection, reason: StoppedReason) -> None:
        status = {
            StoppedReason.FINISHED: "completed",
            StoppedReason.CAP: "paused",
            StoppedReason.PAUSED: "paused",
            StoppedReason.CANCELLED: "cancelled",
            StoppedReason.ERROR: "failed",
        }[reason]
        await connection.execute(
            "update batch_runs set ended_at = now(), stopped_reason = %s, sent = %s where id = %s",
            [reason.value, self.progress.sent, self.run_id],
        )
        row = await (
            await connection.execute(
                "select count(*) from batch_runs where batch_job_id = %s and ended_at is null", [self.batch.id]
            )
        ).fetchone()
        if row is not None and row[0] and reason is not StoppedReason.ERROR:
            return  # Others are at it still: the last one says how it ended.
        await connection.execute(
            "update batch_jobs set status = %s, stopped_reason = %s, stop_requested = null, error_code = %s,"
            " error_message = %s, completed_at = case when %s = 'completed' then now() end, updated_at = now()"
            " where id = %s",
            [status, reason.value, self._error.code if self._error else None,
             self._error.message if self._error else None, status, self.batch.id],
        )  # fmt: skip
        level = "error" if reason is StoppedReason.ERROR else "info"
        text = self._error.message if self._error is not None else _ENDS[reason]
        await note(connection, self._context, [(None, reason.value, level, text)])

    async def _reconnected(self, connection: Connection) -> None:
        """What this run does not know to hold it does not hold: a commit's answer was lost, nothing was sent."""
        await self._presence.hold()
        known = [item.id for item in (*self._in_flight.values(), *self._settling, *self._reading)]
        known += [item.id for item, _ in self._answered] + [item.id for item, _, _ in self._to_read]
        await connection.execute(
            "with stray as (update batch_items set status = 'pending', run_id = null where run_id = %(run)s"
            " and status = 'processing' and message_batch_id is null and id <> all(%(known)s) returning request_id)"
            " delete from llm_requests where status = 'sent' and id in (select request_id from stray)",
            {"run": self.run_id, "known": known},
        )

    async def _watch(self) -> None:
        await self.stop.wait()
        self._stop(StoppedReason.PAUSED)

    def _stop(self, reason: StoppedReason, error: BrightRunError | None = None) -> None:
        if self._ending is None or (reason is StoppedReason.ERROR and self._error is None):
            self._ending, self._error = reason, error
        self._wake.set()

    # --- the cycle ---------------------------------------------------------------------------------------------------

    async def _work(self, writer: asyncio.Task[None]) -> None:
        buried = time.monotonic()
        while True:
            if writer.done():
                writer.result()
            places = self.batch.concurrency - self._on_their_way if self._ending is None else 0
            result: CycleResult | None = None
            if self._answered or (places > 0 and self._look_again):
                result = await self._cycle(places if self._look_again else 0)
            self._tell()
            if not self._in_flight and not self._answered:
                if self._ending is not None:
                    return None
                if result is not None and not result.leased:
                    if result.capped:
                        return self._stop(StoppedReason.CAP)
                    if not result.open and not result.pending and self._rows_idle.is_set():
                        return None
            await self._wait(result)
            if time.monotonic() - buried > _BURY_S and not self._in_flight:
                buried = time.monotonic()
                await self._line.transaction(self._bury)

    @property
    def _on_their_way(self) -> int:
        """Those that wait out a 429 are at nobody's; others may take their places."""
        return len(self._in_flight) - self._paced.waiting_out

    async def _cycle(self, places: int) -> CycleResult:
        answered, self._answered = self._answered, []
        settled = [self._settled(item, came) for item, came in answered]
        mine = self._on_their_way
        free = self.batch.concurrency - mine if self._ending is None and places > 0 else 0
        # All that this transaction needs is held in locals: it may be done twice.
        self._settling = [item for item, _ in answered]
        result = await self._line.transaction(lambda connection: self._journal.cycle(connection, settled, free, mine))
        self._settling = []
        for (item, came), one in zip(answered, settled, strict=True):
            self._to_read.append((item, came, one.cost))
            if one.cost is not None:
                self.progress.spent += one.cost
        if answered:
            self._rows_idle.clear()
            self._rows_wake.set()
        if result.stop is not None:
            self._stop(StoppedReason.CANCELLED if result.stop == "cancel" else StoppedReason.PAUSED)
        for item in result.leased:
            self._send(item)
        # With nothing more to lease there is nothing to look for until something changes.
        self._look_again = free > 0 and len(result.leased) == free
        if answered and result.capped:
            self._look_again = True
        return result

    def _settled(self, item: Leased, came: Answer | CallError) -> Settled:
        if isinstance(came, Answer):
            price = cost(came.usage, self.batch.price, self.batch.via)
            return Settled(item.request_id, "answered", item.bound, price, answer=came)
        if came.charged == "unknown":
            self.progress.unknown += 1
            return Settled(item.request_id, "unknown", item.bound, None, error=came)
        return Settled(item.request_id, "failed", item.bound, Decimal(0), error=came)

    async def _wait(self, result: CycleResult | None) -> None:
        """Until something happens, and then for the others that come with it."""
        if not self._answered:
            timeout = _TICK_S
            if result is not None and result.next_at is not None:
                timeout = min(timeout, max(0.01, (result.next_at - _now()).total_seconds()))
            try:
                async with asyncio.timeout(timeout):
                    await self._wake.wait()
            except TimeoutError:
                self._look_again = True
        self._wake.clear()
        if self._answered and self._in_flight:
            latency = self.progress.latency_s or 0.0
            linger = min(_LONGEST_LINGER_S, _LINGER_SHARE * latency)
            if linger > 0.001:
                await asyncio.sleep(linger)
        if self._answered:
            self._look_again = True

    # --- sending -----------------------------------------------------------------------------------------------------

    def _send(self, item: Leased) -> None:
        self._in_flight[item.request_id] = item
        task = asyncio.create_task(self._ask(item))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _left(self) -> None:
        self.progress.sent += 1
        if self.progress.first_sent is None:
            self.progress.first_sent = time.monotonic()

    async def _ask(self, item: Leased) -> None:
        batch = self.batch
        most = min(item.max_tokens, batch.max_output or item.max_tokens)
        request = request_for(
            model=batch.model, system=batch.systems[item.system_hash], user=item.prompt, max_tokens=most,
            effort=batch.effort,
        )  # fmt: skip
        came: Answer | CallError
        try:
            came = await self._paced.send(request)
            self._without_answer = 0
            self.progress.latencies.append(came.duration_s)
        except CallError as error:
            came = error
            if isinstance(error, ProviderUnusable):
                self._stop(StoppedReason.ERROR, error)
            elif error.outcome is Outcome.TRANSPORT:
                self._without_answer += 1
                if self._without_answer >= max(_UNREACHABLE, batch.concurrency):
                    self._stop(StoppedReason.ERROR, error)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # A bug must not leave an item on its way for ever.
            log.exception("a request ended with an unexpected error", item=str(item.id))
            came = CallError(f"unexpected {type(error).__name__}: {error}")
            came.charged = "unknown"
        del self._in_flight[item.request_id]
        self._answered.append((item, came))
        self._wake.set()

    # --- rows --------------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        while True:
            await self._rows_wake.wait()
            self._rows_wake.clear()
            if self._in_flight:
                await asyncio.sleep(_ROWS_LINGER_S)
            while self._to_read:
                group, self._to_read = self._to_read[:256], self._to_read[256:]
                self._reading = [item for item, _, _ in group]
                done = [self._read(item, came, paid) for item, came, paid in group]
                counts = await self._rows_line.transaction(
                    lambda connection, done=done: write_rows(connection, self._context, done)  # type: ignore[misc]
                )
                self._reading = []
                self.progress.written += counts.written
                self.progress.failed += counts.failed
                self.progress.again += counts.again
                self.progress.last_row = time.monotonic()
                if counts.again or any(one.result is None for one in done):
                    self._look_again = True
                if counts.failed and self.batch.stop_on_error:
                    failed = next(one for one in done if isinstance(one.result, Failure))
                    assert isinstance(failed.result, Failure)
                    self._stop(
                        StoppedReason.ERROR,
                        BrightRunError(f"Item {failed.item.position} failed, and the batch stops on errors: "
                                       f"{failed.result.message}", code="item_failed"),
                    )  # fmt: skip
            if not self._to_read:
                self._rows_idle.set()
            self._look_again = self._look_again or not self._in_flight
            self._wake.set()

    def _read(self, item: Leased, came: Answer | CallError | None, paid: Decimal | None) -> Done:
        if came is None:
            return Done(item, None, self.batch.model)
        if isinstance(came, CallError):
            unusable = isinstance(came, ProviderUnusable) or (
                self._ending is StoppedReason.ERROR and came.outcome is Outcome.TRANSPORT
            )
            failure = None if unusable else Failure(came.outcome, came.code, came.message)
            return Done(item, failure, self.batch.model, cost=paid)
        return Done(
            item,
            read_answer(came, turns=item.turns),
            came.model or self.batch.model,
            stop_reason=came.stop_said,
            input_tokens=came.usage.prompt_tokens,
            output_tokens=came.usage.output_tokens,
            cost=paid,
            duration_s=came.duration_s,
        )

    def _tell(self) -> None:
        self.progress.in_flight = len(self._in_flight)
        self.progress.throttled = self._paced.throttled
        if self._on_progress is not None:
            self._on_progress(self.progress)


_ENDS = {
    StoppedReason.FINISHED: "Every item is written or has failed.",
    StoppedReason.CAP: "The next request could pass the cap, with all on its way or unknown at its upper bound.",
    StoppedReason.PAUSED: "Paused; what was on its way has come in.",
    StoppedReason.CANCELLED: "Cancelled; what was on its way has come in.",
    StoppedReason.ERROR: "Stopped by an error.",
}


def _now() -> datetime:
    return utcnow()
