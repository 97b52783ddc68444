"""The one reader of training files: validator, estimator, trainer, preview and export all read through it."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from brightrun.formats.detect import HEAD_BYTES, Detection, detect
from brightrun.formats.documents import Declared, Document
from brightrun.formats.issues import Issue, make_issue
from brightrun.formats.lean import Cleared, clear
from brightrun.formats.lines import MAX_RECORD_BYTES, UTF8_BOM, Block, ByteSource, Stretch, iter_blocks, lines_of
from brightrun.formats.names import format_id
from brightrun.formats.objects import ObjectReader
from brightrun.formats.reading import Reading
from brightrun.formats.records import Record
from brightrun.formats.registry import FORMATS, Format
from brightrun.formats.typed import CleanRun, clean_runs, has_fast_way

Source = str | os.PathLike[str] | BinaryIO
Item = Reading | CleanRun | Cleared
_MAX_FAILED = 4

# What keeps a text from being JSON at all, and so may be why its format cannot be told.
_TEXT_FAULTS = frozenset(
    {"broken_json", "broken_structure", "invalid_utf8", "lone_surrogate", "nesting_too_deep", "record_too_long"}
)


def read_records(
    source: Source,
    format: str = "auto",  # noqa: A002 - the field's word
    *,
    max_record_bytes: int = MAX_RECORD_BYTES,
) -> Iterator[Record | Issue]:
    """Every record of a training file, normalised, and every issue of its structure, in file order.

    source: a path, or a binary stream that stands at the beginning (it is not closed). format: a name of
    `names.FORMAT_IDS` in any spelling, or `auto`. A record with an error yields its issues and no record; a pair
    without a target yields the info `null_target`. Memory is bounded by `max_record_bytes`, not by the file.

    Raises UnknownFormatError at once for a format that does not exist, OSError when the file cannot be read.
    """
    format_id(format)
    return _flatten(RecordReader(source, format, max_record_bytes=max_record_bytes))


def _flatten(reader: "RecordReader") -> Iterator[Record | Issue]:
    for reading in reader.readings():
        yield from reading.issues
        yield from reading.records


class _Patience:
    """Whether a shortcut is worth trying: one that failed is left out for a while, twice as long each time."""

    def __init__(self) -> None:
        self._failed = self._wait = 0

    def is_worth_it(self) -> bool:
        self._wait -= 1
        return self._wait < 0

    def learn(self, succeeded: bool) -> None:
        self._failed = 0 if succeeded else min(self._failed + 1, _MAX_FAILED)
        self._wait = (1 << self._failed) - 2 if self._failed else 0


class Totals(NamedTuple):
    """What a reader counts. first_repeat: line and offset of the first pair in `history_repeats`."""

    lines: int
    bytes_read: int
    objects: int
    records: int
    errors: int
    null_targets: int
    history_repeats: int
    first_repeat: tuple[int, int]


class RecordReader:
    """Reads one file once. When `readings()` is exhausted the counters hold for the whole file.

    detection: what the file is; set when the first reading is there. lines: physical lines. objects: records in the
    sense of the file (good or bad; without blank lines and `_meta`). null_targets: pairs without a target.
    history_repeats: pairs whose history already ended with the current input. texts: also check what the texts hold.
    on_bytes: called with the bytes read so far; what it raises ends the reading. unheard: severities whose issues the
    caller only counts; those of the lines that follow are then not put into words.
    """

    def __init__(
        self,
        source: Source,
        format: str = "auto",  # noqa: A002
        *,
        max_record_bytes: int = MAX_RECORD_BYTES,
        texts: bool = False,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        self._source, self._declared_format, self._on_bytes = source, format, on_bytes
        self._object = ObjectReader(max_record_bytes, texts)
        self.detection: Detection | None = None
        self.lines = self.objects = self.null_targets = self.history_repeats = self.bytes_read = 0
        self.unheard: frozenset[str] = frozenset()
        self._first_repeat = (1, 0)
        self._records = self._errors = self._next_index = 0
        self._header: Declared | None = None
        self._document: Document | None = None
        self._is_part = self._handed_over = False

    def readings(self) -> Iterator[Reading]:
        """One reading an object, and one each for what is said about the file as a whole (`is_record` False)."""
        for item in self.items(lambda: False):
            assert isinstance(item, Reading)
            yield item

    def items(
        self,
        may_hurry: Callable[[], bool],
        *,
        sums: bool = False,
        hand_over: Callable[[Detection, int, int], Totals] | None = None,
    ) -> Iterator[Item]:
        """Readings as above, and where the caller `may_hurry` runs of rows about which there is nothing to say.

        sums: of blocks of such rows only what they amount to is wanted, which is faster still. hand_over: called with
        the detection, the offset of a line's first byte and the number of lines before it, as soon as the caller
        may_hurry; reads the rest of a file of lines by other readers' `part`, and answers their totals.
        """
        with self._open() as stream:
            source = ByteSource(stream, self._on_bytes)
            head = source.peek(HEAD_BYTES + 1)
            complete, head = len(head) <= HEAD_BYTES, head[:HEAD_BYTES]
            self.detection = detection = detect(head, complete=complete, declared=self._declared_format)
            yield from self._tally(_about_file(self._opening(detection, head)))
            if detection.bom:
                source.skip(len(UTF8_BOM))
            if detection.format is not None:
                objects = self._objects(source, detection, FORMATS[detection.format], may_hurry, sums, hand_over)
                yield from self._tally(objects)
            elif any(issue.code == "unknown_format" for issue in detection.issues):
                yield from self._tally(self._first_fault(source, detection))
            if not self._handed_over:
                while source.read():
                    pass  # what could not be looked at still counts as lines and bytes; why it was not is said above
                self.lines, self.bytes_read = source.lines, source.bytes_read
            yield from self._tally(_about_file(self._closing(detection)))

    def part(self, detection: Detection, start: int, end: int, *, sums: bool = False) -> Iterator[Item]:
        """What stands between two bytes of a file of lines, of which other readers read the rest.

        start: of a line. Offsets are the file's; lines and records are counted from the part's own first.
        """
        assert detection.format is not None
        self.detection, self._is_part = detection, True
        with self._open() as stream:
            stream.seek(start)
            source = ByteSource(cast(BinaryIO, Stretch(stream, end - start)), self._on_bytes, begin=start)
            entry = FORMATS[detection.format]
            yield from self._tally(self._objects(source, detection, entry, lambda: True, sums))
            self.lines, self.bytes_read = source.lines, source.bytes_read

    @property
    def totals(self) -> Totals:
        """All that was counted."""
        return Totals(
            self.lines,
            self.bytes_read,
            self.objects,
            self._records,
            self._errors,
            self.null_targets,
            self.history_repeats,
            self._first_repeat,
        )

    def _add(self, lines_before: int, rest: Totals) -> None:
        """Take over what others have counted of the rest of the file."""
        self.lines, self.bytes_read = lines_before + rest.lines, rest.bytes_read
        self.objects += rest.objects
        self._records += rest.records
        self._errors += rest.errors
        self.null_targets += rest.null_targets
        if rest.history_repeats and not self.history_repeats:
            self._first_repeat = rest.first_repeat
        self.history_repeats += rest.history_repeats

    def _open(self) -> AbstractContextManager[BinaryIO]:
        if isinstance(self._source, str | os.PathLike):
            return cast(BinaryIO, Path(self._source).open("rb", buffering=0))  # blocks are read whole anyway
        return nullcontext(self._source)

    def _tally(self, items: Iterable[Item]) -> Iterator[Item]:
        for reading in items:
            if isinstance(reading, CleanRun | Cleared):
                if isinstance(reading, CleanRun):
                    self._tally_run(reading)
                yield reading
                continue
            if reading.is_record:
                self.objects += 1
            elif reading.meta is not None:
                self._take_header(reading)
            self._errors += reading.errors
            self._records += len(reading.records)
            if reading.records:
                self._next_index = reading.records[-1].index + 1
            self.null_targets += len(reading.null_targets)
            if reading.history_repeats:
                if not self.history_repeats:
                    self._first_repeat = (reading.line, reading.byte_offset)
                self.history_repeats += reading.history_repeats
            yield reading

    def _tally_run(self, run: CleanRun) -> None:
        run.first_index = max(self.objects, self._next_index)
        self._tally_rows(len(run.rows))
        if run.repeats and not self.history_repeats:
            first = run.repeats[0]
            self._first_repeat = (run.first_line + first, run.offset_of(first))
        self.history_repeats += len(run.repeats)

    def _tally_cleared(self, cleared: Cleared, block: Block) -> None:
        self._tally_rows(cleared.rows)
        if cleared.first_repeat is not None and not self.history_repeats:
            line = next(islice(lines_of(block), cleared.first_repeat, None))
            self._first_repeat = (line.number, line.offset)
        self.history_repeats += cleared.repeats

    def _tally_rows(self, rows: int) -> None:
        self._next_index = max(self.objects, self._next_index) + rows
        self.objects += rows
        self._records += rows

    def _take_header(self, reading: Reading) -> None:
        if self.objects or self._is_part:
            reading.report("misplaced_meta", "_meta", "A `_meta` line stands after the first record; it is skipped.")
            return
        if self._header is not None:
            reading.report("misplaced_meta", "_meta", "A second `_meta` line stands before the records; it is skipped.")
            return
        total = reading.meta.get("total_pairs") if isinstance(reading.meta, dict) else None
        if isinstance(total, int) and not isinstance(total, bool):
            self._header = Declared(reading.line, reading.byte_offset, "_meta.total_pairs", total)

    # The objects

    def _objects(
        self,
        source: ByteSource,
        detection: Detection,
        entry: Format,
        may_hurry: Callable[[], bool],
        sums: bool,
        hand_over: Callable[[Detection, int, int], Totals] | None = None,
    ) -> Iterator[Item]:
        if detection.layout != "lines":
            self._document = Document(source, detection.layout, entry, self._object)
            yield from self._document.readings()
            return
        limit = self._object.limit
        lean, typed = _Patience(), _Patience()
        for block in iter_blocks(source, limit):
            if hand_over is not None and entry.id != "enriched_conversation" and may_hurry():
                self._handed_over = True
                self._add(source.line_ends, hand_over(detection, block.offset, source.line_ends))
                return
            hurry = has_fast_way(entry.id) and may_hurry()
            if hurry and sums and block.length <= limit and lean.is_worth_it():
                cleared = clear(block, entry.id)
                lean.learn(cleared is not None)
                if cleared is not None:
                    self._tally_cleared(cleared, block)
                    yield cleared
                    continue
            hurry = hurry and typed.is_worth_it()
            clean = other = 0
            for item in clean_runs(block, entry.id, limit) if hurry else lines_of(block, limit):
                if isinstance(item, CleanRun):
                    clean += len(item.rows)
                    yield item
                elif item.data is None or item.data.strip():
                    other += 1
                    reading = Reading(item.number, item.offset, "", max(self.objects, self._next_index))
                    reading.unheard = self.unheard
                    yield self._object.read(reading, item.data, item.length, entry)
            if hurry:
                typed.learn(clean >= other)

    def _first_fault(self, source: ByteSource, detection: Detection) -> Iterator[Reading]:
        """Of a file whose format is not known: why its first record is no JSON, where that is the reason."""
        for reading in self._objects(source, detection, FORMATS["openai_messages"], lambda: False, False):
            assert isinstance(reading, Reading)
            reading.issues = [issue for issue in reading.issues if issue.code in _TEXT_FAULTS]
            reading.records = []
            yield reading
            return

    # What is said about the file as a whole

    def _opening(self, detection: Detection, head: bytes) -> list[Issue]:
        issues = list(detection.issues)
        if detection.bom:
            issues.append(make_issue("byte_order_mark", "The file begins with a byte order mark, which is skipped."))
        if b"\r\n" in head and detection.format is not None:
            issues.append(make_issue("crlf_lines", "Lines end in CRLF, as Windows writes them."))
        return issues

    def _closing(self, detection: Detection) -> list[Issue]:
        issues = [
            _wrong_count(declared, actual)
            for declared, actual in self.declared_counts()
            if declared.number not in actual
        ]
        if self.history_repeats:
            line, offset = self._first_repeat
            message = (
                f"In {self.history_repeats:,} pairs the history already ends with the current input; it is read once."
            )
            issues.append(make_issue("history_repeats_input", message, line=line, byte_offset=offset))
        if detection.format is not None and not self._errors and not self._records:
            if self.objects:
                message = f"{self.objects:,} records were read, and none has an answer: all targets are null."
                issues.append(make_issue("nothing_to_train", message))
            else:
                issues.append(make_issue("no_records", "The file can be read but holds no record."))
        return issues

    def declared_counts(self) -> list[tuple[Declared, tuple[int, ...]]]:
        """What the file declares about itself, each with the numbers that would be true."""
        counts: list[tuple[Declared, tuple[int, ...]]] = []
        if self._header is not None:
            counts.append((self._header, (self.objects,)))
        for declared in self._document.declared if self._document else []:
            document = self._document
            assert document is not None
            match declared.path.rpartition(".")[2]:
                case "total_conversations":
                    counts.append((declared, (document.conversations,)))
                case _:  # writers disagree on whether user turns, which have no target, are pairs
                    counts.append((declared, (document.pairs, document.with_target)))
        return counts


def _wrong_count(declared: Declared, actual: tuple[int, ...]) -> Issue:
    return make_issue(
        "meta_count_mismatch",
        f"`{declared.path}` says {declared.number:,}, but the file holds {actual[0]:,}.",
        line=declared.line,
        byte_offset=declared.byte_offset,
        path=declared.path,
    )


def _about_file(issues: list[Issue]) -> Iterator[Reading]:
    if issues:
        reading = Reading(1, 0, "", 0)
        reading.is_record = False
        reading.issues = issues
        reading.errors = sum(issue.severity == "error" for issue in issues)
        yield reading
