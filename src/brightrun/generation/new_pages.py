"""Starting: one conversation, or a batch planned on a grid. What it costs stands beside the button."""

import secrets
from collections import Counter
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from starlette.datastructures import FormData

from brightrun.accounts.context import PageCtx, page_needs
from brightrun.accounts.roles import Permission
from brightrun.errors import BrightRunError
from brightrun.generation import api, providers
from brightrun.generation.page_parts import model_choices, render
from brightrun.generation.schemas import BatchCreate, QuoteIn
from brightrun.llm.prices import catalogue
from brightrun.scaffolding import coverage, preview
from brightrun.scaffolding import service as scaffolding
from brightrun.scaffolding.pack import Pack
from brightrun.scaffolding.planning import PairQuota, Planned, Quotas, plan
from brightrun.scaffolding.schemas import CombinationBody, PreviewBody
from brightrun.web import forms
from brightrun.web.toasts import Toast, toast_redirect

router = APIRouter(include_in_schema=False)

_READ = page_needs(Permission.CONVERSATIONS_READ)
_WRITE = page_needs(Permission.CONVERSATIONS_WRITE)
Text = Annotated[str, Query(max_length=64)]
_OPTIONS = ("pack", "model", "via", "concurrency", "max_cost_usd", "error_handling", "priority", "name", "seed",
            "idempotency_key", "persona", "arc", "topic", "template", "source_text", "source_title")  # fmt: skip


# --- a batch on a grid ----------------------------------------------------------------------------------------------


@router.get("/batches/new", **_READ)
async def bulk_page(
    ctx: PageCtx,
    pack: Text = "",
    total: Text = "",
    fill: Text = "",
    kind: Text = "core",
) -> Response:
    """total: spread that many evenly. fill: as many as each cell lacks to that number. A form sends "" for neither."""
    found, packs = await _pack(ctx, pack)
    cells = (await coverage.grid(ctx.session, ctx.principal.workspace_id, found.key)).cells
    cells = [cell for cell in cells if kind == "all" or (found.arc(cell.arc).category == "core") is (kind == "core")]
    counts: dict[tuple[str, str], int] = {}
    wanted, target = _count(total, 10_000), _count(fill, 1000)
    if target is not None:
        counts = {(one.persona, one.arc): one.count for one in coverage.gaps(cells, target)}
    elif wanted is not None:
        counts = _even(found, wanted, [arc.key for arc in found.arcs if any(cell.arc == arc.key for cell in cells)])
    filled = {
        "model": catalogue().default, "via": "sync", "concurrency": "8", "max_cost_usd": "", "seed": "0",
        "error_handling": "continue", "priority": "normal", "name": "",
        "idempotency_key": secrets.token_urlsafe(18),
    }  # fmt: skip
    topics = [one.key for one in found.topics if one.active and one.featured]
    return await _bulk(ctx, found, packs, counts, topics, filled, total=wanted, fill=target, kind=kind)


async def _connection(ctx: PageCtx, model: str) -> providers.ProviderState | None:
    """What has to be done before this model can be asked; None when nothing has to be."""
    known = catalogue().find(model)
    if known is None:
        return None
    found = await providers.state(ctx.session, ctx.platform, known.provider)
    return None if found.ready else found


def _count(text: str, most: int) -> int | None:
    return min(int(text), most) if text.isdecimal() and 0 < len(text) < 9 and int(text) else None


def _even(found: Pack, total: int, arcs: list[str]) -> dict[tuple[str, str], int]:
    """`total` over all personas and `arcs`, as equal as it goes in both."""
    quotas = Quotas(total=total, arcs=tuple(arcs), min_points=0)
    return dict(Counter((item.persona, item.arc) for item in plan(found, quotas).items))


async def _bulk(
    ctx: PageCtx,
    found: Pack,
    packs: Any,
    counts: dict[tuple[str, str], int],
    topics: list[str],
    filled: dict[str, str],
    *,
    error: BrightRunError | None = None,
    **shown: Any,
) -> Response:
    grid = await coverage.grid(ctx.session, ctx.principal.workspace_id, found.key)
    quoted = await _quoted(ctx, found, counts, topics, filled) if counts else {}
    values = {"total": None, "fill": None, "kind": "core"} | shown
    return render(
        ctx,
        "bulk",
        status=error.status if error else 200,
        pack=found,
        packs=packs,
        arcs=[arc for arc in found.arcs if arc.active],
        personas=[persona for persona in found.personas if persona.active],
        cells={(cell.persona, cell.arc): cell for cell in grid.cells},
        counts=counts,
        chosen_topics=topics,
        filled=filled,
        models=model_choices(),
        connection=await _connection(ctx, filled["model"]),
        error=error.message if error else None,
        **_quote_values(quoted),
        **values,
    )


@router.post("/batches/quote", **_READ)
async def bulk_quote(ctx: PageCtx) -> Response:
    """What the grid would cost: a fragment."""
    form = await ctx.request.form()
    values = forms.text_fields(form, _OPTIONS)
    found, _packs = await _pack(ctx, values["pack"])
    counts, topics = _grid_of(form, found)
    return render(ctx, "_quote", **_quote_values(await _quoted(ctx, found, counts, topics, values)))


@router.post("/batches/new", **_WRITE)
async def launch(ctx: PageCtx) -> Response:
    form = await ctx.request.form()
    values = forms.text_fields(form, _OPTIONS)
    found, packs = await _pack(ctx, values["pack"])
    counts, topics = _grid_of(form, found)
    try:
        planned = await _planned(ctx, found, counts, topics, values)
        return await _create(ctx, found, values, [item.as_json() for item in planned.items])
    except BrightRunError as error:
        values["idempotency_key"] = secrets.token_urlsafe(18)
        return await _bulk(ctx, found, packs, counts, topics, values, error=error, kind="all")


def _grid_of(form: FormData, found: Pack) -> tuple[dict[tuple[str, str], int], list[str]]:
    counts = {}
    for persona in found.personas:
        for arc in found.arcs:
            text = form.get(f"cell.{persona.key}.{arc.key}")
            if isinstance(text, str) and text.strip().isdecimal() and 0 < int(text) <= 10_000:
                counts[persona.key, arc.key] = int(text)
    return counts, [topic for topic in form.getlist("topics") if isinstance(topic, str)]


async def _planned(
    ctx: PageCtx, found: Pack, counts: dict[tuple[str, str], int], topics: list[str], values: dict[str, str]
) -> Planned:
    """Raises QuotasInvalidError."""
    pairs = tuple(PairQuota(persona=persona, arc=arc, count=n) for (persona, arc), n in counts.items())
    quotas = Quotas(pairs=pairs, topics=tuple(topics) or None)
    seed = int(values["seed"]) if values["seed"].isdecimal() and len(values["seed"]) < 16 else 0
    existing = await coverage.existing_cells(ctx.session, found.key)
    return plan(found, quotas, seed=seed, existing=existing)


async def _quoted(
    ctx: PageCtx, found: Pack, counts: dict[tuple[str, str], int], topics: list[str], values: dict[str, str]
) -> dict[str, Any]:
    if not counts:
        return {}
    try:
        planned = await _planned(ctx, found, counts, topics, values)
        if not planned.items:
            return {"planned": planned}
        body = QuoteIn(plan=_document(found, values, [item.as_json() for item in planned.items]))
        return {"planned": planned, "quote": (await api.quote_batch(ctx, body)).data.quote}
    except BrightRunError as error:
        return {"fault": error.message}


def _quote_values(quoted: dict[str, Any]) -> dict[str, Any]:
    return {"planned": None, "quote": None, "fault": None} | quoted


def _document(found: Pack, values: dict[str, str], items: list[dict[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {"pack": found.key, "items": items}
    if values["model"]:
        document["model"] = values["model"]
    return document


async def _create(ctx: PageCtx, found: Pack, values: dict[str, str], items: list[dict[str, Any]]) -> Response:
    """Raises what the API raises."""
    body = forms.parse(
        BatchCreate,
        {
            "plan": _document(found, values, items),
            "via": values["via"] or "sync",
            "name": values["name"] or None,
            "concurrency": values["concurrency"] or 1,
            "max_cost_usd": _cap(values["max_cost_usd"]),
            "error_handling": values["error_handling"] or "continue",
            "priority": values["priority"] or "normal",
        },
    )
    made = await api.create_batch(ctx, body, Response(), values["idempotency_key"] or None)
    batch = made.data.batch
    toast = Toast(title="It is on its way", description=str(batch.quote["sentence"]))
    return toast_redirect(ctx.request, f"/batches/{batch.id}", toast)


def _cap(text: str) -> Decimal | str | None:
    try:
        return Decimal(text) if text else None
    except InvalidOperation:
        return text


async def _pack(ctx: PageCtx, key: str) -> tuple[Pack, Any]:
    packs = await scaffolding.packs(ctx.session, ctx.principal.workspace_id)
    known = {one.key for one in packs}
    return await scaffolding.load_pack(
        ctx.session, ctx.principal.workspace_id, key if key in known else packs[0].key
    ), packs


# --- one conversation -----------------------------------------------------------------------------------------------


@router.get("/conversations/new", **_READ)
async def single_page(
    ctx: PageCtx, pack: Text = "", persona: Text = "", arc: Text = "", topic: Text = "", template: Text = ""
) -> Response:
    found, packs = await _pack(ctx, pack)
    values = dict.fromkeys(_OPTIONS, "") | {
        "pack": found.key, "persona": persona, "arc": arc, "topic": topic, "template": template,
        "model": catalogue().default, "idempotency_key": secrets.token_urlsafe(18),
    }  # fmt: skip
    return await _single(ctx, found, packs, values)


@router.post("/conversations/preview", **_READ)
async def single_preview(ctx: PageCtx) -> Response:
    """Fit, template, prompt and price of one conversation: a fragment."""
    values = forms.text_fields(await ctx.request.form(), _OPTIONS)
    found, _packs = await _pack(ctx, values["pack"])
    return render(ctx, "_single", **await _looked_at(ctx, found, values))


@router.post("/conversations/new", **_WRITE)
async def write_one(ctx: PageCtx) -> Response:
    values = forms.text_fields(await ctx.request.form(), _OPTIONS)
    found, packs = await _pack(ctx, values["pack"])
    try:
        values["name"] = values["name"] or "One conversation"
        values["concurrency"] = "1"
        return await _create(ctx, found, values, [await _item(ctx, found, values)])
    except BrightRunError as error:
        values["idempotency_key"] = secrets.token_urlsafe(18)
        return await _single(ctx, found, packs, values, error=error)


async def _single(
    ctx: PageCtx, found: Pack, packs: Any, values: dict[str, str], *, error: BrightRunError | None = None
) -> Response:
    looked = await _looked_at(ctx, found, values)
    return render(
        ctx,
        "single",
        status=error.status if error else 200,
        pack=found,
        packs=packs,
        filled=values,
        models=model_choices(),
        connection=await _connection(ctx, values["model"]),
        error=error.message if error else None,
        **looked,
    )


async def _item(ctx: PageCtx, found: Pack, values: dict[str, str]) -> dict[str, Any]:
    cell = (values["persona"], values["arc"], values["topic"])
    existing = await coverage.existing_cells(ctx.session, found.key)
    item: dict[str, Any] = {"persona": cell[0], "arc": cell[1], "topic": cell[2], "replicate": existing.get(cell, 0)}
    if values["template"]:
        item["template"] = values["template"]
    if values["source_text"]:
        item["source"] = {"text": values["source_text"]}
        if values["source_title"]:
            item["source"]["title"] = values["source_title"]
    return item


async def _looked_at(ctx: PageCtx, found: Pack, values: dict[str, str]) -> dict[str, Any]:
    """Fills in what was not chosen, and looks at the combination."""
    for field, things in (("persona", found.personas), ("arc", found.arcs), ("topic", found.topics)):
        keys = [thing.key for thing in things if thing.active]
        if values[field] not in keys:
            values[field] = keys[0] if keys else ""
    templates = [one for one in found.templates if one.arc == values["arc"] and one.active]
    if values["template"] not in {one.key for one in templates}:
        values["template"] = ""
    looked: dict[str, Any] = {"combination": None, "shown": None, "quote": None, "fault": None, "templates": templates}
    try:
        body = CombinationBody(pack=found.key, persona=values["persona"], arc=values["arc"], topic=values["topic"])
        looked["combination"] = preview.combination(found, body)
        item = await _item(ctx, found, values)
        looked["shown"] = preview.preview(
            found,
            PreviewBody(
                **body.model_dump(), template=values["template"] or None, replicate=item["replicate"], values={}
            ),
        )
        quoted = await api.quote_batch(ctx, QuoteIn(plan=_document(found, values, [item])))
        looked["quote"] = quoted.data.quote
    except BrightRunError as error:
        looked["fault"] = error.message
    return looked
