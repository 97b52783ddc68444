"""The background work of datasets: validate a file, and write down how that ended, once."""

import asyncio
import functools
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar
from uuid import UUID

from brightrun.datasets import dismissals, repository
from brightrun.datasets import sweeper as _sweeper  # noqa: F401  (registers its schedules)
from brightrun.datasets.changes import announce
from brightrun.datasets.counting import Counting
from brightrun.datasets.outcome import finish
from brightrun.datasets.repair_run import RepairPlan, run_repair
from brightrun.datasets.tables import Dataset, DatasetStatus
from brightrun.datasets.uploads import remove_object
from brightrun.datasets.validation_process import Order, validate_apart
from brightrun.datasets.validation_run import (
    ISSUES_KIND,
    NO_ROOM,
    Outcome,
    Progress,
    Subject,
    UnreadableError,
    run_validation,
)
from brightrun.errors import BrightRunError
from brightrun.logs import get_logger
from brightrun.platform import Platform
from brightrun.queue import RunAgainError, TaskFailure, complete, stopping, task
from brightrun.storage import Bucket
from brightrun.storage.errors import ObjectNotFoundError
from brightrun.validation.limits import Limits
from brightrun.validation.thresholds import parse_thresholds

T = TypeVar("T")

log = get_logger(__name__)

QUEUE = "validation"
"""A lane of its own, so that a confirmed dataset does not wait behind other work."""

_REPORT_EVERY_S = 1.0


async def on_failure(
    platform: Platform, failure: TaskFailure, *, workspace_id: str, dataset_id: str, attempt: int
) -> None:
    """The validation was given up: the dataset says why."""
    code, message = failure.code, failure.message
    if isinstance(failure.error, ObjectNotFoundError):
        code = "object_missing"
        message = "The stored file is no longer there. Restore it from a backup, or upload it anew."
    elif isinstance(failure.error, OSError) and failure.error.errno in NO_ROOM:
        code, message = "disk_full", "The disk of the data directory is full. Free some space, then validate again."
    elif not isinstance(failure.error, BrightRunError) and isinstance(failure.error, OSError):
        code = UnreadableError.code
        message = f"The stored file could not be read: {failure.error.strerror or failure.error}. Try again later."
    values = {"status": DatasetStatus.ERROR, "training_ready": False, "error_code": code, "error_message": message}
    async with platform.db.transaction(workspace_id=UUID(workspace_id)) as session:
        await finish(session, UUID(dataset_id), attempt, values)


@task("datasets.validate", queue=QUEUE, on_failure=on_failure)
async def validate(platform: Platform, *, workspace_id: str, dataset_id: str, attempt: int) -> None:
    """Validate the stored file and move the dataset to `ready` or `error`, unless a later attempt overtook this one."""
    workspace, dataset_key = UUID(workspace_id), UUID(dataset_id)
    async with platform.db.transaction(workspace_id=workspace) as session:
        before = await repository.find(session, dataset_key, deleted=True)
    if before is not None and before.upload_id is not None:
        # The file may have come in one piece beside an unused multipart upload, which would stay for ever.
        bucket = Bucket(before.storage_bucket)
        await asyncio.to_thread(platform.store.abort_multipart, bucket, before.storage_path, before.upload_id)
    async with platform.db.transaction(workspace_id=workspace) as session:
        if not await repository.claim_validation(session, dataset_key, attempt):
            log.info("validation was overtaken, finished or purged", dataset=dataset_id, attempt=attempt)
            return
        dataset = await repository.find(session, dataset_key, deleted=True)
        assert dataset is not None
        await announce(session, dataset, "dataset.progress")
    if dataset.repair is not None and dataset.repaired_at is None and not await _make_file(platform, dataset, attempt):
        return
    outcome = await _run(platform, dataset, attempt)
    if outcome is None:
        return
    async with platform.db.transaction(workspace_id=workspace) as session:
        finished = await finish(session, dataset_key, attempt, outcome.values())
        if finished and outcome.remove_object:
            # Before the commit: killed in between, the next run finds the same fault again, or no file.
            await asyncio.to_thread(remove_object, platform.store, dataset)
        await complete(session)
    if finished:
        await _forget_older_lists(platform, dataset, attempt)


async def _forget_older_lists(platform: Platform, dataset: Dataset, attempt: int) -> None:
    """Issue lists of earlier attempts, of overtaken ones too."""

    def forget() -> None:
        bucket = Bucket(dataset.storage_bucket)
        for stored in platform.store.list_objects(bucket, f"{dataset.workspace_id}/{ISSUES_KIND}/{dataset.id}"):
            number = stored.path.rpartition("/")[2].partition(".")[0]
            if number.isdecimal() and int(number) < attempt:
                platform.store.delete(bucket, stored.path)

    try:
        await asyncio.to_thread(forget)
    except (BrightRunError, OSError) as error:
        log.warning("older issue lists stay until the dataset is purged", dataset=str(dataset.id), error=str(error))


async def _make_file(platform: Platform, dataset: Dataset, attempt: int) -> bool:
    """Mend the parent's file into that of a new version; False when the attempt was overtaken."""
    async with platform.db.transaction(workspace_id=dataset.workspace_id) as session:
        parent = await repository.find(session, dataset.parent_id, deleted=True) if dataset.parent_id else None
    if parent is None or parent.object_deleted_at is not None:
        raise ObjectNotFoundError("The file that the version was to be made from is gone.")
    assert dataset.repair is not None
    plan = RepairPlan(
        workspace_id=str(dataset.workspace_id),
        dataset_id=str(dataset.id),
        bucket=Bucket(dataset.storage_bucket),
        source=parent.storage_path,
        target=dataset.storage_path,
        declared_format=dataset.declared_format,
        repair=dataset.repair,
    )
    progress, scratch = Progress(), platform.settings.data / "scratch"
    threads = _threads(platform.settings.worker_concurrency)
    work = threads.submit(run_repair, platform.store, plan, progress, scratch)
    made = await _follow(platform, dataset, attempt, work, progress)
    if made is None:
        return False
    values = {"file_size": made.size, "repair_counts": made.counts, "repair_log_path": made.log_path}
    async with platform.db.transaction(workspace_id=dataset.workspace_id) as session:
        # Killed before this commit, the next run makes the same file again.
        if not await repository.finish_repair(session, dataset.id, attempt, values):
            return False
        await dismissals.follow_removed(session, dataset.id, made.removed)
        found = await repository.find(session, dataset.id, deleted=True)
        assert found is not None
        await announce(session, found, "dataset.progress")
    dataset.file_size = made.size
    return True


async def _run(platform: Platform, dataset: Dataset, attempt: int) -> Outcome | None:
    """The validation beside this loop, while the row shows how far it is. None when the attempt was overtaken."""
    progress = Progress()
    subject = Subject(
        workspace_id=str(dataset.workspace_id),
        dataset_id=str(dataset.id),
        attempt=attempt,
        bucket=Bucket(dataset.storage_bucket),
        path=dataset.storage_path,
        file_name=dataset.file_name,
        file_size=dataset.file_size,
        declared_format=dataset.declared_format,
        declared_sha256=dataset.declared_sha256,
        counting=Counting.of(platform.settings),
    )
    settings, scratch = platform.settings, platform.settings.data / "scratch"
    threads = _threads(settings.worker_concurrency)
    work: Future[Outcome]
    if dataset.file_size > settings.validation_process_bytes:
        order = Order(settings, platform.public_url, platform.secret, subject, scratch)
        work = threads.submit(validate_apart, order, progress)
    else:
        thresholds = parse_thresholds(settings.validation_thresholds)
        limits = Limits(settings.max_record_bytes, settings.compare_memory_bytes)
        work = threads.submit(run_validation, platform.store, subject, progress, scratch, thresholds, limits)
    return await _follow(platform, dataset, attempt, work, progress)


async def _follow(
    platform: Platform, dataset: Dataset, attempt: int, work: "Future[T]", progress: Progress
) -> T | None:
    """Wait for work in a thread while the row shows how far it is. None when the attempt was overtaken."""
    running = asyncio.wrap_future(work)
    stop = asyncio.create_task(stopping().wait())
    either: list[asyncio.Future[Any]] = [running, stop]
    try:
        while True:
            await asyncio.wait(either, timeout=_REPORT_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                return running.result()
            if stop.done():
                raise RunAgainError("the worker stopped during a validation")
            if not await _report_progress(platform, dataset, attempt, progress.bytes_read):
                log.info("validation was overtaken", dataset=str(dataset.id), attempt=attempt)
                return None
    finally:
        progress.cancelled.set()
        stop.cancel()
        # Thread and process end soon; their result is nobody's now. A result taken above is not touched.
        running.add_done_callback(lambda done: done.cancelled() or done.exception())


async def _report_progress(platform: Platform, dataset: Dataset, attempt: int, bytes_read: int) -> bool:
    """Sign of life and progress; False when the attempt was overtaken."""
    async with platform.db.transaction(workspace_id=dataset.workspace_id) as session:
        if not await repository.heartbeat(session, dataset.id, attempt, bytes_read):
            return False
        dataset.validated_bytes = bytes_read
        await announce(session, dataset, "dataset.progress")
    return True


@functools.lru_cache(maxsize=1)
def _threads(size: int) -> ThreadPoolExecutor:
    """Validations have their own threads, which read a small file or wait for the process that reads a large one: they
    are long, and must not hold up short work in the shared ones."""
    return ThreadPoolExecutor(max_workers=size, thread_name_prefix="validate")
