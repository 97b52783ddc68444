"""A job as clients see it: the row, with what follows from it."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.clock import utcnow
from brightrun.costs.service import to_usd
from brightrun.datasets.tables import Dataset
from brightrun.settings import Settings
from brightrun.training import repository, scheduling
from brightrun.training.actions import RESUMABLE, RETRYABLE
from brightrun.training.changes import eta_seconds
from brightrun.training.failures.classify import classify
from brightrun.training.failures.remedies import Action, action_for, suggested_fix
from brightrun.training.labels import repository as labels
from brightrun.training.schemas import (
    ActionOut,
    AttemptOut,
    DatasetRef,
    FailureOut,
    FixOut,
    InterruptionsOut,
    JobOut,
    QueueOut,
)
from brightrun.training.supervisor.alarms import STOPPED_WITHIN_S
from brightrun.training.tables import ENDED, JobPriority, JobStatus, Outcome, TrainingAttempt, TrainingJob

_WASTED = (Outcome.INTERRUPTED, Outcome.FAILED)


def attempt_cost(price_per_hour: Decimal, seconds: Decimal) -> Decimal:
    """USD of so many seconds of the whole machine, to a millionth."""
    return to_usd(price_per_hour * seconds / 3600)


async def job_view(session: AsyncSession, job: TrainingJob) -> JobOut:
    """One job with its attempts. Its place in the queue is for `scheduling.add_places` to add."""
    datasets = await repository.datasets(session, {job.dataset_id})
    view = _view(job, datasets[job.dataset_id])
    view.attempts = [_attempt(job, row) for row in await repository.attempts(session, job.id)]
    await _add_labels(session, [view])
    view.retried_as = await repository.newest_retry(session, job.id)
    view.interruptions = _interruptions(view.attempts)
    return view


async def job_views(session: AsyncSession, jobs: Sequence[TrainingJob]) -> list[JobOut]:
    """Without attempts."""
    datasets: dict[UUID, Dataset] = await repository.datasets(session, {job.dataset_id for job in jobs})
    views = [_view(job, datasets[job.dataset_id]) for job in jobs]
    await _add_labels(session, views)
    return views


async def _add_labels(session: AsyncSession, jobs: Sequence[JobOut]) -> None:
    ids = [job.id for job in jobs]
    tags, notes = await labels.tags_of(session, ids), await labels.note_counts(session, ids)
    for job in jobs:
        job.tags, job.notes = tags.get(job.id, []), notes.get(job.id, 0)


async def queue_view(session: AsyncSession, settings: Settings) -> QueueOut:
    """The jobs of the workspace that wait, in the order in which they start."""
    return await scheduling.overview(session, settings, await job_views(session, await repository.waiting(session)))


def _view(job: TrainingJob, dataset: Dataset) -> JobOut:
    metrics = job.current_metrics or {}
    ended = job.status in ENDED
    return JobOut(
        id=job.id,
        name=job.name,
        status=JobStatus(job.status),
        priority=JobPriority(job.priority),
        stage=job.stage,
        progress=float(job.progress),
        step=job.current_step,
        total_steps=job.total_steps,
        epoch=job.current_epoch,
        total_epochs=job.total_epochs,
        eta_seconds=eta_seconds(job),
        cost_usd=job.current_cost,
        final_cost_usd=job.final_cost,
        price_per_hour_usd=job.price_per_hour,
        max_cost_usd=job.max_cost,
        budget_override=job.budget_override,
        cancelling=job.cancel_requested_at is not None and not ended,
        stop_overdue=not ended
        and job.cancel_requested_at is not None
        and (utcnow() - job.cancel_requested_at).total_seconds() > STOPPED_WITHIN_S,
        pausing=job.pause_requested_at is not None and not ended,
        waiting_reason=job.waiting_reason,
        can={
            "cancel": not ended and job.cancel_requested_at is None and job.trained_at is None,
            "pause": not ended
            and job.status != JobStatus.PAUSED
            and job.cancel_requested_at is None
            and job.pause_requested_at is None
            and job.trained_at is None,
            "resume": job.status in RESUMABLE or job.pause_requested_at is not None,
            "retry": job.status in RETRYABLE,
        },
        dataset_id=job.dataset_id,
        dataset=DatasetRef(
            id=dataset.id,
            name=dataset.name,
            format=dataset.format,
            total_training_pairs=dataset.total_training_pairs,
            total_tokens=dataset.total_tokens,
            deleted=dataset.deleted_at is not None,
        ),
        preset_id=job.preset_id,
        base_model=job.base_model,
        seed=job.seed,
        hyperparameters=job.hyperparameters,
        overrides=job.overrides,
        rules_fired=job.rules_fired,
        gpu_config=job.gpu_config,
        promise=job.estimate,
        actual=job.actual,
        metrics=job.current_metrics,
        training_loss=metrics.get("loss"),
        validation_loss=metrics.get("heldout_loss"),
        tokens_per_s=metrics.get("tokens_per_s"),
        train_loss_first=job.train_loss_first,
        train_loss_last=job.train_loss_last,
        heldout_loss_base=job.heldout_loss_base,
        heldout_loss_adapter=job.heldout_loss_adapter,
        heldout_conversations=job.heldout_conversations,
        heldout_tokens=job.heldout_tokens,
        checkpoint_step=job.checkpoint_step,
        checkpoints=job.checkpoints,
        model_id=job.artifact_id,
        error_code=job.error_code,
        error_message=job.error_message,
        error_advice=job.error_advice,
        error_evidence=job.error_evidence,
        failure=failure_view(job),
        template_id=job.template_id,
        acknowledged=job.acknowledged,
        retry_of=job.retry_of,
        cancel_reason=job.cancel_reason,
        cancel_note=job.cancel_note,
        created_by=job.created_by,
        created_at=job.created_at,
        updated_at=job.updated_at,
        queued_at=job.queued_at,
        started_at=job.started_at,
        trained_at=job.trained_at,
        completed_at=job.completed_at,
        archived_at=job.archived_at,
        next_attempt_at=job.next_attempt_at,
    )


def _attempt(job: TrainingJob, row: TrainingAttempt, now: datetime | None = None) -> AttemptOut:
    seconds = row.seconds
    if seconds is None:
        seconds = Decimal(str(max(0.0, ((now or utcnow()) - row.started_at).total_seconds()))).quantize(
            Decimal("0.001")
        )
    outcome = Outcome(row.outcome) if row.outcome else None
    lost = _lost_seconds(row) if outcome in _WASTED else Decimal(0)
    return AttemptOut(
        n=row.n,
        started_at=row.started_at,
        ended_at=row.ended_at,
        exit_code=row.exit_code,
        outcome=outcome,
        reason=row.reason,
        message=row.message,
        failure_class=classify(row.reason, row.message).kind if outcome in _WASTED else None,
        checkpoint_before=row.checkpoint_before,
        checkpoint_after=row.checkpoint_after,
        step_reached=row.step_reached,
        seconds=float(seconds),
        cost_usd=row.cost if row.cost is not None else attempt_cost(job.price_per_hour, seconds),
        steps_lost=max(0, row.step_reached - (row.checkpoint_after or 0)) if outcome in _WASTED else 0,
        lost_seconds=float(lost),
        lost_usd=attempt_cost(job.price_per_hour, lost),
    )


def failure_view(job: TrainingJob) -> FailureOut | None:
    """What became of a failed job, for people: told from what is stored, so that better rules help old jobs too."""
    if job.status != JobStatus.FAILED:
        return None
    found = classify(job.error_code, job.error_message, job.error_evidence)
    fix = suggested_fix(found.kind, job.hyperparameters)
    action = action_for(found.kind, fix, job_id=job.id, dataset_id=job.dataset_id)
    if job.error_code == "month_budget":
        action = Action("raise_limit", "Look at the budget", "/costs")
    return FailureOut(
        kind=found.kind,
        title=found.explanation.title,
        cause=found.explanation.cause,
        evidence=found.line,
        advice=found.explanation.advice,
        fix=FixOut.model_validate(fix) if fix is not None else None,
        action=ActionOut.model_validate(action),
    )


def _lost_seconds(row: TrainingAttempt) -> Decimal:
    """What an attempt did after its last whole checkpoint: all of it, when it wrote none."""
    if row.ended_at is None or row.seconds is None:
        return Decimal(0)
    since = (row.ended_at - (row.saved_at or row.started_at)).total_seconds()
    return min(row.seconds, Decimal(str(max(0.0, since))).quantize(Decimal("0.001")))


def _interruptions(attempts: Sequence[AttemptOut]) -> InterruptionsOut:
    wasted = [attempt for attempt in attempts if attempt.outcome in _WASTED]
    return InterruptionsOut(
        count=len(wasted),
        steps_lost=sum(attempt.steps_lost for attempt in wasted),
        lost_seconds=round(sum(attempt.lost_seconds for attempt in wasted), 3),
        lost_usd=sum((attempt.lost_usd for attempt in wasted), Decimal(0)),
    )
