"""Bringing a file in: announce it, hand out URLs (again), confirm that it has arrived, or give it up.

Bytes never pass through here: clients send them to signed URLs of the object store.
"""

import asyncio
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts import quota
from brightrun.accounts.signin import Principal
from brightrun.audit.service import record
from brightrun.clock import utcnow
from brightrun.datasets import repository
from brightrun.datasets.changes import announce, notify_ended
from brightrun.datasets.schemas import DatasetCreate, DatasetOut, MultipartOut, UploadData
from brightrun.datasets.service import get, get_for_update, removed
from brightrun.datasets.tables import Dataset, DatasetStatus
from brightrun.errors import BrightRunError, ConflictError, InvalidInputError, NotFoundError, StorageFullError
from brightrun.ids import uuid7
from brightrun.platform import Platform
from brightrun.queue import enqueue
from brightrun.storage import Bucket, MultipartStatus, ObjectStore, object_path
from brightrun.storage.errors import ObjectNotFoundError, SizeMismatchError, UploadNotFoundError

KIND = "datasets"
"""Second part of a dataset's path in its bucket: `<workspace>/datasets/<id>/<name>`."""


async def create(session: AsyncSession, platform: Platform, principal: Principal, body: DatasetCreate) -> UploadData:
    """A new dataset in `uploading`, and where to send its file.

    Raises InvalidInputError for a file above the limit, StorageFullError when quota or disk have no room for it.
    """
    settings, store = platform.settings, platform.store
    if body.file_size > settings.max_upload_bytes:
        message = f"the file has {body.file_size:,} bytes; at most {settings.max_upload_bytes:,} are accepted"
        raise InvalidInputError(f"file_size: {message}", code="validation_error", details={"file_size": [message]})
    dataset = Dataset(
        id=uuid7(),
        workspace_id=principal.workspace_id,
        created_by=principal.user_id,
        name=body.name,
        description=body.description,
        declared_format=body.format,
        file_name=body.file_name,
        file_size=body.file_size,
        declared_sha256=body.sha256,
        storage_bucket=str(Bucket.LORA_DATASETS),
    )
    dataset.storage_path = object_path(principal.workspace_id, KIND, dataset.id, body.file_name)
    # If this transaction does not commit, the sweeper finds a multipart upload without a row, and aborts it.
    multipart = await asyncio.to_thread(_start, store, dataset, platform)
    dataset.upload_id = multipart.upload_id
    try:
        # Late, because it makes other creations wait until this transaction ends.
        await quota.reserve(session, settings, principal.workspace_id, body.file_size)
    except StorageFullError:
        await asyncio.to_thread(remove_object, store, dataset)
        raise
    session.add(dataset)
    await session.flush()
    await record(
        session, "dataset.created", "dataset", str(dataset.id), {"name": body.name, "file_size": body.file_size}
    )
    dataset = await get(session, dataset.id)
    await announce(session, dataset, "dataset.created")
    return UploadData(
        dataset=DatasetOut.of(dataset),
        uploadUrl=_plain_url(platform, dataset),
        storagePath=dataset.storage_path,
        multipart=multipart,
    )


async def renew(session: AsyncSession, platform: Platform, dataset_id: UUID) -> UploadData:
    """Fresh URLs for an upload under way, and which parts have arrived: to go on after a reload or a restart.

    Raises ConflictError when the file is in already, or was removed.
    """
    dataset = await get_for_update(session, dataset_id)
    _refuse_settled(dataset)
    status = await asyncio.to_thread(_status_or_new, platform, dataset)
    dataset.upload_id = status.upload_id
    dataset.upload_renewed_at = func.now()  # who goes on with an upload is not swept
    await session.flush()
    arrived = status.complete or await _arrived(platform.store, dataset) == dataset.file_size
    return UploadData(
        dataset=DatasetOut.of(await get(session, dataset_id)),
        uploadUrl=_plain_url(platform, dataset),
        storagePath=dataset.storage_path,
        multipart=MultipartOut.model_validate(status.as_json()),
        uploaded=arrived,
    )


async def confirm(session: AsyncSession, platform: Platform, dataset_id: UUID) -> Dataset:
    """The file has arrived: check that it is there and as long as announced, and have it validated.

    Twice, or twice at once, is as once. A ready or faulty dataset is validated again. When the file is not there, or
    has another size, the dataset goes to `error` and ConflictError or SizeMismatchError says so.
    """
    dataset = await get(session, dataset_id)
    if dataset.status == DatasetStatus.VALIDATING:
        return dataset
    if dataset.object_deleted_at is not None:
        raise removed(dataset)
    # The file of a version that could not be made is made now.
    unmade = dataset.repair is not None and dataset.repaired_at is None
    fault = None if unmade else await _look_at_object(platform, dataset)
    if fault is not None:
        # In a transaction of its own: this one ends with the error.
        await _set_fault(session, platform, dataset, fault)
        raise fault.error
    attempt = await repository.start_validation(session, dataset_id)
    if attempt is not None:
        await request_validation(session, dataset.workspace_id, dataset_id, attempt)
        await record(session, "dataset.confirmed", "dataset", str(dataset_id), {"attempt": attempt})
        dataset = await get(session, dataset_id)
        await announce(session, dataset)
    return await get(session, dataset_id)


async def request_validation(session: AsyncSession, workspace_id: UUID, dataset_id: UUID, attempt: int) -> None:
    """Put this attempt into the queue, unless it is waiting there."""
    await enqueue(
        session,
        "datasets.validate",
        queueing_lock=f"datasets.validate {dataset_id} {attempt}",
        workspace_id=workspace_id,
        dataset_id=dataset_id,
        attempt=attempt,
    )


async def cancel(session: AsyncSession, platform: Platform, dataset_id: UUID) -> Dataset:
    """Give the upload up: parts and file are removed, the dataset goes into the trash and cannot be restored."""
    dataset = await get_for_update(session, dataset_id)
    _refuse_settled(dataset)
    await asyncio.to_thread(remove_object, platform.store, dataset)
    dataset.status = DatasetStatus.ERROR
    dataset.error_code, dataset.error_message = "upload_cancelled", "The upload was cancelled."
    dataset.deleted_at = dataset.object_deleted_at = utcnow()
    dataset.upload_id = None
    await session.flush()
    await record(session, "dataset.upload_cancelled", "dataset", str(dataset_id), {"name": dataset.name})
    await announce(session, dataset, "dataset.deleted")
    return await get(session, dataset_id, deleted=True)


async def download_url(session: AsyncSession, platform: Platform, dataset_id: UUID) -> str:
    """Signed URL of the file as it was uploaded. ConflictError while it has not arrived, or was removed."""
    dataset = await get(session, dataset_id, large=False)
    if dataset.object_deleted_at is not None:
        raise removed(dataset)
    if await _arrived(platform.store, dataset) is None:
        raise ConflictError(f"The file {dataset.file_name!r} has not arrived.", code="upload_incomplete")
    return platform.store.presign_get(
        Bucket(dataset.storage_bucket),
        dataset.storage_path,
        expires_s=platform.settings.signed_url_s,
        filename=dataset.file_name,
    )


def remove_object(store: ObjectStore, dataset: Dataset) -> None:
    """Blocking. Whatever there is of the file, whole or in parts. Repeating it is harmless."""
    bucket = Bucket(dataset.storage_bucket)
    if dataset.upload_id is not None:
        store.abort_multipart(bucket, dataset.storage_path, dataset.upload_id)
    store.delete(bucket, dataset.storage_path)


# --- what the store says --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Fault:
    """Why a confirmation fails. remove: what is stored is not what was announced, and goes."""

    error: BrightRunError
    remove: bool = False


async def _arrived(store: ObjectStore, dataset: Dataset) -> int | None:
    """Size of the stored file; None when there is none."""
    try:
        return (await asyncio.to_thread(store.head, Bucket(dataset.storage_bucket), dataset.storage_path)).size
    except ObjectNotFoundError:
        return None


async def _look_at_object(platform: Platform, dataset: Dataset) -> _Fault | None:
    size = await _arrived(platform.store, dataset)
    if size == dataset.file_size:
        return None
    if size is not None:
        message = (
            f"{dataset.file_name!r} was announced with {dataset.file_size:,} bytes, but {size:,} bytes arrived. "
            "What arrived was removed."
        )
        return _Fault(
            SizeMismatchError(message, details={"expected": dataset.file_size, "received": size}), remove=True
        )
    if dataset.validated_at is not None:
        message = (
            f"The stored file of {dataset.name!r} is no longer there. Restore it from a backup, or upload it anew."
        )
        return _Fault(ConflictError(message, code="object_missing"))
    stored, parts = await asyncio.to_thread(_stored_parts, platform, dataset)
    if stored and stored == parts:
        next_step = f"All {parts} parts have, but were not put together: POST the upload's complete_url"
    elif stored:
        next_step = f"{stored} of {parts} parts have. Upload the rest"
    else:
        next_step = "Upload it"
    message = f"The file {dataset.file_name!r} has not arrived. {next_step}, then confirm again."
    details = {"stored_parts": stored, "parts": parts}
    return _Fault(ConflictError(message, code="upload_incomplete", details=details))


async def _set_fault(session: AsyncSession, platform: Platform, dataset: Dataset, fault: _Fault) -> None:
    values = {}
    if fault.remove:
        await asyncio.to_thread(remove_object, platform.store, dataset)
        values = {"object_deleted_at": utcnow(), "upload_id": None}
    async with platform.db.transaction(user_id=session.info.get("user_id"), workspace_id=dataset.workspace_id) as own:
        since = DatasetStatus(dataset.status)
        error = fault.error
        if await repository.fail(own, dataset.id, since=since, code=error.code, message=error.message, **values):
            after = await get(own, dataset.id, deleted=True, large=False)
            await announce(own, after)
            await notify_ended(own, after, once=f"confirmation:{after.validation_attempt}:{error.code}")


def _refuse_settled(dataset: Dataset) -> None:
    """An upload can be gone on with, or cancelled, until its file was accepted for validation."""
    if dataset.object_deleted_at is not None:
        raise removed(dataset)
    under_way = dataset.status == DatasetStatus.UPLOADING or (
        dataset.status == DatasetStatus.ERROR and dataset.error_code == "upload_incomplete"
    )
    if not under_way:
        raise ConflictError(
            f"The file of {dataset.name!r} was uploaded already; the dataset is {dataset.status}.",
            code="already_uploaded",
            details={"status": dataset.status},
        )


def _start(store: ObjectStore, dataset: Dataset, platform: Platform) -> MultipartOut:
    multipart = store.start_multipart(
        Bucket(dataset.storage_bucket),
        dataset.storage_path,
        size=dataset.file_size,
        part_size=platform.settings.upload_part_bytes,
        expires_s=platform.settings.signed_url_s,
        sha256=dataset.declared_sha256,
    )
    return MultipartOut.model_validate(multipart.as_json())


def _status(platform: Platform, dataset: Dataset, upload_id: str | None) -> MultipartStatus:
    if upload_id is None:
        raise UploadNotFoundError("no multipart upload is open")
    return platform.store.multipart_status(
        Bucket(dataset.storage_bucket), dataset.storage_path, upload_id, expires_s=platform.settings.signed_url_s
    )


def _status_or_new(platform: Platform, dataset: Dataset) -> MultipartStatus:
    """How far the upload is; a new one in its place if it is gone (a wrong hash ends it; so does a restored backup)."""
    try:
        return _status(platform, dataset, dataset.upload_id)
    except UploadNotFoundError:
        return _status(platform, dataset, _start(platform.store, dataset, platform).upload_id)


def _stored_parts(platform: Platform, dataset: Dataset) -> tuple[int, int]:
    """(parts that arrived, parts in all)."""
    try:
        status = _status(platform, dataset, dataset.upload_id)
    except NotFoundError:
        return 0, 1
    return len(status.stored), len(status.stored) + len(status.parts)


def _plain_url(platform: Platform, dataset: Dataset) -> str | None:
    return platform.store.presign_put(
        Bucket(dataset.storage_bucket),
        dataset.storage_path,
        size=dataset.file_size,
        expires_s=platform.settings.signed_url_s,
        sha256=dataset.declared_sha256,
    )
