"""Validates a training file in one pass: everything that is wrong, each fault at its place, in bounded memory."""

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, get_args

import msgspec

from brightrun.formats.issues import Issue, make_issue
from brightrun.formats.lean import Cleared
from brightrun.formats.lines import MAX_RECORD_BYTES
from brightrun.formats.names import format_id
from brightrun.formats.reader import RecordReader, Source
from brightrun.formats.reading import Reading, join_path
from brightrun.formats.records import Record
from brightrun.formats.typed import CleanRun
from brightrun.validation.checks import Checks, ComparingCheck, RecordCheck, Remark
from brightrun.validation.content.places import Places
from brightrun.validation.duplicates import Duplicates
from brightrun.validation.levels import checks_of, looked_for
from brightrun.validation.readiness import lengths_of, readiness
from brightrun.validation.report import ESTIMATE, IssueLog, Report
from brightrun.validation.reread import Rereader
from brightrun.validation.spill import SPILL_BYTES
from brightrun.validation.spool import IssueSpool
from brightrun.validation.statistics import CountTokens, Statistics, WordEstimate
from brightrun.validation.survey import Survey
from brightrun.validation.thresholds import Thresholds

MAX_ISSUES = 1_000


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
    record_checks: Sequence[RecordCheck] = (),
    comparing_checks: Sequence[ComparingCheck] = (),
    thresholds: Thresholds | None = None,
    heldout: Collection[str] | None = None,
    compare_memory_bytes: int = SPILL_BYTES,
    reopen: Callable[[], BinaryIO] | None = None,
) -> Report:
    """Check a training file and add it up.

    source: a path, or a binary stream at its beginning. format: `auto`, or the format that the file must have.
    checks: `structure` compares no records; `default` also finds duplicates; `full` looks for everything.
    issue_sink: gets every issue in file order, when the file is over; the report keeps `max_issues` (None: all).
    progress: called with the bytes read. cancelled: asked after every block. count_tokens with its label tokens_source
    (`exact:<model>`): exact counts; without it, estimate_tokens: words × 1.3. record_checks, comparing_checks: run
    beside those of the level (those that need a model, for instance). thresholds: from when on the checks of the level
    speak. heldout: ids of the conversations that are kept from training, for `full` to find their duplicates.
    compare_memory_bytes: what checks that compare records keep in memory before temporary files are used. reopen:
    gives the bytes of a source that is a stream once more, from the beginning and able to seek, for checks that look at
    records again.

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
    thresholds, places = thresholds or Thresholds(), Places()
    level = checks_of(
        checks,
        places,
        thresholds,
        heldout=heldout,
        memory_bytes=compare_memory_bytes,
        on_step=lambda: on_bytes(reader.bytes_read),
    )
    survey = None if checks == "structure" else Survey()
    run = _Run(
        reader,
        checks,
        counter,
        IssueLog(max_issues),
        IssueSpool() if issue_sink is not None else None,
        (*level.record, *record_checks, *(() if survey is None else (survey,))),
        (*level.comparing, *comparing_checks),
        places,
    )
    try:
        for item in reader.items(run.may_hurry, sums=run.only_counts):
            if isinstance(item, Cleared):
                run.statistics.add_cleared(item)
            elif isinstance(item, CleanRun):
                run.take_run(item)
            else:
                run.take(item)
        run.compare(_opener(source, reopen), max_record_bytes)
        if run.spool is not None and issue_sink is not None:
            run.spool.drain(issue_sink)
    finally:
        if run.spool is not None:
            run.spool.close()
        level.close()
    if file_name is None:
        file_name = Path(source).name if isinstance(source, str | os.PathLike) else ""
    label = tokens_source if count_tokens else ESTIMATE if estimate_tokens else None
    report = run.report(file_name, label, survey)
    report.thresholds = {} if checks == "structure" else msgspec.to_builtins(thresholds)
    return report


def _opener(source: Source, reopen: Callable[[], BinaryIO] | None) -> Callable[[], BinaryIO] | None:
    if isinstance(source, str | os.PathLike):
        return lambda: Path(source).open("rb")
    return reopen


class _Run:
    """One validation under way."""

    def __init__(
        self,
        reader: RecordReader,
        checks: Checks,
        count_tokens: CountTokens | None,
        log: IssueLog,
        spool: IssueSpool | None,
        record_checks: Sequence[RecordCheck],
        comparing_checks: Sequence[ComparingCheck],
        places: Places,
    ) -> None:
        self._reader, self._checks, self._log, self.spool = reader, checks, log, spool
        self._record_checks, self._comparing_checks = record_checks, comparing_checks
        self._places = places
        self._looks = bool(record_checks or comparing_checks)
        self.only_counts = checks == "structure" and not self._looks and count_tokens is None
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
        if self._looks and reading.records:
            self._places.enter(reading.value, reading.path, self._format)
            for record in reading.records:
                reading.issues += self._look(record)
        if self._compares and reading.is_record:
            _report(reading, self._duplicates.of_reading(reading))
        self._hand_on(reading.issues)
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
        if self._looks:
            self._places.enter(None, "", self._format)
            for record, row in zip(run.records(), run.rows, strict=True):
                issues = self._look(record)
                if self._compares and (remarks := self._duplicates.of_row(record.line, row)):
                    issues += (_issue(remark, record.line, record.byte_offset) for remark in remarks)
                self._hand_on(issues)
        elif self._compares:
            for number, row in enumerate(run.rows):
                if remarks := self._duplicates.of_row(run.first_line + number, row):
                    line, offset = run.first_line + number, run.offset_of(number)
                    self._hand_on(_issue(remark, line, offset) for remark in remarks)

    def compare(self, opens: Callable[[], BinaryIO] | None, max_record_bytes: int) -> None:
        """What can be said now that every record was seen. opens: gives the file again; None where it cannot be."""
        detection = self._reader.detection
        if detection is None or not self._comparing_checks:
            return
        reread = None if opens is None else Rereader(opens, detection, max_record_bytes)
        try:
            for check in self._comparing_checks:
                for line, offset, path, remark in check.finish(reread):
                    self._hand_on([_issue(remark, line, offset, path)])
        finally:
            if reread is not None:
                reread.close()

    @property
    def _format(self) -> str | None:
        """Of the file, where lines are records; elsewhere the place of a field needs the object."""
        detection = self._reader.detection
        return None if detection is None or detection.layout != "lines" else detection.format

    def _look(self, record: Record) -> list[Issue]:
        """Let the checks see a record; what they say about it at once."""
        issues = [
            _issue(remark, record.line, record.byte_offset, record.path)
            for check in self._record_checks
            for remark in check.look(record)
        ]
        for check in self._comparing_checks:
            check.look(record)
        return issues

    def _hand_on(self, issues: Iterable[Issue]) -> None:
        for issue in issues:
            self._log.add(issue)
            if self.spool is not None:
                self.spool.add(issue)

    def report(self, file_name: str, tokens_source: str | None, survey: Survey | None) -> Report:
        """The finished report."""
        reader, statistics, log, detection = self._reader, self.statistics, self._log, self._reader.detection
        assert detection is not None
        tokens: float = statistics.tokens
        per_turn = statistics.tokens_per_turn
        if tokens_source == ESTIMATE:
            tokens = WordEstimate.tokens(tokens)
            per_turn = None if per_turn is None else WordEstimate.tokens(per_turn)
        lengths = None
        if tokens_source is not None:
            factor = WordEstimate.tokens(1) if tokens_source == ESTIMATE else 1
            lengths = lengths_of(statistics.lengths, tokens_source, factor)
        conversations = statistics.conversations
        quality, scored = (None, 0) if survey is None else survey.quality
        run, skipped = looked_for(
            self._checks, (*self._record_checks, *self._comparing_checks), readable=detection.format is not None
        )
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
            readiness=readiness(
                errors=log.totals["error"],
                conversations=conversations,
                training_pairs=statistics.training_pairs,
                quality=quality,
                scored=scored,
            ),
            coverage=None if survey is None else survey.coverage(),
            lengths=lengths,
        )


def _report(reading: Reading, remarks: list[Remark]) -> None:
    for remark in remarks:
        reading.report(remark.code, remark.path, remark.message)


def _issue(remark: Remark, line: int, byte_offset: int, path: str = "") -> Issue:
    """path: of the record, before the remark's own."""
    return make_issue(
        remark.code,
        remark.message,
        line=line,
        byte_offset=byte_offset,
        path=join_path(path, remark.path),
        excerpt=remark.excerpt,
        suggestion=remark.suggestion,
        fixable=remark.fixable,
    )
