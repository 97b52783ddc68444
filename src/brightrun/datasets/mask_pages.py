"""The page that shows what a model learns from a row."""

import asyncio
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response

from brightrun.accounts.context import PageCtx, page_needs
from brightrun.accounts.roles import Permission
from brightrun.datasets import masks, service
from brightrun.datasets.mask_api import MAX_LENGTH
from brightrun.datasets.masks import MaskOut
from brightrun.datasets.records import StoredRecord, read_record
from brightrun.errors import BrightRunError
from brightrun.web import views

router = APIRouter(prefix="/datasets", include_in_schema=False)

_READ = page_needs(Permission.DATASETS_READ)
_SHOWN_TOKENS = 20_000
_LAST_LINE = 2**53

Text = Annotated[str, Query(max_length=255)]


@router.get("/{dataset_id}/mask", **_READ)
async def mask_page(
    ctx: PageCtx,
    dataset_id: UUID,
    line: Text = "1",
    model: Text = "",
    max_length: Text = "",
    part: Text = "1",
    side: Text = "",
) -> Response:
    """One row, token by token. What cannot be shown is said in its place, so that one can go on to the next row."""
    dataset = await service.get(ctx.session, dataset_id)
    name = model.strip() or ctx.settings.default_base_model
    errors: dict[str, list[str]] = {}
    number = _number("line", line, _LAST_LINE, errors) or 1
    limit = _number("max_length", max_length, MAX_LENGTH, errors)
    found: StoredRecord | None = None
    mask: MaskOut | None = None
    fault: str | None = None
    if not errors:
        try:
            found = await read_record(ctx.session, ctx.platform, dataset_id, number)
            tokenizer = await asyncio.to_thread(masks.tokenizer_of, ctx.settings, name)
            mask = await asyncio.to_thread(
                masks.mask_of_record,
                found,
                tokenizer,
                name,
                max_length=limit,
                part=_number("part", part, _LAST_LINE, errors) or 1,
                side=side or None,
            )
        except BrightRunError as error:
            fault = error.message
    models = await asyncio.to_thread(masks.available_models, ctx.settings)
    return views.render(
        ctx.request,
        "datasets/mask.html",
        status=400 if errors else 200,
        dataset=dataset,
        line=number,
        line_text=line,
        last=_last_row(dataset.report, found),
        model=name,
        models=_options([one.name for one in models if one.has_chat_template], name),
        max_length=max_length,
        errors=errors,
        mask=mask,
        runs=[] if mask is None else masks.runs_of(mask, _SHOWN_TOKENS),
        shown_tokens=_SHOWN_TOKENS,
        fault=fault,
        is_pair=found is not None and any(record.kind == "preference" for record in found.records),
    )


def _number(name: str, text: str, most: int, errors: dict[str, list[str]]) -> int | None:
    """A whole number from 1 to `most`; None for an empty text."""
    text = text.strip().replace(",", "")
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= most:
        errors.setdefault(name, []).append(f"A whole number from 1 to {most:,}.")
        return None
    return int(text)


def _options(names: list[str], chosen: str) -> list[tuple[str, str]]:
    return [(name, name) for name in dict.fromkeys([*names, chosen])]


def _last_row(report: dict[str, Any] | None, found: StoredRecord | None) -> int | None:
    """The number of the last row: a line, or in a JSON document the number of a record. None where it is not known."""
    if report is None or found is None:
        return None
    in_document = any(record.path for record in found.records) or bool(found.prefix.pattern)
    return int(report["records"] if in_document else report["lines"])
