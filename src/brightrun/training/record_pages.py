"""What a job has left behind, as a page and a spreadsheet want it: its curves, and its log as files."""

import csv
import io
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts.context import PageCtx, RequestContext, page_needs
from brightrun.accounts.roles import Permission
from brightrun.training import repository, series, service
from brightrun.training.tables import JobEvent, SeriesKind
from brightrun.web.http import Page
from brightrun.web.text import plain_cell

router = APIRouter(prefix="/training", include_in_schema=False)

_READ = page_needs(Permission.JOBS_READ)
_CURVE_POINTS = 1000
_BATCH = 2000
_TOLD = ("recorded_at", "source", "level", "type", "message", "details")
_LOSS = {SeriesKind.TRAIN: "training_loss", SeriesKind.HELDOUT: "validation_loss"}


@router.get("/{job_id}/curve", **_READ)
async def curve(ctx: PageCtx, job_id: UUID, after: Annotated[int, Query(ge=-1)] = -1) -> Response:
    """The curves as the chart takes them: `{data: {train: [[step, loss]…], heldout: …, learning_rate: …, …, best}}`.

    after: only later steps, but all evaluations: one comes when the step that it is of is already drawn. best: the
    step of the checkpoint with the lowest held-out loss, or null. Long curves are thinned as in
    `GET /api/jobs/{id}/metrics`.
    """
    await service.get(ctx.session, job_id)
    answer: dict[str, Any] = {"best": await repository.best_checkpoint(ctx.session, job_id)}
    for kind, loss in _LOSS.items():
        rows, _total = await series.series(ctx.session, job_id, kind, points=_CURVE_POINTS)
        later = [row for row in rows if kind is SeriesKind.HELDOUT or row["step"] > after]
        answer[kind.value] = [[row["step"], row[loss]] for row in later if row[loss] is not None]
        if kind is SeriesKind.TRAIN:
            for name in series.MEASURED:
                answer[name] = [[row["step"], row[name]] for row in later if row[name] is not None]
    return Response(orjson.dumps({"data": answer}), media_type="application/json")


@router.get("/{job_id}/metrics.csv", **_READ)
async def metrics_csv(ctx: PageCtx, job_id: UUID) -> Response:
    """Every point of every curve, one a row; nothing is thinned."""
    job = await service.get(ctx.session, job_id)
    return _file(_csv(("series", *series.NAMES), _points(ctx, job_id)), f"{job.id}-metrics.csv")


async def _points(ctx: RequestContext, job_id: UUID) -> AsyncIterator[Iterable[Any]]:
    async with _transaction(ctx) as session:
        for kind in SeriesKind:
            after = -1
            while rows := await series.points_after(session, job_id, kind, after, _BATCH):
                for row in rows:
                    yield (kind.value, *(row[name] for name in series.NAMES))
                after = rows[-1]["step"]


@router.get("/{job_id}/log.csv", **_READ)
async def log_csv(ctx: PageCtx, job_id: UUID) -> Response:
    """The whole log, oldest first."""
    job = await service.get(ctx.session, job_id)

    async def rows() -> AsyncIterator[Iterable[Any]]:
        async for event in _events(ctx, job_id):
            yield (event.recorded_at.isoformat(), event.source, event.level, event.type, plain_cell(event.message))

    return _file(_csv(("recorded_at", "source", "level", "type", "message"), rows()), f"{job.id}-log.csv")


@router.get("/{job_id}/log.jsonl", **_READ)
async def log_jsonl(ctx: PageCtx, job_id: UUID) -> Response:
    """The whole log with its details, oldest first, one JSON object a line."""
    job = await service.get(ctx.session, job_id)

    async def lines() -> AsyncIterator[bytes]:
        async for event in _events(ctx, job_id):
            yield orjson.dumps({name: getattr(event, name) for name in _TOLD}) + b"\n"

    return _file(lines(), f"{job.id}-log.jsonl", kind="application/x-ndjson")


async def _events(ctx: RequestContext, job_id: UUID) -> AsyncIterator[JobEvent]:
    async with _transaction(ctx) as session:
        page = 1
        while True:
            events, _total = await repository.list_events(
                session, job_id, page=Page(page=page, limit=_BATCH), newest_first=False
            )
            for event in events:
                yield event
            if len(events) < _BATCH:
                return
            session.expunge_all()
            page += 1


def _transaction(ctx: RequestContext) -> AbstractAsyncContextManager[AsyncSession]:
    """One of its own: the request's is over when the body of an answer is sent."""
    return ctx.platform.db.transaction(user_id=ctx.principal.user_id, workspace_id=ctx.principal.workspace_id)


async def _csv(head: Iterable[str], rows: AsyncIterator[Iterable[Any]]) -> AsyncIterator[bytes]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(head)
    async for row in rows:
        writer.writerow(row)
        if text.tell() > 64 << 10:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()


def _file(content: AsyncIterator[bytes], name: str, *, kind: str = "text/csv; charset=utf-8") -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(content, media_type=kind, headers=headers)
