"""Physical lines of a binary stream with their offsets, in bounded memory whatever the stream holds."""

from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

BLOCK_BYTES = 1 << 20
MAX_RECORD_BYTES = 16 << 20
UTF8_BOM = b"\xef\xbb\xbf"


class ByteSource:
    """A binary stream that counts what is read from it, lets its beginning be looked at, and reports progress.

    on_bytes is called with the number of bytes read so far after every block; what it raises ends the reading, which
    is how a caller cancels.
    """

    def __init__(self, stream: BinaryIO, on_bytes: Callable[[int], None] | None = None) -> None:
        self._stream = stream
        self._on_bytes = on_bytes
        self._ahead = b""
        self._ends_whole = True
        self.bytes_read = self.line_ends = 0

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
        """Give back the end of the last block; it is read again."""
        self.bytes_read -= len(block)
        self.line_ends -= block.count(b"\n")
        self._ahead = block + self._ahead

    def skip(self, size: int) -> None:
        """Pass over bytes that `peek` has shown."""
        self.bytes_read += len(self._ahead[:size])
        self._ahead = self._ahead[size:]

    def read(self) -> bytes:
        """The next block; empty at the end."""
        block, self._ahead = self._ahead or self._stream.read(BLOCK_BYTES), b""
        if block:
            self.bytes_read += len(block)
            self.line_ends += block.count(b"\n")
            self._ends_whole = block.endswith(b"\n")
        if self._on_bytes is not None:
            self._on_bytes(self.bytes_read)
        return block


class Block(NamedTuple):
    """Whole physical lines.

    first_line: 1-based number of the first. offset: of the first byte of `data`, which ends with a line feed (the last
    block of a file may not). A line above the limit is a block of its own with `data` None and its `length` in bytes.
    """

    first_line: int
    offset: int
    data: bytes | None
    length: int


def iter_blocks(source: ByteSource, max_record_bytes: int = MAX_RECORD_BYTES) -> Iterator[Block]:
    """Blocks of whole lines, about BLOCK_BYTES each. Holds at most one block and one record."""
    offset, held = source.bytes_read, b""
    number = 1  # of the line that `held` begins, or the next block
    while block := source.read():
        end = block.rfind(b"\n") + 1
        if not end:
            held += block
            if len(held) > max_record_bytes + 2:
                length, rest = _skip_line(source, len(held))
                yield Block(number, offset, None, length)
                # What follows in that block may be whole lines, too: put before what comes next.
                number, offset, held = number + 1, offset + length, b""
                source.push_back(rest)
            continue
        data, held = held + block[:end], block[end:]
        yield Block(number, offset, data, len(data))
        number, offset = source.line_ends + 1, offset + len(data)
    if held:
        yield Block(number, offset, held, len(held))


def _skip_line(source: ByteSource, length: int) -> tuple[int, bytes]:
    """Read to the end of a line without keeping it: its length with the line feed, and what follows in the block."""
    while block := source.read():
        end = block.find(b"\n") + 1
        if end:
            return length + end, block[end:]
        length += len(block)
    return length, b""


class Line(NamedTuple):
    """number: 1-based. offset: of its first byte. data: without its line end; None when above the limit. length: of
    the line in bytes, without its line end where it is known."""

    number: int
    offset: int
    data: bytes | None
    length: int


def lines_of(block: Block, max_record_bytes: int = MAX_RECORD_BYTES) -> Iterator[Line]:
    """The lines of a block, blank ones included; a final carriage return belongs to the line end."""
    if block.data is None:
        yield Line(block.first_line, block.offset, None, block.length)
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
