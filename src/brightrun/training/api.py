"""JSON routes of training: estimate, start, watch, cancel, pause, resume, retry."""

import asyncio
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response
from pydantic import AwareDatetime

from brightrun.accounts.context import Ctx, needs
from brightrun.accounts.roles import Permission
from brightrun.training import actions, bulk, launch, repository, scheduling, series, service
from brightrun.training.bulk_schemas import BulkData, BulkIn
from brightrun.training.labels.schemas import Tag
from brightrun.training.options import training_options
from brightrun.training.repository import Archived
from brightrun.training.schemas import (
    EstimateIn,
    JobCancel,
    JobCreate,
    JobData,
    JobEventOut,
    JobOut,
    JobResume,
    JobRetry,
    JobStats,
    JobStatsData,
    MetricsData,
    PointOut,
    PriorityIn,
    QueueData,
    SeriesOut,
)
from brightrun.training.tables import JobStatus, PresetId, SeriesKind, TrainingJob
from brightrun.training.views import job_view, job_views, queue_view
from brightrun.web.http import Items, PageParams, Success, many, one

router = APIRouter(tags=["training"])

_READ = needs(Permission.JOBS_READ)
_WRITE = needs(Permission.JOBS_WRITE)


async def _one(ctx: Ctx, job: TrainingJob) -> Success[JobData]:
    view = await job_view(ctx.session, job)
    await scheduling.add_places(ctx.session, ctx.settings, [view])
    return one(JobData(job=view))


@router.get("/api/training/options", **_READ)
async def get_training_options(ctx: Ctx) -> Success[dict[str, Any]]:
    """What can be chosen: presets in plain words, hyperparameters with ranges, GPU catalogue, base models."""
    return one(await asyncio.to_thread(training_options, ctx.settings))


@router.post("/api/jobs/estimate", **_READ)
async def estimate_job(ctx: Ctx, body: EstimateIn) -> Success[dict[str, Any]]:
    """What a run would take: memory, duration and cost, each with an interval and its parts, and whether it fits.

    Of a dataset also which preset is advised, what a launch would check, and its `warnings`.
    """
    return one(await launch.estimate(ctx, body))


_CREATE: dict[str, Any] = _WRITE | {
    "responses": _WRITE["responses"]
    | {200: {"model": Success[JobData], "description": "The job that this Idempotency-Key has made before"}}
}


@router.post("/api/jobs", status_code=201, **_CREATE)
async def create_job(
    ctx: Ctx,
    body: JobCreate,
    response: Response,
    idempotency_key: Annotated[
        str | None, Header(alias="Idempotency-Key", description="Repeating a request with it starts nothing twice")
    ] = None,
) -> Success[JobData]:
    """Start training on a dataset that is ready. A repeated Idempotency-Key answers 200 with the first job."""
    job, new = await launch.start(ctx, body, idempotency_key=idempotency_key)
    if not new:
        response.status_code = 200
    return await _one(ctx, job)


@router.get("/api/jobs", **_READ)
async def list_jobs(
    ctx: Ctx,
    page: PageParams,
    status: Annotated[list[JobStatus] | None, Query(description="May be repeated")] = None,
    preset_id: PresetId | None = None,
    dataset_id: UUID | None = None,
    base_model: Annotated[str | None, Query(max_length=200)] = None,
    tag: Annotated[list[Tag] | None, Query(max_length=10, description="May be repeated: it has all of them")] = None,
    created_by: Annotated[UUID | None, Query(description="Who started it: a member's id")] = None,
    since: Annotated[AwareDatetime | None, Query(description="Created then or later")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Created before")] = None,
    search: Annotated[
        str | None, Query(max_length=255, description="Part of the name, the dataset's name, a tag or a note")
    ] = None,
    archived: Archived = Archived.NO,
    sort: Annotated[str, Query(description="created_at, name, status, cost, …; `-` in front: descending")] = (
        "-created_at"
    ),
) -> Success[Items[JobOut]]:
    """Jobs of the workspace, newest first. Attempts are left out: ask for one job to see them."""
    rows, total = await service.list_jobs(
        ctx.session,
        page,
        sort=sort,
        statuses=status or (),
        preset_id=preset_id,
        dataset_id=dataset_id,
        base_model=base_model,
        tags=tag or (),
        created_by=created_by,
        since=since,
        until=until,
        search=search,
        archived=archived,
    )
    jobs = await job_views(ctx.session, rows)
    await scheduling.add_places(ctx.session, ctx.settings, jobs)
    return many(jobs, total, page)


@router.post("/api/jobs/bulk", **_WRITE)
async def act_on_jobs(ctx: Ctx, body: BulkIn) -> Success[BulkData]:
    """Do one thing to many jobs, at most 100: cancel, pause, resume, retry, tag, untag, priority, archive, unarchive.

    Each stands for itself: what is refused for one does not touch the others, and `results` says of each what became
    of it. 200 also when all were refused. Repeating it is harmless.
    """
    return one(BulkData(bulk=await bulk.run(ctx.session, ctx.settings, ctx.principal, body)))


@router.get("/api/jobs/stats", **_READ)
async def job_stats(ctx: Ctx) -> Success[JobStatsData]:
    """How many jobs by status. active: those that wait, resume or run."""
    return one(JobStatsData(stats=JobStats(**await service.stats(ctx.session))))


@router.get("/api/jobs/queue", **_READ)
async def get_queue(ctx: Ctx) -> Success[QueueData]:
    """The workspace's jobs that wait, in the order in which they start, and what there is to run them."""
    return one(QueueData(queue=await queue_view(ctx.session, ctx.settings)))


@router.get("/api/jobs/{job_id}", **_READ)
async def get_job(ctx: Ctx, job_id: UUID) -> Success[JobData]:
    """One job with its attempts, its latest metrics and its curves."""
    job = await job_view(ctx.session, await service.get(ctx.session, job_id))
    await scheduling.add_places(ctx.session, ctx.settings, [job])
    job.series = await _curves(ctx, job_id, points=500)
    return one(JobData(job=job))


@router.get("/api/jobs/{job_id}/metrics", **_READ)
async def get_metrics(
    ctx: Ctx,
    job_id: UUID,
    points: Annotated[int, Query(ge=10, le=5000, description="At most about so many points a curve")] = 500,
) -> Success[MetricsData]:
    """The curves, thinned so that every stretch keeps its lowest and its highest loss."""
    await service.get(ctx.session, job_id)
    return one(MetricsData(series=await _curves(ctx, job_id, points=points)))


async def _curves(ctx: Ctx, job_id: UUID, *, points: int) -> dict[SeriesKind, SeriesOut]:
    answer = {}
    for kind in SeriesKind:
        rows, total = await series.series(ctx.session, job_id, kind, points=points)
        answer[kind] = SeriesOut(
            points=[PointOut.model_validate(dict(row)) for row in rows], total=total, downsampled=len(rows) < total
        )
    return answer


@router.get("/api/jobs/{job_id}/events", **_READ)
async def list_job_events(
    ctx: Ctx,
    page: PageParams,
    job_id: UUID,
    type: Annotated[  # noqa: A002 (the field's word)
        list[str] | None, Query(max_length=20, description="stage, checkpoint, sample, warning, log, …")
    ] = None,
    level: Literal["info", "warning", "error"] | None = None,
    search: Annotated[str | None, Query(max_length=255)] = None,
    order: Annotated[Literal["newest", "oldest"], Query()] = "newest",
) -> Success[Items[JobEventOut]]:
    """The job's log: what the trainer said, what its supervisor did."""
    await service.get(ctx.session, job_id)
    rows, total = await repository.list_events(
        ctx.session,
        job_id,
        page=page,
        types=type or (),
        level=level,
        search=search,
        newest_first=order == "newest",
    )
    return many([JobEventOut.model_validate(row) for row in rows], total, page)


@router.post("/api/jobs/{job_id}/cancel", **_WRITE)
async def cancel_job(ctx: Ctx, job_id: UUID, body: JobCancel | None = None) -> Success[JobData]:
    """Stop a job; what it cost is recorded. A running one saves a checkpoint first, unless `checkpoint` is false.

    All its processes are verified gone within a minute; if they are not, everyone is notified.
    """
    return await _one(ctx, await actions.cancel(ctx.session, job_id, body or JobCancel()))


@router.post("/api/jobs/{job_id}/priority", **_WRITE)
async def set_job_priority(ctx: Ctx, job_id: UUID, body: PriorityIn) -> Success[JobData]:
    """Let a job start sooner or later than others that wait. `high` is for owners and admins to give and to take."""
    job = await service.get(ctx.session, job_id, lock=True)
    await scheduling.set_priority(ctx.session, ctx.principal, job, body.priority, reason=body.reason)
    return await _one(ctx, job)


@router.post("/api/jobs/{job_id}/pause", **_WRITE)
async def pause_job(ctx: Ctx, job_id: UUID) -> Success[JobData]:
    """Save a checkpoint and give the machine back until it is resumed. A paused job costs nothing."""
    return await _one(ctx, await actions.pause(ctx.session, job_id))


@router.post("/api/jobs/{job_id}/resume", **_WRITE)
async def resume_job(ctx: Ctx, job_id: UUID, body: JobResume | None = None) -> Success[JobData]:
    """Go on with a paused, failed, cancelled or interrupted job, from any of its checkpoints, with allowed changes."""
    return await _one(ctx, await actions.resume(ctx.session, ctx.principal, job_id, body or JobResume()))


@router.post("/api/jobs/{job_id}/retry", **_WRITE)
async def retry_job(ctx: Ctx, job_id: UUID, body: JobRetry | None = None) -> Success[JobData]:
    """Go on with a failed, cancelled or interrupted job, from its last whole checkpoint.

    With `apply_fix`, with the change in its `failure.fix`; where that changes what is learned, the answer is a new job.
    """
    return await _one(ctx, await actions.retry(ctx.session, ctx.settings, ctx.principal, job_id, body or JobRetry()))
