"""The promise for a configuration: what is known of dataset, model and machine, put into the model of `promise/`."""

import asyncio
import hashlib
from dataclasses import replace
from typing import Any
from uuid import UUID

import msgspec
import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.datasets import service as datasets
from brightrun.datasets.tables import Dataset
from brightrun.errors import ConflictError, InvalidInputError
from brightrun.formats import hyperparameters
from brightrun.formats.base_models import ModelFolderError
from brightrun.formats.model_tokenizers import tokenizer_folder_of, tokenizer_sha256
from brightrun.queue import enqueue
from brightrun.settings import Settings
from brightrun.training import estimate
from brightrun.training.catalogue import load_catalogue
from brightrun.training.configuration import DEFAULT_BASE_MODEL, Configuration, configure
from brightrun.training.estimates import repository, scoring
from brightrun.training.estimates.keys import COUNT_TASK, probe_key
from brightrun.training.estimates.tables import ProbeStatus
from brightrun.training.promise import analytic, lengths
from brightrun.training.promise.analytic import Correction
from brightrun.training.promise.lengths import Lengths
from brightrun.training.promise.machine import machine_for
from brightrun.training.promise.measurement import Measurement
from brightrun.training.promising import Subject, given, promise_of, shape_named
from brightrun.training.schemas import EstimateIn, GpuConfigIn


async def make_estimate(session: AsyncSession, settings: Settings, body: EstimateIn) -> dict[str, Any]:
    """The promise for a configuration, before it is started. Raises InvalidInputError, NotFoundError."""
    base_model = body.base_model or DEFAULT_BASE_MODEL
    dataset = None
    if body.dataset_id is not None:
        dataset = await datasets.get(session, body.dataset_id, large=False)
        subject = await subject_of(session, settings, dataset, base_model)
    else:
        subject = given(body.training_pairs, body.tokens)
    configuration = configure(
        settings,
        preset_id=body.preset_id,
        overrides=body.hyperparameters,
        gpu_config=body.gpu_config,
        pairs=subject.records,
    )
    return await promise_for(session, settings, subject, configuration, base_model, method=body.method, dataset=dataset)


async def subject_of(session: AsyncSession, settings: Settings, dataset: Dataset, base_model: str) -> Subject:
    """From what validation found in a dataset, or from an exact count that somebody's estimate asked for.

    Where neither knows this model's tokens, an estimate is answered at once and the count is begun.
    """
    work = estimate.workload(
        pairs=dataset.total_training_pairs,
        tokens=dataset.total_tokens,
        tokens_source=dataset.tokens_source,
        dataset_name=dataset.name,
    )
    records = dataset.total_records or work.pairs
    conversations = dataset.total_conversations or records
    tokenizer = await asyncio.to_thread(_tokenizer_of, settings, base_model)
    counted = await repository.lengths(session, dataset, tokenizer) if tokenizer and dataset.sha256 else None
    if counted is not None and counted.rows is not None:
        rows = tuple((float(tokens), float(trained), int(count)) for tokens, trained, count in counted.rows)
        source = f"counted with the tokenizer of {base_model}"
        return Subject(Lengths(rows, source, exact=True, conversations=counted.conversations or 1), work)
    found = await repository.report_lengths(session, dataset.id)
    known = None
    if found and found.get("histogram"):
        exact, source = await asyncio.to_thread(_whose, settings, str(found["source"]), base_model, found)
        known = lengths.from_histogram(found, records=records, conversations=conversations, exact=exact, source=source)
        if exact:
            return Subject(known, work)
    if known is None:
        source = f"estimated: lengths assumed around the mean of {work.tokens:,} tokens ({work.tokens_source})"
        known = lengths.assumed(records=records, tokens=work.tokens, conversations=conversations, source=source)
    if tokenizer and dataset.sha256 is not None:
        if counted is None and await repository.claim_lengths(session, dataset, tokenizer, base_model):
            counted = await repository.lengths(session, dataset, tokenizer)
            assert counted is not None
            await enqueue(
                session, COUNT_TASK, workspace_id=dataset.workspace_id, dataset_id=dataset.id, lengths_id=counted.id
            )
        if counted is not None:
            state = f"could not be counted: {counted.error}" if counted.error else "being counted exactly"
            known = replace(known, source=f"{known.source}; {state}")
    return Subject(known, work, counting=counted is not None and counted.error is None)


def _tokenizer_of(settings: Settings, base_model: str) -> str | None:
    """The identity of a model's tokenizer; None where it is not on this machine."""
    try:
        return tokenizer_sha256(tokenizer_folder_of(base_model, settings.base_model_dir, allow_paths=False))
    except (ModelFolderError, OSError):
        return None


def _whose(settings: Settings, counted_by: str, base_model: str, found: dict[str, Any]) -> tuple[bool, str]:
    """Whether lengths that were counted with one model's tokenizer are those of another, and that in words."""
    name = counted_by.removeprefix("exact:")
    if name == counted_by or found.get("of") != "rendered chats":
        return False, f"estimated ({counted_by}); not counted with the tokenizer of {base_model}"
    if name == base_model:
        return True, f"counted with the tokenizer of {base_model}"
    both = {_tokenizer_of(settings, name), _tokenizer_of(settings, base_model)}
    if len(both) == 1 and None not in both:
        return True, f"counted with the tokenizer of {name}, which is that of {base_model} too"
    return False, f"estimated: counted with the tokenizer of {name}, not with that of {base_model}"


async def promise_for(
    session: AsyncSession,
    settings: Settings,
    subject: Subject,
    configuration: Configuration,
    base_model: str,
    *,
    method: str,
    dataset: Dataset | None,
) -> dict[str, Any]:
    """The promise with everything that a page shows beside it, by a probe or by the machine's record, where there is.

    Raises InvalidInputError when the base model is not known well enough.
    """
    if method == estimate.METHOD:
        return promise_of(subject, configuration, None, base_model, method=method)
    shape = await asyncio.to_thread(shape_named, settings, base_model)
    machine = machine_for(configuration.gpu)
    memory, seconds = await scoring.corrections(session, machine.id, base_model)
    measured, probe = None, None
    if dataset is not None and dataset.sha256 is not None:
        key = probe_key(dataset.sha256, base_model, configuration.gpu.id, configuration.values)
        probe = await repository.newest_probe(session, key)
        done = await repository.newest_probe(session, key, (ProbeStatus.DONE,))
        if done is not None and done.measurement is not None and done.machine == machine.id:
            measured = msgspec.convert(done.measurement, Measurement)
    promise = promise_of(
        subject, configuration, shape, base_model, method=method, probe=measured, memory=memory, seconds=seconds
    )
    promise["probe"] = None if probe is None else {"id": str(probe.id), "status": probe.status}
    promise["digest"] = digest_of(promise)
    return promise


def digest_of(promise: dict[str, Any]) -> str:
    """Of everything in a promise that a person relies on: the same on the page and in the job that it starts."""
    names = ("method", "memory_bytes", "seconds", "cost_usd", "base_model", "hyperparameters", "inputs")
    raw = orjson.dumps({name: promise.get(name) for name in names}, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(raw).hexdigest()


async def every_promise(
    session: AsyncSession,
    settings: Settings,
    *,
    dataset_id: UUID | None,
    pairs: int | None,
    tokens: int | None,
    base_model: str,
    overrides: dict[str, Any],
) -> list[dict[str, Any]]:
    """Of every preset on every device. The dataset and the model are looked at once."""
    if dataset_id is not None:
        subject = await subject_of(session, settings, await datasets.get(session, dataset_id, large=False), base_model)
    else:
        subject = given(pairs, tokens)
    shape = await asyncio.to_thread(shape_named, settings, base_model)
    catalogue = load_catalogue(settings)
    records: dict[str, tuple[Correction | None, Correction | None]] = {}
    found = []
    for gpu in catalogue.entries.values():
        machine = machine_for(gpu)
        if machine.id not in records:
            records[machine.id] = await scoring.corrections(session, machine.id, base_model)
        memory, seconds = records[machine.id]
        for preset in hyperparameters.PRESETS:
            configuration = configure(
                settings, preset_id=preset, overrides=overrides, gpu_config=GpuConfigIn(type=gpu.id),
                pairs=subject.records,
            )  # fmt: skip
            found.append(
                promise_of(subject, configuration, shape, base_model, method="analytic", memory=memory, seconds=seconds)
            )
    return found


async def promise_for_job(
    session: AsyncSession,
    settings: Settings,
    subject: Subject,
    configuration: Configuration,
    base_model: str,
    dataset: Dataset,
) -> dict[str, Any]:
    """As `promise_for`, and never in a job's way: of a model that is not known yet the documented formula tells."""
    try:
        return await promise_for(
            session, settings, subject, configuration, base_model, method=analytic.METHOD, dataset=dataset
        )
    except InvalidInputError as error:
        promise = promise_of(subject, configuration, None, base_model, method=estimate.METHOD)
        promise["digest"] = digest_of(promise)
        return promise | {"reasons": [f"{error.message}. By the documented formula instead.", *promise["reasons"]]}


def require_same(promise: dict[str, Any], digest: str | None) -> None:
    """Raises ConflictError when the promise is not the one that was on screen."""
    if digest is not None and promise.get("digest") != digest:
        raise ConflictError(
            "The promise has changed since it was shown: look at it again, then start",
            code="promise_changed",
            details={"promise": promise},
        )
