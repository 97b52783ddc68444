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
from brightrun.formats.typed import CleanRun
from brightrun.validation.duplicates import Duplicates, Remark
from brightrun.validation.report import ESTIMATE, IssueLog, Report
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
    for item in reader.items(run.may_hurry):
        if isinstance(item, CleanRun):
            run.take_run(item)
        else:
            run.take(item)
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
        self._duplicates = Duplicates()

    @property
    def statistics(self) -> Statistics:
        """Made when the format is known."""
        if self._statistics is None:
            detection = self._reader.detection
            shares = detection is not None and detection.format in ("brightrun_lora_v4", "enriched_conversation")
            if detection is not None and detection.layout != "lines":
                self._duplicates.unit = "record"
            self._statistics = Statistics(self._count_tokens, pairs_share_history=shares)
        return self._statistics

    def take(self, reading: Reading) -> None:
        """Count one reading and compare it with those before."""
        statistics = self.statistics
        if self._compares and reading.is_record:
            self._report(reading, self._duplicates.of_reading(reading))
        self._hand_on(reading)
        for pair in reading.null_targets:
            statistics.add_null_target(pair)
        for record in reading.records:
            statistics.add(record)

    def may_hurry(self) -> bool:
        """Whether the rest may be read without a Record each: the first ones are shown."""
        return self.statistics.sample.complete

    def take_run(self, run: CleanRun) -> None:
        """Count rows without findings of their own, and compare them with those before."""
        self.statistics.add_run(run)
        if not self._compares:
            return
        for number, row in enumerate(run.rows):
            if remarks := self._duplicates.of_row(run.first_line + number, row):
                reading = Reading(run.first_line + number, run.offset_of(number), "", 0)
                self._report(reading, remarks)
                self._hand_on(reading)

    def _report(self, reading: Reading, remarks: list[Remark]) -> None:
        for remark in remarks:
            reading.report(remark.code, remark.path, remark.message)

    def _hand_on(self, reading: Reading) -> None:
        for issue in reading.issues:
            self._log.add(issue)
            if self._sink is not None:
                self._sink(issue)

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


def _looked_for(checks: Checks, *, readable: bool) -> tuple[list[str], list[str]]:
    """Names of the checks that were run, and of those that were not."""
    everything = (*STRUCTURE_CHECKS, *COMPARING_CHECKS, *FULL_CHECKS, *MODEL_CHECKS)
    if not readable:
        run: tuple[str, ...] = ("file", "format")
    else:
        run = STRUCTURE_CHECKS if checks == "structure" else (*STRUCTURE_CHECKS, *COMPARING_CHECKS)
    return list(run), [name for name in everything if name not in run]
