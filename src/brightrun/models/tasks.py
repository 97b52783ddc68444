"""The background work of models: store a finished run as one, and purge what was deleted long ago."""

import asyncio
import threading
from datetime import timedelta
from typing import Any
from uuid import UUID

from brightrun.audit.service import record
from brightrun.clock import utcnow
from brightrun.datasets.tables import Dataset
from brightrun.errors import StorageFullError
from brightrun.logs import get_logger
from brightrun.models import registration, repository
from brightrun.models.changes import announce
from brightrun.models.quality import quality_metrics
from brightrun.models.run_files import RunFacts, RunFile, RunFilesError, files_of, read_facts, write_curves
from brightrun.models.tables import ModelArtifact
from brightrun.platform import Platform
from brightrun.queue import RunAgainError, TaskFailure, complete, schedule, stopping, task
from brightrun.storage import Bucket
from brightrun.training import service as training
from brightrun.training.supervisor.identity import machine_id
from brightrun.training.tables import JobStatus, TrainingJob

log = get_logger(__name__)

QUEUE = "models"
"""A lane of its own: a finished job should not wait behind validations."""
_ATTEMPTS = 12  # with the queue's pauses, half an hour for a full disk or a storage that does not answer
_ELSEWHERE_S = 5.0
_LOST_H = 24


async def on_failure(platform: Platform, failure: TaskFailure, *, workspace_id: str, job_id: str) -> None:
    """The model could not be stored: the job says so. What is stored already stays, a retry goes on from there."""
    async with platform.db.transaction(workspace_id=UUID(workspace_id)) as session:
        await training.fail_storing(session, UUID(job_id), code=failure.code, message=failure.message)


@task("models.register", queue=QUEUE, attempts=_ATTEMPTS, on_failure=on_failure)
async def register(platform: Platform, *, workspace_id: str, job_id: str) -> None:
    """Store the finished run of a job as a model and complete the job. Repeating it is harmless."""
    workspace, key = UUID(workspace_id), UUID(job_id)
    async with platform.db.transaction(workspace_id=workspace) as session:
        job = await training.get(session, key)
        if job.status != JobStatus.RUNNING or job.trained_at is None:
            log.info("nothing to store: the job has ended", job=job_id, status=job.status)
            return
        dataset = await session.get_one(Dataset, job.dataset_id)
    run_dir = await asyncio.to_thread(registration.run_directory, platform.runs_dir, job)
    if run_dir is None:
        raise await _not_here(platform, job)
    async with platform.db.transaction(workspace_id=workspace) as session:
        await write_curves(repository.curves(session, key), run_dir)

    def collect_and_store(given_up: threading.Event) -> tuple[RunFacts, list[RunFile], dict[str, Any]]:
        facts = read_facts(run_dir)
        files = files_of(run_dir, facts)
        registration.store_files(platform.store, workspace, key, files, given_up)
        return facts, files, quality_metrics(facts.result, facts.heldout)

    try:
        facts, files, quality = await _in_thread(collect_and_store)
    except StorageFullError as error:
        error.retryable = True  # type: ignore[attr-defined]  # somebody makes room
        raise
    async with platform.db.transaction(workspace_id=workspace) as session:
        job = await training.get(session, key, lock=True)
        if job.status == JobStatus.RUNNING:
            model = await registration.write_model(session, job, dataset, facts, files, quality)
            log.info("model stored", model=str(model.id), job=job_id, bytes=model.size_bytes)
        await complete(session)


async def _not_here(platform: Platform, job: TrainingJob) -> Exception:
    """What to raise when the run directory is not on this machine."""
    here = await asyncio.to_thread(machine_id, platform.runs_dir)
    if job.host == here or job.host is None:
        return RunFilesError(f"The run directory {job.run_dir} is gone from this machine ({here}).", code="run_lost")
    assert job.trained_at is not None
    if utcnow() - job.trained_at > timedelta(hours=_LOST_H):
        return RunFilesError(
            f"The adapter is on the machine {job.host}, whose worker has not answered for {_LOST_H} hours. Start a "
            "worker there.",
            code="machine_lost",
        )
    return RunAgainError(f"the run directory is on {job.host}, not on {here}", delay_s=_ELSEWHERE_S)


async def _in_thread(work: Any) -> Any:
    """`work(given_up)` in a thread; a worker that stops gives it up at its next file, and the task runs again."""
    given_up = threading.Event()
    running = asyncio.ensure_future(asyncio.to_thread(work, given_up))
    stop = asyncio.create_task(stopping().wait())
    try:
        await asyncio.wait([running, stop], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            return running.result()
        raise RunAgainError("the worker stopped while a model was being stored")
    finally:
        given_up.set()
        stop.cancel()
        running.add_done_callback(lambda done: done.cancelled() or done.exception())


@schedule("23 3 * * *", name="models.purge_deleted")
async def purge_deleted(platform: Platform) -> None:
    """Models that were in the trash for longer than the retention period: files and row go for good."""
    before = utcnow() - timedelta(days=platform.settings.deleted_retention_days)
    beyond = UUID(int=0)
    while True:
        async with platform.db.transaction() as session:
            found = await repository.purgeable(session, before, beyond)
        for workspace_id, model_id in found:
            try:
                await _purge(platform, workspace_id, model_id)
            except Exception as error:
                # One that cannot be purged holds up no other; the next night tries again.
                log.exception("a deleted model could not be purged", model=str(model_id), exc_info=error)
            beyond = model_id
        if len(found) < 100:
            return


async def _purge(platform: Platform, workspace_id: UUID, model_id: UUID) -> None:
    async with platform.db.transaction(workspace_id=workspace_id) as session:
        model = await repository.find(session, model_id, deleted=True, lock=True)
        if model is None or model.deleted_at is None:
            return  # restored or purged meanwhile
        await repository.remove(session, model_id)
        await record(session, "model.purged", "model", model_id, _facts(model))
        await announce(session, model, "model.purged")
        # Before the commit: if we are killed here, the next night repeats it.
        await asyncio.to_thread(platform.store.delete_prefix, Bucket(model.storage_bucket), model.storage_path)
    log.info("deleted model purged", model=str(model_id))


def _facts(model: ModelArtifact) -> dict[str, Any]:
    return {"name": model.name, "version": model.version, "job_id": str(model.job_id), "files": model.files}
