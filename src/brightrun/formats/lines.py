"""Physical lines of a binary stream with their offsets, in bounded memory whatever the stream holds."""

import io
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

# Small enough for a block and what is made of it to stay in the processor's cache, and for `malloc` to take it from
# memory at hand instead of asking the system for pages: 128 KiB is a fifth slower, 1 MiB a half (measured).
BLOCK_BYTES = 64 << 10
MAX_RECORD_BYTES = 16 << 20
UTF8_BOM = b"\xef\xbb\xbf"


class ByteSource:
    """A binary stream that counts what is read from it, lets its beginning be looked at, and reports progress.

    on_bytes is called with the number of bytes read so far after every block; what it raises ends the reading, which
    is how a caller cancels. begin: where the stream stands in the file, if not at its first byte.
    """

    def __init__(self, stream: BinaryIO, on_bytes: Callable[[int], None] | None = None, *, begin: int = 0) -> None:
        self._stream = stream
        self._on_bytes = on_bytes
        self._ahead = b""
        self._ends_whole = True
        self.bytes_read, self.line_ends = begin, 0

    @property
    def lines(self) -> int:
        """Physical lines read so far; the last counts without a line feed, too."""
        return self.line_ends + (not self._ends_whole)

    def peek(self, size: int) -> bytes:
        """The first bytes not yet read, `size` of them or all that are left. They are read again afterwards."""
        while len(self._ahead) < size:
            block = self._stream.read(size - len(self._ahead))
            if not block:
                break
            self._ahead += block
        return self._ahead[:size]

    def push_back(self, block: bytes) -> None:
        """Give back the end of the last block, whose line ends were not counted; it is read again."""
        self.bytes_read -= len(block)
        self._ahead = block + self._ahead

    def skip(self, size: int) -> None:
        """Pass over bytes that `peek` has shown."""
        self.bytes_read += len(self._ahead[:size])
        self._ahead = self._ahead[size:]

    def read(self, *, count: bool = True) -> bytes:
        """The next block; empty at the end. count: False where the caller adds to `line_ends` what it finds."""
        if self._ahead:
            block, self._ahead = self._ahead[:BLOCK_BYTES], self._ahead[BLOCK_BYTES:]
        else:
            block = self._stream.read(BLOCK_BYTES)
        if block:
            self.bytes_read += len(block)
            if count:
                self.line_ends += block.count(b"\n")
            self._ends_whole = block.endswith(b"\n")
        if self._on_bytes is not None:
            self._on_bytes(self.bytes_read)
        return block


class Stretch(io.RawIOBase):
    """The next `size` bytes of a stream as a stream of their own."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._left = stream, size

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; empty at the stretch's end."""
        data = self._stream.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data


class Block:
    """Whole physical lines.

    first_line: 1-based number of the first. offset: of the first byte of `data`, which ends with a line feed (the last
    block of a file may not). A line above the limit is a block of its own with `data` None and its `length` in bytes.
    end_bytes: of the line end of such a line, which the length includes. line_ends: line feeds in `data`; who finds
    their number by the way says so, else they are counted.
    """

    __slots__ = ("_line_ends", "data", "end_bytes", "first_line", "length", "offset")

    def __init__(self, first_line: int, offset: int, data: bytes | None, length: int) -> None:
        self.first_line, self.offset, self.data, self.length = first_line, offset, data, length
        self._line_ends: int | None = 1 if data is None else None
        self.end_bytes = 0

    @property
    def line_ends(self) -> int:
        """Line feeds in the block."""
        if self._line_ends is None:
            self._line_ends = (self.data or b"").count(b"\n")
        return self._line_ends

    @line_ends.setter
    def line_ends(self, number: int) -> None:
        self._line_ends = number


def iter_blocks(source: ByteSource, max_record_bytes: int = MAX_RECORD_BYTES) -> Iterator[Block]:
    """Blocks of whole lines, about BLOCK_BYTES each. Holds at most one block and one record."""
    offset, held, size = source.bytes_read, list[bytes](), 0
    while block := source.read(count=False):
        end = block.rfind(b"\n") + 1
        if end:
            whole = Block(source.line_ends + 1, offset, b"".join((*held, memoryview(block)[:end])), size + end)
            held, size = [block[end:]] if end < len(block) else [], len(block) - end
        else:
            held.append(block)
            size += len(block)
            if size <= max_record_bytes + 2:
                continue
            held.clear()
            size, ended, rest = _skip_line(source, size, block[-1:])
            whole = Block(source.line_ends + 1, offset, None, size)
            whole.line_ends, whole.end_bytes = int(ended > 0), ended
            source.push_back(rest)
            size = 0
        try:
            yield whole
        finally:  # also for who looks at the first lines only
            source.line_ends += whole.line_ends
        offset += whole.length
    if held:
        yield Block(source.line_ends + 1, offset, b"".join(held), size)


def _skip_line(source: ByteSource, length: int, last: bytes) -> tuple[int, int, bytes]:
    """Read to the end of a line without keeping it: its length with the line end, the bytes of that (0 where the file
    ends without one), and what follows in the block. last: byte before."""
    while block := source.read(count=False):
        end = block.find(b"\n") + 1
        if end:
            before = block[end - 2 : end - 1] or last
            return length + end, 2 if before == b"\r" else 1, block[end:]
        length += len(block)
        last = block[-1:]
    return length, 0, b""


class Line(NamedTuple):
    """number: 1-based. offset: of its first byte. data: without its line end; None when above the limit. length: of
    the line in bytes, without its line end."""

    number: int
    offset: int
    data: bytes | None
    length: int


def lines_of(block: Block, max_record_bytes: int = MAX_RECORD_BYTES) -> Iterator[Line]:
    """The lines of a block, blank ones included; a final carriage return belongs to the line end."""
    if block.data is None:
        yield Line(block.first_line, block.offset, None, block.length - block.end_bytes)
        return
    number, offset = block.first_line, block.offset
    pieces = block.data.split(b"\n")
    if not pieces[-1]:
        pieces.pop()
    for piece in pieces:
        size = len(piece)
        data = piece[:-1] if piece.endswith(b"\r") else piece
        yield Line(number, offset, data if len(data) <= max_record_bytes else None, len(data))
        number, offset = number + 1, offset + size + 1


def iter_lines(source: ByteSource, max_record_bytes: int = MAX_RECORD_BYTES) -> Iterator[Line]:
    """Every physical line of the stream."""
    for block in iter_blocks(source, max_record_bytes):
        yield from lines_of(block, max_record_bytes)
