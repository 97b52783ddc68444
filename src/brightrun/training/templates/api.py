"""JSON routes of templates, and the comparison of two configurations."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from brightrun.accounts.context import Ctx, needs
from brightrun.accounts.roles import Permission
from brightrun.training.templates import service
from brightrun.training.templates.diff import diff
from brightrun.training.templates.schemas import DiffData, TemplateCreate, TemplateData, TemplateOut, TemplateUpdate
from brightrun.training.templates.tables import ConfigurationTemplate
from brightrun.web.http import Items, PageParams, Success, many, one

router = APIRouter(prefix="/api/training", tags=["training"])

_READ = needs(Permission.JOBS_READ)
_WRITE = needs(Permission.JOBS_WRITE)

Side = Annotated[str, Query(max_length=100, description="`job:ID` or `template:ID`")]


async def _views(ctx: Ctx, templates: Sequence[ConfigurationTemplate]) -> list[TemplateOut]:
    return await service.views(ctx.session, ctx.settings, templates)


async def _one(ctx: Ctx, template: ConfigurationTemplate) -> Success[TemplateData]:
    return one(TemplateData(template=(await _views(ctx, [template]))[0]))


@router.get("/templates", **_READ)
async def list_templates(
    ctx: Ctx,
    page: PageParams,
    search: Annotated[str | None, Query(max_length=255, description="Part of the name")] = None,
    sort: Annotated[str, Query(description="name, created_at, updated_at; `-` in front: descending")] = "name",
) -> Success[Items[TemplateOut]]:
    """Saved configurations, by name."""
    rows, total = await service.list_templates(ctx.session, page, sort=sort, search=search)
    return many(await _views(ctx, rows), total, page)


@router.post("/templates", status_code=201, **_WRITE)
async def create_template(ctx: Ctx, body: TemplateCreate) -> Success[TemplateData]:
    """Save a configuration, or that of a job, to start others with: `template_id` in `POST /api/jobs`."""
    return await _one(ctx, await service.create(ctx.session, ctx.settings, ctx.principal, body))


@router.get("/templates/{template_id}", **_READ)
async def get_template(ctx: Ctx, template_id: UUID) -> Success[TemplateData]:
    """One saved configuration."""
    return await _one(ctx, await service.get(ctx.session, template_id))


@router.patch("/templates/{template_id}", **_WRITE)
async def update_template(ctx: Ctx, template_id: UUID, body: TemplateUpdate) -> Success[TemplateData]:
    """Another name or description. To change its settings, save another one."""
    return await _one(ctx, await service.update(ctx.session, ctx.principal, template_id, body))


@router.delete("/templates/{template_id}", **_WRITE)
async def delete_template(ctx: Ctx, template_id: UUID) -> Success[TemplateData]:
    """Delete a template; jobs that were started with it stay. It can be restored until it is purged."""
    return await _one(ctx, await service.delete(ctx.session, ctx.settings, template_id))


@router.post("/templates/{template_id}/restore", **_WRITE)
async def restore_template(ctx: Ctx, template_id: UUID) -> Success[TemplateData]:
    """Bring a deleted template back."""
    return await _one(ctx, await service.restore(ctx.session, ctx.principal, template_id))


@router.get("/diff", **_READ)
async def diff_configurations(ctx: Ctx, left: Side, right: Side) -> Success[DiffData]:
    """Two configurations side by side, every setting of jobs or templates, differences first."""
    return one(DiffData(diff=await diff(ctx.session, ctx.settings, left, right)))
