"""One validation under way: what a reader gives is counted, compared, looked at, and becomes a report."""

from collections.abc import Callable, Iterable, Sequence
from typing import BinaryIO

from brightrun.formats.detect import Detection
from brightrun.formats.issues import Issue, make_issue
from brightrun.formats.lean import Cleared
from brightrun.formats.reader import Item, RecordReader
from brightrun.formats.reading import Reading, join_path
from brightrun.formats.records import Record
from brightrun.formats.typed import CleanRun
from brightrun.validation.checks import Checks, ComparingCheck, RecordCheck, Remark
from brightrun.validation.content.places import Places
from brightrun.validation.duplicates import Duplicates
from brightrun.validation.levels import looked_for
from brightrun.validation.readiness import lengths_of, readiness
from brightrun.validation.report import ESTIMATE, IssueLog, Report
from brightrun.validation.reread import Rereader
from brightrun.validation.spool import IssueSpool
from brightrun.validation.statistics import CountTokens, Statistics, WordEstimate
from brightrun.validation.survey import Survey


class Run:
    """One validation under way, of a file or of a part of it."""

    def __init__(
        self,
        reader: RecordReader,
        checks: Checks,
        count_tokens: CountTokens | None,
        log: IssueLog,
        spool: IssueSpool | None,
        record_checks: Sequence[RecordCheck] = (),
        comparing_checks: Sequence[ComparingCheck] = (),
        places: Places | None = None,
    ) -> None:
        self._reader, self._checks, self.log, self.spool = reader, checks, log, spool
        self._record_checks, self._comparing_checks = record_checks, comparing_checks
        self._places = places or Places()
        self._looks = bool(record_checks or comparing_checks)
        self.can_be_split = checks == "structure" and not self._looks
        self.only_counts = self.can_be_split and count_tokens is None
        self._count_tokens = count_tokens
        self._statistics: Statistics | None = None
        self._compares = checks != "structure"
        self._duplicates = Duplicates()

    def begin(self, detection: Detection, *, shows: bool) -> None:
        """Start on a part of a file of which more is known. shows: whether the first records are yet to be shown."""
        self._reader.detection = detection
        self.statistics.sample.complete = not shows

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

    def take_item(self, item: Item) -> None:
        """Take in whatever a reader gives."""
        if isinstance(item, Cleared):
            self.statistics.add_cleared(item)
        elif isinstance(item, CleanRun):
            self.take_run(item)
        else:
            self.take(item)

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
        named = len(reading.records) > 1 or not reading.fallback_id.startswith("record-")
        for record in reading.records:
            statistics.add(record, anonymous=record.conversation_id is reading.fallback_id and not named)

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
            self.log.add(issue)
            if self.spool is not None:
                self.spool.add(issue)
        if self.spool is None:
            self._reader.unheard = self.log.full

    def report(self, file_name: str, tokens_source: str | None, survey: Survey | None) -> Report:
        """The finished report."""
        reader, statistics, log, detection = self._reader, self.statistics, self.log, self._reader.detection
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
