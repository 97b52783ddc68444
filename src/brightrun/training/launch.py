"""From a look to a start: the promise, what is checked before a launch, and the job that is frozen from both."""

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from brightrun.accounts.context import RequestContext
from brightrun.costs import budgets
from brightrun.datasets import dismissals
from brightrun.datasets import service as datasets
from brightrun.datasets.tables import Dataset
from brightrun.errors import ConflictError
from brightrun.formats.methods import data_fault
from brightrun.training import checklist, estimating, service
from brightrun.training.catalogue import load_catalogue
from brightrun.training.checklist import Check, Warned
from brightrun.training.configuration import DEFAULT_BASE_MODEL, check_base_model, configure, method_unavailable
from brightrun.training.recommendation import Recommendation, recommend_for
from brightrun.training.schemas import EstimateIn, JobCreate
from brightrun.training.tables import TrainingJob


@dataclass(frozen=True)
class Look:
    """What a person sees before the launch of a dataset."""

    dataset: Dataset
    promise: dict[str, Any]
    recommended: Recommendation
    warnings: list[Warned]
    checks: list[Check]

    @property
    def to_confirm(self) -> bool:
        """Whether a warning still waits for its tick."""
        return any(check.name == "warnings" and check.state == "confirm" for check in self.checks)

    @property
    def blocked(self) -> list[Check]:
        return [check for check in self.checks if check.state == "blocked"]


@dataclass(frozen=True)
class Wish:
    """What is chosen besides what an estimate needs."""

    max_cost: Decimal | None = None
    override: bool = False
    acknowledged: frozenset[str] = frozenset()


async def look(ctx: RequestContext, body: EstimateIn, dataset_id: UUID, wish: Wish) -> Look:
    """As a job would be promised it. Raises NotFoundError for a dataset that is not there, InvalidInputError for
    settings that are not allowed and models that are not there."""
    dataset = await datasets.get(ctx.session, dataset_id, large=False)
    base_model = body.base_model or DEFAULT_BASE_MODEL
    await check_base_model(ctx.settings, base_model)
    subject = await estimating.subject_of(ctx.session, ctx.settings, dataset, base_model)
    configuration = configure(
        ctx.settings,
        preset_id=body.preset_id,
        overrides=body.hyperparameters,
        gpu_config=body.gpu_config,
        pairs=subject.records,
    )
    promise = await estimating.promise_for_job(ctx.session, ctx.settings, subject, configuration, base_model, dataset)
    return await _look(ctx, dataset, promise, wish)


async def _look(ctx: RequestContext, dataset: Dataset, promise: dict[str, Any], wish: Wish) -> Look:
    inputs = promise["inputs"]
    gpu = (await asyncio.to_thread(load_catalogue, ctx.settings)).get(inputs["gpu_type"])
    price = gpu.price_per_gpu_hour_usd * int(inputs["gpu_count"])
    recommended = recommend_for(dataset)
    unlooked = checklist.open_warnings(dataset, await dismissals.of_dataset(ctx.session, dataset.id))
    warnings = checklist.warnings_of(
        promise, dataset, unlooked, recommended, price_per_hour=price, max_cost=wish.max_cost
    )
    checks = checklist.checks(
        promise,
        dataset,
        await budgets.current(ctx.session),
        warnings,
        device=gpu.title,
        unavailable=gpu.unavailable or method_unavailable(promise["hyperparameters"]["method"], gpu),
        not_ready=service.why_not_ready(dataset) or _wrong_data(dataset, promise["hyperparameters"]["method"]),
        price_per_hour=price,
        max_cost=wish.max_cost,
        override=wish.override,
        acknowledged=wish.acknowledged,
    )
    return Look(dataset, promise, recommended, warnings, checks)


def _wrong_data(dataset: Dataset, method: str) -> str | None:
    """Why the method cannot learn from it, as the rest of a sentence."""
    return data_fault(method, "preference" if dataset.format == "preference" else "chat")


async def start(
    ctx: RequestContext,
    body: JobCreate,
    *,
    idempotency_key: str | None,
    strict: bool = False,
    from_template: UUID | None = None,
) -> tuple[TrainingJob, bool]:
    """`service.create` with the warnings that were acknowledged.

    strict: as a page starts it: with the digest of the promise that it shows, and every warning acknowledged.
    from_template: the form began with it, and says every setting itself. Raises ConflictError (`promise_changed`,
    `not_acknowledged`) and what `service.create` raises; call it in a savepoint when strict.
    """
    job, new = await service.create(
        ctx.session,
        ctx.settings,
        ctx.principal,
        body,
        idempotency_key=idempotency_key,
        from_template=from_template,
    )
    if not new or not (strict or body.acknowledged):
        return job, new
    # Last, so that what is wrong with the settings is told first; the caller's savepoint takes the job back.
    dataset = await datasets.get(ctx.session, job.dataset_id, large=False)
    wish = Wish(job.max_cost, job.budget_override is not None, frozenset(body.acknowledged))
    seen = (await _look(ctx, dataset, job.estimate, wish)).warnings
    if strict:
        _require_seen(seen, body)
    job.acknowledged = [{"code": each.code, "text": each.text} for each in seen if each.code in body.acknowledged]
    await ctx.session.flush()
    await ctx.session.refresh(job)
    return job, new


def _require_seen(seen: list[Warned], body: JobCreate) -> None:
    if body.promise_digest is None:
        raise ConflictError("No promise was shown for this yet: look at it, then start", code="promise_changed")
    missing = [warning for warning in seen if warning.code not in body.acknowledged]
    if missing:
        raise ConflictError(
            f"{len(missing)} warning{'s have' if len(missing) > 1 else ' has'} to be confirmed first",
            code="not_acknowledged",
            details={"warnings": [{"code": each.code, "text": each.text} for each in missing]},
        )


async def estimate(ctx: RequestContext, body: EstimateIn) -> dict[str, Any]:
    """For the API: the promise; of a dataset also what a launch would check."""
    promise = await estimating.make_estimate(ctx.session, ctx.settings, body)
    if body.dataset_id is None:
        return promise
    dataset = await datasets.get(ctx.session, body.dataset_id, large=False)
    found = await _look(ctx, dataset, promise, Wish())
    return promise | {
        "recommended_preset": {"preset_id": found.recommended.preset_id, "reasons": found.recommended.reasons},
        "warnings": [{"code": each.code, "text": each.text} for each in found.warnings],
        "checks": [{"name": each.name, "state": each.state, "text": each.text} for each in found.checks],
    }
