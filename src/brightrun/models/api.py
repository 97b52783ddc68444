"""JSON routes of models, and the download of one as a zip."""

import asyncio
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response

from brightrun.accounts.context import Ctx, needs
from brightrun.accounts.roles import Permission
from brightrun.audit.service import record
from brightrun.models import package, service
from brightrun.models.quality import Verdict
from brightrun.models.schemas import FilesData, ModelData, ModelOut, ModelUpdate
from brightrun.models.tables import ModelArtifact, ModelStatus
from brightrun.web.http import Items, PageParams, Success, many, one

router = APIRouter(prefix="/api/models", tags=["models"])

_READ = needs(Permission.MODELS_READ)
_WRITE = needs(Permission.MODELS_WRITE)
_ZIP: dict[str, Any] = _READ | {
    "response_class": Response,
    "responses": _READ["responses"]
    | {
        200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}},
        206: {"description": "The part that `Range` asked for"},
        416: {"description": "`Range` begins beyond the end"},
    },
}


async def _one(ctx: Ctx, model: ModelArtifact) -> Success[ModelData]:
    return one(ModelData(model=await service.view(ctx.session, model)))


@router.get("", **_READ)
async def list_models(
    ctx: Ctx,
    page: PageParams,
    status: Annotated[ModelStatus | None, Query(description="Left out: stored and archived")] = None,
    dataset_id: UUID | None = None,
    base_model: Annotated[str | None, Query(max_length=200)] = None,
    verdict: Verdict | None = None,
    search: Annotated[
        str | None, Query(max_length=255, description="Part of the name, description, base model or dataset's name")
    ] = None,
    sort: Annotated[
        str,
        Query(
            description="created_at, name, version, size, heldout_loss, improvement (best first), …; `-`: descending"
        ),
    ] = "-created_at",
    deleted: Annotated[bool, Query(description="The trash instead of the list")] = False,
) -> Success[Items[ModelOut]]:
    """Models of the workspace, newest first. Files and configuration are left out: ask for one model to see them."""
    rows, total = await service.list_models(
        ctx.session,
        page,
        sort=sort,
        status=status,
        dataset_id=dataset_id,
        base_model=base_model,
        verdict=verdict,
        search=search,
        deleted=deleted,
    )
    return many(await service.views(ctx.session, rows), total, page)


@router.get("/{model_id}", **_READ)
async def get_model(ctx: Ctx, model_id: UUID) -> Success[ModelData]:
    return await _one(ctx, await service.get(ctx.session, model_id))


@router.patch("/{model_id}", **_WRITE)
async def update_model(ctx: Ctx, model_id: UUID, body: ModelUpdate) -> Success[ModelData]:
    """Change name, description or status (archive it, or take it back)."""
    return await _one(ctx, await service.update(ctx.session, model_id, body))


@router.delete("/{model_id}", **_WRITE)
async def delete_model(ctx: Ctx, model_id: UUID) -> Success[ModelData]:
    """Into the trash, from where it can be restored until it is purged."""
    return await _one(ctx, await service.delete(ctx.session, model_id))


@router.post("/{model_id}/restore", **_WRITE)
async def restore_model(ctx: Ctx, model_id: UUID) -> Success[ModelData]:
    """Out of the trash."""
    return await _one(ctx, await service.restore(ctx.session, model_id))


@router.get("/{model_id}/files", **_READ)
async def list_model_files(ctx: Ctx, model_id: UUID) -> Success[FilesData]:
    """The stored files, each with its hash and a signed URL that lives one hour."""
    model = await service.get(ctx.session, model_id)
    return one(service.file_links(ctx.platform, model))


@router.get("/{model_id}/download", **_ZIP)
async def download_model(ctx: Ctx, model_id: UUID) -> Response:
    """The package as one zip: adapter, configuration, tokenizer, README, summary, metrics, checksums.

    A download that was cut goes on with `Range` and `If-Range`.
    """
    model = await service.get(ctx.session, model_id)
    await asyncio.to_thread(package.check_stored, ctx.platform.store, model)
    response = package.answer(ctx.platform.store, package.package_of(model), ctx.request.headers)
    if response.status_code == 200:
        await record(ctx.session, "model.downloaded", "model", model.id, {"name": model.name, "version": model.version})
    return response
