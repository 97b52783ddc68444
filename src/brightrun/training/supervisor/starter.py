"""From a claimed job to a running trainer: device, dataset, run directory, process."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.clock import utcnow
from brightrun.datasets.tables import Dataset
from brightrun.formats.hyperparameters import total_steps
from brightrun.ids import uuid7
from brightrun.logs import get_logger
from brightrun.notifications.tables import NotificationType
from brightrun.training import endings, spending
from brightrun.training.changes import announce, note
from brightrun.training.executors.base import Executor, NoDeviceError, RunningTrainer
from brightrun.training.supervisor import readiness, settle, watchdogs
from brightrun.training.supervisor.hold import Hold, run_dir_of
from brightrun.training.supervisor.outcomes import Kind, Verdict
from brightrun.training.supervisor.prepare import PreparationError
from brightrun.training.supervisor.run_edits import budgets_for, edit_run
from brightrun.training.tables import JobStage, JobStatus, TrainingAttempt, TrainingJob

log = get_logger(__name__)

_NO_DEVICE_PAUSE_S = 10.0

T = TypeVar("T")


class StoppedError(Exception):
    """The worker stops, or the job was cancelled or paused, before a trainer was started."""


def _edit(job: TrainingJob) -> None:
    """What was changed since the last attempt, and what its cap leaves, into the run directory."""
    run_dir = run_dir_of(job)
    budgets = budgets_for(
        run_dir, price_per_hour=job.price_per_hour, max_cost=job.max_cost, left=spending.left_to_spend(job)
    )
    edit_run(run_dir, changes=job.run_changes, resume_step=job.resume_step, budgets=budgets)


class Starter:
    def __init__(self, hold: Hold, executor: Executor) -> None:
        self._hold = hold
        self._executor = executor

    async def start(self, job: TrainingJob) -> tuple[TrainingAttempt, RunningTrainer] | None:
        """None when the job was put back, cancelled or has failed instead; its row says why."""
        try:
            await asyncio.to_thread(self._executor.check, job.gpu_config)
            await asyncio.to_thread(self._require_room)
            if not readiness.is_prepared(job):
                await self._prepare(job)
                job = await self._hold.transaction(self._hold.job)
            await asyncio.to_thread(_edit, job)
            return await self._launch()
        except StoppedError:
            await self._hold.transaction(self._put_down)
        except NoDeviceError as error:
            reason = str(error)
            await self._hold.transaction(lambda session: self._put_back(session, reason))
        except PreparationError as error:
            fault = error
            await self._hold.transaction(lambda session: self._preparation_failed(session, fault))
        return None

    def _require_room(self) -> None:
        """A run that would die of a full disk is not begun; it waits, and says for what."""
        platform = self._hold.platform
        shortage = watchdogs.disk_shortage(platform.runs_dir, platform.settings.min_free_disk_bytes)
        if shortage is not None:
            raise NoDeviceError(shortage)

    # --- the run directory --------------------------------------------------------------------------------------

    async def _prepare(self, job: TrainingJob) -> None:
        hold = self._hold
        async with hold.platform.db.transaction(workspace_id=hold.found.workspace_id) as session:
            dataset = await session.get_one(Dataset, job.dataset_id)
        making = readiness.make_run_directory(hold.platform, job, dataset)
        run_dir, config = await self._while_renewing(making)

        async def write(session: AsyncSession) -> None:
            job = await hold.job(session)
            job.run_dir, job.run_number = str(run_dir), job.run_number + 1
            job.event_offset = job.log_offset = job.last_event_seq = job.checkpoint_step = 0
            job.checkpoints, job.resume_step, job.run_changes = [], None, {}  # the overrides have the changes too
            values = config.hyperparameters
            job.total_steps = total_steps(values, config.split.train_records)
            job.total_epochs = values.epochs
            job.hyperparameters = msgspec.to_builtins(values)
            job.rules_fired = list(config.rules_fired)
            hold.renew(job)

        await hold.transaction(write)

    async def _while_renewing(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` and keep the lease. Raises StoppedError when it should not go on."""
        task = asyncio.create_task(work)
        stop = asyncio.create_task(self._hold.stopping.wait())
        either: set[asyncio.Future[Any]] = {task, stop}
        try:
            while True:
                pause = min(1.0, self._hold.lease_s / 3)
                await asyncio.wait(either, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                if task.done():
                    return task.result()
                if stop.done():
                    raise StoppedError("the worker stops")
                if await self._hold.transaction(self._renew):
                    raise StoppedError("the job was asked to stop")
        finally:
            stop.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait({task})

    async def _renew(self, session: AsyncSession) -> bool:
        """True when the job was asked to stop."""
        job = await self._hold.job(session)
        self._hold.renew(job)
        return job.cancel_requested_at is not None or job.pause_requested_at is not None

    # --- the process --------------------------------------------------------------------------------------------

    async def _launch(self) -> tuple[TrainingAttempt, RunningTrainer] | None:
        """The attempt is written down before its process exists, so that none is ever forgotten."""
        hold = self._hold
        job, attempt = await hold.transaction(self._open_attempt)
        try:
            trainer, devices = await asyncio.to_thread(
                self._executor.launch, run_dir_of(job), job.gpu_config, network=hold.platform.settings.allow_hub
            )
        except NoDeviceError:
            await hold.transaction(lambda session: self._take_back(session, attempt))
            raise
        except OSError as error:
            verdict = Verdict(Kind.OWN_FAILURE, "launch", f"The trainer could not be started: {error}.")
            await hold.transaction(lambda session: self._not_launched(session, attempt, verdict))
            return None
        identity = trainer.identity

        async def introduce(session: AsyncSession) -> TrainingAttempt:
            await hold.job(session)
            row = await session.get_one(TrainingAttempt, attempt.id)
            row.devices = devices or None
            if identity is not None:
                row.pid, row.process_started = identity.pid, identity.started
            return row

        log.info("launched a trainer", job=str(job.id), attempt=attempt.n, pid=identity.pid if identity else None)
        return await hold.transaction(introduce), trainer

    async def _open_attempt(self, session: AsyncSession) -> tuple[TrainingJob, TrainingAttempt]:
        hold = self._hold
        job = await hold.job(session)
        if job.cancel_requested_at is not None or job.pause_requested_at is not None or hold.stopping.is_set():
            raise StoppedError("before the trainer was started")
        left = spending.left_to_spend(job)
        if left is not None and left <= 0:
            raise PreparationError(
                "budget", f"The job's limit is reached: ${job.current_cost:.2f} of ${job.max_cost:.2f}."
            )
        job.attempt += 1
        # In run.json by now; what comes after this attempt goes on from its newest checkpoint.
        job.resume_step, job.run_changes = None, {}
        attempt = TrainingAttempt(
            id=uuid7(),
            workspace_id=job.workspace_id,
            job_id=job.id,
            n=job.attempt,
            host=hold.host,
            started_at=utcnow(),
            events_before=job.last_event_seq,
            step_reached=job.checkpoint_step,
            checkpoint_before=job.checkpoint_step,
        )
        session.add(attempt)
        job.status = JobStatus.RUNNING
        job.stage = job.stage or JobStage.PREPROCESSING
        job.started_at = job.started_at or attempt.started_at
        hold.renew(job)
        await session.flush()
        where = f" from step {job.checkpoint_step}" if job.checkpoint_step else ""
        await note(session, job, "launched", f"Attempt {job.attempt} starts{where}.")
        device = str(job.gpu_config["title"])
        if job.gpu_config["count"] > 1:
            device = f"{job.gpu_config['count']} × {device}"
        await endings.tell(
            session, job, NotificationType.JOB_STARTED, "Training started", f"on {device}.", once="started"
        )
        await announce(session, job)
        return job, attempt

    # --- instead of it ------------------------------------------------------------------------------------------

    async def _put_down(self, session: AsyncSession) -> None:
        job = await self._hold.job(session)
        if job.cancel_requested_at is not None:
            await endings.cancelled(session, job)
        elif job.pause_requested_at is not None:
            await endings.paused(session, job)
        else:
            await settle.put_back(session, job, "The worker stopped; the next one starts it.", pause_s=0)

    async def _put_back(self, session: AsyncSession, reason: str) -> None:
        await settle.put_back(session, await self._hold.job(session), reason, pause_s=_NO_DEVICE_PAUSE_S)

    async def _preparation_failed(self, session: AsyncSession, error: PreparationError) -> None:
        job = await self._hold.job(session)
        if error.retry:
            verdict = Verdict(Kind.OWN_FAILURE, error.code, error.message)
            await settle.own_failure(session, job, verdict, evidence="", change="")
        else:
            await endings.failed(session, job, code=error.code, message=error.message)

    async def _take_back(self, session: AsyncSession, attempt: TrainingAttempt) -> TrainingJob:
        """Nothing was started, so there was no attempt."""
        job = await self._hold.job(session)
        await session.delete(await session.get_one(TrainingAttempt, attempt.id))
        job.attempt -= 1
        job.status = JobStatus.INITIALIZING
        await session.flush()
        return job

    async def _not_launched(self, session: AsyncSession, attempt: TrainingAttempt, verdict: Verdict) -> None:
        job = await self._take_back(session, attempt)
        await settle.own_failure(session, job, verdict, evidence="", change="")
