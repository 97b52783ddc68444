"""The page that starts training: dataset, goal, base model, device, expert settings, and the estimate beside them."""

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from starlette.datastructures import FormData

from brightrun.accounts.context import PageCtx, RequestContext, page_needs
from brightrun.accounts.roles import Permission
from brightrun.datasets import service as datasets
from brightrun.datasets.tables import Dataset, DatasetStatus
from brightrun.errors import BrightRunError, InvalidInputError, NotFoundError
from brightrun.formats.hyperparameters import HYPERPARAMETERS
from brightrun.training import estimating, service
from brightrun.training.options import training_options
from brightrun.training.schemas import EstimateIn, JobCreate
from brightrun.training.setting_words import LABELS, PREFIX, form_text, setting_words
from brightrun.web import forms, views
from brightrun.web.filters import money
from brightrun.web.http import Page
from brightrun.web.toasts import Toast, toast_redirect

router = APIRouter(prefix="/training", include_in_schema=False)

_WRITE = page_needs(Permission.JOBS_WRITE)
_MOST_DATASETS = 100
_PLAIN = (
    "dataset_id", "preset_id", "base_model", "other_model", "gpu_type", "gpu_count", "name", "max_cost_usd",
    "budget_override_reason", "idempotency_key",
)  # fmt: skip
OTHER_MODEL = "other"
"""The choice that stands for a name typed in: a hub id."""
PRESET_ICONS = {
    "conservative": "shield-check",
    "balanced": "gauge",
    "aggressive": "zap",
    "custom": "sliders-horizontal",
}


@dataclass(frozen=True)
class Filled:
    """The form as it was sent: text, so that what is wrong can be shown again. overrides: what is not empty."""

    plain: dict[str, str]
    overrides: dict[str, str]

    @classmethod
    def of(cls, form: FormData) -> "Filled":
        fields = [f"{PREFIX}{spec.name}" for spec in HYPERPARAMETERS]
        given = forms.text_fields(form, fields)
        overrides = {name.removeprefix(PREFIX): text for name, text in given.items() if text}
        return cls(forms.text_fields(form, _PLAIN), overrides)

    @property
    def gpu(self) -> dict[str, Any] | None:
        if not self.plain["gpu_type"]:
            return None
        return {"type": self.plain["gpu_type"], "count": self.plain["gpu_count"] or 1}

    @property
    def base_model(self) -> str | None:
        chosen = self.plain["base_model"]
        return (self.plain["other_model"] if chosen == OTHER_MODEL else chosen) or None

    def estimate_in(self) -> EstimateIn:
        return forms.parse(
            EstimateIn, self._values() | {"dataset_id": self.plain["dataset_id"] or None, "base_model": self.base_model}
        )

    def job_create(self) -> JobCreate:
        if not self.plain["dataset_id"]:
            raise InvalidInputError(
                "Choose a dataset", code="validation_error", details={"dataset_id": ["choose what to train on"]}
            )
        if self.plain["base_model"] == OTHER_MODEL and not self.plain["other_model"]:
            raise InvalidInputError(
                "Name the model", code="validation_error", details={"other_model": ["write its name on the hub"]}
            )
        more = {
            "dataset_id": self.plain["dataset_id"],
            "base_model": self.base_model,
            "name": self.plain["name"] or None,
            "max_cost_usd": self.plain["max_cost_usd"].removeprefix("$").replace(",", "") or None,
            "budget_override_reason": self.plain["budget_override_reason"] or None,
        }
        return forms.parse(JobCreate, self._values() | more)

    def _values(self) -> dict[str, Any]:
        return {
            "preset_id": self.plain["preset_id"] or "balanced",
            "hyperparameters": self.overrides,
            "gpu_config": self.gpu,
        }


def _fresh(options: Mapping[str, Any], dataset_id: str) -> Filled:
    plain = dict.fromkeys(_PLAIN, "") | {
        "dataset_id": dataset_id,
        "preset_id": options["default_preset"],
        "base_model": options["default_base_model"],
        "gpu_type": options["default_gpu"],
        "gpu_count": "1",
        "idempotency_key": secrets.token_urlsafe(18),
    }
    return Filled(plain, {})


def _again(job: Any, options: Mapping[str, Any]) -> Filled:
    """A form that asks for what `job` was asked for."""
    known = {model["name"] for model in options["base_models"]}
    listed = job.base_model in known
    plain = _fresh(options, str(job.dataset_id)).plain | {
        "preset_id": job.preset_id,
        "base_model": job.base_model if listed else OTHER_MODEL,
        "other_model": "" if listed else job.base_model,
        "gpu_type": job.gpu_config["type"],
        "gpu_count": str(job.gpu_config["count"]),
    }
    return Filled(plain, {name: form_text(value) for name, value in job.overrides.items()})


@router.get("/new", **_WRITE)
async def new_page(
    ctx: PageCtx,
    dataset_id: Annotated[UUID | None, Query(description="The dataset that is chosen already")] = None,
    again: Annotated[UUID | None, Query(description="A job to begin from")] = None,
) -> Response:
    options = await asyncio.to_thread(training_options, ctx.settings)
    filled = (
        _again(await service.get(ctx.session, again), options)
        if again is not None
        else _fresh(options, str(dataset_id) if dataset_id else "")
    )
    return await _page(ctx, filled, options)


@router.post("/estimate", **_WRITE)
async def estimate(ctx: PageCtx) -> Response:
    """The estimate for the form as it is now: its part of the page for our script, else the whole page."""
    filled = Filled.of(await ctx.request.form())
    options = await asyncio.to_thread(training_options, ctx.settings)
    block = "estimate" if views.is_fragment_request(ctx.request) else None
    return await _page(ctx, filled, options, block=block)


@router.post("/new", **_WRITE)
async def start(ctx: PageCtx) -> Response:
    filled = Filled.of(await ctx.request.form())
    try:
        async with ctx.session.begin_nested():
            job, _new = await service.create(
                ctx.session,
                ctx.settings,
                ctx.principal,
                filled.job_create(),
                idempotency_key=filled.plain["idempotency_key"] or None,
            )
    except BrightRunError as error:
        if error.code == "idempotency_key_reused":
            filled.plain["idempotency_key"] = secrets.token_urlsafe(18)
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


def form_problems(error: BrightRunError) -> dict[str, list[str]]:
    """field of the form → messages. The API's names for nested fields become the form's."""
    names = {"preset_id": "preset_id", "gpu_config.type": "gpu_type", "gpu_config.count": "gpu_count"}
    source = error
    if error.code == "gpu_unavailable" and isinstance(error.details, dict):
        source = InvalidInputError(error.message, code="validation_error", details=error.details)
    if error.code == "budget_exceeded":
        source = InvalidInputError(error.message, code="validation_error", details={"max_cost_usd": [error.message]})
    if error.code == "dataset_not_ready":
        source = InvalidInputError(error.message, code="validation_error", details={"dataset_id": [error.message]})
    return {
        names.get(field, field.replace("hyperparameters.", PREFIX)): messages
        for field, messages in forms.problems(source).items()
    }


async def _estimated(
    ctx: RequestContext, filled: Filled
) -> tuple[dict[str, Any] | None, dict[str, list[str]], Dataset | None]:
    """(the promise, or what stands in its way, the dataset)."""
    dataset = None
    try:
        body = filled.estimate_in()
        if body.dataset_id is None:
            return None, {}, None
        dataset = await datasets.get(ctx.session, body.dataset_id, large=False)
        return await estimating.make_estimate(ctx.session, ctx.settings, body), {}, dataset
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
) -> Response:
    promise, problems, dataset = await _estimated(ctx, filled)
    ready: list[Dataset] = []
    if block is None:
        rows, _total = await datasets.list_datasets(ctx.session, Page(limit=_MOST_DATASETS), status=DatasetStatus.READY)
        ready = [row for row in rows if row.training_ready]
        if dataset is not None and dataset.id not in {row.id for row in ready}:
            ready.insert(0, dataset)
    gpu = next((entry for entry in options["gpus"] if entry["id"] == filled.plain["gpu_type"]), None)
    shown = errors if errors is not None else problems
    expert = {spec.name for spec in HYPERPARAMETERS if spec.expert}
    return views.render(
        ctx.request,
        "training/new.html",
        status=status,
        block=block,
        options=options,
        filled=filled.plain,
        overrides=filled.overrides,
        datasets=ready,
        dataset_choices=[("", "Choose a dataset…"), *((str(row.id), _dataset_words(row)) for row in ready)],
        preset_choices=[
            {
                "value": preset["id"],
                "title": preset["title"],
                "text": preset["goal"],
                "icon": PRESET_ICONS[preset["id"]],
            }
            for preset in options["presets"]
        ],
        model_choices=_model_choices(options),
        gpu_choices=[(entry, _price_words(entry)) for entry in options["gpus"]],
        gpu=gpu,
        shown_specs=[spec for spec in HYPERPARAMETERS if not spec.expert],
        expert_specs=[spec for spec in HYPERPARAMETERS if spec.expert],
        open_expert=bool(expert & filled.overrides.keys())
        or bool({f"{PREFIX}{name}" for name in expert} & shown.keys()),
        setting=partial(setting_words, options["presets"]),
        labels=LABELS,
        promise=promise,
        problems=problems,
        problem_label=problem_label,
        errors=shown,
        may_override=(over_budget or bool(filled.plain["budget_override_reason"]))
        and Permission.WORKSPACE_MANAGE in ctx.principal.permissions,
    )


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


def problem_label(field: str) -> str:
    """What a form's field is called where its problem is told elsewhere."""
    known = {"dataset_id": "Dataset", "preset_id": "Goal", "gpu_type": "Runs on", "gpu_count": "How many"}
    return known.get(field) or LABELS.get(field.removeprefix(PREFIX), "")
