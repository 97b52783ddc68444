"""The rest of a large file, read by several processes: the same report as one process makes."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from brightrun.formats.detect import Detection
from brightrun.formats.issues import later
from brightrun.formats.reader import RecordReader, Totals
from brightrun.validation.pool import side_by_side
from brightrun.validation.report import IssueLog
from brightrun.validation.run import Run
from brightrun.validation.spool import IssueFrames, IssueSpool
from brightrun.validation.statistics import CountTokens
from brightrun.validation.stretches import Part, cut


class SideBySide(NamedTuple):
    """How a file is read by several processes. on_bytes: told how far the reading is; what it raises ends it."""

    path: Path
    workers: int
    max_record_bytes: int
    max_issues: int | None
    count_tokens: CountTokens | None
    on_bytes: Callable[[int], None]

    def read_rest(self, run: Run, detection: Detection, start: int, lines_before: int) -> Totals:
        """Read the file from byte `start` on, which follows `lines_before` lines, into a run that has seen those.

        Raises WorkerDiedError, OSError, and what `on_bytes` raises.
        """
        stretches = cut(self.path, start, self.workers)
        if not stretches:
            return Totals(0, start, 0, 0, 0, 0, 0, (1, 0))
        wants_list = run.spool is not None
        with tempfile.TemporaryDirectory(prefix="brightrun-issues-") as folder:

            def work(number: int) -> Part:
                list_file = Path(folder) / str(number) if wants_list else None
                return self._read(detection, *stretches[number], list_file)

            summed = Totals(0, start, 0, 0, 0, 0, 0, (1, 0))
            for part in side_by_side(work, len(stretches), self.workers):
                take_part(run, part, lines_before + summed.lines)
                summed = _sum(summed, part.totals, lines_before)
                self.on_bytes(part.end)
            return summed

    def _read(self, detection: Detection, start: int, end: int, list_file: Path | None) -> Part:
        """In a process of its own."""
        reader = RecordReader(self.path, max_record_bytes=self.max_record_bytes, texts=True)
        spool = None if list_file is None else IssueSpool()
        run = Run(reader, "structure", self.count_tokens, IssueLog(self.max_issues), spool)
        run.begin(detection, shows=False)
        for item in reader.part(detection, start, end, sums=run.only_counts):
            run.take_item(item)
        if spool is not None and list_file is not None:
            with list_file.open("w+b") as stream:
                frames = IssueFrames(stream)
                spool.drain(frames.add)
                frames.flush()
        return Part(
            end, reader.totals, run.statistics.sums, run.log.found, None if list_file is None else str(list_file)
        )


def take_part(run: Run, part: Part, lines_before: int) -> None:
    """Add what another process found in the lines that follow."""
    run.statistics.merge(part.sums)
    run.log.merge(part.found, lines_before)
    if part.list is not None and run.spool is not None:
        list_file = Path(part.list)
        with list_file.open("rb") as stream:
            for issue in IssueFrames(stream):
                run.spool.add(later(issue, lines_before))
        list_file.unlink()


def _sum(before: Totals, part: Totals, lines_before: int) -> Totals:
    first_repeat = before.first_repeat
    if part.history_repeats and not before.history_repeats:
        line, offset = part.first_repeat
        first_repeat = (lines_before + before.lines + line, offset)
    return Totals(
        before.lines + part.lines,
        part.bytes_read,
        before.objects + part.objects,
        before.records + part.records,
        before.errors + part.errors,
        before.null_targets + part.null_targets,
        before.history_repeats + part.history_repeats,
        first_repeat,
    )
