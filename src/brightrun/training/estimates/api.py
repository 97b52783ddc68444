"""JSON routes of probes, of what fits where, and of how promises were kept."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response

from brightrun.accounts.context import Ctx, needs
from brightrun.accounts.roles import Permission
from brightrun.training.estimates import repository, scoring, service
from brightrun.training.estimates.schemas import FitsData, FitsIn, ProbeCreate, ProbeData, ProbeOut
from brightrun.training.estimates.service import probe_view
from brightrun.web.http import Items, PageParams, Success, many, one

router = APIRouter(prefix="/api/jobs", tags=["training"])

_READ = needs(Permission.JOBS_READ)
_WRITE = needs(Permission.JOBS_WRITE)
_CREATE: dict[str, Any] = _WRITE | {
    "responses": _WRITE["responses"]
    | {200: {"model": Success[ProbeData], "description": "The probe that is open for this configuration already"}}
}


@router.post("/estimate/fits", **_READ)
async def what_fits(ctx: Ctx, body: FitsIn) -> Success[FitsData]:
    """Each preset on each device of the catalogue: does it fit, why not, and what would it take."""
    return one(FitsData(cells=await service.fits(ctx.session, ctx.settings, body)))


@router.post("/estimate/probes", status_code=201, **_CREATE)
async def start_probe(ctx: Ctx, body: ProbeCreate, response: Response) -> Success[ProbeData]:
    """Run a few real steps on this machine in the background; promises for the same configuration then use it.

    Follow it on the topics `probe:{id}` and `probes`. One that is open for the same configuration answers 200.
    """
    probe, new = await service.start_probe(ctx.session, ctx.settings, ctx.principal, body)
    if not new:
        response.status_code = 200
    return one(ProbeData(probe=probe_view(probe)))


@router.get("/estimate/probes", **_READ)
async def list_probes(
    ctx: Ctx, page: PageParams, dataset_id: Annotated[UUID | None, Query()] = None
) -> Success[Items[ProbeOut]]:
    """Probes of the workspace, newest first."""
    rows, total = await repository.list_probes(ctx.session, page, dataset_id=dataset_id)
    return many([probe_view(row) for row in rows], total, page)


@router.get("/estimate/probes/{probe_id}", **_READ)
async def get_probe(ctx: Ctx, probe_id: UUID) -> Success[ProbeData]:
    """One probe: progress, and when it is done what it measured and the promise with it."""
    return one(ProbeData(probe=probe_view(await service.get_probe(ctx.session, probe_id))))


@router.post("/estimate/probes/{probe_id}/cancel", **_WRITE)
async def cancel_probe(ctx: Ctx, probe_id: UUID) -> Success[ProbeData]:
    """Stop a probe; its processes are ended at once."""
    return one(ProbeData(probe=probe_view(await service.cancel_probe(ctx.session, probe_id))))


@router.get("/calibration", **_READ)
async def get_calibration(ctx: Ctx) -> Success[dict[str, Any]]:
    """How promises were kept: coverage, width and error of memory, duration and cost, by machine type and basis."""
    return one(await scoring.report(ctx.session))
