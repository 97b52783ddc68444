"""The background work of estimates: probes, and counting a dataset with the tokenizer of the model it is meant for."""

import asyncio
import fcntl
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.clock import utcnow
from brightrun.datasets import repository as datasets
from brightrun.datasets.tables import Dataset
from brightrun.errors import BrightRunError
from brightrun.formats.model_tokenizers import load_tokenizer
from brightrun.logs import get_logger
from brightrun.platform import Platform
from brightrun.queue import RunAgainError, TaskFailure, complete, stopping, task
from brightrun.queue.events import publish
from brightrun.storage import Bucket
from brightrun.training.configuration import configure
from brightrun.training.estimates import repository
from brightrun.training.estimates.keys import COUNT_TASK, PROBE_TASK
from brightrun.training.estimates.service import announce
from brightrun.training.estimates.tables import DatasetLengths, EstimateProbe, ProbeStatus
from brightrun.training.executors.devices import local_gpus
from brightrun.training.executors.local import LocalExecutor
from brightrun.training.promise.lengths import Lengths
from brightrun.training.promise.machine import machine_for
from brightrun.training.promise.measurement import Measurement
from brightrun.training.promise.probe import ProbeCancelledError
from brightrun.training.promise.rows import lengths_of_rows, rows_of
from brightrun.training.promising import counted_file, probe_here, promise_of, shape_named
from brightrun.training.schemas import GpuConfigIn

log = get_logger(__name__)

_LOOK_EVERY_S = 0.5
_BUSY_PAUSE_S = 2.0


@dataclass
class _Progress:
    """What the thread tells, and hears."""

    fraction: float = 0.0
    words: str = "Starting"
    cancelled: threading.Event = field(default_factory=threading.Event)

    def tell(self, fraction: float, words: str) -> None:
        self.fraction, self.words = fraction, words


async def probe_failed(platform: Platform, failure: TaskFailure, *, workspace_id: str, probe_id: str) -> None:
    """The probe was given up: its row says why."""
    async with platform.db.transaction(workspace_id=UUID(workspace_id)) as session:
        await _end(session, UUID(probe_id), ProbeStatus.FAILED, error_code=failure.code, error_message=failure.message)


@task(PROBE_TASK, queue="probes", attempts=3, on_failure=probe_failed)
async def probe(platform: Platform, *, workspace_id: str, probe_id: str) -> None:
    """Run one probe on this machine, one at a time, and write down what it measured."""
    key = UUID(probe_id)
    with _alone(platform.runs_dir) as mine:
        if not mine:
            raise RunAgainError("another probe runs on this machine", delay_s=_BUSY_PAUSE_S)
        async with platform.db.transaction(workspace_id=UUID(workspace_id)) as session:
            row = await repository.advance(
                session, key, status=ProbeStatus.RUNNING, started_at=utcnow(), words="Starting", progress=0,
                host=str(platform.settings.data),
            )  # fmt: skip
            if row is None:
                return
            dataset = await datasets.find(session, row.dataset_id, deleted=True)
            await announce(session, row)
        assert dataset is not None  # deleting one deletes its probes
        progress = _Progress()
        if row.cancel_requested_at is not None:
            progress.cancelled.set()
        work = asyncio.create_task(asyncio.to_thread(_work, platform, row, dataset, progress))
        try:
            measured, promise = await _follow(platform, row, work, progress)
        except ProbeCancelledError:
            async with platform.db.transaction(workspace_id=row.workspace_id) as session:
                await _end(session, key, ProbeStatus.CANCELLED)
                await complete(session)
            return
    async with platform.db.transaction(workspace_id=row.workspace_id) as session:
        await _end(
            session, key, ProbeStatus.DONE, measurement=msgspec.to_builtins(measured), promise=promise, progress=1,
            machine=measured.machine,
        )  # fmt: skip
        await complete(session)


async def _end(session: AsyncSession, probe_id: UUID, status: ProbeStatus, **values: Any) -> None:
    row = await repository.advance(session, probe_id, status=status, ended_at=utcnow(), words=None, **values)
    if row is not None:
        await session.refresh(row)
        await announce(session, row)


async def _follow(
    platform: Platform, row: EstimateProbe, work: "asyncio.Task[tuple[Measurement, dict[str, Any]]]",
    progress: _Progress,
) -> tuple[Measurement, dict[str, Any]]:  # fmt: skip
    """Wait for the thread while the row shows how far it is, and a cancel is heard."""
    shown = (0.0, "")
    stop = asyncio.create_task(stopping().wait())
    try:
        while True:
            await asyncio.wait({work, stop}, timeout=_LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            if stop.done():
                raise RunAgainError("the worker stopped during a probe")
            now = (round(progress.fraction, 4), progress.words)
            async with platform.db.transaction(workspace_id=row.workspace_id) as session:
                found = await repository.probe(session, row.id, lock=True)
                if found is None or found.status != ProbeStatus.RUNNING or found.cancel_requested_at is not None:
                    progress.cancelled.set()
                elif now != shown:
                    found.progress, found.words = now  # type: ignore[assignment]  # numeric: the driver takes a float
                    await session.flush()
                    await announce(session, found)
                    shown = now
    finally:
        stop.cancel()
        progress.cancelled.set()
        # The thread ends its process at once; until then the machine is not free.
        await asyncio.wait({work})
        if not work.cancelled() and work.exception() is not None:
            log.debug("a probe ended", error=str(work.exception()))


def _work(
    platform: Platform, row: EstimateProbe, dataset: Dataset, progress: _Progress
) -> tuple[Measurement, dict[str, Any]]:
    """Download, count, probe. Blocks. Raises BrightRunError, ProbeCancelledError, OSError."""
    settings, folder = platform.settings, platform.runs_dir / ".probes" / str(row.id)
    run_dir = folder / "run"
    left = LocalExecutor(platform.runs_dir).adopt(run_dir, None)
    if left is not None:  # of a worker that was killed
        left.kill()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        progress.tell(0.02, "Fetching the dataset")
        file = _download(platform, dataset, folder)

        def on_bytes(_offset: int) -> None:
            if progress.cancelled.is_set():
                raise ProbeCancelledError

        progress.tell(0.05, "Counting tokens")
        counted = counted_file(settings, file, dataset.format or "auto", row.base_model, on_bytes=on_bytes)
        if not counted.rows:
            raise BrightRunError(f"The base model {row.base_model} is not on this machine", code="base_model_unusable")
        configuration = configure(
            settings, preset_id=row.preset_id, overrides=row.overrides,
            gpu_config=GpuConfigIn(type=row.gpu_config["type"], count=row.gpu_config["count"]),
            pairs=counted.subject.records,
        )  # fmt: skip
        shape = shape_named(settings, row.base_model)
        with _device(platform.runs_dir, machine_for(configuration.gpu).kind) as devices:
            measured = probe_here(
                settings, file, dataset.format or "auto", counted, configuration, shape, row.base_model, run_dir,
                devices=devices, progress=progress.tell, cancelled=progress.cancelled,
            )  # fmt: skip
        promise = promise_of(counted.subject, configuration, shape, row.base_model, method="analytic", probe=measured)
        return measured, promise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _download(platform: Platform, dataset: Dataset, folder: Path) -> Path:
    target = folder / Path(dataset.storage_path).name
    platform.store.download_to(Bucket(dataset.storage_bucket), dataset.storage_path, target)
    return target


@contextmanager
def _alone(runs_dir: Path) -> Iterator[bool]:
    """Whether this is the only probe of the machine; two at once would measure each other."""
    runs_dir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(runs_dir / ".probe.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


@contextmanager
def _device(runs_dir: Path, kind: str) -> Iterator[str]:
    """A GPU that no job uses, for as long as it is measured; none on a processor. Raises RunAgainError."""
    if kind != "cuda":
        yield ""
        return
    for gpu in local_gpus():
        descriptor = os.open(runs_dir / f".gpu-{gpu.index}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield str(gpu.index)
            return
        finally:
            os.close(descriptor)
    raise RunAgainError("all GPUs of this machine are in use", delay_s=_BUSY_PAUSE_S)


# --- lengths ----------------------------------------------------------------------------------------------------------


async def count_failed(
    platform: Platform, failure: TaskFailure, *, workspace_id: str, dataset_id: str, lengths_id: str
) -> None:
    """It stays an estimate, and the row says why."""
    async with platform.db.transaction(workspace_id=UUID(workspace_id)) as session:
        row = await session.get(DatasetLengths, UUID(lengths_id))
        if row is not None:
            row.error = failure.message


@task(COUNT_TASK, queue="validation", on_failure=count_failed)
async def count_lengths(platform: Platform, *, workspace_id: str, dataset_id: str, lengths_id: str) -> None:
    """Count a dataset's records exactly, and tell pages that show an estimate."""
    async with platform.db.transaction(workspace_id=UUID(workspace_id)) as session:
        row = await session.get(DatasetLengths, UUID(lengths_id))
        dataset = await datasets.find(session, UUID(dataset_id), deleted=True)
    if row is None or dataset is None or row.rows is not None:
        return
    counted = await asyncio.to_thread(_count, platform, dataset, row.base_model)
    async with platform.db.transaction(workspace_id=UUID(workspace_id)) as session:
        row = await session.get(DatasetLengths, UUID(lengths_id))
        if row is not None:
            row.rows = [[tokens, trained, count] for tokens, trained, count in counted.rows]
            row.conversations = counted.conversations
            row.error = None
            payload = {"id": dataset_id, "base_model": row.base_model}
            await publish(session, f"dataset:{dataset_id}", "dataset.lengths_counted", payload)
        await complete(session)


def _count(platform: Platform, dataset: Dataset, base_model: str) -> Lengths:
    folder = platform.runs_dir / ".probes" / f"count-{dataset.id}-{threading.get_ident()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        file = _download(platform, dataset, folder)
        tokenizer = load_tokenizer(base_model, platform.settings.base_model_dir, allow_paths=False)
        rows = list(rows_of(file, dataset.format or "auto", tokenizer))
        if not rows:
            raise BrightRunError("Nothing in the file can be trained on", code="nothing_to_train")
        return lengths_of_rows(rows, source=f"counted with the tokenizer of {base_model}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
