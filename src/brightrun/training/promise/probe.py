"""A probe: the trainer itself, for a few real steps on the widest and on typical batches, on this machine.

It trains a small run of its own, made from rows of the dataset, and throws the adapter away. What is measured is
therefore what the trainer really does, start-up, evaluation, checkpoint, answers and end included.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import psutil

from brightrun.formats.hyperparameters import Hyperparameters
from brightrun.formats.reader import read_records
from brightrun.formats.records import Record
from brightrun.formats.run import Budgets, read_run, write_run
from brightrun.formats.run_directory import prepare_run
from brightrun.formats.write import write_records
from brightrun.trainer.batches import Order
from brightrun.training.promise.duration import prior_speed
from brightrun.training.promise.machine import Machine
from brightrun.training.promise.measurement import Measurement, ProbeFailedError, measure
from brightrun.training.promise.memory import memory_parts
from brightrun.training.promise.plan import Passes, Plan
from brightrun.training.promise.probe_plan import ProbePlan, plan_probe
from brightrun.training.promise.rows import Row
from brightrun.training.promise.shape import Shape

LONGEST_S = 300.0
"""A probe that takes longer is stopped at a step, and tells what it measured until then."""
_POLL_S = 0.05
_PROMPTS = 3

Progress = Callable[[float, str], None]


class ProbeCancelledError(Exception):
    """It was asked to stop; nothing was measured."""


@dataclass(frozen=True)
class Subject:
    """file: the dataset. rows: of it, as the base model sees them. base_model: its name; folder options as for a run.
    values: resolved hyperparameters. environment: of the trainer's process, None for ours."""

    file: Path
    data_format: str
    rows: list[Row]
    base_model: str
    base_model_dir: Path | None
    allow_pickle: bool
    values: Hyperparameters
    shape: Shape
    machine: Machine
    environment: dict[str, str] | None = None


def prepare_probe(subject: Subject, run_dir: Path) -> ProbePlan:
    """Make the run directory of a probe. Raises ProbeFailedError, ValueError, OSError."""
    if not subject.rows:
        raise ProbeFailedError("The dataset has no record that could be trained on.")
    speed = prior_speed(subject.shape, subject.values, subject.machine)
    plan = plan_probe(subject.rows, subject.values, subject.shape, subject.machine, speed)
    batch = len(plan.steps[0].rows)
    records = batch * len(plan.steps)
    places = Order(records, batch, subject.values.seed).epoch(0)
    train: list[Row] = [plan.steps[0].rows[0]] * records
    for number, step in enumerate(plan.steps):
        for at in range(batch):
            train[places[number * batch + at]] = step.rows[at % len(step.rows)]
    parent = run_dir.parent
    parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(run_dir, ignore_errors=True)
    file = parent / f".{run_dir.name}.jsonl"
    try:
        preference = _write(subject, train, plan.heldout, file)
        changes = {
            "epochs": 1, "max_steps": len(plan.steps), "min_steps": 0, "batch_size": batch,
            "checkpoint_every_steps": 10_000, "eval_every_steps": 0, "early_stopping_patience": 0,
        }  # fmt: skip
        values = msgspec.structs.replace(subject.values, **changes)
        prepare_run(
            file, run_dir, base_model=subject.base_model, base_model_dir=subject.base_model_dir,
            allow_pickle=subject.allow_pickle, overrides=msgspec.to_builtins(values), preset="custom",
            data_format="preference" if preference else "openai_messages", on_bad_row="skip",
            budgets=Budgets(max_seconds=LONGEST_S), sample_prompts=_PROMPTS,
        )  # fmt: skip
    finally:
        file.unlink(missing_ok=True)
    config = read_run(run_dir)
    held = [f"held-{number}" for number in range(len(plan.heldout))]
    split = msgspec.structs.replace(
        config.split, heldout_ids=held, train_records=records, train_conversations=records, heldout_records=len(held)
    )
    write_run(msgspec.structs.replace(config, split=split, hyperparameters=values), run_dir)
    return plan


def _write(subject: Subject, train: list[Row], held: tuple[Row, ...], out: Path) -> bool:
    """The chosen rows as a file of their own, each under an id of its own. True: they are preference pairs."""
    named = [*((f"row-{n}", row) for n, row in enumerate(train)), *((f"held-{n}", row) for n, row in enumerate(held))]
    wanted = {row.index for _name, row in named}
    found: dict[int, Record] = {}
    for item in read_records(subject.file, subject.data_format):
        if isinstance(item, Record) and item.index in wanted:
            found[item.index] = item
    preference = any(record.kind == "preference" for record in found.values())
    with out.open("wb") as stream:
        for name, row in named:
            if row.index not in found:
                raise ProbeFailedError("The dataset's file changed while the probe was being made.")
            record = msgspec.structs.replace(found[row.index], conversation_id=name)
            write_records([record], stream, "preference" if preference else "openai_messages")
    return preference


def run_probe(
    subject: Subject,
    run_dir: Path,
    *,
    on_progress: Progress = lambda _fraction, _words: None,
    cancelled: threading.Event | None = None,
) -> Measurement:
    """Prepare, run and measure; the directory is removed afterwards. Blocks.

    Raises ProbeFailedError (the trainer's own words), ProbeCancelledError, ValueError, OSError.
    """
    try:
        on_progress(0.0, "Choosing rows")
        plan = prepare_probe(subject, run_dir)
        return _run(subject, plan, run_dir, on_progress, cancelled or threading.Event())
    finally:
        shutil.rmtree(run_dir, ignore_errors=True)


def _run(
    subject: Subject, plan: ProbePlan, run_dir: Path, on_progress: Progress, cancelled: threading.Event
) -> Measurement:
    others = _Others()
    started = datetime.now(UTC)
    began = time.monotonic()
    with (run_dir / "trainer.out").open("wb") as out:
        process = subprocess.Popen(
            # -P: the run directory holds a user's file and is nowhere to import from.
            [sys.executable, "-P", "-m", "brightrun.trainer", str(run_dir)],
            cwd=run_dir, env=subject.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    status, usage = _wait(process, run_dir, plan, on_progress, cancelled)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if cancelled.is_set():
        raise ProbeCancelledError
    events = _events(run_dir)
    if process.returncode != 0:
        raise ProbeFailedError(_why(events, process.returncode, run_dir))
    values = read_run(run_dir).hyperparameters
    whole = subject.shape
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if subject.machine.kind == "cuda":
        peak = max((int(event.get("gpu_bytes") or 0) for event in events), default=0)
    rows = [row for step in plan.steps for row in step.rows]
    tokens = sum(min(row.tokens, values.max_seq_length) for row in [*rows, *plan.heldout])
    model = memory_parts(whole, values, subject.machine, probe_as_plan(plan), dataset_tokens=tokens)
    return measure(
        events, plan, prior_speed(whole, subject.values, subject.machine), machine=subject.machine.id,
        started=started, seconds=seconds, peak_bytes=peak, model_bytes=int(sum(model.values())), tokens=tokens,
        answers=min(_PROMPTS, len(plan.heldout)), busy=others.share(seconds, usage),
    )  # fmt: skip


def probe_as_plan(plan: ProbePlan) -> Plan:
    """Of the plan only what memory depends on."""
    return Plan(
        steps=len(plan.steps), training=Passes(), evaluation=plan.heldout_passes, evaluations=1, checkpoints=1,
        largest_padded=plan.largest.padded, largest_trained=plan.largest.trained, largest_squares=0.0,
        train_records=0, heldout_records=len(plan.heldout), answers=0,
    )  # fmt: skip


def _wait(
    process: "subprocess.Popen[bytes]", run_dir: Path, plan: ProbePlan, on_progress: Progress,
    cancelled: threading.Event,
) -> tuple[int, "resource.struct_rusage"]:  # fmt: skip
    """(exit status, what it used). Killed with everything it started when it is cancelled, or when we are stopped."""
    try:
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                return status, usage
            if cancelled.wait(_POLL_S):
                os.killpg(process.pid, signal.SIGKILL)
                _pid, status, usage = os.wait4(process.pid, 0)
                return status, usage
            _tell(run_dir, plan, on_progress)
    except BaseException:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            os.wait4(process.pid, 0)
        raise


def _tell(run_dir: Path, plan: ProbePlan, on_progress: Progress) -> None:
    last = _last_event(run_dir)
    if last is None:
        return
    match last.get("type"), last.get("stage"):
        case "metric", _:
            step, whole = int(last["step"]), len(plan.steps)
            on_progress(0.4 + 0.5 * step / whole, f"Step {step} of {whole}")
        case "stage", "preprocessing":
            on_progress(0.05, "Reading the rows")
        case "stage", "model_loading":
            on_progress(0.15, "Loading the base model")
        case "stage", "finalizing":
            on_progress(0.92, "Finishing")


def _events(run_dir: Path) -> list[dict[str, Any]]:
    try:
        lines = (run_dir / "events.jsonl").read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    found = []
    for line in lines[:-1]:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue  # torn by a kill
    return found


def _last_event(run_dir: Path) -> dict[str, Any] | None:
    try:
        with (run_dir / "events.jsonl").open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - 4096))
            lines = stream.read().split(b"\n")[:-1]
        return dict(json.loads(lines[-1])) if lines else None
    except (OSError, ValueError):
        return None


def _why(events: list[dict[str, Any]], code: int, run_dir: Path) -> str:
    failed = next((event for event in reversed(events) if event.get("type") == "failed"), None)
    if failed is not None:
        return f"The trainer says: {failed.get('message')} {failed.get('advice') or ''}".strip()
    if code == -signal.SIGKILL:
        return "The trainer of the probe was killed from outside, as a machine without memory does."
    output = (run_dir / "trainer.out").read_text("utf-8", "replace").strip().splitlines()
    return f"The trainer ended with exit code {code}: {output[-1] if output else 'it said nothing'}"


class _Others:
    """What else ran on the machine meanwhile: a measurement on a busy machine is less certain, and says so."""

    def __init__(self) -> None:
        self._before = psutil.cpu_times()

    def share(self, seconds: float, usage: "resource.struct_rusage") -> float:
        """Part of all cores that others used, 0…1."""
        after = psutil.cpu_times()
        worked = sum(
            getattr(after, name) - getattr(self._before, name)
            for name in ("user", "system", "nice")
            if hasattr(after, name)
        )
        others = float(worked) - usage.ru_utime - usage.ru_stime
        return round(min(1.0, max(0.0, others / (seconds * (psutil.cpu_count() or 1)))), 3)
