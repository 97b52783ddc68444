"""JSON routes of masks: what a model learns from a row, and which models can show it."""

import asyncio
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Query

from brightrun.accounts.context import Ctx, needs
from brightrun.accounts.roles import Permission
from brightrun.datasets import masks
from brightrun.datasets.api import MAX_LINE
from brightrun.datasets.masks import BaseModelsData, MaskData
from brightrun.web.http import Success, one

router = APIRouter(prefix="/api", tags=["datasets"])

_READ = needs(Permission.DATASETS_READ)
MAX_LENGTH = 10_000_000


@router.get("/base-models", **_READ)
async def list_base_models(ctx: Ctx) -> Success[BaseModelsData]:
    """Base models on this machine, and whether each can count tokens and show masks."""
    return one(BaseModelsData(base_models=await asyncio.to_thread(masks.available_models, ctx.settings)))


@router.get("/datasets/{dataset_id}/records/{line}/mask", **_READ)
async def get_mask(
    ctx: Ctx,
    dataset_id: UUID,
    line: Annotated[int, Path(ge=1, le=MAX_LINE, description="As in issues: line, or number of record or pair")],
    model: Annotated[str | None, Query(max_length=200, description="A base model's name; default: a setting")] = None,
    max_length: Annotated[int | None, Query(ge=1, le=MAX_LENGTH, description="Tokens; show what it cuts")] = None,
    part: Annotated[int, Query(ge=1, le=MAX_LINE, description="Which record, of a row that holds several")] = 1,
    side: Annotated[Literal["chosen", "rejected"] | None, Query(description="Of a preference pair")] = None,
) -> Success[MaskData]:
    """Which tokens of a row a model learns, by the labels that the trainer uses. 409 where nothing can be shown."""
    mask = await masks.mask_of_row(
        ctx.session, ctx.platform, dataset_id, line, model=model, max_length=max_length, part=part, side=side
    )
    return one(MaskData(mask=mask))
