"""What nobody came back for: validations whose worker vanished, uploads never confirmed, the trash after its time."""

import asyncio
import re
import shutil
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

from brightrun.audit.service import record
from brightrun.clock import utcnow
from brightrun.datasets import repository
from brightrun.datasets.changes import announce, notify_ended
from brightrun.datasets.outcome import finish
from brightrun.datasets.repair_run import REPAIRS_KIND
from brightrun.datasets.tables import Dataset, DatasetStatus
from brightrun.datasets.uploads import KIND, remove_object, request_validation
from brightrun.datasets.validation_run import ISSUES_KIND
from brightrun.logs import get_logger
from brightrun.platform import Platform
from brightrun.queue import schedule
from brightrun.storage import Bucket

log = get_logger(__name__)

_MOST_SWEEPS = 5
_SILENT_HEARTBEATS = 3
_SCRATCH_H = 24
_PURGED = "purged"
_PAGE = 100
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_PLACE = re.compile(f"(?P<workspace>{_UUID})/{KIND}/(?P<dataset>{_UUID})/")


async def _each(
    platform: Platform, found: Sequence[tuple[UUID, UUID]], work: Callable[[Platform, UUID, UUID], Awaitable[None]]
) -> int:
    """Do `work` for each (workspace, dataset). A failure is logged and holds up no other; the answer is how many."""
    failed = 0
    for workspace_id, dataset_id in found:
        try:
            await work(platform, workspace_id, dataset_id)
        except Exception:
            failed += 1
            log.exception("sweeping a dataset failed, it is tried again at the next run", dataset=str(dataset_id))
    return failed


@schedule("* * * * *", name="datasets.sweep_stuck")
async def sweep_stuck(platform: Platform) -> None:
    """At most 10 datasets a minute whose validation is silent: into the queue again, unless it is waiting there.

    The queue itself takes over from dead workers; this is for work that the queue no longer knows.
    """
    silent_since = utcnow() - timedelta(seconds=_SILENT_HEARTBEATS * max(platform.settings.stalled_worker_s, 1.0))
    async with platform.db.transaction() as session:
        found = await repository.stuck(session, silent_since)
    await _each(platform, found, _revive)


async def _revive(platform: Platform, workspace_id: UUID, dataset_id: UUID) -> None:
    async with platform.db.transaction(workspace_id=workspace_id) as session:
        dataset = await repository.find(session, dataset_id, deleted=True, lock=True)
        if dataset is None or dataset.status != DatasetStatus.VALIDATING:
            return
        attempt = dataset.validation_attempt
        if dataset.validation_sweeps >= _MOST_SWEEPS:
            message = (
                f"The validation was started {_MOST_SWEEPS + 1} times and never ended; the worker's log says why. "
                "Validate the dataset again when the cause is mended."
            )
            values = {"status": DatasetStatus.ERROR, "error_code": "validation_lost", "error_message": message}
            await finish(session, dataset_id, attempt, values)
            log.error("gave up on a validation that never ends", dataset=str(dataset_id), attempt=attempt)
            return
        await repository.count_sweep(session, dataset_id, attempt)
        await request_validation(session, workspace_id, dataset_id, attempt)
        log.warning("validation was silent, asked for it again", dataset=str(dataset_id), attempt=attempt)


@schedule("7,22,37,52 * * * *", name="datasets.sweep_uploads")
async def sweep_uploads(platform: Platform) -> None:
    """Uploads that nobody confirmed or went on with for a day: parts and file are removed, the dataset says so."""
    hours = platform.settings.unconfirmed_upload_hours
    before = utcnow() - timedelta(hours=hours)
    while True:
        async with platform.db.transaction() as session:
            found = await repository.unconfirmed(session, before)
        if await _each(platform, found, partial(_expire, before=before, hours=hours)) or len(found) < _PAGE:
            break  # what failed would be found again at once; the next run tries it
    await asyncio.to_thread(platform.store.sweep_temporary, untouched_since=before)
    await _abort_strays(platform, before)
    await asyncio.to_thread(_clear_scratch, platform.settings.data / "scratch", utcnow() - timedelta(hours=_SCRATCH_H))


async def _expire(platform: Platform, workspace_id: UUID, dataset_id: UUID, *, before: datetime, hours: int) -> None:
    async with platform.db.transaction(workspace_id=workspace_id) as session:
        dataset = await repository.find(session, dataset_id, deleted=True, lock=True)
        if dataset is None or dataset.status != DatasetStatus.UPLOADING or dataset.upload_renewed_at >= before:
            return
        await asyncio.to_thread(remove_object, platform.store, dataset)
        dataset.status = DatasetStatus.ERROR
        dataset.error_code = "upload_expired"
        dataset.error_message = f"The upload was not confirmed within {hours} hours; what had arrived was removed."
        dataset.object_deleted_at, dataset.upload_id = utcnow(), None
        await session.flush()
        await record(session, "dataset.upload_expired", "dataset", str(dataset_id), {"name": dataset.name})
        dataset = await repository.find(session, dataset_id, deleted=True)
        assert dataset is not None
        await announce(session, dataset)
        await notify_ended(session, dataset, once="upload_expired")
    log.info("unconfirmed upload removed", dataset=str(dataset_id))


async def _abort_strays(platform: Platform, before: datetime) -> None:
    """Multipart uploads that belong to no dataset under way: of a creation that was rolled back, or replaced ones."""
    for upload in await asyncio.to_thread(platform.store.list_multiparts, started_before=before):
        place = _PLACE.match(upload.path)
        if upload.bucket != Bucket.LORA_DATASETS or place is None:
            continue
        async with platform.db.transaction(workspace_id=UUID(place["workspace"])) as session:
            dataset = await repository.find(session, UUID(place["dataset"]), deleted=True)
        if dataset is not None and _is_under_way(dataset, upload.upload_id, before):
            continue
        await asyncio.to_thread(platform.store.abort_multipart, upload.bucket, upload.path, upload.upload_id)
        log.info("stray multipart upload aborted", path=upload.path)


def _is_under_way(dataset: Dataset, upload_id: str, before: datetime) -> bool:
    """S3 does not tell an upload's layout, so only the end of the id is compared."""
    return (
        dataset.upload_id is not None
        and dataset.upload_id.rpartition(".")[2] == upload_id.rpartition(".")[2]
        and dataset.upload_renewed_at >= before
    )


@schedule("41 3 * * *", name="datasets.purge_deleted")
async def purge_deleted(platform: Platform) -> None:
    """Datasets that were in the trash for longer than the retention period: their bytes go for good.

    The row goes, too, unless a training job refers to it: then it stays in the trash as what the job was trained on.
    """
    before = utcnow() - timedelta(days=platform.settings.deleted_retention_days)
    beyond = UUID(int=0)
    while True:
        async with platform.db.transaction() as session:
            found = await repository.purgeable(session, before, beyond)
        await _each(platform, found, _purge)
        if len(found) < _PAGE:
            return
        beyond = found[-1][1]


async def _purge(platform: Platform, workspace_id: UUID, dataset_id: UUID) -> None:
    async with platform.db.transaction(workspace_id=workspace_id) as session:
        dataset = await repository.find(session, dataset_id, deleted=True, lock=True)
        if dataset is None or dataset.deleted_at is None or dataset.error_code == _PURGED:
            return  # restored meanwhile, or as gone as it can be
        if not await repository.delete_unreferenced(session, dataset_id):
            dataset.status, dataset.training_ready = DatasetStatus.ERROR, False
            dataset.error_code = _PURGED
            dataset.error_message = "It was deleted, and the time in which it could be restored is over."
            dataset.object_deleted_at, dataset.issues_path = utcnow(), None
            await session.flush()
        await announce(session, dataset, "dataset.purged")
        facts = {"name": dataset.name, "file_name": dataset.file_name, "sha256": dataset.sha256}
        await record(session, "dataset.purged", "dataset", str(dataset_id), facts)
        # Before the commit: if we are killed here, the next night repeats it.
        await asyncio.to_thread(_remove_everything, platform, dataset)
    log.info("deleted dataset purged", dataset=str(dataset_id))


def _remove_everything(platform: Platform, dataset: Dataset) -> None:
    remove_object(platform.store, dataset)
    bucket = Bucket(dataset.storage_bucket)
    for kind in (ISSUES_KIND, REPAIRS_KIND):
        platform.store.delete_prefix(bucket, f"{dataset.workspace_id}/{kind}/{dataset.id}")


def _clear_scratch(folder: Path, before: datetime) -> None:
    """What a killed worker left: issue lists, and the folders of validations in processes of their own."""
    for left in (*folder.glob("issues-*"), *folder.glob("validation-*")):
        if left.stat().st_mtime >= before.timestamp():
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
