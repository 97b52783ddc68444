"""Download a dataset in another format: what is lost is shown first. The same from a script."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel
from starlette.background import BackgroundTask

from brightrun.accounts.context import Ctx, PageCtx, needs, page_needs
from brightrun.accounts.roles import Permission
from brightrun.datasets import conversion, presentation, service
from brightrun.errors import ConflictError
from brightrun.web import views
from brightrun.web.http import Success, one

router = APIRouter()

_READ = needs(Permission.DATASETS_READ)
_FILE: dict[str, Any] = _READ | {
    "response_class": FileResponse,
    "responses": _READ["responses"] | {200: {"content": {"application/jsonl": {}}, "description": "The file"}},
}
_PAGE = page_needs(Permission.DATASETS_READ)
To = Annotated[str, Query(max_length=100, description="The id of a format that is written")]


class ConversionData(BaseModel):
    conversion: conversion.ConversionOut


@router.get("/api/datasets/{dataset_id}/convert", tags=["datasets"], **_READ)
async def preview_conversion(ctx: Ctx, dataset_id: UUID, to: To = "openai_messages") -> Success[ConversionData]:
    """What the file in another format would hold, and every field and record that it would not."""
    lost = await conversion.loss_of(ctx.session, ctx.platform, dataset_id, to)
    return one(ConversionData(conversion=lost))


@router.get("/api/datasets/{dataset_id}/convert/download", tags=["datasets"], **_FILE)
async def download_converted(ctx: Ctx, dataset_id: UUID, to: To = "openai_messages") -> FileResponse:
    """The file in another format, JSON Lines."""
    return await _file(ctx, dataset_id, to)


async def _file(ctx: Any, dataset_id: UUID, to: str) -> FileResponse:
    _lost, file, name = await conversion.converted(ctx.session, ctx.platform, dataset_id, to)
    removal = BackgroundTask(file.unlink, missing_ok=True)
    return FileResponse(file, media_type="application/jsonl", filename=name, background=removal)


@router.get("/datasets/{dataset_id}/convert", **_PAGE)
async def convert_page(ctx: PageCtx, dataset_id: UUID, to: Annotated[str, Query(max_length=100)] = "") -> Response:
    """Choose a format, see what it does not hold, download."""
    dataset = await service.get(ctx.session, dataset_id)
    lost, refused = None, None
    if to in conversion.WRITABLE:
        try:
            lost = await conversion.loss_of(ctx.session, ctx.platform, dataset_id, to)
        except ConflictError as error:
            refused = error.message
    return views.render(
        ctx.request,
        "datasets/convert.html",
        dataset=dataset,
        show=presentation,
        options=[(name, label) for name, label in presentation.format_options() if name in conversion.WRITABLE],
        to=to,
        lost=lost,
        refused=refused,
    )


@router.get("/datasets/{dataset_id}/convert/download", **_PAGE)
async def download_from_page(ctx: PageCtx, dataset_id: UUID, to: To = "openai_messages") -> Response:
    return await _file(ctx, dataset_id, to)
