"""What the buttons of a job's page do: cancel, pause, resume, retry. They lead back to it, and say what happened."""

from collections.abc import Awaitable, Callable
from uuid import UUID

from fastapi import APIRouter, Response
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts.context import PageCtx, page_needs
from brightrun.accounts.roles import Permission
from brightrun.errors import BrightRunError
from brightrun.training import actions, scheduling, service
from brightrun.training.pages import ADJUSTED
from brightrun.training.schemas import JobCancel, JobResume, JobRetry, PriorityIn
from brightrun.training.tables import JobStatus, TrainingJob
from brightrun.web import forms
from brightrun.web.toasts import Toast, toast_redirect

router = APIRouter(prefix="/training", include_in_schema=False)

_WRITE = page_needs(Permission.JOBS_WRITE)
_CHECKPOINTING = "activation_checkpointing"


async def _do(
    ctx: PageCtx,
    job_id: UUID,
    work: Callable[[AsyncSession], Awaitable[TrainingJob]],
    told: Callable[[TrainingJob], Toast],
    *,
    back: str | None = None,
) -> Response:
    """Do it in a savepoint: what is refused half-way leaves nothing behind. back: another page than the job's."""
    try:
        async with ctx.session.begin_nested():
            job = await work(ctx.session)
    except BrightRunError as error:
        if error.status == 404:
            raise
        text = " ".join(text for texts in forms.problems(error).values() for text in texts)
        toast = Toast(title="That did not work", description=text, category="error")
    else:
        toast, job_id = told(job), job.id
    return toast_redirect(ctx.request, back or f"/training/{job_id}", toast)


@router.post("/{job_id}/cancel", **_WRITE)
async def cancel(ctx: PageCtx, job_id: UUID) -> Response:
    values = forms.text_fields(await ctx.request.form(), ("reason", "note", "stop"))
    given = {"reason": values["reason"] or None, "note": values["note"] or None, "checkpoint": values["stop"] != "now"}

    def told(job: TrainingJob) -> Toast:
        if job.status == JobStatus.CANCELLED:
            return Toast(title="The job is cancelled")
        first = "It saves a checkpoint first" if job.cancel_saves else "It stops at its next step"
        return Toast(title="The job is being stopped", description=f"{first}, and is gone within a minute.")

    return await _do(ctx, job_id, lambda session: actions.cancel(session, job_id, forms.parse(JobCancel, given)), told)


@router.post("/{job_id}/priority", **_WRITE)
async def priority(ctx: PageCtx, job_id: UUID) -> Response:
    """back: `queue` leads back to the queue's page."""
    values = forms.text_fields(await ctx.request.form(), ("priority", "back"))

    async def work(session: AsyncSession) -> TrainingJob:
        body = forms.parse(PriorityIn, {"priority": values["priority"]})
        job = await service.get(session, job_id, lock=True)
        return await scheduling.set_priority(session, ctx.principal, job, body.priority, reason=None)

    def told(job: TrainingJob) -> Toast:
        return Toast(title=f"Its priority is {job.priority}", description=job.name)

    return await _do(ctx, job_id, work, told, back="/training/queue" if values["back"] == "queue" else None)


@router.post("/{job_id}/pause", **_WRITE)
async def pause(ctx: PageCtx, job_id: UUID) -> Response:
    def told(job: TrainingJob) -> Toast:
        if job.status == JobStatus.PAUSED:
            return Toast(title="The job is paused")
        return Toast(title="The job is being paused", description="It saves a checkpoint first.")

    return await _do(ctx, job_id, lambda session: actions.pause(session, job_id), told)


@router.post("/{job_id}/resume", **_WRITE)
async def resume(ctx: PageCtx, job_id: UUID) -> Response:
    """Empty fields change nothing."""
    names = ("checkpoint_step", "max_cost_usd", _CHECKPOINTING, *ADJUSTED)
    values = forms.text_fields(await ctx.request.form(), names)
    changes = {name: values[name] for name in (_CHECKPOINTING, *ADJUSTED) if values[name]}
    given = {
        "checkpoint_step": values["checkpoint_step"] or None,
        "max_cost_usd": values["max_cost_usd"].removeprefix("$") or None,
        "hyperparameters": changes,
    }

    async def work(session: AsyncSession) -> TrainingJob:
        return await actions.resume(session, ctx.principal, job_id, forms.parse(JobResume, given))

    return await _do(ctx, job_id, work, _goes_on)


@router.post("/{job_id}/retry", **_WRITE)
async def retry(ctx: PageCtx, job_id: UUID) -> Response:
    fix = forms.text_fields(await ctx.request.form(), ("apply_fix",))["apply_fix"] == "yes"

    async def work(session: AsyncSession) -> TrainingJob:
        return await actions.retry(session, ctx.settings, ctx.principal, job_id, JobRetry(apply_fix=fix))

    return await _do(ctx, job_id, work, _goes_on)


def _goes_on(job: TrainingJob) -> Toast:
    if job.retry_of is not None and not job.attempt:
        return Toast(title="Started anew", description="This is the new job, with the suggested change.")
    where = f"It goes on from step {job.checkpoint_step:,}." if job.checkpoint_step else "It starts from the beginning."
    return Toast(title="Queued again", description=where)
