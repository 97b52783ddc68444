"""A promise from what is known: dataset, configuration, base model, and a probe where there was one. No database."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from threading import Event
from typing import Any

from brightrun.errors import BrightRunError, InvalidInputError
from brightrun.formats import base_models
from brightrun.formats.base_models import ModelFolderError
from brightrun.formats.chat_errors import ChatError
from brightrun.formats.model_tokenizers import load_tokenizer
from brightrun.formats.reader import read_records
from brightrun.formats.records import Record
from brightrun.settings import Settings
from brightrun.training import estimate
from brightrun.training.configuration import Configuration, may_be_pickled
from brightrun.training.executors.local import clean_environment
from brightrun.training.promise import analytic, lengths
from brightrun.training.promise.analytic import Correction, Price, Question
from brightrun.training.promise.lengths import Lengths
from brightrun.training.promise.machine import machine_for
from brightrun.training.promise.measurement import Measurement, ProbeFailedError
from brightrun.training.promise.probe import Progress, run_probe
from brightrun.training.promise.probe import Subject as ProbeSubject
from brightrun.training.promise.rows import Row, lengths_of_rows, rows_of
from brightrun.training.promise.shape import Shape, shape_of

_CENT = Decimal("0.01")


class ProbeError(BrightRunError):
    """A probe could not be made, or failed; the message says why."""

    code = "probe_failed"
    status = 409


@dataclass(frozen=True)
class Subject:
    """What is to be trained on. lengths: as the base model will see it. work: the same for the documented formula.
    counting: an exact count is on its way."""

    lengths: Lengths
    work: estimate.Workload
    counting: bool = False

    @property
    def records(self) -> int:
        return self.lengths.records


def given(pairs: int | None, tokens: int | None) -> Subject:
    """From the two numbers that matter of a dataset."""
    work = estimate.workload(pairs=pairs, tokens=tokens)
    source = f"lengths assumed around the mean of {work.tokens:,} tokens over {work.pairs:,} pairs"
    assumed = lengths.assumed(records=work.pairs, tokens=work.tokens, conversations=work.pairs, source=source)
    return Subject(assumed, work)


@dataclass(frozen=True)
class Counted:
    """A file as a base model sees it. rows: empty where its tokenizer is not on this machine."""

    subject: Subject
    rows: list[Row]


def counted_file(
    settings: Settings,
    file: Path,
    data_format: str,
    base_model: str,
    *,
    allow_paths: bool = False,
    on_bytes: Callable[[int], None] = lambda _offset: None,
    progress: Callable[[str], None] = lambda _words: None,
) -> Counted:
    """Count a file exactly with the base model's tokenizer; estimate it by its words where that is not here.

    Raises InvalidInputError when nothing in the file can be trained on; FormatError, OSError.
    """
    try:
        tokenizer = load_tokenizer(base_model, settings.base_model_dir, allow_paths=allow_paths)
    except (ModelFolderError, ChatError) as error:
        progress(f"tokens are estimated: {error}")
        return Counted(_estimated_file(file, data_format, base_model), [])
    rows = list(rows_of(file, data_format, tokenizer, on_bytes))
    if not rows:
        raise _nothing(file)
    source = f"counted with the tokenizer of {base_model}"
    known = lengths_of_rows(rows, source=source)
    work = estimate.workload(pairs=len(rows), tokens=round(known.tokens), tokens_source=source, dataset_name=file.name)
    return Counted(Subject(known, work), rows)


def _estimated_file(file: Path, data_format: str, base_model: str) -> Subject:
    """Words × 1.3, and 8 tokens a message for its frame."""
    found: list[tuple[int, int]] = []
    conversations = set()
    for item in read_records(file, data_format):
        if isinstance(item, Record):
            messages = [*item.messages, *(item.chosen or ())]
            tokens = [round(1.3 * len(message.content.split())) + 8 for message in messages]
            found.append((sum(tokens), sum(t for t, m in zip(tokens, messages, strict=True) if m.role == "assistant")))
            conversations.add(item.conversation_id)
    if not found:
        raise _nothing(file)
    source = f"estimated: words × 1.3; the tokenizer of {base_model} is not on this machine"
    known = lengths.counted(found, source=source, conversations=len(conversations), exact=False)
    work = estimate.workload(pairs=len(found), tokens=round(known.tokens), tokens_source=source, dataset_name=file.name)
    return Subject(known, work)


def _nothing(file: Path) -> InvalidInputError:
    return InvalidInputError(
        f"{file.name} has no record that could be trained on; brightrun validate tells why", code="nothing_to_train"
    )


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


def question_of(
    known: Lengths,
    configuration: Configuration,
    shape: Shape,
    *,
    probe: Measurement | None = None,
    memory: Correction | None = None,
    seconds: Correction | None = None,
    notes: tuple[str, ...] = (),
) -> Question:
    gpu, count = configuration.gpu, configuration.gpu_count
    return Question(
        shape=shape,
        values=configuration.values,
        machine=machine_for(gpu),
        lengths=known,
        price=Price(gpu.price_per_gpu_hour_usd * count, gpu.storage_usd, count),
        probe=probe,
        memory=memory,
        seconds=seconds,
        notes=notes,
    )


def promise_of(
    subject: Subject,
    configuration: Configuration,
    shape: Shape | None,
    base_model: str,
    *,
    method: str,
    probe: Measurement | None = None,
    memory: Correction | None = None,
    seconds: Correction | None = None,
    notes: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The promise with everything that a page shows beside it. shape: None only for the documented formula."""
    if method == estimate.METHOD:
        promise = estimate.documented(
            subject.work,
            batch_size=configuration.values.batch_size,
            epochs=configuration.values.epochs,
            gpu=configuration.gpu,
            count=configuration.gpu_count,
        )
    else:
        assert shape is not None
        promise = analytic.answer(
            question_of(subject.lengths, configuration, shape, probe=probe, memory=memory, seconds=seconds, notes=notes)
        )
        promise |= _earlier_words(promise, subject, configuration)
    return promise | {
        "base_model": base_model,
        "preset_id": configuration.preset_id,
        "hyperparameters": configuration.as_json,
        "rules_fired": configuration.rules,
        "advice": configuration.advice,
        "available": configuration.gpu.unavailable is None,
    }


def probe_here(
    settings: Settings,
    file: Path,
    data_format: str,
    counted: Counted,
    configuration: Configuration,
    shape: Shape,
    base_model: str,
    run_dir: Path,
    *,
    allow_pickle: bool = False,
    devices: str | None = None,
    progress: Progress = lambda _fraction, _words: None,
    cancelled: Event | None = None,
) -> Measurement:
    """Run a probe on this machine, and measure. run_dir: made and removed. devices: for CUDA_VISIBLE_DEVICES.

    Raises ProbeError (with the trainer's own words), ProbeCancelledError, OSError.
    """
    machine = machine_for(configuration.gpu)
    if not machine.here:
        raise ProbeError(f"{configuration.gpu.title} is not this machine: a probe can only run where it is started")
    if devices is None:
        devices = "" if machine.kind == "cpu" else "0"
    subject = ProbeSubject(
        file=file,
        data_format=data_format,
        rows=counted.rows,
        base_model=base_model,
        base_model_dir=settings.base_model_dir,
        allow_pickle=allow_pickle or may_be_pickled(settings, base_model),
        values=configuration.values,
        shape=shape,
        machine=machine,
        environment=clean_environment(devices=devices, network=False),
    )
    try:
        return run_probe(subject, run_dir, on_progress=progress, cancelled=cancelled)
    except (ProbeFailedError, ValueError) as error:
        raise ProbeError(str(error).rstrip(".")) from error


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
            "tokens_being_counted": subject.counting,
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
