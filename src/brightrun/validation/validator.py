"""Validates a training file in one pass: everything that is wrong, each fault at its place, in bounded memory."""

import os
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, get_args

import msgspec

from brightrun.formats.detect import Detection
from brightrun.formats.issues import Issue
from brightrun.formats.lines import MAX_RECORD_BYTES
from brightrun.formats.names import format_id
from brightrun.formats.reader import RecordReader, Source, Totals
from brightrun.validation.checks import Checks, ComparingCheck, RecordCheck
from brightrun.validation.content.places import Places
from brightrun.validation.levels import checks_of
from brightrun.validation.report import ESTIMATE, IssueLog, Report
from brightrun.validation.run import Run
from brightrun.validation.spill import SPILL_BYTES
from brightrun.validation.spool import IssueSpool
from brightrun.validation.statistics import CountTokens, WordEstimate
from brightrun.validation.survey import Survey
from brightrun.validation.thresholds import Thresholds

if TYPE_CHECKING:
    from brightrun.validation.helper import Helper

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
    on_link: Callable[[str, str], None] | None = None,
    compare_memory_bytes: int = SPILL_BYTES,
    reopen: Callable[[], BinaryIO] | None = None,
    workers: int | None = 1,
) -> Report:
    """Check a training file and add it up.

    source: a path, or a binary stream at its beginning. format: `auto`, or the format that the file must have.
    checks: `structure` compares no records; `default` also finds duplicates; `full` looks for everything.
    issue_sink: gets every issue in file order, when the file is over; the report keeps `max_issues` (None: all).
    progress: called with the bytes read. cancelled: asked after every block. count_tokens with its label tokens_source
    (`exact:<model>`): exact counts; without it, estimate_tokens: words × 1.3. record_checks, comparing_checks: run
    beside those of the level (those that need a model, for instance). thresholds: from when on the checks of the level
    speak. heldout: ids of the conversations that are kept from training, for `full` to find their duplicates.
    on_link: told by `full` of each conversation that is nearly or exactly like an earlier one: (its id, that one's).
    compare_memory_bytes: what checks that compare records keep in memory before temporary files are used. reopen:
    gives the bytes of a source that is a stream once more, from the beginning and able to seek, for checks that look at
    records again. workers: processes that read a source that is a path, where nothing compares or looks at records
    (`structure`); from two on, a second one compares the records for `full`, unless on_link is wanted. None: as many as
    help. The report is the same. Processes are forked, so never beside other threads.

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
        on_link=on_link,
        memory_bytes=compare_memory_bytes,
        on_step=lambda: on_bytes(reader.bytes_read),
    )
    survey = None if checks == "structure" else Survey()
    helper = None
    if isinstance(source, str | os.PathLike) and checks == "full" and workers != 1 and on_link is None:
        helper = _helper(Path(source), level.comparing, places, workers, lambda: on_bytes(reader.bytes_read))
    compares = level.comparing if helper is None else helper.stand_ins
    run = Run(
        reader,
        checks,
        counter,
        IssueLog(max_issues),
        IssueSpool() if issue_sink is not None else None,
        (*level.record, *record_checks, *(() if survey is None else (survey,))),
        (*compares, *comparing_checks),
        places,
    )
    hand_over = None
    if isinstance(source, str | os.PathLike) and run.can_be_split and workers != 1:
        hand_over = _helpers(Path(source), workers, max_record_bytes, max_issues, counter, on_bytes, run)
    try:
        if helper is not None:
            helper.start(format, max_record_bytes)
        for item in reader.items(run.may_hurry, sums=run.only_counts, hand_over=hand_over):
            run.take_item(item)
        run.compare(_opener(source, reopen), max_record_bytes)
        if run.spool is not None and issue_sink is not None:
            run.spool.drain(issue_sink)
    finally:
        if run.spool is not None:
            run.spool.close()
        level.close()
        if helper is not None:
            helper.close()
    if file_name is None:
        file_name = Path(source).name if isinstance(source, str | os.PathLike) else ""
    label = tokens_source if count_tokens else ESTIMATE if estimate_tokens else None
    report = run.report(file_name, label, survey)
    report.thresholds = {} if checks == "structure" else msgspec.to_builtins(thresholds)
    return report


HandOver = Callable[[Detection, int, int], Totals]


def _helpers(
    path: Path,
    wanted: int | None,
    max_record_bytes: int,
    max_issues: int | None,
    count_tokens: CountTokens | None,
    on_bytes: Callable[[int], None],
    run: Run,
) -> HandOver | None:
    """What reads the rest of a file side by side; None where one process does."""
    from brightrun.validation.pool import can_fork, usable_cpus
    from brightrun.validation.stretches import workers_for

    if not path.is_file() or not can_fork() or (workers := workers_for(path, wanted, usable_cpus)) == 1:
        return None
    from brightrun.validation.parallel import SideBySide

    helpers = SideBySide(path, workers, max_record_bytes, max_issues, count_tokens, on_bytes)
    return partial(helpers.read_rest, run)


def _helper(
    path: Path, checks: Sequence[ComparingCheck], places: Places, wanted: int | None, on_step: Callable[[], None]
) -> "Helper | None":
    """What compares the records in a process of its own; None where one process does everything."""
    from brightrun.validation.helper import Helper, is_worth_it
    from brightrun.validation.pool import is_alone, usable_cpus

    if not is_alone() or not path.is_file() or (wanted is None and (usable_cpus() == 1 or not is_worth_it(path))):
        return None
    return Helper(path, checks, places, on_step)


def _opener(source: Source, reopen: Callable[[], BinaryIO] | None) -> Callable[[], BinaryIO] | None:
    if isinstance(source, str | os.PathLike):
        return lambda: Path(source).open("rb")
    return reopen
