"""The complete list of findings as it is stored: JSON Lines in the order of the file, the same as CSV, and an index.

The index answers one page of any filter from a few kilobytes, whatever the size of the list. It is one file of
little-endian 64-bit numbers behind a JSON header:

    8 bytes magic · 8 bytes length of the header · header · offsets of all findings · their lines · offsets by code

The header holds `count`, `size` (bytes of the list), `codes` ({code: how many}, in the order of their offsets) and
`fences` (the line of every 4,096th finding, so that a line is found by reading one block of lines).
"""

import csv
import mmap
import os
import struct
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import NamedTuple

import msgspec
import orjson

from brightrun.formats.issues import Issue

MAGIC = b"BRISSUE1"
FENCE_EVERY = 4096
BUFFER = 1 << 20
CSV_FIELDS = ("line", "byte_offset", "path", "code", "severity", "message", "suggestion", "fixable", "excerpt")
_PRELUDE = struct.Struct("<8sQ")
_ENTRY = struct.Struct("<QQH")  # line, offset, number of the code
_NUMBER = struct.Struct("<Q")
# A cell that begins with one of these is a formula to a spreadsheet; the full-width ones are to some.
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


class Entry(NamedTuple):
    """One finding in the list: its line in the training file, its bytes in the list, the number of its code."""

    line: int
    offset: int
    code: int


class IssueListWriter:
    """Takes findings in the order of the file, and makes the three files of them. Memory does not grow with the list.

    folder: for files of its own, named after `stem`. The caller removes `files` when they are stored.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        self.jsonl, self.csv, self.index = (folder / f"{stem}.{kind}" for kind in ("jsonl", "csv", "index"))
        self._spool = folder / f"{stem}.spool"
        self._encoder = msgspec.json.Encoder()
        self._codes: dict[str, int] = {}
        self._counts: list[int] = []
        self._offset = 0
        self.count = 0

    @property
    def files(self) -> tuple[Path, ...]:
        return self.jsonl, self.csv, self.index, self._spool

    def __enter__(self) -> "IssueListWriter":
        self._list = self.jsonl.open("wb", buffering=BUFFER)
        self._entries = self._spool.open("wb", buffering=BUFFER)
        return self

    def __exit__(self, *_error: object) -> None:
        # What is buffered is written by `finish`; here something else went wrong, or nothing is left.
        for stream in (self._list, self._entries):
            try:
                stream.close()
            except OSError:
                if _error[0] is None:
                    raise

    def write(self, issue: Issue) -> None:
        """Add a finding of the same line as the last, or of a later one."""
        number = self._codes.setdefault(issue.code, len(self._codes))
        if number == len(self._counts):
            self._counts.append(0)
        self._counts[number] += 1
        line = self._encoder.encode(issue) + b"\n"
        self._list.write(line)
        self._entries.write(_ENTRY.pack(issue.line, self._offset, number))
        self._offset += len(line)
        self.count += 1

    def finish(self) -> None:
        """Complete the list, write CSV and index."""
        self._list.close()
        self._entries.close()
        self._write_csv()
        self._write_index()
        self._spool.unlink()

    def _read_entries(self) -> Iterator[Entry]:
        with self._spool.open("rb") as stream:
            while block := stream.read(_ENTRY.size * 4096):
                yield from map(Entry._make, _ENTRY.iter_unpack(block))

    def _write_csv(self) -> None:
        """With a byte order mark, which is how spreadsheets know UTF-8."""
        decoder = msgspec.json.Decoder(Issue)
        with (
            self.jsonl.open("rb") as source,
            TextIOWrapper(self.csv.open("wb", buffering=BUFFER), "utf-8-sig", newline="") as target,
        ):
            table = csv.writer(target)
            table.writerow(CSV_FIELDS)
            for line in source:
                issue = decoder.decode(line)
                table.writerow(
                    (
                        issue.line,
                        issue.byte_offset,
                        as_cell(issue.path),
                        issue.code,
                        issue.severity,
                        as_cell(issue.message),
                        as_cell(issue.suggestion),
                        "yes" if issue.fixable else "no",
                        as_cell(issue.excerpt),
                    )
                )

    def _write_index(self) -> None:
        fences = [entry.line for number, entry in enumerate(self._read_entries()) if number % FENCE_EVERY == 0]
        header = orjson.dumps(
            {
                "count": self.count,
                "size": self._offset,
                "codes": {code: self._counts[number] for code, number in self._codes.items()},
                "fences": fences,
            }
        )
        start = _PRELUDE.size + len(header)
        size = start + 3 * self.count * _NUMBER.size
        with self.index.open("w+b") as stream:
            stream.write(_PRELUDE.pack(MAGIC, len(header)) + header)
            stream.truncate(size)
            # Taken now: a full disk is told here, not by a signal when the map is written.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(stream.fileno(), 0, size)
            stream.flush()
            with mmap.mmap(stream.fileno(), size) as numbers:
                self._scatter(numbers, start)

    def _scatter(self, numbers: mmap.mmap, start: int) -> None:
        put, step = _NUMBER.pack_into, _NUMBER.size
        lines = start + self.count * step
        next_of = list[int]()
        at = lines + self.count * step
        for count in self._counts:
            next_of.append(at)
            at += count * step
        for number, (line, offset, code) in enumerate(self._read_entries()):
            put(numbers, start + number * step, offset)
            put(numbers, lines + number * step, line)
            put(numbers, next_of[code], offset)
            next_of[code] += step


def as_cell(text: str) -> str:
    """A text as a spreadsheet must take it: never as a formula."""
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


ReadRange = Callable[[int, int], bytes]
"""(offset, length) → those bytes of a stored file, fewer at its end."""


class IssueIndex:
    """Reads an index, and through it the list. Raises ValueError for a file that is none."""

    def __init__(self, read_index: ReadRange, read_list: ReadRange) -> None:
        self._read, self._read_list = read_index, read_list
        head = read_index(0, 64 << 10)
        if len(head) < _PRELUDE.size or not head.startswith(MAGIC):
            raise ValueError("not an index of findings")
        _magic, length = _PRELUDE.unpack_from(head)
        end = _PRELUDE.size + length
        if end > len(head):
            head += read_index(len(head), end - len(head))
        header = orjson.loads(head[_PRELUDE.size : end])
        self.count: int = header["count"]
        self.codes: dict[str, int] = header["codes"]
        self._size: int = header["size"]
        self._fences: list[int] = header["fences"]
        self._order = end
        self._lines = end + 8 * self.count
        self._of_code = dict[str, int]()
        at = self._lines + 8 * self.count
        for code, count in self.codes.items():
            self._of_code[code] = at
            at += 8 * count

    def page(
        self,
        codes: Collection[str] | None,
        offset: int,
        limit: int,
        *,
        without: Collection[int] = (),
        beside: Collection[int] = (),
    ) -> list[Issue]:
        """Findings of these codes (None: of all), from the `offset`th, in the order of the file.

        without: offsets in the list of those to leave out; beside: of more, of other codes.
        """
        wanted = [code for code in self._of_code if codes is None or code in codes]
        if without or beside:
            every = self._offsets_of(wanted)
            if without:
                every = [place for place in every if place not in without]
            places = sorted((*every, *beside))[offset : offset + limit]
        elif len(wanted) == len(self._of_code):
            places = self._numbers(self._order, offset, min(limit, self.count - offset))
        elif len(wanted) == 1:
            (code,) = wanted
            places = self._numbers(self._of_code[code], offset, min(limit, self.codes[code] - offset))
        else:
            places = self._offsets_of(wanted)[offset : offset + limit]
        return [issue for _place, issue in self._issues(places)]

    def _offsets_of(self, codes: Iterable[str]) -> list[int]:
        every = list[int]()
        for code in codes:
            every += self._numbers(self._of_code[code], 0, self.codes[code])
        every.sort()  # Every code's are in order already: sorting merges them.
        return every

    def of_line(self, line: int) -> Iterator[tuple[int, Issue]]:
        """Every finding of one line, in order, each with its offset in the list."""
        first = max(bisect_left(self._fences, line) - 1, 0) * FENCE_EVERY
        while first < self.count:
            lines = self._numbers(self._lines, first, min(FENCE_EVERY, self.count - first))
            inside = [number for number, value in enumerate(lines) if value == line]
            if inside:
                yield from self._issues(self._numbers(self._order, first + inside[0], len(inside)))
            if lines[-1] > line:
                return
            first += len(lines)

    def neighbours(self, line: int, codes: Collection[str] | None) -> tuple[int | None, int | None]:
        """The nearest lines before and after this one with findings of these codes (None: of any)."""
        before, after = self._ordinal(line), self._ordinal(line + 1)
        if codes is None:
            return self._line_at(before - 1), self._line_at(after)
        places = self._offsets_of(code for code in self._of_code if code in codes)
        first = self._numbers(self._order, before, min(1, self.count - before)) or [self._size]
        next_ = self._numbers(self._order, after, min(1, self.count - after)) or [self._size]
        below, above = bisect_left(places, first[0]) - 1, bisect_left(places, next_[0])
        found = [
            next((issue.line for _place, issue in self._issues([places[at]])), None) if 0 <= at < len(places) else None
            for at in (below, above)
        ]
        return found[0], found[1]

    def _ordinal(self, line: int) -> int:
        """How many findings stand before a line."""
        first = max(bisect_left(self._fences, line) - 1, 0) * FENCE_EVERY
        while first < self.count:
            lines = self._numbers(self._lines, first, min(FENCE_EVERY, self.count - first))
            if lines[-1] >= line:
                return first + bisect_left(lines, line)
            first += len(lines)
        return self.count

    def _line_at(self, ordinal: int) -> int | None:
        return self._numbers(self._lines, ordinal, 1)[0] if 0 <= ordinal < self.count else None

    def _numbers(self, start: int, first: int, count: int) -> list[int]:
        if count <= 0:
            return []
        data = self._read(start + 8 * first, 8 * count)
        return list(struct.unpack(f"<{count}Q", data))

    def _issues(self, places: list[int]) -> Iterator[tuple[int, Issue]]:
        """Findings that begin at these bytes of the list. Neighbours are read together."""
        decoder = msgspec.json.Decoder(Issue)
        group = list[int]()
        for place in [*places, None]:
            if place is not None and (not group or place - group[-1] < 64 << 10) and len(group) < 4096:
                group.append(place)
                continue
            if group:
                start = group[0]
                data = self._read_list(start, min(group[-1] + (32 << 10), self._size) - start)
                for at in group:
                    yield at, decoder.decode(data[at - start : data.index(b"\n", at - start)])
            group = [] if place is None else [place]
