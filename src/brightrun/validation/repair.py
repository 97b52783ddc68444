"""Mends a training file: a new file in which the chosen findings are gone, and every change named.

One pass, in bounded memory whatever the size. What no finding names is copied byte by byte. Nothing is invented: a
repair removes what nobody reads, writes out what was only spelled wrongly, or corrects a count.
"""

import os
import tempfile
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from brightrun.formats.detect import HEAD_BYTES, Detection
from brightrun.formats.filekinds import other_encoding
from brightrun.formats.lines import MAX_RECORD_BYTES, UTF8_BOM
from brightrun.formats.reader import RecordReader
from brightrun.formats.reading import Reading
from brightrun.formats.record_text import text_at
from brightrun.formats.registry import FORMATS
from brightrun.validation.repair_bytes import BYTE_REPAIRS
from brightrun.validation.repair_counts import correct_counts
from brightrun.validation.repair_encoding import to_utf8
from brightrun.validation.repair_fields import FIELD_REPAIRS
from brightrun.validation.repair_output import Splicer, backward_comma
from brightrun.validation.repair_records import Change, mend, picture
from brightrun.validation.repair_reread import SameRecord, SeenRecords
from brightrun.validation.repair_texts import TEXT_REPAIRS

_OF_THE_FILE = ("wrong_encoding", "byte_order_mark", "crlf_lines", "meta_count_mismatch")
_REMOVED = ("identical_preference", "misplaced_meta")
REMOVED = frozenset((*_REMOVED, "duplicate_record"))
"""Codes whose repair takes the record out."""
MENDABLE = frozenset(
    (
        *(*_OF_THE_FILE, *REMOVED, "history_repeats_input"),
        *(*BYTE_REPAIRS, *FIELD_REPAIRS, *TEXT_REPAIRS),
    )
)
"""Codes that have a repair. Of some only single findings can be mended: their issues say which."""


class Choice(NamedTuple):
    """Which findings to mend. codes: all of these codes. issues: also these, as (code, line, path) of the report. left:
    places in the same form that stay as they are although their code is chosen."""

    codes: Collection[str] = MENDABLE
    issues: Collection[tuple[str, int, str]] = frozenset()
    left: Collection[tuple[str, int, str]] = frozenset()

    @property
    def once(self) -> bool:
        """Whether only single findings are named: then not even what a repair brings to light is mended."""
        return not self.codes

    def takes(self, code: str, line: int, path: str) -> bool:
        """Whether this finding is to be mended."""
        place = (code, line, path)
        return place in self.issues or (code in self.codes and place not in self.left)


EVERYTHING = Choice()


class Repaired(NamedTuple):
    """changes: how many in all; by_code: of each code."""

    changes: int
    by_code: dict[str, int]


def repair(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    choice: Choice = EVERYTHING,
    *,
    format: str = "auto",  # noqa: A002 - the field's word
    max_record_bytes: int = MAX_RECORD_BYTES,
    log: Callable[[Change], None] | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Repaired:
    """Write `source` to `target`, another file, with the chosen findings mended.

    log: gets every change. on_bytes: called with the bytes of the source read so far; what it raises ends the repair.
    Temporary files stand beside the target. Raises UnknownFormatError, OSError.
    """
    work = _Repair(Path(target), choice, format, max_record_bytes, log, on_bytes)
    with ExitStack() as stack:
        work.run(work.decoded(Path(source), stack))
    return Repaired(sum(work.by_code.values()), dict(sorted(work.by_code.items())))


class _Held(NamedTuple):
    """A record that goes if another one stays: a file or a list is never emptied."""

    end: int
    change: Change


class _Repair:
    """One repair under way."""

    def __init__(
        self,
        target: Path,
        choice: Choice,
        format: str,  # noqa: A002
        limit: int,
        log: Callable[[Change], None] | None,
        on_bytes: Callable[[int], None] | None,
    ) -> None:
        self._target, self._choice, self._format, self._limit = target, choice, format, limit
        self._log, self._on_bytes = log, on_bytes
        self.by_code: dict[str, int] = {}
        self._seen = SeenRecords()
        self._raw: BinaryIO
        self._out: Splicer
        self._detection: Detection
        self._container: str | None = None
        self._kept = False
        self._held: _Held | None = None
        self._skip = 0
        self._removed = 0

    def _say(self, change: Change) -> None:
        self.by_code[change.code] = self.by_code.get(change.code, 0) + 1
        if self._log is not None:
            self._log(change)

    # The file as a whole

    def decoded(self, source: Path, stack: ExitStack) -> Path:
        """The file in UTF-8: itself, or a temporary one."""
        with source.open("rb") as stream:
            encoding = other_encoding(stream.read(HEAD_BYTES))
            if encoding is None or not self._choice.takes("wrong_encoding", 1, ""):
                return source
            stream.seek(0)
            out = tempfile.NamedTemporaryFile(dir=self._target.parent, prefix=".repair-")  # noqa: SIM115
            stack.enter_context(out)
            to_utf8(stream, cast(BinaryIO, out))
            out.flush()
        self._say(Change(1, "", "wrong_encoding", encoding, "UTF-8"))
        return Path(out.name)

    def run(self, source: Path) -> None:
        """Read the source once and write the target."""
        reader = RecordReader(source, self._format, max_record_bytes=self._limit, texts=True, on_bytes=self._on_bytes)
        with source.open("rb") as raw, self._target.open("wb") as out:
            self._raw, self._out = raw, Splicer(raw, out)
            for reading in reader.readings():
                assert reader.detection is not None
                self._detection = reader.detection
                if not (reading.is_record or reading.meta is not None):
                    self._about_file(reading)
                elif self._detection.format is not None:
                    self._take(reading)
            self._settle()
            self._out.finish()
            if self._out.line_ends:
                ends = f"{self._out.line_ends:,} line ends"
                self._say(Change(1, "", "crlf_lines", f"{ends}: CRLF", f"{ends}: LF"))
        if self._removed or any(n.number not in counts for n, counts in reader.declared_counts()):
            correct_counts(self._target, reader, self._choice, self._limit, self._say)

    def _about_file(self, reading: Reading) -> None:
        for issue in reading.issues:
            if not self._choice.takes(issue.code, issue.line, issue.path):
                continue
            if issue.code == "byte_order_mark":
                self._out.skip_to(len(UTF8_BOM))
                self._say(Change(1, "", issue.code, "byte order mark (EF BB BF)", ""))
            elif issue.code == "crlf_lines":
                self._out.unix = True

    # The records

    def _take(self, reading: Reading) -> None:
        choice = self._choice
        wanted = any(
            issue.fixable and choice.takes(issue.code, issue.line, issue.path) for issue in reading.issues
        ) or (reading.history_repeats and choice.takes("history_repeats_input", reading.line, ""))
        text = self._text_of(reading) if wanted else None
        mended = None if text is None else mend(text, reading, choice, self._reread(reading))
        final = reading if mended is None else mended.reading
        reason = self._reason_to_remove(final)
        if reason is not None:
            self._remove(reading, *reason)
            return
        if not reading.is_record:
            return
        self._keep(reading, readable=not final.has_failed())
        if mended is not None and text is not None and mended.changes:
            self._out.copy_to(reading.byte_offset)
            self._out.write(mended.text)
            self._out.skip_to(reading.byte_offset + len(text))
            for change in mended.changes:
                self._say(change)

    def _reread(self, reading: Reading) -> SameRecord:
        pairs = self._detection.layout in ("v4_full", "enriched_file")
        assert self._detection.format is not None
        return SameRecord(reading, FORMATS[self._detection.format], self._limit, pairs=pairs)

    def _reason_to_remove(self, reading: Reading) -> tuple[str, str] | None:
        """(code, path) of why the record goes; None when it stays."""
        for issue in reading.issues:
            if issue.code in _REMOVED and self._choice.takes(issue.code, issue.line, issue.path):
                return issue.code, issue.path
        # Always asked, so that every record is remembered.
        if self._seen.has_all(reading.records) and self._choice.takes("duplicate_record", reading.line, reading.path):
            return "duplicate_record", reading.path
        return None

    def _remove(self, reading: Reading, code: str, path: str) -> None:
        found = self._place_of(reading)
        if found is None:
            self._keep(reading, readable=True)
            return
        end, picture = found
        self._enter(reading)
        if not (self._kept or reading.is_record):
            return  # a header that may be all that tells what the file is
        change = Change(reading.line, path, code, picture, "")
        if not self._kept and self._held is None and reading.is_record:
            self._out.copy_to(reading.byte_offset)
            self._held, self._skip = _Held(end, change), end
            return
        if self._held is None:
            self._out.copy_to(self._begin_of(reading))
            self._out.skip_to(end)
        self._skip = end
        self._removed += 1
        self._say(change)

    def _keep(self, reading: Reading, *, readable: bool) -> None:
        """readable: whether something can be learned from it, so that an earlier record may go."""
        self._enter(reading)
        if not readable:
            self._settle()
            return
        self._kept = True
        if self._held is not None:
            # Between entries of a list stand commas: the first one that stays brings none.
            self._out.skip_to(self._skip if self._detection.layout == "lines" else reading.byte_offset)
            self._removed += 1
            self._say(self._held.change)
            self._held = None

    def _enter(self, reading: Reading) -> None:
        """Records of one list, or of the whole file of lines, belong together."""
        container = reading.path.rpartition("[")[0]
        if container != self._container:
            self._settle()
            self._container, self._kept = container, False

    def _settle(self) -> None:
        """Nothing readable follows: the first record stays."""
        if self._held is not None:
            self._out.copy_to(self._held.end)
            self._out.skip_to(self._skip)
            self._held = None

    # Where things stand

    def _text_of(self, reading: Reading) -> bytes | None:
        return text_at(self._raw, reading.byte_offset, self._detection.layout, self._limit)

    def _place_of(self, reading: Reading) -> tuple[int, str] | None:
        """The end of a record, its line end included, and a picture of it."""
        text = self._text_of(reading)
        if text is None:
            return None
        end, shown = reading.byte_offset + len(text), picture(text.decode("utf-8", "replace"))
        if self._detection.layout == "lines":
            self._raw.seek(end)
            end += len(self._raw.readline(2))  # the line end: CRLF or LF, nothing at the end of the file
        return end, shown

    def _begin_of(self, reading: Reading) -> int:
        if self._detection.layout == "lines":
            return reading.byte_offset
        return backward_comma(self._raw, reading.byte_offset)
