"""Where the records of a stored file stand, so that any of them is read without the file before it.

Written beside the list of findings when a file is validated. JSON Lines need only a mark every megabyte: how many lines
ended before which byte. Records inside one JSON document have their offset each, 8 bytes.
"""

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterable

from brightrun.formats.records import Record
from brightrun.validation.checks import Remark

MARK_EVERY = 1 << 20
_LINES, _RECORDS = b"BRLINES1", b"BRRECRD1"


class Places:
    """Takes note of places while a file is read. A record check that never has anything to remark."""

    names: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._line_ends = self._bytes = 0
        self._marks = array("Q", (0, 0))
        self._offsets = array("Q")

    def pass_over(self, block: bytes | memoryview) -> None:
        """The next bytes of the file, however long."""
        self._line_ends += bytes(block).count(b"\n")
        self._bytes += len(block)
        if self._bytes - self._marks[-1] >= MARK_EVERY:
            self._marks.extend((self._line_ends, self._bytes))

    def look(self, record: Record) -> Iterable[Remark]:
        if record.path:
            missing = record.line - len(self._offsets)
            if missing > 0:
                self._offsets.extend([0] * missing)  # of records that could not be read
            self._offsets[record.line - 1] = record.byte_offset
        return ()

    def dump(self) -> bytes:
        """The file that `find` reads."""
        numbers = self._offsets or self._marks
        return (_RECORDS if self._offsets else _LINES) + struct.pack(f"<{len(numbers)}Q", *numbers)


def find(data: bytes, line: int) -> tuple[int, int] | None:
    """(lines to pass over, from this byte) to reach `line`; None where the places do not say.

    data: what `dump` made. ValueError when it is something else.
    """
    kind, body = data[:8], data[8:]
    if kind == _RECORDS:
        offset = struct.unpack_from("<Q", body, 8 * (line - 1))[0] if 8 * line <= len(body) else 0
        return (0, offset) if offset else None
    if kind != _LINES:
        raise ValueError("not a file of places")
    numbers = struct.unpack(f"<{len(body) // 8}Q", body)
    # The last mark before which fewer lines have ended than must: the line begins there or after it.
    mark = bisect_right(numbers[::2], line - 2)
    if mark == 0:
        return line - 1, 0
    # Marks stand inside lines: so many more line ends, then the line begins.
    return line - 1 - numbers[2 * mark - 2], numbers[2 * mark - 1]
