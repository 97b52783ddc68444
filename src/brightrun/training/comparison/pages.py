"""The page of a comparison; which runs is in its address."""

from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Query, Response

from brightrun.accounts.context import PageCtx, page_needs
from brightrun.accounts.roles import Permission
from brightrun.errors import InvalidInputError
from brightrun.training import series, service
from brightrun.training.comparison.schemas import MOST
from brightrun.training.comparison.service import compare
from brightrun.training.setting_words import setting_text
from brightrun.training.tables import SeriesKind
from brightrun.web import views

router = APIRouter(prefix="/training", include_in_schema=False)

_READ = page_needs(Permission.JOBS_READ)
_CURVE_POINTS = 500
Ids = Annotated[list[str] | None, Query(max_length=100)]


@router.get("/compare", **_READ)
async def compare_page(ctx: PageCtx, ids: Ids = None, all: Annotated[str, Query(max_length=10)] = "") -> Response:  # noqa: A002
    """all: also what does not differ."""
    values: dict[str, Any] = {"fault": None, "comparison": None}
    try:
        values["comparison"] = await compare(ctx.session, _uuids(ids))
    except InvalidInputError as error:
        values["fault"] = error.message
    return views.render(
        ctx.request,
        "training/compare.html",
        status=400 if values["fault"] else 200,
        setting_text=setting_text,
        show_all=bool(all),
        sees_costs=Permission.COSTS_READ in ctx.principal.permissions,
        **values,
    )


@router.get("/compare/curves", **_READ)
async def curves(ctx: PageCtx, ids: Ids = None) -> Response:
    """`{data: {runs: [{name, train: [[step, epoch, loss]…], heldout: …}]}}`."""
    runs = []
    for job_id in _uuids(ids)[:MOST]:
        job = await service.get(ctx.session, job_id)
        run: dict[str, Any] = {"name": job.name}
        for kind, loss in ((SeriesKind.TRAIN, "training_loss"), (SeriesKind.HELDOUT, "validation_loss")):
            rows, _total = await series.series(ctx.session, job_id, kind, points=_CURVE_POINTS)
            run[kind.value] = [[row["step"], row["epoch"], row[loss]] for row in rows if row[loss] is not None]
        runs.append(run)
    return Response(orjson.dumps({"data": {"runs": runs}}), media_type="application/json")


def _uuids(texts: list[str] | None) -> list[UUID]:
    try:
        return [UUID(text) for text in texts or ()]
    except ValueError:
        raise InvalidInputError("What is to be compared is named by the ids of jobs") from None
