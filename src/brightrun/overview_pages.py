"""The first page: where the work stands and what to do next, gathered from the rooms."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from fastapi import APIRouter, Response

from brightrun.accounts.context import PageCtx, RequestContext, page_needs
from brightrun.accounts.roles import Permission
from brightrun.costs import service as costs
from brightrun.datasets import presentation
from brightrun.datasets import service as datasets
from brightrun.datasets.schemas import DatasetStats
from brightrun.datasets.tables import DatasetStatus
from brightrun.models import service as models
from brightrun.notifications import looks
from brightrun.notifications import repository as notifications
from brightrun.training import repository as training
from brightrun.training import service as jobs
from brightrun.training.tables import ACTIVE, ENDED, JobStatus
from brightrun.training.views import job_views
from brightrun.web import views
from brightrun.web.filters import plural
from brightrun.web.http import Page

router = APIRouter(include_in_schema=False)

_UNENDED = tuple(status for status in JobStatus if status not in ENDED)
_SHOWN = 5

StepState = Literal["todo", "now", "attention", "done"]


@dataclass(frozen=True)
class Step:
    """One step of the way from a file to a model.

    href, action: where to do it; None when it is not its turn. current: the one step to take now.
    """

    title: str
    text: str
    state: StepState
    href: str | None = None
    action: str | None = None
    current: bool = False


@router.get("/", **page_needs(Permission.WORKSPACE_READ))
async def overview_page(ctx: PageCtx) -> Response:
    session, principal = ctx.session, ctx.principal
    stats = await datasets.stats(session, ctx.settings, principal.workspace_id)
    job_counts = await training.counts(session)
    running, running_total = await jobs.list_jobs(session, Page(limit=_SHOWN), statuses=_UNENDED)
    recent, _ = await datasets.list_datasets(session, Page(limit=_SHOWN))
    _, models_total = await models.list_models(session, Page(limit=1))
    told, _ = await notifications.list_for(session, principal.user_id, unread_only=False, offset=0, limit=_SHOWN)
    return views.render(
        ctx.request,
        "overview/overview.html",
        block="body" if views.is_fragment_request(ctx.request) else None,
        show=presentation,
        look=looks.look,
        stats=stats,
        steps=next_steps(stats, job_counts, models_total, permissions=principal.permissions),
        models_total=models_total,
        jobs=await job_views(session, running),
        jobs_total=running_total,
        job_counts=job_counts,
        active=sum(job_counts[status] for status in ACTIVE),
        datasets=recent,
        notifications=told,
        spent=await _spent(ctx),
        can_write=Permission.DATASETS_WRITE in principal.permissions,
    )


async def _spent(ctx: RequestContext) -> Decimal | None:
    """USD since the first of the month; None for someone who may not see costs."""
    if Permission.COSTS_READ not in ctx.principal.permissions:
        return None
    return await costs.spent_this_month(ctx.session)


def next_steps(
    stats: DatasetStats, job_counts: Mapping[JobStatus, int], models_total: int, *, permissions: frozenset[Permission]
) -> list[Step]:
    """The four steps, each with where it stands. An action is offered only to who may take it."""
    steps = [
        _upload_step(stats),
        _check_step(stats),
        _train_step(stats, job_counts),
        _model_step(models_total),
    ]
    wanted = [Permission.DATASETS_WRITE, Permission.DATASETS_READ, Permission.JOBS_READ, Permission.MODELS_READ]
    if Permission.JOBS_WRITE not in permissions and not sum(job_counts.values()):
        wanted[2] = Permission.JOBS_WRITE
    offered = [
        step if needed in permissions else replace(step, href=None, action=None)
        for step, needed in zip(steps, wanted, strict=True)
    ]
    open_ = [number for state in ("now", "attention") for number, step in enumerate(offered) if step.state == state]
    return [replace(step, current=number == open_[0]) if open_ else step for number, step in enumerate(offered)]


def _upload_step(stats: DatasetStats) -> Step:
    title = "Upload example conversations"
    unfinished = stats.by_status[DatasetStatus.UPLOADING]
    if unfinished:
        text = f"{plural(unfinished, 'upload')} not finished."
        return Step(title, text, "attention", "/datasets?status=uploading", "Finish it")
    if not stats.total:
        return Step(
            title,
            "A file of questions and the answers your expert would give. A few dozen conversations are a start.",
            "now",
            "/datasets/new",
            "Upload dataset",
        )
    return Step(title, f"{plural(stats.total, 'dataset')} uploaded.", "done", "/datasets/new", "Upload another")


def _check_step(stats: DatasetStats) -> Step:
    title = "See that the data is sound"
    by = stats.by_status
    if by[DatasetStatus.VALIDATING]:
        text = f"{plural(by[DatasetStatus.VALIDATING], 'dataset')} being checked right now."
        return Step(title, text, "now", "/datasets?status=validating", "Watch")
    if by[DatasetStatus.ERROR]:
        text = f"{plural(by[DatasetStatus.ERROR], 'dataset')} with errors, {by[DatasetStatus.READY]} ready."
        return Step(title, text, "attention", "/datasets?status=error", "See what is wrong")
    if by[DatasetStatus.READY]:
        text = f"{plural(by[DatasetStatus.READY], 'dataset')} ready to train on."
        return Step(title, text, "done", "/datasets?status=ready", "Look inside")
    return Step(title, "Each file is read line by line; what is wrong is named, with what to do.", "todo")


def _train_step(stats: DatasetStats, counts: Mapping[JobStatus, int]) -> Step:
    title = "Train an adapter"
    active = sum(counts[status] for status in _UNENDED)
    if active:
        return Step(title, f"{plural(active, 'training job')} under way.", "now", "/training", "Watch")
    if counts[JobStatus.COMPLETED]:
        text = f"{plural(counts[JobStatus.COMPLETED], 'training job')} completed."
        return Step(title, text, "done", "/training", "See the jobs")
    if counts[JobStatus.FAILED]:
        text = f"{plural(counts[JobStatus.FAILED], 'training job')} failed; its page says why and what to do."
        return Step(title, text, "attention", "/training?status=failed", "See why")
    if stats.by_status[DatasetStatus.READY]:
        text = "You see time, memory and cost before anything runs."
        return Step(title, text, "now", "/training/new", "Start training")
    return Step(title, "It begins with a dataset that is ready.", "todo")


def _model_step(models_total: int) -> Step:
    title = "Use the model"
    if models_total:
        text = f"{plural(models_total, 'model')}: compare with the untouched base model, and download."
        return Step(title, text, "now", "/models", "Open models")
    return Step(title, "A finished training leaves an adapter that you can download and run.", "todo")
