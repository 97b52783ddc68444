"""The page that starts training: data, goal, model, machine and settings, with the promise beside them."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response

from brightrun.accounts.context import PageCtx, RequestContext, page_needs
from brightrun.accounts.roles import Permission
from brightrun.datasets import service as datasets
from brightrun.datasets.tables import Dataset, DatasetStatus
from brightrun.errors import BrightRunError, ConflictError, InvalidInputError, NotFoundError
from brightrun.formats.hyperparameters import HYPERPARAMETERS, PRESETS
from brightrun.training import launch, service
from brightrun.training.catalogue import load_catalogue
from brightrun.training.estimates import service as estimates
from brightrun.training.estimates.schemas import FitsIn, ProbeCreate
from brightrun.training.launch import Look
from brightrun.training.launch_form import OTHER_MODEL, Filled, form_problems, problem_label
from brightrun.training.options import training_options
from brightrun.training.setting_words import LABELS, PREFIX, setting_text, setting_words
from brightrun.training.templates import repository as template_rows
from brightrun.training.templates import service as templates
from brightrun.web import forms, views
from brightrun.web.filters import money
from brightrun.web.http import Page
from brightrun.web.toasts import Toast, toast_redirect

router = APIRouter(prefix="/training", include_in_schema=False)

_WRITE = page_needs(Permission.JOBS_WRITE)
_MOST_DATASETS = _MOST_STARTS = 100
PRESET_ICONS = {
    "conservative": "shield-check",
    "balanced": "gauge",
    "aggressive": "zap",
    "custom": "sliders-horizontal",
}
PART_WORDS = {
    "start_up": "Start-up", "training": "Training", "evaluation": "Measuring", "checkpoints": "Checkpoints",
    "finish": "Finishing", "machine": "Getting the machine", "epochs": "Between epochs", "saving": "Saving",
    "compute": "Compute", "storage": "Storage", "weights": "Base model", "adapter": "Adapter",
    "gradients": "Gradients", "optimizer": "Optimiser", "activations": "Activations", "logits": "Output head",
    "framework": "Framework",
}  # fmt: skip
"""What a page calls the parts of a promise; one that is not here is shown by its name."""


@router.get("/new", **_WRITE)
async def new_page(
    ctx: PageCtx,
    dataset_id: Annotated[UUID | None, Query(description="The dataset that is chosen already")] = None,
    again: Annotated[UUID | None, Query(description="A job to begin from")] = None,
    template: Annotated[UUID | None, Query(description="A saved configuration to begin from")] = None,
) -> Response:
    options = await asyncio.to_thread(training_options, ctx.settings)
    chosen = str(dataset_id) if dataset_id else ""
    if again is not None:
        filled = Filled.like_job(await service.get(ctx.session, again), options)
    elif template is not None:
        filled = Filled.like_template(await templates.get(ctx.session, template), options, chosen)
    else:
        filled = Filled.fresh(options, chosen)
    if chosen:
        filled.plain["dataset_id"] = chosen
    return await _page(ctx, filled, options, begun=again or template)


@router.post("/estimate", **_WRITE)
async def estimate(ctx: PageCtx) -> Response:
    """The promise for the form as it is now: its part of the page for our script, else the whole page."""
    return await _again(ctx, Filled.of(await ctx.request.form()), None)


@router.post("/fits", **_WRITE)
async def fits_part(ctx: PageCtx) -> Response:
    """Every goal on every device, for the form as it is now: a part of the page."""
    filled = Filled.of(await ctx.request.form())
    cells, fault = [], ""
    try:
        body = filled.estimate_in()
        if body.dataset_id is not None:
            asked = body.model_dump(include={"dataset_id", "base_model", "hyperparameters"})
            cells = await estimates.fits(ctx.session, ctx.settings, FitsIn(**asked))
    except BrightRunError as error:
        fault = " ".join(text for texts in form_problems(error).values() for text in texts)
    return views.render(
        ctx.request,
        "training/_fits.html",
        cells={(cell.gpu_type, cell.preset_id): cell for cell in cells},
        gpus=list(load_catalogue(ctx.settings).entries.values()) if cells else [],
        fault=fault,
        presets=[preset for preset in PRESETS.values() if preset.id != "custom"],
        filled=filled.plain,
    )


@router.post("/new/probe", **_WRITE)
async def start_probe(ctx: PageCtx) -> Response:
    """A few real steps for the form as it is now; the promise is the answer, and narrows when they are done."""
    filled = Filled.of(await ctx.request.form())
    errors = None
    try:
        async with ctx.session.begin_nested():
            body = filled.estimate_in()
            asked = body.model_dump(include=set(ProbeCreate.model_fields))
            await estimates.start_probe(ctx.session, ctx.settings, ctx.principal, forms.parse(ProbeCreate, asked))
    except BrightRunError as error:
        errors = form_problems(error)
    return await _again(ctx, filled, errors)


@router.post("/new/probe/{probe_id}/cancel", **_WRITE)
async def cancel_probe(ctx: PageCtx, probe_id: UUID) -> Response:
    filled = Filled.of(await ctx.request.form())
    with suppress(ConflictError):  # it has ended meanwhile: the page shows how
        await estimates.cancel_probe(ctx.session, probe_id)
    return await _again(ctx, filled, None)


async def _again(ctx: RequestContext, filled: Filled, errors: dict[str, list[str]] | None) -> Response:
    options = await asyncio.to_thread(training_options, ctx.settings)
    block = "estimate" if views.is_fragment_request(ctx.request) else None
    return await _page(ctx, filled, options, errors=errors, block=block)


@router.post("/new", **_WRITE)
async def start(ctx: PageCtx) -> Response:
    filled = Filled.of(await ctx.request.form())
    try:
        async with ctx.session.begin_nested():
            job, _new = await launch.start(
                ctx,
                filled.job_create(),
                idempotency_key=filled.plain["idempotency_key"] or None,
                strict=True,
                from_template=await _template_of(ctx, filled),
            )
    except BrightRunError as error:
        if error.code == "idempotency_key_reused":
            filled = filled.renewed()
            error = InvalidInputError(
                "This form has started a job already. Press the button again to start another one"
            )
        options = await asyncio.to_thread(training_options, ctx.settings)
        over_budget = error.code == "budget_exceeded"
        return await _page(
            ctx, filled, options, errors=form_problems(error), status=error.status, over_budget=over_budget
        )
    return toast_redirect(
        ctx.request, f"/training/{job.id}", Toast(title="Training is queued", description="It starts within seconds.")
    )


@router.post("/new/template", **_WRITE)
async def save_template(ctx: PageCtx) -> Response:
    """Keep the form's settings; the page stays as it is, and now begins from the template."""
    filled = Filled.of(await ctx.request.form())
    try:
        async with ctx.session.begin_nested():
            template = await templates.create(ctx.session, ctx.settings, ctx.principal, filled.template_create())
    except BrightRunError as error:
        problems = form_problems(error)
        if "name" in problems:
            problems["template_name"] = problems.pop("name")
        options = await asyncio.to_thread(training_options, ctx.settings)
        return await _page(ctx, filled, options, errors=problems, status=error.status)
    chosen = f"&dataset_id={filled.plain['dataset_id']}" if filled.plain["dataset_id"] else ""
    toast = Toast(
        title="Template saved", description=template.name, link_url="/training/templates", link_label="All templates"
    )
    return toast_redirect(ctx.request, f"/training/new?template={template.id}{chosen}", toast)


async def _template_of(ctx: RequestContext, filled: Filled) -> UUID | None:
    """The template that the form began with, if it is still there: the job will say so."""
    if filled.template_id is None:
        return None
    found = await template_rows.find(ctx.session, filled.template_id)
    return found.id if found is not None else None


async def _looked(ctx: RequestContext, filled: Filled) -> tuple[Look | None, dict[str, list[str]], Dataset | None]:
    """(the promise with what is checked, or what stands in its way, the dataset)."""
    dataset = None
    try:
        body = filled.estimate_in()
        if body.dataset_id is None:
            return None, {}, None
        dataset = await datasets.get(ctx.session, body.dataset_id, large=False)
        return await launch.look(ctx, body, body.dataset_id, filled.wish), {}, dataset
    except NotFoundError as error:
        return None, {"dataset_id": [error.message]}, None
    except BrightRunError as error:
        return None, form_problems(error), dataset


async def _page(
    ctx: RequestContext,
    filled: Filled,
    options: Mapping[str, Any],
    *,
    errors: dict[str, list[str]] | None = None,
    status: int = 200,
    block: str | None = None,
    over_budget: bool = False,
    begun: UUID | None = None,
) -> Response:
    found, problems, dataset = await _looked(ctx, filled)
    whole: dict[str, Any] = {}
    if block is None:
        whole = await _choices(ctx, filled, options, dataset, begun)
    gpu = next((entry for entry in options["gpus"] if entry["id"] == filled.plain["gpu_type"]), None)
    shown = errors if errors is not None else problems
    expert = {spec.name for spec in HYPERPARAMETERS if spec.expert}
    probe = None
    if found is not None and found.promise.get("probe"):
        probe = estimates.probe_view(await estimates.get_probe(ctx.session, UUID(found.promise["probe"]["id"])))
    budget_blocks = found is not None and any(check.name == "budget" for check in found.blocked)
    return views.render(
        ctx.request,
        "training/new.html",
        status=status,
        block=block,
        fragment=block is not None,
        filled=filled.plain,
        overrides=filled.overrides,
        acknowledged=filled.acknowledged,
        gpu=gpu,
        shown_specs=[spec for spec in HYPERPARAMETERS if not spec.expert],
        expert_specs=[spec for spec in HYPERPARAMETERS if spec.expert],
        open_expert=bool(expert & filled.overrides.keys())
        or bool({f"{PREFIX}{name}" for name in expert} & shown.keys())
        or over_budget,
        setting=partial(setting_words, options["presets"]),
        labels=LABELS,
        setting_text=setting_text,
        part_words=PART_WORDS,
        preset_titles={preset.id: preset.title for preset in PRESETS.values()},
        look=found,
        probe=probe,
        promise=found.promise if found is not None else None,
        problems=problems,
        problem_label=problem_label,
        errors=shown,
        may_override=(over_budget or budget_blocks or bool(filled.plain["budget_override_reason"]))
        and Permission.WORKSPACE_MANAGE in ctx.principal.permissions,
        **whole,
    )


async def _choices(
    ctx: RequestContext, filled: Filled, options: Mapping[str, Any], dataset: Dataset | None, begun: UUID | None
) -> dict[str, Any]:
    """What the whole page offers: what may be chosen, and what one may begin from."""
    rows, _total = await datasets.list_datasets(ctx.session, Page(limit=_MOST_DATASETS), status=DatasetStatus.READY)
    ready = [row for row in rows if row.training_ready]
    if dataset is not None and dataset.id not in {row.id for row in ready}:
        ready.insert(0, dataset)
    saved, _total = await templates.list_templates(ctx.session, Page(limit=_MOST_STARTS))
    return {
        "datasets": ready,
        "dataset_choices": [("", "Choose a dataset…"), *((str(row.id), _dataset_words(row)) for row in ready)],
        "templates": saved,
        "template_choices": [("", "Nothing saved: as below"), *((str(row.id), row.name) for row in saved)],
        "begun": begun,
        "preset_choices": [
            {
                "value": preset["id"],
                "title": preset["title"],
                "text": preset["goal"] if preset["id"] == "custom" else f"{preset['goal']} {preset['explanation']}",
                "icon": PRESET_ICONS[preset["id"]],
            }
            for preset in options["presets"]
        ],
        "model_choices": _model_choices(options),
        "gpu_choices": [(entry, _price_words(entry)) for entry in options["gpus"]],
    }


def _dataset_words(row: Dataset) -> str:
    pairs = f"{row.total_training_pairs:,} training pairs" if row.total_training_pairs is not None else row.file_name
    return f"{row.name} · {pairs}"


def _model_choices(options: Mapping[str, Any]) -> list[tuple[str, str]]:
    choices = []
    for model in options["base_models"]:
        size = f" · {model['parameters'] / 1e6:,.1f} M parameters" if model.get("parameters") else ""
        kind = "built in" if model["kind"] == "builtin" else "folder"
        reason = "" if model["usable"] else f" · cannot be used: {model['reason']}"
        choices.append((model["name"], f"{model['name']} · {kind}{size}{reason}"))
    if options["hub_allowed"]:
        choices.append((OTHER_MODEL, "Another model, from the hub…"))
    return choices


def _price_words(entry: Mapping[str, Any]) -> str:
    price = Decimal(entry["price_per_gpu_hour_usd"])
    return f"{money(price)} an hour each" if price else "no charge"
