"""Validates a training file in one pass: everything that is wrong, each fault at its place, in bounded memory."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from brightrun.formats.issues import Issue
from brightrun.formats.lines import MAX_RECORD_BYTES
from brightrun.formats.names import format_id
from brightrun.formats.reader import RecordReader, Source
from brightrun.formats.reading import Reading
from brightrun.formats.records import Message
from brightrun.validation.report import ESTIMATE, IssueLog, Report
from brightrun.validation.seen import SeenMap
from brightrun.validation.statistics import CountTokens, Statistics, WordEstimate

Checks = Literal["structure", "default", "full"]
MAX_ISSUES = 1_000

# What each level looks for, in words that a report can show.
STRUCTURE_CHECKS = (
    "file",
    "json",
    "format",
    "fields",
    "roles",
    "tool_calls",
    "declared_counts",
    "turn_numbers",
    "texts",
)
COMPARING_CHECKS = ("duplicate_ids", "exact_duplicates")
FULL_CHECKS = (
    "near_duplicates",
    "repeated_openings",
    "refusals",
    "language_mix",
    "reply_lengths",
    "personal_data",
    "secrets",
)
MODEL_CHECKS = ("chat_template", "truncation")


class ValidationCancelled(Exception):
    """The caller's `cancelled` said so. Nothing is left behind."""


def validate(
    source: Source,
    *,
    file_name: str | None = None,
    format: str = "auto",  # noqa: A002 - the field's word
    checks: Checks = "default",
    max_record_bytes: int = MAX_RECORD_BYTES,
    max_issues: int | None = MAX_ISSUES,
    issue_sink: Callable[[Issue], None] | None = None,
    progress: Callable[[int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    count_tokens: CountTokens | None = None,
    tokens_source: str | None = None,
    estimate_tokens: bool = False,
) -> Report:
    """Check a training file and add it up.

    source: a path, or a binary stream at its beginning. format: `auto`, or the format that the file must have.
    checks: `structure` compares no records; `default` also finds duplicates; `full` asks for everything there is, and
    the report names what this version does not look for yet. issue_sink: gets every issue, in file order within each
    record; the report keeps `max_issues` (None: all). progress: called with the bytes read. cancelled: asked after
    every block. count_tokens with its label tokens_source (`exact:<model>`): exact counts; without it,
    estimate_tokens: words × 1.3.

    Raises UnknownFormatError, ValidationCancelled, OSError when the file cannot be read, ValueError for a level of
    checks that does not exist or for a count without its label.
    """
    if checks not in get_args(Checks):
        raise ValueError(f"There is no level of checks called {checks!r}; there are {', '.join(get_args(Checks))}.")
    if count_tokens is not None and not tokens_source:
        raise ValueError("count_tokens needs tokens_source: no number is shown without where it comes from.")
    format_id(format)

    def on_bytes(bytes_read: int) -> None:
        if cancelled is not None and cancelled():
            raise ValidationCancelled
        if progress is not None:
            progress(bytes_read)

    counter = count_tokens or (WordEstimate.count if estimate_tokens else None)
    reader = RecordReader(source, format, max_record_bytes=max_record_bytes, texts=True, on_bytes=on_bytes)
    run = _Run(reader, checks, counter, IssueLog(max_issues), issue_sink)
    for reading in reader.readings():
        run.take(reading)
    if file_name is None:
        file_name = Path(source).name if isinstance(source, str | os.PathLike) else ""
    label = tokens_source if count_tokens else ESTIMATE if estimate_tokens else None
    return run.report(file_name, label)


class _Run:
    """One validation under way."""

    def __init__(
        self,
        reader: RecordReader,
        checks: Checks,
        count_tokens: CountTokens | None,
        log: IssueLog,
        sink: Callable[[Issue], None] | None,
    ) -> None:
        self._reader, self._checks, self._log, self._sink = reader, checks, log, sink
        self._count_tokens = count_tokens
        self._statistics: Statistics | None = None
        self._compares = checks != "structure"
        self._ids, self._texts = SeenMap(), SeenMap()

    @property
    def statistics(self) -> Statistics:
        """Made when the format is known."""
        if self._statistics is None:
            detection = self._reader.detection
            shares = detection is not None and detection.format in ("brightrun_lora_v4", "enriched_conversation")
            self._statistics = Statistics(self._count_tokens, pairs_share_history=shares)
        return self._statistics

    def take(self, reading: Reading) -> None:
        """Count one reading and compare it with those before."""
        if self._compares and reading.is_record:
            self._compare(reading)
        for issue in reading.issues:
            self._log.add(issue)
            if self._sink is not None:
                self._sink(issue)
        for pair in reading.null_targets:
            self.statistics.add_null_target(pair)
        for record in reading.records:
            self.statistics.add(record)

    def _compare(self, reading: Reading) -> None:
        if reading.object_id is not None:
            field, value = reading.object_id
            first = self._first_line(self._ids, hash(value), reading.line)
            if first is not None:
                shown = value.rpartition("/")[2] if field == "id" else value
                self._report(reading, "duplicate_id", field, f"`{field}` {shown[:80]!r} was used before, at {first}.")
        for record in reading.records:
            messages = (record.messages, record.chosen, record.rejected, record.label)
            key = hash(tuple(_key(part) for part in messages))
            first = self._first_line(self._texts, key, reading.line)
            if first is not None:
                self._report(reading, "duplicate_record", "", f"The record has exactly the messages of {first}.")

    def _first_line(self, seen: SeenMap, key: int, line: int) -> str | None:
        first = seen.get(key)
        if first is None:
            seen.put(key, line)
            return None
        detection = self._reader.detection
        return f"{'line' if detection is None or detection.layout == 'lines' else 'record'} {first:,}"

    def _report(self, reading: Reading, code: str, path: str, message: str) -> None:
        reading.report(code, path, message)

    def report(self, file_name: str, tokens_source: str | None) -> Report:
        """The finished report."""
        reader, statistics, log, detection = self._reader, self.statistics, self._log, self._reader.detection
        assert detection is not None
        tokens: float = statistics.tokens
        per_turn = statistics.tokens_per_turn
        if tokens_source == ESTIMATE:
            tokens = WordEstimate.tokens(tokens)
            per_turn = None if per_turn is None else WordEstimate.tokens(per_turn)
        conversations = statistics.conversations
        run, skipped = _looked_for(self._checks, readable=detection.format is not None)
        issues = log.kept()
        return Report(
            file=file_name,
            format=detection.format,
            format_reason=detection.reason,
            lines=reader.lines,
            records=reader.objects,
            conversations=conversations,
            training_pairs=statistics.training_pairs,
            turns=statistics.turns,
            tokens=None if tokens_source is None else round(tokens),
            tokens_source=tokens_source or "none",
            errors_total=log.totals["error"],
            warnings_total=log.totals["warning"],
            by_code=dict(sorted(log.by_code.items())),
            issues=issues,
            issues_truncated=len(issues) < log.total,
            checks_run=run,
            checks_skipped=skipped,
            training_ready=not log.totals["error"] and statistics.training_pairs > 0,
            null_targets=reader.null_targets,
            avg_turns_per_conversation=round(statistics.turns / conversations, 2) if conversations else None,
            avg_tokens_per_turn=None if per_turn is None else round(per_turn, 2),
            sample_data=statistics.sample.conversations(),
            file_size=reader.bytes_read,
        )


def _key(part: list[Message] | bool | None) -> object:
    if isinstance(part, list):
        return tuple((message.role, message.content, str(message.tool_calls or "")) for message in part)
    return part


def _looked_for(checks: Checks, *, readable: bool) -> tuple[list[str], list[str]]:
    """Names of the checks that were run, and of those that were not."""
    everything = (*STRUCTURE_CHECKS, *COMPARING_CHECKS, *FULL_CHECKS, *MODEL_CHECKS)
    if not readable:
        run: tuple[str, ...] = ("file", "format")
    else:
        run = STRUCTURE_CHECKS if checks == "structure" else (*STRUCTURE_CHECKS, *COMPARING_CHECKS)
    return list(run), [name for name in everything if name not in run]
