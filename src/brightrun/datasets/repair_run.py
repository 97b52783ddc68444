"""Makes the file of a new version: the parent's file, mended, and the log of each change. Blocks; knows no database."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from brightrun.datasets.validation_run import Progress
from brightrun.errors import BrightRunError
from brightrun.ids import uuid7
from brightrun.storage import Bucket, ObjectStore, object_path
from brightrun.validation import ValidationCancelled
from brightrun.validation.repair import REMOVED, Choice, repair
from brightrun.validation.repair_records import Change

REPAIRS_KIND = "dataset-repairs"
"""Second part of the path of a log of changes: `<workspace>/dataset-repairs/<dataset>/changes.jsonl`."""


MOST_REMOVED = 200_000


class NothingLeftError(BrightRunError):
    """The mended file would have no byte."""

    code = "nothing_left"
    status = 409


@dataclass(frozen=True)
class RepairPlan:
    """source: path of the parent's file. target: of the new one, in the same bucket. repair: as in the row."""

    workspace_id: str
    dataset_id: str
    bucket: Bucket
    source: str
    target: str
    declared_format: str | None
    repair: dict[str, Any]


@dataclass(frozen=True)
class RepairOutcome:
    """counts: {code: changes}. log_path: None when nothing was changed. removed: (line, path) of the records that were
    taken out, in the file as it was; only the first MOST_REMOVED."""

    size: int
    counts: dict[str, int]
    log_path: str | None
    removed: list[tuple[int, str]]


def choice_of(repair: dict[str, Any]) -> Choice:
    """What a row asks to be mended."""
    issues, left = (
        frozenset((code, line, path) for code, line, path in repair.get(key, ())) for key in ("issues", "left")
    )
    return Choice(codes=frozenset(repair["codes"]), issues=issues, left=left)


def run_repair(store: ObjectStore, plan: RepairPlan, progress: Progress, scratch: Path) -> RepairOutcome:
    """Mend and store. Repeating it stores the same again.

    scratch: a local folder for the files while they are worked on. Raises ValidationCancelled, ObjectNotFoundError,
    StorageFullError, NothingLeftError, OSError.
    """

    def on_bytes(bytes_read: int) -> None:
        if progress.cancelled.is_set():
            raise ValidationCancelled
        progress.bytes_read = bytes_read

    folder = scratch / f"validation-repair-{uuid7()}"  # swept like those of validations
    folder.mkdir(parents=True)
    try:
        source, target, log = folder / "source", folder / "target", folder / "changes.jsonl"
        store.download_to(plan.bucket, plan.source, source)
        removed = list[tuple[int, str]]()
        with log.open("wb", buffering=1 << 20) as stream:
            done = repair(
                source,
                target,
                choice_of(plan.repair),
                format=plan.declared_format or "auto",
                log=_writer(stream, removed),
                on_bytes=on_bytes,
            )
        if not target.stat().st_size:
            raise NothingLeftError("Nothing would be left of the file; it was not made.")
        log_path = None
        if done.changes:
            log_path = object_path(plan.workspace_id, REPAIRS_KIND, plan.dataset_id, "changes.jsonl")
            store.put_file(plan.bucket, log_path, log)
        size = store.put_file(plan.bucket, plan.target, target).size
        return RepairOutcome(size, done.by_code, log_path, removed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _writer(stream: BinaryIO, removed: list[tuple[int, str]]) -> Callable[[Change], None]:
    encode = msgspec.json.Encoder().encode

    def write(change: Change) -> None:
        stream.write(encode(change) + b"\n")
        if change.code in REMOVED and not change.after and len(removed) < MOST_REMOVED:
            removed.append((change.line, change.path))

    return write
