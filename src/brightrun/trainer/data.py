"""From the training file to token ids: every record is used, or named with the reason why not."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from brightrun.formats.chat import ChatTokenizer, EncodedRecord
from brightrun.formats.chat_errors import ChatError
from brightrun.formats.errors import FormatError
from brightrun.formats.fit import fit, fit_preference
from brightrun.formats.methods import METHODS, data_fault
from brightrun.formats.reader import read_records
from brightrun.formats.records import Record
from brightrun.formats.run import DataFile, RunConfig
from brightrun.formats.run_directory import sha256_of
from brightrun.trainer.events import EventLog
from brightrun.trainer.outcomes import bad_data

PROBLEMS_FILE = "problems.jsonl"
_NAMED_LINES = 20


@dataclass(frozen=True, slots=True)
class Example:
    """One tokenised record.

    ids: int32, shape (tokens,). trained: bool, same shape; True where the loss asks for this token. The first token
    is never trained: nothing predicts it.
    """

    conversation_id: str
    line: int
    ids: npt.NDArray[np.int32]
    trained: npt.NDArray[np.bool_]

    @property
    def rows(self) -> "tuple[Example, ...]":
        """What of it goes through the model."""
        return (self,)

    @property
    def targets(self) -> int:
        """Trained tokens."""
        return int(self.trained.sum())

    @property
    def width(self) -> int:
        """Tokens of its longest row."""
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Pair:
    """One tokenised preference: the same prompt with the better and with the worse answer, only those trained."""

    chosen: Example
    rejected: Example

    @property
    def conversation_id(self) -> str:
        return self.chosen.conversation_id

    @property
    def line(self) -> int:
        return self.chosen.line

    @property
    def rows(self) -> tuple[Example, ...]:
        return (self.chosen, self.rejected)

    @property
    def targets(self) -> int:
        return self.chosen.targets + self.rejected.targets

    @property
    def width(self) -> int:
        return max(self.chosen.width, self.rejected.width)


Item = Example | Pair


@dataclass
class TrainingData:
    """Examples, or with DPO pairs.

    fingerprint: hash over all token ids and masks in order; a resume with another one is refused.
    prompts: a record each of the first held-out conversations, for sample answers.
    """

    train: list[Item] = field(default_factory=list)
    heldout: list[Item] = field(default_factory=list)
    prompts: list[Record] = field(default_factory=list)
    fingerprint: str = ""


@dataclass
class _Finding:
    """Rows that share one reason for not being learned from, or not wholly."""

    severity: str
    message: str
    rows: int = 0
    lines: list[int] = field(default_factory=list)
    lost_tokens: int = 0


class _Findings:
    """Writes each row to problems.jsonl and keeps the counts for the events. No row is dropped without one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._aside = path.with_name(f".{path.name}.partial")
        self._stream = self._aside.open("w", encoding="utf-8", errors="backslashreplace")
        self.errors = 0
        self.first_error = self.first_code = ""
        self.by_code: dict[str, _Finding] = {}

    def add(self, severity: str, code: str, line: int, message: str, *, lost_tokens: int = 0, **more: Any) -> None:
        row = {"line": line, "severity": severity, "code": code, "message": message, **more}
        self._stream.write(json.dumps(row, ensure_ascii=False) + "\n")
        if severity == "error":
            self.errors += 1
            self.first_code = self.first_code or code
            self.first_error = self.first_error or f"line {line}: {message}".rstrip(".")
        finding = self.by_code.setdefault(code, _Finding(severity, message))
        finding.rows += 1
        finding.lost_tokens += lost_tokens
        if len(finding.lines) < _NAMED_LINES:
            finding.lines.append(line)

    def close(self, events: EventLog) -> None:
        """Put the file in place (none when there is nothing in it) and say one warning for each code."""
        self._stream.close()
        if self.by_code:
            self._aside.replace(self._path)
        else:
            self._aside.unlink()
            self._path.unlink(missing_ok=True)
        for code, finding in self.by_code.items():
            first = finding.lines[0]
            more = f" and {finding.rows - 1} more" if finding.rows > 1 else ""
            events.emit(
                "warning",
                code=code,
                message=f"Line {first}{more}: {finding.message}",
                severity=finding.severity,
                rows=finding.rows,
                lines=finding.lines,
                **({"lost_trained_tokens": finding.lost_tokens} if finding.lost_tokens else {}),
            )


def check_file(data: DataFile, run_dir: Path) -> Path:
    """The training file's path, when it is the one that the run was prepared with."""
    path = run_dir / data.file
    if not path.is_file():
        raise bad_data(f"The training file {path} is missing.", code="data_missing", advice="Prepare the run again.")
    found = sha256_of(path)
    if found != data.sha256:
        raise bad_data(
            f"{path} is not the file that this run was prepared with: SHA-256 {found}, prepared with {data.sha256}.",
            code="data_changed",
            advice="Prepare a new run from the changed file.",
        )
    return path


def load(
    config: RunConfig,
    run_dir: Path,
    tokenizer: ChatTokenizer,
    events: EventLog,
    *,
    max_length: int,
    progress: Callable[[float], None],
) -> TrainingData:
    """Read, tokenise and split the training file. `progress` gets the fraction done, and may raise to stop.

    Raises TrainerStop (65) when the file is not the prepared one, holds bad rows (unless those are to be skipped),
    or leaves nothing to learn from.
    """
    path = check_file(config.data, run_dir)
    findings = _Findings(run_dir / PROBLEMS_FILE)
    data = TrainingData()
    held = set(config.split.heldout_ids)
    digest = hashlib.sha256()
    size = max(1, path.stat().st_size)
    method = config.hyperparameters.method
    encode = _encode_pair if METHODS[method].data == "preference" else _encode
    try:
        for record in _records(path, config.data.format, method, findings):
            progress(min(1.0, record.byte_offset / size))
            item = encode(record, tokenizer, max_length, findings)
            if item is None:
                continue
            is_held = record.conversation_id in held
            (data.heldout if is_held else data.train).append(item)
            digest.update(b"held" if is_held else b"train")
            for row in item.rows:
                digest.update(row.ids.tobytes())
                digest.update(row.trained.tobytes())
            wanted = is_held and len(data.prompts) < config.sample_prompts
            if wanted and all(record.conversation_id != known.conversation_id for known in data.prompts):
                data.prompts.append(record)
    except FormatError as error:
        raise bad_data(f"{path.name}: {error}") from error
    finally:
        findings.close(events)
    data.fingerprint = digest.hexdigest()
    _refuse_bad(config, findings, data, path)
    return data


def _records(path: Path, data_format: str, method: str, findings: _Findings) -> Iterator[Record]:
    for item in read_records(path, data_format):
        if not isinstance(item, Record):
            findings.add(item.severity, item.code, item.line, item.message, path=item.path, suggestion=item.suggestion)
        elif fault := data_fault(method, item.kind):
            findings.add("error", "not_for_this_method", item.line, fault)
        else:
            yield item


def _encode(record: Record, tokenizer: ChatTokenizer, max_length: int, findings: _Findings) -> Item | None:
    where: dict[str, Any] = {"conversation_id": record.conversation_id, "path": record.path}
    if not any(message.trained for message in record.messages):
        findings.add("warning", "nothing_trained", record.line, "no assistant text to learn from; not used", **where)
        return None
    try:
        fitted = fit(tokenizer, record, max_length=max_length)
    except ChatError as error:
        findings.add("error", error.code, record.line, str(error), **where)
        return None
    _report_left_out(record, fitted.left_out, max_length, findings)
    return _example(record, fitted.encoded, max_length, findings)


def _encode_pair(record: Record, tokenizer: ChatTokenizer, max_length: int, findings: _Findings) -> Item | None:
    try:
        fitted = fit_preference(tokenizer, record, max_length=max_length)
    except ChatError as error:
        where: dict[str, Any] = {"conversation_id": record.conversation_id, "path": record.path}
        findings.add("error", error.code, record.line, str(error), **where)
        return None
    _report_left_out(record, fitted.left_out, max_length, findings)
    chosen = _example(record, fitted.encoded.chosen, max_length, findings, side="chosen")
    rejected = _example(record, fitted.encoded.rejected, max_length, findings, side="rejected")
    return None if chosen is None or rejected is None else Pair(chosen, rejected)


def _report_left_out(record: Record, left_out: int, max_length: int, findings: _Findings) -> None:
    if left_out:
        findings.add(
            "warning",
            "history_shortened",
            record.line,
            f"the oldest {left_out} messages left out, so that the answer fits into {max_length} tokens",
            left_out=left_out,
            conversation_id=record.conversation_id,
            path=record.path,
        )


def _example(
    record: Record, encoded: EncodedRecord, max_length: int, findings: _Findings, *, side: str = ""
) -> Example | None:
    """The tokens as arrays. side: `chosen` or `rejected`, where the record has two."""
    where: dict[str, Any] = {"conversation_id": record.conversation_id, "path": record.path}
    its = f"the {side} answer: " if side else ""
    if side:
        where["side"] = side
    ids = np.asarray(encoded.input_ids, dtype=np.int32)
    trained = np.asarray(encoded.labels, dtype=np.int64) != -100
    trained[:1] = False
    if not trained.any():
        findings.add(
            "warning", "all_trained_tokens_cut", record.line,
            f"{its}its {encoded.trained_total} trained tokens all lie beyond token {max_length}; not used",
            lost_tokens=encoded.trained_total, **where,
        )  # fmt: skip
        return None
    if encoded.truncated_tokens:
        findings.add(
            "warning", "truncated", record.line,
            f"{its}{encoded.truncated_tokens} tokens beyond token {max_length} cut off, {encoded.trained_lost} of them "
            "trained",
            lost_tokens=encoded.trained_lost, **where,
        )  # fmt: skip
    elif not encoded.eot_trained:
        findings.add(
            "warning", "end_of_turn_not_trained", record.line,
            f"{its}the chat template ends the last answer without a trained end-of-turn token; the model may not stop",
            **where,
        )  # fmt: skip
    return Example(record.conversation_id, record.line, ids, trained)


def _refuse_bad(config: RunConfig, findings: _Findings, data: TrainingData, path: Path) -> None:
    if findings.errors and config.data.on_bad_row == "fail":
        raise bad_data(
            f"{path.name}: {findings.errors} bad row{'s' if findings.errors > 1 else ''}; first, "
            f"{findings.first_error}.",
            code="template_refused" if findings.first_code == "template_refused" else "bad_data",
            advice=f"Every one is named in {PROBLEMS_FILE}. Correct them, or prepare the run with on_bad_row skip.",
        )
    if not data.train:
        raise bad_data(
            f"{path.name} leaves nothing to train on: no record with assistant text"
            + (" outside the held-out conversations." if data.heldout else "."),
            code="nothing_to_train",
            advice=f"{PROBLEMS_FILE} names the rows that were read and not used.",
        )
