"""The promise for a configuration: what is known of dataset, model and machine, put into the model of `promise/`."""

import asyncio
import math
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.datasets import service as datasets
from brightrun.datasets.tables import Dataset
from brightrun.errors import InvalidInputError
from brightrun.formats import base_models
from brightrun.formats.base_models import ModelFolderError
from brightrun.formats.model_tokenizers import tokenizer_folder_of, tokenizer_sha256
from brightrun.settings import Settings
from brightrun.training import estimate, estimate_repository
from brightrun.training.configuration import DEFAULT_BASE_MODEL, Configuration, configure
from brightrun.training.promise import analytic, lengths
from brightrun.training.promise.analytic import Price, Question
from brightrun.training.promise.lengths import Lengths
from brightrun.training.promise.machine import machine_for
from brightrun.training.promise.shape import Shape, shape_of
from brightrun.training.schemas import EstimateIn

_CENT = Decimal("0.01")


@dataclass(frozen=True)
class Subject:
    """What is to be trained on. lengths: as the base model will see it. work: the same for the documented formula."""

    lengths: Lengths
    work: estimate.Workload

    @property
    def records(self) -> int:
        return self.lengths.records


async def make_estimate(session: AsyncSession, settings: Settings, body: EstimateIn) -> dict[str, Any]:
    """The promise for a configuration, before it is started. Raises InvalidInputError, NotFoundError."""
    base_model = body.base_model or DEFAULT_BASE_MODEL
    if body.dataset_id is not None:
        subject = await subject_of(
            session, settings, await datasets.get(session, body.dataset_id, large=False), base_model
        )
    else:
        subject = given(body.training_pairs, body.tokens)
    configuration = configure(
        settings,
        preset_id=body.preset_id,
        overrides=body.hyperparameters,
        gpu_config=body.gpu_config,
        pairs=subject.records,
    )
    return await promise_for(settings, subject, configuration, base_model, method=body.method)


def given(pairs: int | None, tokens: int | None) -> Subject:
    """From the two numbers that matter of a dataset."""
    work = estimate.workload(pairs=pairs, tokens=tokens)
    source = f"lengths assumed around the mean of {work.tokens:,} tokens over {work.pairs:,} pairs"
    assumed = lengths.assumed(records=work.pairs, tokens=work.tokens, conversations=work.pairs, source=source)
    return Subject(assumed, work)


async def subject_of(session: AsyncSession, settings: Settings, dataset: Dataset, base_model: str) -> Subject:
    """From what validation found in a dataset."""
    work = estimate.workload(
        pairs=dataset.total_training_pairs,
        tokens=dataset.total_tokens,
        tokens_source=dataset.tokens_source,
        dataset_name=dataset.name,
    )
    records = dataset.total_records or work.pairs
    conversations = dataset.total_conversations or records
    found = await estimate_repository.lengths_of(session, dataset.id)
    if found and found.get("histogram"):
        counted_by = str(found["source"])
        exact, source = await asyncio.to_thread(_whose, settings, counted_by, base_model, found)
        by_bars = lengths.from_histogram(
            found, records=records, conversations=conversations, exact=exact, source=source
        )
        return Subject(by_bars, work)
    source = f"estimated: lengths assumed around the mean of {work.tokens:,} tokens ({work.tokens_source})"
    assumed = lengths.assumed(records=records, tokens=work.tokens, conversations=conversations, source=source)
    return Subject(assumed, work)


def _whose(settings: Settings, counted_by: str, base_model: str, found: dict[str, Any]) -> tuple[bool, str]:
    """Whether lengths that were counted with one model's tokenizer are those of another, and that in words."""
    name = counted_by.removeprefix("exact:")
    if name == counted_by or found.get("of") != "rendered chats":
        return False, f"estimated ({counted_by}); not counted with the tokenizer of {base_model}"
    if name == base_model:
        return True, f"counted with the tokenizer of {base_model}"
    try:
        folders = [tokenizer_folder_of(each, settings.base_model_dir, allow_paths=False) for each in (name, base_model)]
        same = len({tokenizer_sha256(folder) for folder in folders}) == 1
    except (ModelFolderError, OSError):
        same = False
    if same:
        return True, f"counted with the tokenizer of {name}, which is that of {base_model} too"
    return False, f"estimated: counted with the tokenizer of {name}, not with that of {base_model}"


async def promise_for(
    settings: Settings, subject: Subject, configuration: Configuration, base_model: str, *, method: str
) -> dict[str, Any]:
    """The promise with everything that a page shows beside it. Raises InvalidInputError when the base model is not
    known well enough."""
    if method == estimate.METHOD:
        promise = estimate.documented(
            subject.work,
            batch_size=configuration.values.batch_size,
            epochs=configuration.values.epochs,
            gpu=configuration.gpu,
            count=configuration.gpu_count,
        )
    else:
        shape = await asyncio.to_thread(shape_named, settings, base_model)
        promise = analytic.answer(question_of(subject.lengths, configuration, shape))
        promise |= _earlier_words(promise, subject, configuration)
    return promise | {
        "base_model": base_model,
        "preset_id": configuration.preset_id,
        "hyperparameters": configuration.as_json,
        "rules_fired": configuration.rules,
        "advice": configuration.advice,
        "available": configuration.gpu.unavailable is None,
    }


async def promise_for_job(
    settings: Settings, subject: Subject, configuration: Configuration, base_model: str
) -> dict[str, Any]:
    """As `promise_for`, and never in a job's way: of a model that is not known yet the documented formula tells."""
    try:
        return await promise_for(settings, subject, configuration, base_model, method=analytic.METHOD)
    except InvalidInputError as error:
        promise = await promise_for(settings, subject, configuration, base_model, method=estimate.METHOD)
        return promise | {"reasons": [f"{error.message}. By the documented formula instead.", *promise["reasons"]]}


def shape_named(settings: Settings, base_model: str, *, allow_paths: bool = False) -> Shape:
    """Raises InvalidInputError: there is no such model, or nothing says how large it is."""
    try:
        model = base_models.resolve(
            base_model, base_model_dir=settings.base_model_dir, allow_hub=settings.allow_hub, allow_paths=allow_paths
        )
        folder: Path | None = model.folder
        return shape_of(model.name, folder)
    except (ModelFolderError, OSError, ValueError) as error:
        raise InvalidInputError(
            str(error).rstrip("."), code="validation_error", details={"base_model": [str(error)]}
        ) from error


def question_of(known: Lengths, configuration: Configuration, shape: Shape) -> Question:
    gpu, count = configuration.gpu, configuration.gpu_count
    return Question(
        shape=shape,
        values=configuration.values,
        machine=machine_for(gpu),
        lengths=known,
        price=Price(gpu.price_per_gpu_hour_usd * count, gpu.storage_usd, count),
    )


def _earlier_words(promise: dict[str, Any], subject: Subject, configuration: Configuration) -> dict[str, Any]:
    """What the documented estimate answers too, under the same names."""
    seconds, cost, plan = promise["seconds"], promise["cost_usd"], promise["plan"]
    values, gpu, count = configuration.values, configuration.gpu, configuration.gpu_count
    training = seconds["parts"]["training"]
    return {
        "estimated_cost": _cents(cost["value"]),
        "cost_breakdown": {name: _cents(amount) for name, amount in cost["parts"].items()},
        "estimated_duration_hours": round(seconds["value"] / 3600, 4),
        "hourly_rate": float(gpu.price_per_gpu_hour_usd * count),
        "training_details": {
            "total_steps": plan["steps"],
            "steps_per_epoch": math.ceil(plan["train_records"] / values.batch_size),
            "estimated_throughput_tokens_per_sec": round(plan["tokens"] / training, 1) if training else 0.0,
            "dataset_name": subject.work.dataset_name,
        },
        "inputs": {
            "training_pairs": subject.work.pairs,
            "training_pairs_source": subject.work.pairs_source,
            "records": subject.records,
            "tokens": round(subject.lengths.tokens),
            "tokens_source": subject.lengths.source,
            "tokens_exact": subject.lengths.exact,
            "longest_record": round(subject.lengths.longest),
            "batch_size": values.batch_size,
            "epochs": values.epochs,
            "gpu_type": gpu.id,
            "gpu_count": count,
            "price_per_gpu_hour_usd": str(gpu.price_per_gpu_hour_usd),
            "tokens_per_s_per_gpu": float(gpu.tokens_per_s),
        },
    }


def _cents(amount: float) -> float:
    return float(Decimal(str(amount)).quantize(_CENT, rounding=ROUND_HALF_UP))
