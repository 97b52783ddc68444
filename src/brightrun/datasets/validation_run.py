"""One validation as a blocking function: stream the stored file through hash and validator, keep the complete issue
list. Runs in a thread; knows no database.
"""

import errno
import hashlib
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedIOBase
from pathlib import Path
from typing import Any, BinaryIO, cast

from brightrun.clock import utcnow
from brightrun.datasets.conversation_list import ConversationListWriter
from brightrun.datasets.counting import Counting
from brightrun.datasets.issue_list import IssueListWriter
from brightrun.datasets.near_link_list import NearLinkWriter
from brightrun.datasets.places import Places
from brightrun.errors import BrightRunError, StorageFullError
from brightrun.ids import uuid7
from brightrun.storage import Bucket, ObjectStore, object_path
from brightrun.validation import Report, validate
from brightrun.validation.limits import Limits
from brightrun.validation.spill import NO_ROOM_TO_COMPARE
from brightrun.validation.thresholds import Thresholds

ISSUES_KIND = "dataset-issues"
"""Second part of the path of a complete issue list: `<workspace>/dataset-issues/<dataset>/<attempt>.jsonl`; beside it
stand `.csv` and `.index`, and whether or not anything was found `.places`,
`.conversations` and `.links`."""
_BLOCK = 1024 * 1024
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class UnreadableError(BrightRunError):
    """The store or the disk broke off while the file was read. Worth another try; the last one is told."""

    code = "file_unreadable"
    retryable = True


@dataclass(frozen=True)
class Subject:
    """What is validated: a row's facts, so that no thread touches the row itself. counting: None estimates tokens."""

    workspace_id: str
    dataset_id: str
    attempt: int
    bucket: Bucket
    path: str
    file_name: str
    file_size: int
    declared_format: str | None
    declared_sha256: str | None
    counting: Counting | None = None


@dataclass
class Progress:
    """Shared between the thread that reads and the task that reports. cancelled: set it to end the reading soon."""

    bytes_read: int = 0
    cancelled: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Outcome:
    """code, message: set when the dataset goes to `error`. remove_object: what is stored is not what was announced."""

    sha256: str
    size: int
    report: Report | None = None
    issues_path: str | None = None
    code: str | None = None
    message: str | None = None
    remove_object: bool = False

    def values(self) -> dict[str, Any]:
        """Columns of the row."""
        report = self.report
        values: dict[str, Any] = {"sha256": self.sha256, "error_code": self.code, "error_message": self.message}
        values["status"] = "ready" if self.code is None else "error"
        values["validated_bytes"] = self.size
        values["object_deleted_at"] = utcnow() if self.remove_object else None
        if report is None:
            # Numbers of an earlier run were about other bytes.
            values |= dict.fromkeys(
                (
                    *("report", "format_reason", "format", "validation_errors", "sample_data", "issue_counts"),
                    *("issues_path", "errors_total", "warnings_total", "total_records", "total_conversations"),
                    *("total_training_pairs", "total_turns", "total_tokens", "tokens_source"),
                    *("avg_turns_per_conversation", "avg_tokens_per_turn"),
                )
            )
            return values | {"training_ready": False}
        plain = storable(report.to_dict())
        sample = plain.pop("sample_data")
        errors = [issue for issue in plain["issues"] if issue["severity"] == "error"]
        return values | {
            "training_ready": self.code is None and report.training_ready,
            "format": report.format,
            "format_reason": plain["format_reason"],
            "total_records": report.records,
            "total_conversations": report.conversations,
            "total_training_pairs": report.training_pairs,
            "total_turns": report.turns,
            "total_tokens": report.tokens,
            "tokens_source": report.tokens_source,
            "avg_turns_per_conversation": report.avg_turns_per_conversation,
            "avg_tokens_per_turn": report.avg_tokens_per_turn,
            "errors_total": report.errors_total,
            "warnings_total": report.warnings_total,
            "issue_counts": report.by_code,
            "issues_path": self.issues_path,
            "validation_errors": errors or None,
            "sample_data": sample,
            "report": plain,
        }


def run_validation(
    store: ObjectStore,
    subject: Subject,
    progress: Progress,
    scratch: Path,
    thresholds: Thresholds | None = None,
    limits: Limits | None = None,
) -> Outcome:
    """Read the stored file once: hash, validate, keep every issue.

    scratch: a local folder for the issue list until it is stored. thresholds: of the content checks. limits:
    of a record and of memory.

    Raises ValidationCancelled, ObjectNotFoundError, StorageFullError, UnavailableError, UnreadableError.
    """
    known = store.head(subject.bucket, subject.path)
    view = subject.counting.view(known.sha256, subject.declared_format) if subject.counting is not None else None
    counted: dict[str, Any] = {"estimate_tokens": True} if view is None else view.arguments()
    scratch.mkdir(parents=True, exist_ok=True)
    issues = IssueListWriter(scratch, f"issues-{uuid7()}")
    conversations = ConversationListWriter(issues.jsonl.with_suffix(".conversations"))
    links = NearLinkWriter(issues.jsonl.with_suffix(".links"))
    try:
        with _room_for(issues), issues, store.open_read(subject.bucket, subject.path) as source:
            places = Places()
            reader = _HashingReader(source, subject.file_name, places)
            report = validate(
                cast("BinaryIO", io.BufferedReader(reader, _BLOCK)),
                file_name=subject.file_name,
                format=subject.declared_format or "auto",
                checks="full",
                issue_sink=issues.write,
                progress=lambda bytes_read: setattr(progress, "bytes_read", bytes_read),
                cancelled=progress.cancelled.is_set,
                record_checks=[places, conversations, *counted.pop("record_checks", ())],
                thresholds=thresholds,
                on_link=links.add,
                **(limits or Limits())._asdict(),
                reopen=lambda: cast("BinaryIO", store.open_read(subject.bucket, subject.path)),
                **counted,
            )
            reader.read_to_end(progress.cancelled)
            conversations.close()
            links.close()
            if view is not None:
                view.complete(report, content_sha256=reader.sha256)
        fault = _not_as_announced(subject, reader, known.sha256)
        if fault is not None:
            return fault
        store.put_bytes(subject.bucket, _beside(subject, "places"), places.dump())
        store.put_file(subject.bucket, _beside(subject, "conversations"), conversations.path)
        store.put_file(subject.bucket, _beside(subject, "links"), links.path)
        code, message = _verdict(report)
        return Outcome(
            sha256=reader.sha256,
            size=reader.size,
            report=report,
            issues_path=_store_issues(store, subject, issues) if issues.count else None,
            code=code,
            message=message,
        )
    finally:
        for file in (*issues.files, conversations.path, links.path):
            file.unlink(missing_ok=True)


@contextmanager
def _room_for(issues: IssueListWriter) -> Iterator[None]:
    """Tells of a full disk as what it is: the list could not be kept."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        compared = (error.strerror or "").startswith(NO_ROOM_TO_COMPARE)
        raise StorageFullError(
            f"The disk is full: {error.strerror}. Free some space there and validate the dataset again."
            if compared
            else f"The disk is full: the list of issues could not be kept after {issues.count:,} issues. Free some "
            f"space in {issues.jsonl.parent} and validate the dataset again.",
            code="disk_full",
        ) from error


def _store_issues(store: ObjectStore, subject: Subject, issues: IssueListWriter) -> str:
    path = _beside(subject, "jsonl")
    with _room_for(issues):
        issues.finish()
    try:
        for file in (issues.jsonl, issues.csv, issues.index):
            store.put_file(subject.bucket, beside(path, file.suffix), file)
    except StorageFullError as error:
        raise StorageFullError(
            f"The list of issues could not be stored. {error.message} Then validate the dataset again.",
            code="disk_full",
        ) from error
    return path


def _beside(subject: Subject, kind: str) -> str:
    return object_path(subject.workspace_id, ISSUES_KIND, subject.dataset_id, f"{subject.attempt}.{kind}")


def beside(issues_path: str, suffix: str) -> str:
    """The path of the list's `.csv` or `.index`, from that of the list itself."""
    return issues_path.removesuffix(".jsonl") + suffix


def _not_as_announced(subject: Subject, reader: "_HashingReader", stored_sha256: str | None) -> Outcome | None:
    """S3 takes what it is sent, so what was announced is checked here; on a local disk this finds damage."""
    if reader.size != subject.file_size:
        return Outcome(
            reader.sha256,
            reader.size,
            code="size_mismatch",
            message=f"{subject.file_name!r} was announced with {subject.file_size:,} bytes, but {reader.size:,} bytes "
            "are stored. The stored file was removed.",
            remove_object=True,
        )
    if stored_sha256 is not None and stored_sha256 != reader.sha256:
        return Outcome(
            reader.sha256,
            reader.size,
            code="file_damaged",
            message=f"The stored file has changed since it was uploaded: its SHA-256 was {stored_sha256} and is "
            f"{reader.sha256}. Restore it from a backup, or upload it anew.",
        )
    if subject.declared_sha256 is not None and subject.declared_sha256 != reader.sha256:
        return Outcome(
            reader.sha256,
            reader.size,
            code="hash_mismatch",
            message=f"The SHA-256 of what arrived is {reader.sha256}; {subject.declared_sha256} was announced. The "
            "file changed on its way, or another file was sent. What arrived was removed.",
            remove_object=True,
        )
    return None


_ABOUT_THE_FILE = frozenset(
    {"empty_file", "binary_file", "wrong_encoding", "unknown_format", "format_mismatch", "no_records"}
    | {"nothing_to_train"}
)


def _verdict(report: Report) -> tuple[str | None, str | None]:
    """(error code, sentence); (None, None) for a file that can be trained on."""
    if report.training_ready:
        return None, None
    errors = [issue for issue in report.issues if issue.severity == "error"]
    if not errors:
        return "nothing_to_train", "The file has no error, but nothing in it that a model would learn."
    # What is wrong with the file as a whole explains whatever else was found.
    first = next((issue for issue in errors if issue.code in _ABOUT_THE_FILE), errors[0])
    if first.code in _ABOUT_THE_FILE:
        return first.code, storable(f"{first.message} {first.suggestion}")
    number = report.errors_total
    found = "1 error" if number == 1 else f"{number:,} errors"
    where = f"{'It' if number == 1 else 'The first'} is at line {first.line:,}"
    return "validation_failed", storable(f"Found {found}. {where}: {first.message}")


def storable(value: Any) -> Any:
    """`value` with each NUL shown as ␀: PostgreSQL can keep none in text or JSON."""
    match value:
        case str():
            return value.replace("\x00", "␀")
        case list():
            return [storable(item) for item in value]
        case dict():
            return {storable(key): storable(item) for key, item in value.items()}
        case _:
            return value


class _HashingReader(io.RawIOBase):
    """The stored file as the validator reads it, front to back, with the SHA-256 of all that has passed."""

    def __init__(self, source: BufferedIOBase, name: str, places: Places) -> None:
        self._source, self._name, self._places = source, name, places
        self._digest = hashlib.sha256()
        self.size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        try:
            count = self._source.readinto(view)
        except BrightRunError:
            raise
        except OSError as error:
            raise UnreadableError(
                f"The stored file {self._name!r} could not be read after {self.size:,} bytes: "
                f"{error.strerror or error}."
            ) from error
        self._digest.update(view[:count])
        self._places.pass_over(view[:count])
        self.size += count
        return count

    def read_to_end(self, cancelled: threading.Event) -> None:
        """What the validator left unread also belongs to the hash."""
        rest = bytearray(_BLOCK)
        while not cancelled.is_set() and self.readinto(rest):
            pass

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()
