"""Writes a file anew with some places changed: what lies between them is copied byte by byte."""

import re
from typing import BinaryIO

_BLOCK = 1 << 20
_LINE_END = re.compile(rb"\r+\n")


class Splicer:
    """Copies `source` to `out` up to where it is told, so that pieces can be left out or written differently.

    Both are binary streams; the source can seek. unix: also turn every CRLF line end into a line feed; `line_ends`
    counts them.
    """

    def __init__(self, source: BinaryIO, out: BinaryIO, *, unix: bool = False) -> None:
        self._source, self._out, self.unix = source, out, unix
        self._held = b""
        self.position = self.line_ends = 0

    def copy_to(self, end: int) -> None:
        """Copy what was not copied yet, up to this offset of the source."""
        self._source.seek(self.position)
        while self.position < end:
            block = self._source.read(min(_BLOCK, end - self.position))
            if not block:
                break
            self.position += len(block)
            self.write(block)

    def skip_to(self, end: int) -> None:
        """Leave out what was not copied yet, up to this offset."""
        self.position = max(self.position, end)

    def write(self, data: bytes) -> None:
        """Write bytes of one's own."""
        if self.unix:
            data = self._held + data
            kept = len(data) - len(data.rstrip(b"\r"))  # may be the first half of a line end
            self._held = data[len(data) - kept :]
            data, found = _LINE_END.subn(b"\n", data[: len(data) - kept])
            self.line_ends += found
        self._out.write(data)

    def finish(self) -> None:
        """Copy the rest of the source."""
        while True:
            self._source.seek(self.position)
            block = self._source.read(_BLOCK)
            if not block:
                break
            self.position += len(block)
            self.write(block)
        self._out.write(self._held)
        self._held = b""


def backward_comma(source: BinaryIO, start: int) -> int:
    """Where the comma before the value at `start` stands; `start` itself when none does."""
    begin = max(0, start - _BLOCK)
    source.seek(begin)
    before = source.read(start - begin).rstrip()
    return begin + len(before) - 1 if before.endswith(b",") else start
