"""Puts issues into file order when some are only known at the end, in bounded memory."""

import heapq
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import BinaryIO, cast

import msgspec

from brightrun.formats.issues import Issue

_HELD = 20_000
_FRAME = 64


class IssueSpool:
    """Takes issues as they are found and gives them out by line.

    Nearly all come in file order. What comes late (duplicates found by comparing everything, counts that the file
    declares about itself) is sorted in. Beyond `held` issues of either kind they wait in temporary files without a
    name, which are gone when the spool is closed or the process ends.
    """

    def __init__(self, held: int = _HELD) -> None:
        self._held = held
        self._ordered, self._late = list[Issue](), list[Issue]()
        self._ordered_file: _FrameFile | None = None
        self._runs: list[_FrameFile] = []
        self._last_line = 0

    def add(self, issue: Issue) -> None:
        """Take an issue. One for an earlier line than the last is late; within a line the order of adding stays."""
        if issue.line < self._last_line:
            self._late.append(issue)
            if len(self._late) >= self._held:
                self._runs.append(_FrameFile())
                self._runs[-1].write(self._sorted_late())
                self._late = []
            return
        self._last_line = issue.line
        self._ordered.append(issue)
        if len(self._ordered) >= self._held:
            self._ordered_file = self._ordered_file or _FrameFile()
            self._ordered_file.write(self._ordered)
            self._ordered = []

    def drain(self, sink: Callable[[Issue], None]) -> None:
        """Hand every issue on, by line. The spool is empty afterwards."""
        for issue in heapq.merge(self._in_order(), *self._runs, self._sorted_late(), key=lambda issue: issue.line):
            sink(issue)
        self.close()

    def close(self) -> None:
        """Forget everything."""
        for file in (self._ordered_file, *self._runs):
            if file is not None:
                file.close()
        self._ordered, self._late, self._runs, self._ordered_file = [], [], [], None

    def _in_order(self) -> Iterator[Issue]:
        if self._ordered_file is not None:
            yield from self._ordered_file
        yield from self._ordered

    def _sorted_late(self) -> list[Issue]:
        return sorted(self._late, key=lambda issue: issue.line)


class _FrameFile:
    """A temporary file of issues, read back a few at a time. Closed by garbage collection at the latest."""

    def __init__(self) -> None:
        self._file = cast(BinaryIO, tempfile.TemporaryFile(prefix="brightrun-issues-"))  # noqa: SIM115 (outlives this)
        self._encoder, self._decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(list[Issue])

    def write(self, issues: list[Issue]) -> None:
        for start in range(0, len(issues), _FRAME):
            frame = self._encoder.encode(issues[start : start + _FRAME])
            self._file.write(len(frame).to_bytes(4, "big") + frame)

    def __iter__(self) -> Iterator[Issue]:
        self._file.flush()
        position = 0
        while True:
            self._file.seek(position)  # files of several runs are read in turn
            size = int.from_bytes(self._file.read(4), "big")
            if not size:
                return
            yield from self._decoder.decode(self._file.read(size))
            position += 4 + size

    def close(self) -> None:
        with suppress(OSError):  # nothing in it is wanted any more, so a full disk does not matter
            self._file.close()
