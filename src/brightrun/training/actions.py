"""What people do with a job: cancel, pause, resume, retry. Each locks the row, and is harmless when it is repeated."""

from decimal import Decimal
from typing import Any, NoReturn
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts.signin import Principal
from brightrun.audit.service import record as audit
from brightrun.clock import utcnow
from brightrun.errors import ConflictError, InvalidInputError
from brightrun.formats import hyperparameters
from brightrun.formats.hyperparameters import ADJUSTABLE, HyperparameterError
from brightrun.queue import enqueue
from brightrun.settings import Settings
from brightrun.training import endings, repository, spending
from brightrun.training.changes import announce, note
from brightrun.training.failures.classify import classify
from brightrun.training.failures.remedies import Fix, suggested_fix
from brightrun.training.schemas import GpuConfigIn, JobCancel, JobCreate, JobResume, JobRetry
from brightrun.training.service import REGISTER_TASK, create, get
from brightrun.training.tables import ACTIVE, ENDED, WAITING, JobStatus, TrainingJob

RETRYABLE = (JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.INTERRUPTED)
_AGAIN = " (again)"
RESUMABLE = (*RETRYABLE, JobStatus.PAUSED)


async def cancel(session: AsyncSession, job_id: UUID, body: JobCancel) -> TrainingJob:
    """Stop it: at once when nothing runs, else its supervisor does so soon. Repeating it is harmless."""
    job = await get(session, job_id, lock=True)
    if job.status == JobStatus.CANCELLED or (job.cancel_requested_at is not None and job.status not in ENDED):
        return job
    if job.status in ENDED:
        raise ConflictError(f"The job is {job.status} already; there is nothing to cancel", code="job_ended")
    _require_untrained(job)
    job.cancel_requested_at = utcnow()
    job.cancel_reason, job.cancel_note, job.cancel_saves = body.reason, body.note, body.checkpoint
    await session.flush()
    details = {"reason": body.reason, "note": body.note, "checkpoint": body.checkpoint}
    await audit(session, "job.cancelled", "job", job.id, details)
    if job.status in ACTIVE:
        how = "after saving a checkpoint" if body.checkpoint else "at the next step"
        await note(session, job, "cancel_requested", f"Asked to stop {how}.", details=details)
        await announce(session, job)
    else:
        await endings.cancelled(session, job)
    return await get(session, job_id)


async def pause(session: AsyncSession, job_id: UUID) -> TrainingJob:
    """Save a checkpoint and give the machine back until somebody resumes it; at once when nothing runs."""
    job = await get(session, job_id, lock=True)
    if job.status == JobStatus.PAUSED or (job.pause_requested_at is not None and job.status not in ENDED):
        return job
    if job.status in ENDED or job.cancel_requested_at is not None:
        what = job.status if job.status in ENDED else "being cancelled"
        raise ConflictError(f"The job is {what}; there is nothing to pause", code="not_pausable")
    _require_untrained(job)
    await audit(session, "job.paused", "job", job.id)
    if job.status in ACTIVE:
        job.pause_requested_at = utcnow()
        await session.flush()
        await note(session, job, "pause_requested", "Asked to pause: it saves a checkpoint first.")
        await announce(session, job)
    else:
        await endings.paused(session, job)
    return await get(session, job_id)


async def resume(session: AsyncSession, principal: Principal, job_id: UUID, body: JobResume) -> TrainingJob:
    """Go on with a job that stopped: from its newest checkpoint or from one that is chosen, with allowed changes.

    One that is only asked to pause simply runs on. Raises ConflictError for a job that runs, is done or is being
    cancelled; InvalidInputError for a checkpoint that is not kept, or a change that would make it another run.
    """
    job = await get(session, job_id, lock=True)
    plain = body.checkpoint_step is None and not body.hyperparameters and body.max_cost_usd is None
    if job.status in ACTIVE and job.cancel_requested_at is None and job.trained_at is None and plain:
        if job.pause_requested_at is not None:
            job.pause_requested_at = None
            await session.flush()
            await note(session, job, "pause_withdrawn", "It is not to pause after all.")
            await announce(session, job)
        return await get(session, job_id)
    if job.status not in RESUMABLE:
        raise ConflictError(
            f"The job is {job.status}; only a job that stopped or is paused can be resumed", code="not_resumable"
        )
    changes = _allowed_changes(job, body.hyperparameters)
    if body.checkpoint_step is not None:
        _choose_checkpoint(job, body.checkpoint_step)
    if changes:
        _change(job, changes)
    raised = body.max_cost_usd is not None and (job.max_cost is None or body.max_cost_usd > job.max_cost)
    if body.max_cost_usd is not None:
        job.max_cost = body.max_cost_usd
    if not raised:
        _require_cap_not_reached(job)
    return await _go_on(session, principal, job, "resumed", changes, override=body.budget_override_reason)


async def retry(
    session: AsyncSession, settings: Settings, principal: Principal, job_id: UUID, body: JobRetry
) -> TrainingJob:
    """Go on from the last whole checkpoint, or from the start where there is none.

    With `apply_fix`, with the change that is suggested for its failure; one that changes what is learned starts a new
    job, which is the answer then (the same one while it has not ended). Raises ConflictError when nothing is suggested.
    """
    job = await get(session, job_id, lock=True)
    if job.status not in RETRYABLE:
        raise ConflictError(f"The job is {job.status}; only a job that stopped can be retried", code="not_retryable")
    _require_cap_not_reached(job)
    if not body.apply_fix:
        return await _go_on(session, principal, job, "retried", {}, override=body.budget_override_reason)
    fix = None
    if job.status == JobStatus.FAILED and job.trained_at is None:
        failure = classify(job.error_code, job.error_message, job.error_evidence)
        fix = suggested_fix(failure.kind, job.hyperparameters)
    if fix is None:
        raise ConflictError("No change is known to help here. Retry without one, or start a similar job", code="no_fix")
    if fix.starts_anew:
        return await _start_instead(session, settings, principal, job, fix, body.budget_override_reason)
    _change(job, fix.values)
    return await _go_on(session, principal, job, "retried", fix.values, override=body.budget_override_reason)


async def _start_instead(
    session: AsyncSession, settings: Settings, principal: Principal, job: TrainingJob, fix: Fix, override: str | None
) -> TrainingJob:
    """A new job with the change, linked to the failed one."""
    earlier = await repository.newest_retry(session, job.id)
    if earlier is not None:
        started = await get(session, earlier)
        if started.status not in ENDED:
            return started
    body = JobCreate(
        dataset_id=job.dataset_id,
        preset_id=job.preset_id,
        hyperparameters=job.overrides | fix.values,
        gpu_config=GpuConfigIn(type=job.gpu_config["type"], count=job.gpu_config["count"]),
        base_model=job.base_model,
        name=f"{job.name.removesuffix(_AGAIN)[: 255 - len(_AGAIN)]}{_AGAIN}",
        seed=job.seed,
        max_cost_usd=job.max_cost,
        budget_override_reason=override,
    )
    new, _is_new = await create(session, settings, principal, body, idempotency_key=None, retry_of=job.id)
    await note(session, job, "retried", f"Started anew as another job: {fix.why}", details=fix.values)
    await audit(session, "job.retried", "job", job.id, {"as": str(new.id), "changes": fix.values})
    await announce(session, job)
    return new


def _change(job: TrainingJob, changes: dict[str, Any]) -> None:
    """For the next attempt in the run directory, and for a directory that is made anew."""
    job.run_changes = changes
    job.overrides = job.overrides | changes
    job.hyperparameters = job.hyperparameters | changes


async def _go_on(
    session: AsyncSession,
    principal: Principal,
    job: TrainingJob,
    how: str,
    changes: dict[str, Any],
    *,
    override: str | None,
) -> TrainingJob:
    """Into the queue again, if there is money for what it may still cost; what is counted against it starts anew."""
    if job.trained_at is None and job.price_per_hour and job.status not in WAITING:  # those are counted already
        _require_room_below_cap(job)
        upper = spending.upper_estimate(job.estimate, job.price_per_hour, job.max_cost)
        more = max(Decimal(0), upper - job.current_cost)
        allowed = await spending.require_budget(session, principal, more, override=override)
        await spending.note_override(session, job, allowed)
    if job.trained_at is None and job.run_dir is None:
        dataset = await repository.datasets(session, {job.dataset_id})
        found = dataset.get(job.dataset_id)
        if found is None or found.deleted_at is not None:
            raise ConflictError("Its dataset was deleted; restore it first", code="dataset_deleted")
    paused = job.status == JobStatus.PAUSED
    job.error_code = job.error_message = job.error_advice = job.error_evidence = None
    job.cancel_requested_at = job.cancel_reason = job.cancel_note = None
    job.archived_at = None
    job.completed_at = job.final_cost = job.next_attempt_at = job.waiting_reason = None
    job.fruitless = job.own_failures = 0
    if not paused:
        job.queued_at = utcnow()
    if job.trained_at is not None:
        # The trainer was done; only storing the model failed.
        job.status = JobStatus.RUNNING
        await enqueue(session, REGISTER_TASK, job_id=job.id, workspace_id=job.workspace_id)
    else:
        # A paused one had its turn already: it comes before those that only wait.
        job.status = JobStatus.INTERRUPTED if paused and job.attempt else JobStatus.QUEUED
    await session.flush()
    where = f"from step {job.checkpoint_step}" if job.checkpoint_step else "from the start"
    changed = f", with {', '.join(f'{name} {value}' for name, value in changes.items())}" if changes else ""
    await note(session, job, how, f"{how.capitalize()} by hand; it goes on {where}{changed}.", details=changes)
    await audit(session, f"job.{how}", "job", job.id, {"checkpoint_step": job.checkpoint_step, "changes": changes})
    await announce(session, job)
    return await get(session, job.id)


def _require_cap_not_reached(job: TrainingJob) -> None:
    """It stopped a step before its limit: it would only start, and stop again."""
    if job.error_code == "budget":
        _refuse_for_cap(job)


def _require_room_below_cap(job: TrainingJob) -> None:
    left = spending.left_to_spend(job)
    if left is not None and left <= 0:
        _refuse_for_cap(job)


def _refuse_for_cap(job: TrainingJob) -> NoReturn:
    raise ConflictError(
        f"The job has cost ${job.current_cost:.2f}, and its limit is ${job.max_cost:.2f}: raise `max_cost_usd` to "
        "go on",
        code="job_limit_reached",
        details={"max_cost_usd": f"{job.max_cost:.6f}", "cost_usd": f"{job.current_cost:.6f}"},
    )


def _require_untrained(job: TrainingJob) -> None:
    if job.trained_at is not None:
        raise ConflictError(
            "Training is done and paid for; the model is being stored. Delete the model afterwards if you do not "
            "want it",
            code="job_trained",
        )


def _allowed_changes(job: TrainingJob, wanted: dict[str, Any]) -> dict[str, Any]:
    """Only what decides speed, memory and record keeping: anything else would make it another run."""
    if not wanted:
        return {}
    if job.trained_at is not None:
        raise ConflictError("Training is done; only storing the model is left, and nothing to change", code="trained")
    fixed = "cannot change on the way: it would be another run. Start a similar job with it"
    details = {f"hyperparameters.{name}": [fixed] for name in wanted if name not in ADJUSTABLE}
    if not details:
        try:
            values = hyperparameters.build(job.preset_id, job.overrides | wanted)
            return {
                name: getattr(values, name) for name in wanted if job.hyperparameters[name] != getattr(values, name)
            }
        except HyperparameterError as error:
            details = {f"hyperparameters.{name}": texts for name, texts in error.problems.items()}
    raise InvalidInputError("Some changes are not allowed", code="validation_error", details=details)


def _choose_checkpoint(job: TrainingJob, step: int) -> None:
    if job.trained_at is not None:
        raise ConflictError("Training is done; only storing the model is left", code="trained")
    if step not in job.checkpoints or job.run_dir is None:
        known = ", ".join(map(str, job.checkpoints)) if job.run_dir is not None else ""
        raise InvalidInputError(
            f"There is no checkpoint of step {step}",
            code="validation_error",
            details={"checkpoint_step": [f"kept are those of step {known}" if known else "none is kept"]},
        )
    job.resume_step = job.checkpoint_step = step
    job.checkpoints = [kept for kept in job.checkpoints if kept <= step]
