"""The page of the calibration report: how promises were kept."""

from datetime import datetime

from fastapi import APIRouter, Response

from brightrun.accounts.context import PageCtx, page_needs
from brightrun.accounts.roles import Permission
from brightrun.training.estimates import scoring
from brightrun.web import views

router = APIRouter(prefix="/training", include_in_schema=False)

_READ = page_needs(Permission.JOBS_READ)
_MOST_RUNS = 100


@router.get("/calibration", **_READ)
async def calibration_page(ctx: PageCtx) -> Response:
    report = await scoring.report(ctx.session)
    runs = [
        run | {"trained_at": datetime.fromisoformat(run["trained_at"]) if run["trained_at"] else None}
        for run in report["runs"][:_MOST_RUNS]
    ]
    return views.render(
        ctx.request,
        "training/calibration.html",
        report=report | {"runs": runs},
        can_write=Permission.JOBS_WRITE in ctx.principal.permissions,
    )
