"""The rules of training jobs: create, look up, complete. What is done with one is in `actions`, what runs it in
`supervisor/`.

Functions take the transaction they work in; row-level security has narrowed it to one workspace.
"""

import hashlib
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts.signin import Principal
from brightrun.audit.service import record as audit
from brightrun.datasets import service as datasets
from brightrun.datasets.tables import Dataset, DatasetStatus
from brightrun.errors import ConflictError, InvalidInputError, NotFoundError
from brightrun.formats.hyperparameters import total_steps
from brightrun.formats.names import TRAINED_LATER
from brightrun.ids import uuid7
from brightrun.notifications.tables import NotificationType
from brightrun.settings import Settings
from brightrun.training import endings, estimating, repository, scheduling, spending
from brightrun.training.changes import announce, note
from brightrun.training.configuration import (
    DEFAULT_BASE_MODEL,
    check_base_model,
    configure,
    require_available,
    require_method,
)
from brightrun.training.repository import JobFilter
from brightrun.training.schemas import JobCreate
from brightrun.training.tables import ACTIVE, WAITING, JobPriority, JobStatus, TrainingJob
from brightrun.training.templates import service as templates
from brightrun.web.http import Page, pick_sort

REGISTER_TASK = "models.register"
"""Stores a finished run as a model and calls `complete_job`; it lives in the models room, one floor up."""


async def get(session: AsyncSession, job_id: UUID, *, lock: bool = False) -> TrainingJob:
    """NotFoundError: absent or foreign."""
    job = await repository.find(session, job_id, lock=lock)
    if job is None:
        raise NotFoundError("There is no such training job")
    return job


async def list_jobs(
    session: AsyncSession, page: Page, *, sort: str = "-created_at", **filters: Any
) -> tuple[Sequence[TrainingJob], int]:
    """One page, and how many there are in all; filters as `repository.JobFilter`."""
    return await repository.list_page(
        session, page=page, order=pick_sort(sort, repository.SORTS), wanted=JobFilter(**filters)
    )


# --- estimate and create --------------------------------------------------------------------------------------------


async def create(
    session: AsyncSession,
    settings: Settings,
    principal: Principal,
    body: JobCreate,
    *,
    idempotency_key: str | None,
    retry_of: UUID | None = None,
    from_template: UUID | None = None,
) -> tuple[TrainingJob, bool]:
    """A queued job, and whether it is new: the same key gives the same job. retry_of: the failed job it stands for.
    from_template: a form began with this template, and says everything itself.

    Raises ConflictError while the dataset is not ready for training, when the device cannot be had, or when the key
    was used for something else; InvalidInputError names every field at once.
    """
    # How it was promised is no part of what is asked for: a form that is sent again may have a newer promise.
    asked = body.model_dump(mode="json", exclude={"promise_digest", "acknowledged"})
    digest = hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()
    if idempotency_key is not None:
        earlier = await _earlier(session, principal, idempotency_key, digest)
        if earlier is not None:
            return earlier, False
    body = await templates.applied(session, body)
    # Locked: it must not be deleted or validated anew between this look and the commit.
    dataset = await datasets.get_for_update(session, body.dataset_id)
    require_ready(dataset)
    assert dataset.sha256 is not None
    assert dataset.format is not None
    overrides = dict(body.hyperparameters)
    if body.seed is not None:
        overrides["seed"] = body.seed
    base_model = body.base_model or DEFAULT_BASE_MODEL
    subject = await estimating.subject_of(session, settings, dataset, base_model)
    configuration = configure(
        settings, preset_id=body.preset_id, overrides=overrides, gpu_config=body.gpu_config, pairs=subject.records
    )
    require_available(configuration.gpu)
    require_method(configuration, dataset_name=dataset.name, dataset_format=dataset.format)
    await check_base_model(settings, base_model)
    scheduling.require_may_set(principal, JobPriority.NORMAL, body.priority)
    values, gpu, count = configuration.values, configuration.gpu, configuration.gpu_count
    price = (gpu.price_per_gpu_hour_usd * count).quantize(Decimal("0.000001"))
    promise = await estimating.promise_for_job(session, settings, subject, configuration, base_model, dataset)
    estimating.require_same(promise, body.promise_digest)
    upper = spending.upper_estimate(promise, price, body.max_cost_usd)
    override = await spending.require_budget(session, principal, upper, override=body.budget_override_reason)
    job = TrainingJob(
        id=uuid7(),
        workspace_id=principal.workspace_id,
        created_by=principal.user_id,
        dataset_id=dataset.id,
        dataset_sha256=dataset.sha256,
        name=body.name or f"{dataset.name} – {configuration.preset_id}"[:255],
        preset_id=configuration.preset_id,
        base_model=base_model,
        seed=values.seed,
        overrides=configuration.overrides,
        hyperparameters=configuration.as_json,
        rules_fired=configuration.rules,
        gpu_config=gpu.frozen(count),
        price_per_hour=price,
        estimate=promise,
        max_cost=body.max_cost_usd,
        budget_override=override,
        idempotency_key=idempotency_key,
        request_hash=digest,
        retry_of=retry_of,
        template_id=body.template_id or from_template,
        status=JobStatus.QUEUED,
        priority=body.priority,
        total_epochs=values.epochs,
        total_steps=total_steps(values, _train_records(subject.records, values.heldout_fraction)),
        executor=gpu.executor,
    )
    session.add(job)
    await session.flush()
    session.add(scheduling.backlog(job))
    await session.flush()
    await session.refresh(job)
    await spending.note_override(session, job, override)
    await note(session, job, "queued", "The job waits to be started.")
    await audit(session, "job.created", "job", job.id, {"name": job.name, "dataset_id": str(dataset.id)})
    await endings.tell(
        session, job, NotificationType.JOB_QUEUED, "Training queued", f"on the dataset {dataset.name}.", once="queued"
    )
    await announce(session, job, "job.created")
    return job, True


def _train_records(pairs: int, heldout_fraction: float) -> int:
    return max(1, round(pairs * (1 - heldout_fraction)))


async def _earlier(session: AsyncSession, principal: Principal, key: str, digest: str) -> TrainingJob | None:
    """The job that this key made; holds the key until the transaction ends, so that two requests cannot both."""
    if not 1 <= len(key) <= 255 or not key.isprintable():
        raise InvalidInputError(
            "The Idempotency-Key must have 1 to 255 printable characters",
            code="validation_error",
            details={"Idempotency-Key": ["1 to 255 printable characters"]},
        )
    await session.execute(
        text("select pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"job {principal.workspace_id} {key}"}
    )
    job = await repository.by_idempotency_key(session, key)
    if job is not None and job.request_hash != digest:
        raise ConflictError(
            f"The Idempotency-Key was used for another request: it made the job {job.name!r}. Use a new key",
            code="idempotency_key_reused",
            details={"job_id": str(job.id)},
        )
    return job


def why_not_ready(dataset: Dataset) -> str | None:
    """Why it cannot be trained on now, as the rest of a sentence; None when it can."""
    trains = dataset.format not in TRAINED_LATER
    if dataset.status == DatasetStatus.READY and dataset.training_ready and trains and dataset.sha256 is not None:
        return None
    match DatasetStatus(dataset.status):
        case DatasetStatus.UPLOADING:
            return "its upload is not finished: upload the file and confirm it first"
        case DatasetStatus.VALIDATING:
            return "it is being validated: try again when it is ready"
        case DatasetStatus.ERROR:
            return f"it has errors: {dataset.error_message}"
        case DatasetStatus.READY:
            if not dataset.total_training_pairs:
                return "it has nothing to train on"
            return f"records of the format {dataset.format} are read and validated, but not trained on yet"


def require_ready(dataset: Dataset) -> None:
    """Raises ConflictError, with the reason, for a dataset that cannot be trained on."""
    reason = why_not_ready(dataset)
    if reason is None:
        return
    raise ConflictError(
        f"The dataset {dataset.name!r} is not ready for training: {reason}",
        code="dataset_not_ready",
        details={"status": dataset.status, "training_ready": dataset.training_ready},
    )


# --- numbers of a workspace -----------------------------------------------------------------------------------------


async def stats(session: AsyncSession) -> dict[str, Any]:
    by_status = await repository.counts(session)
    return {
        "total": sum(by_status.values()),
        "by_status": by_status,
        "active": sum(by_status[status] for status in (*ACTIVE, *WAITING)),
    }


# --- what the models room calls -------------------------------------------------------------------------------------


async def complete_job(session: AsyncSession, job_id: UUID, artifact_id: UUID) -> bool:
    """The run's adapter is stored as the model `artifact_id`: the job is `completed`, and everyone is told.

    Call it in the transaction that writes the model. False when the job is completed already (nothing changes).
    Raises NotFoundError; ConflictError for a job whose trainer is not done.
    """
    job = await get(session, job_id, lock=True)
    if job.status == JobStatus.COMPLETED:
        return False
    if job.trained_at is None or job.status != JobStatus.RUNNING:
        raise ConflictError(f"The job is {job.status} and has no finished run to complete", code="job_not_trained")
    await endings.completed(session, job, artifact_id)
    return True


async def fail_storing(session: AsyncSession, job_id: UUID, *, code: str, message: str) -> bool:
    """The run is done, but its model could not be stored: the job is `failed`; a retry stores it again.

    False when the job has ended otherwise meanwhile.
    """
    job = await get(session, job_id, lock=True)
    if job.trained_at is None or job.status != JobStatus.RUNNING:
        return False
    await endings.failed(
        session, job, code=code, message=f"The adapter is trained, but could not be stored: {message}",
        advice="Retry the job when the cause is gone: it is stored then, and not trained again.",
    )  # fmt: skip
    return True


# --- what the datasets room asks ------------------------------------------------------------------------------------


async def dataset_is_in_use(session: AsyncSession, dataset: Dataset) -> str | None:
    """Why a dataset may not be deleted now."""
    jobs = await repository.using_dataset(session, dataset.id)
    if not jobs:
        return None
    first = jobs[0]
    more = f" and {len(jobs) - 1} more" if len(jobs) > 1 else ""
    return f"The training job {first.name!r} ({first.status}){more} uses this dataset. Wait for it, or cancel it."


datasets.deletion_guards.append(dataset_is_in_use)
