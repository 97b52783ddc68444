"""The JSON route of comparisons."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from brightrun.accounts.context import Ctx, needs
from brightrun.accounts.roles import Permission
from brightrun.training.comparison import service
from brightrun.training.comparison.schemas import ComparisonData
from brightrun.web.http import Success, one

router = APIRouter(prefix="/api/jobs", tags=["training"])


@router.get("/compare", **needs(Permission.JOBS_READ))
async def compare_jobs(
    ctx: Ctx,
    ids: Annotated[list[UUID], Query(max_length=10, description="Two to four jobs, repeated: ids=…&ids=…")],
    points: Annotated[
        int | None, Query(ge=10, le=5000, description="With their curves, of about so many points each")
    ] = None,
) -> Success[ComparisonData]:
    """Runs side by side: what differs in configuration and data, cost, duration, held-out loss, and for every pair
    whether a difference is proven on the held-out conversations that both share."""
    return one(ComparisonData(comparison=await service.compare(ctx.session, ids, points=points)))
