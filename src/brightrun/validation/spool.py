"""Puts issues into file order when some are only known at the end, in bounded memory."""

import heapq
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
        self._ordered_file: IssueFrames | None = None
        self._runs: list[IssueFrames] = []
        self._last_line = 0

    def add(self, issue: Issue) -> None:
        """Take an issue. One for an earlier line than the last is late; within a line the order of adding stays."""
        if issue.line < self._last_line:
            self._late.append(issue)
            if len(self._late) >= self._held * 5:  # each time one more file is open
                self._runs.append(_temporary(self._sorted_late()))
                self._late = []
            return
        self._last_line = issue.line
        self._ordered.append(issue)
        if len(self._ordered) >= self._held:
            self._ordered_file = self._ordered_file or _temporary([])
            self._ordered_file.extend(self._ordered)
            self._ordered = []

    def drain(self, sink: Callable[[Issue], None]) -> None:
        """Hand every issue on, by line. The spool is empty afterwards."""
        if self._ordered_file is not None:
            self._ordered_file.flush()
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


class IssueFrames:
    """Issues in a binary file, written and read back a few at a time."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._held = stream, list[Issue]()
        self._encoder, self._decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(list[Issue])

    def add(self, issue: Issue) -> None:
        """Append one; `flush` when it was the last."""
        self._held.append(issue)
        if len(self._held) >= _FRAME:
            self._write()

    def extend(self, issues: list[Issue]) -> None:
        """Append all of them."""
        for issue in issues:
            self.add(issue)

    def flush(self) -> None:
        """Put what is held into the file, which may then be read."""
        self._write()
        self._stream.flush()

    def _write(self) -> None:
        frame = self._encoder.encode(self._held)
        self._held.clear()
        self._stream.write(len(frame).to_bytes(4, "big") + frame)

    def __iter__(self) -> Iterator[Issue]:
        position = 0
        while True:
            self._stream.seek(position)  # files of several runs are read in turn
            size = int.from_bytes(self._stream.read(4), "big")
            if not size:
                return
            yield from self._decoder.decode(self._stream.read(size))
            position += 4 + size

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # nothing in it is wanted any more, so a full disk does not matter
            self._stream.close()


def _temporary(issues: list[Issue]) -> IssueFrames:
    import tempfile

    frames = IssueFrames(cast(BinaryIO, tempfile.TemporaryFile(prefix="brightrun-issues-")))  # noqa: SIM115 (outlives)
    frames.extend(issues)
    frames.flush()
    return frames
