"""One job, followed by one supervisor from its claim to the end of its attempt."""

import asyncio
import time
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.clock import utcnow
from brightrun.logs import get_logger
from brightrun.training import spending
from brightrun.training.changes import announce, note
from brightrun.training.executors.base import Executor, ProcessIdentity, RunningTrainer, StopAction
from brightrun.training.supervisor import alarms, settle, watchdogs
from brightrun.training.supervisor.claims import LostLeaseError
from brightrun.training.supervisor.ending import AttemptEnd
from brightrun.training.supervisor.hold import Hold, run_dir_of
from brightrun.training.supervisor.ingest import event_time, ingest, ingest_log
from brightrun.training.supervisor.progress import Pace
from brightrun.training.supervisor.starter import Starter
from brightrun.training.supervisor.tail import EVENTS_FILE, Lines, parse_events, read_lines
from brightrun.training.tables import TrainingAttempt, TrainingJob
from brightrun.training.views import attempt_cost

log = get_logger(__name__)

TRAINER_LOG = "trainer.log"
TICK_S = 0.5
STOP_GRACE_S = 40.0
"""A trainer stops between two steps; one that has not by then is killed, and resumes from its last checkpoint."""
_GONE_WITHIN_S = 15.0
_ANNOUNCE_EVERY_S = 1.0
_LOOK_EVERY_S = 5.0


@dataclass(frozen=True)
class _Synced:
    """What one round of reading found, to be remembered once it is committed."""

    event_offset: int
    log_offset: int
    asked: StopAction | None
    caught_up: bool
    announced: bool


class Follower:
    """Follows the job of `hold`. `hold.stopping` ends it: with `hold.leave` the trainer lives on."""

    def __init__(self, hold: Hold, executor: Executor) -> None:
        self.hold = hold
        self._executor = executor
        self._pace = Pace()
        self._run_dir = Path()
        self._event_offset = 0
        self._log_offset = 0
        self._spent_before = Decimal(0)
        self._announced = 0.0
        self._shortage: str | None = None
        self._stalled = False
        self._over_budget: str | None = None
        self._looked_at = 0.0

    async def run(self) -> None:
        """Until the attempt is settled, the job is put back, or another supervisor has it."""
        try:
            job, attempt = await self.hold.transaction(self._load)
            trainer: RunningTrainer | None
            if attempt is not None:
                trainer = await asyncio.to_thread(self._executor.adopt, run_dir_of(job), _identity(attempt))
                log.info("adopted a job", job=str(job.id), attempt=attempt.n, trainer_lives=trainer is not None)
            else:
                started = await Starter(self.hold, self._executor).start(job)
                if started is None:
                    return
                attempt, trainer = started
                await self.hold.transaction(self._load)
            following = True
            while following:
                trainer = await self._follow(attempt, trainer)
                following = trainer is not None
        except LostLeaseError as lost:
            log.warning("lost a job", job=str(self.hold.found.job_id), reason=str(lost))

    async def _load(self, session: AsyncSession) -> tuple[TrainingJob, TrainingAttempt | None]:
        """The job and its open attempt; how far its files are read, and what it cost before."""
        job = await self.hold.job(session)
        self._event_offset, self._log_offset = job.event_offset, job.log_offset
        if job.run_dir is not None:
            self._run_dir = Path(job.run_dir)
        spent = select(func.sum(TrainingAttempt.cost)).where(TrainingAttempt.job_id == job.id)
        self._spent_before = Decimal(await session.scalar(spent) or 0)
        query = select(TrainingAttempt).where(TrainingAttempt.job_id == job.id, TrainingAttempt.ended_at.is_(None))
        return job, (await session.execute(query)).scalar_one_or_none()

    async def _follow(self, attempt: TrainingAttempt, trainer: RunningTrainer | None) -> RunningTrainer | None:
        """Until it is over. trainer: None when it was dead already when the job was adopted.

        Returns another trainer that turned out to work on the same run, to be followed instead.
        """
        hold = self.hold
        seen_alive = trainer is not None
        asked: StopAction | None = None
        asked_at: float | None = None
        kills = watchdogs.memory_kills()
        watch = watchdogs.StallWatch(self._run_dir, hold.platform.settings.job_stall_s)
        try:
            while True:
                alive = trainer is not None and trainer.is_alive()
                synced = await hold.transaction(lambda session: self._sync(session, attempt))
                self._remember(synced)
                if trainer is None or not alive:
                    if synced.caught_up:
                        break
                    continue
                if hold.stopping.is_set() and hold.leave and asked_at is None:
                    await hold.transaction(self._release)
                    return None
                if await asyncio.to_thread(watch.stalled):
                    self._stalled = True
                    trainer.kill()
                wanted = synced.asked or await self._own_reason_to_stop()
                if wanted is not None and wanted is not asked:
                    await asyncio.to_thread(trainer.stop, wanted)
                    asked, asked_at = wanted, asked_at or time.monotonic()
                elif asked_at is not None and time.monotonic() - asked_at > STOP_GRACE_S:
                    trainer.kill()
                await self._pause(stopping=asked_at is not None)
        except LostLeaseError as lost:
            if lost.gone and trainer is not None:
                log.warning("the job is gone; its trainer is ended", job=str(hold.found.job_id))
                trainer.kill()
            raise
        if trainer is not None:
            await self._see_off(trainer, asked_at)
        end = AttemptEnd(
            hold=hold,
            executor=self._executor,
            attempt=attempt,
            exit_code=trainer.exit_code if trainer is not None else None,
            seen_alive=seen_alive,
            stopped_by_us=asked_at is not None and hold.stopping.is_set(),
            shortage=self._shortage,
            over_budget=self._over_budget,
            stalled=self._stalled,
            memory_kills=watchdogs.memory_kills() - kills,
        )
        return await end.settle()

    async def _own_reason_to_stop(self) -> StopAction | None:
        """The worker stops, money or room has run out: it saves while it still can."""
        hold = self.hold
        if hold.stopping.is_set() or self._shortage is not None or self._over_budget is not None:
            return StopAction.SAVE
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_EVERY_S:
            self._looked_at = now
            settings = hold.platform.settings
            self._over_budget = await hold.transaction(self._over_the_month)
            self._shortage = await asyncio.to_thread(
                watchdogs.disk_shortage, self._run_dir, settings.min_free_disk_bytes
            )
        return StopAction.SAVE if self._shortage is not None or self._over_budget is not None else None

    async def _over_the_month(self, session: AsyncSession) -> str | None:
        return await spending.over_the_month(session, await self.hold.job(session))

    # --- one round ----------------------------------------------------------------------------------------------

    async def _sync(self, session: AsyncSession, attempt: TrainingAttempt) -> _Synced:
        """Read on, write it down, keep the lease."""
        job = await self.hold.job(session)
        run_dir = run_dir_of(job)
        said, logged = await asyncio.to_thread(_read, run_dir, self._event_offset, self._log_offset)
        events = parse_events(said.lines, after_seq=job.last_event_seq, run_dir=run_dir)
        turned = await ingest(session, job, events, self._pace) if events else False
        await ingest_log(session, job, logged.lines)
        await _mark_progress(session, attempt, events)
        job.event_offset, job.log_offset = said.offset, logged.offset
        running = settle.seconds_between(attempt.started_at, utcnow())
        job.current_cost = self._spent_before + attempt_cost(job.price_per_hour, running)
        self.hold.renew(job)
        await session.flush()
        due = turned or (bool(events) and time.monotonic() - self._announced >= _ANNOUNCE_EVERY_S)
        if due:
            await announce(session, job)
        return _Synced(
            event_offset=said.offset,
            log_offset=logged.offset,
            asked=_asked(job),
            caught_up=not said.lines and not logged.lines,
            announced=due,
        )

    def _remember(self, synced: _Synced) -> None:
        self._event_offset, self._log_offset = synced.event_offset, synced.log_offset
        if synced.announced:
            self._announced = time.monotonic()

    async def _release(self, session: AsyncSession) -> None:
        """The trainer lives on; the next supervisor may take the job at once."""
        job = await self.hold.job(session)
        job.lease_owner = job.lease_expires_at = None

    async def _see_off(self, trainer: RunningTrainer, asked_at: float | None) -> None:
        """Nothing that the trainer started may outlive it: looked for, ended, and said either way."""
        deadline = time.monotonic() + _GONE_WITHIN_S
        while not await asyncio.to_thread(trainer.is_gone):
            await asyncio.to_thread(trainer.kill)
            if time.monotonic() > deadline:
                await self.hold.transaction(self._alarm)
                return
            await asyncio.sleep(0.1)
        if asked_at is not None:
            seconds = time.monotonic() - asked_at
            await self.hold.transaction(lambda session: self._verified(session, seconds))

    async def _verified(self, session: AsyncSession, seconds: float) -> None:
        job = await self.hold.job(session)
        text = f"The trainer and all its processes were gone {seconds:.1f} s after they were asked to stop."
        await note(session, job, "processes_gone", text, details={"seconds": round(seconds, 1)})

    async def _alarm(self, session: AsyncSession) -> None:
        await alarms.process_left(session, await self.hold.job(session), self.hold.host)

    async def _pause(self, *, stopping: bool) -> None:
        """Until the next round; a stop is heard at once."""
        if stopping:
            await asyncio.sleep(TICK_S / 2)
            return
        try:
            await asyncio.wait_for(self.hold.stopping.wait(), TICK_S)
        except TimeoutError:
            return


def _asked(job: TrainingJob) -> StopAction | None:
    """What people want of the run now."""
    if job.cancel_requested_at is not None:
        return StopAction.SAVE if job.cancel_saves else StopAction.STOP
    return StopAction.PAUSE if job.pause_requested_at is not None else None


async def _mark_progress(session: AsyncSession, attempt: TrainingAttempt, events: list[dict[str, Any]]) -> None:
    """How far the attempt got, and when it last saved: what an interruption costs follows from it."""
    steps = [int(event["step"]) for event in events if event.get("type") == "metric"]
    saved = [event_time(event) for event in events if event.get("type") == "checkpoint"]
    if not steps and not saved:
        return
    row = await session.get_one(TrainingAttempt, attempt.id)
    if steps:
        row.step_reached = steps[-1]
    if saved:
        row.saved_at = saved[-1]


def _identity(attempt: TrainingAttempt) -> ProcessIdentity | None:
    if attempt.pid is None or attempt.process_started is None:
        return None
    return ProcessIdentity(attempt.pid, attempt.process_started)


def _read(run_dir: Path, event_offset: int, log_offset: int) -> tuple[Lines, Lines]:
    return read_lines(run_dir / EVENTS_FILE, event_offset), read_lines(run_dir / TRAINER_LOG, log_offset)
