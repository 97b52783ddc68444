"""Walks one large JSON document value by value, in bounded memory: a JSON array, or the full v4 file.

Only the containers that the caller wants opened are opened; everything below is cut out as bytes and handed over, each
with its path and offset. Depth is counted, not recursed into, so nesting cannot overflow anything.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import orjson

from brightrun.formats.lines import MAX_RECORD_BYTES, ByteSource

Path = tuple[str | int, ...]
END_OF_FILE = "the end of the file"

_MORE_OF_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|"|[{\[]++|[}\]]++', re.DOTALL)
_SPACE = re.compile(rb"[ \t\r\n]*+")
_SCALAR = re.compile(rb"[^\s,:\]}\[{\"]*+")
_OPEN, _CLOSE, _QUOTE = b"{[", b"}]", 0x22
_MAX_KEY_BYTES = 64 << 10
_HEAD_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[{}\[\],]', re.DOTALL)
_MAX_HEAD_DEPTH = 64


class Value(NamedTuple):
    """path: of the value in the document. offset: of its first byte, on physical line `first_line`. data: its text,
    None when above the limit. An opened container without entries is a value, too: `[]` or `{}`."""

    path: Path
    offset: int
    data: bytes | None
    length: int
    first_line: int


class StructureError(Exception):
    """The document is broken between values. offset: the byte; expected: what should stand there; found: what does."""

    def __init__(self, offset: int, line: int, expected: str, found: str) -> None:
        super().__init__(offset, line, expected, found)
        self.offset, self.line, self.expected, self.found = offset, line, expected, found

    def __str__(self) -> str:
        return f"Expected {self.expected} at byte {self.offset} (physical line {self.line}), found {self.found}."


class _Container:
    """A container being walked: where it is, what it is, and how many entries were begun."""

    __slots__ = ("entries", "is_object", "path")

    def __init__(self, path: Path, *, is_object: bool) -> None:
        self.path, self.is_object, self.entries = path, is_object, 0


class JsonWalker:
    """Iterates over the values of one document.

    opens(path) says whether the container at `path` is walked into; every other value is yielded whole. faults:
    what was wrong between values and could be read over. Raises StructureError where the document cannot be followed.
    """

    def __init__(
        self, source: ByteSource, opens: Callable[[Path], bool], max_value_bytes: int = MAX_RECORD_BYTES
    ) -> None:
        self._source, self._opens, self._limit = source, opens, max_value_bytes
        self._buffer, self._position, self._base = b"", 0, source.bytes_read
        self._passed_lines, self._counted = 0, 0
        self.faults: list[StructureError] = []

    def __iter__(self) -> Iterator[Value]:
        yield from self._walk()
        if (byte := self._next_byte()) is not None:
            raise self._error(END_OF_FILE, byte)

    def _walk(self) -> Iterator[Value]:
        stack: list[_Container] = []
        path: Path = ()
        while True:
            byte = self._next_byte()
            if byte is not None and byte in _OPEN and self._opens(path):
                self._position += 1
                stack.append(_Container(path, is_object=byte == 0x7B))
            else:
                yield self._capture(path)
            while stack and self._closed(stack[-1]):
                closed = stack.pop()
                if not closed.entries:
                    empty = b"{}" if closed.is_object else b"[]"
                    yield Value(closed.path, self._base + self._position - 2, empty, 2, self._line())
            if not stack:
                return
            container = stack[-1]
            path = (*container.path, self._key() if container.is_object else container.entries)
            container.entries += 1

    def _closed(self, container: "_Container") -> bool:
        """Pass a comma or a closing bracket; whether the container ended."""
        byte, close = self._next_byte(), 0x7D if container.is_object else 0x5D
        if byte == close:
            self._position += 1
            return True
        if container.entries == 0:
            return False
        if byte != 0x2C:
            error = self._error(f"',' or '{chr(close)}'", byte)
            if byte != 0x7B or container.is_object:
                raise error
            self.faults.append(error)  # a forgotten comma before the next object: said, and read on
            return False
        self._position += 1
        if self._next_byte() == close:
            raise self._error("another entry after the comma", close)
        return False

    def _key(self) -> str:
        byte = self._next_byte()
        if byte != _QUOTE:
            raise self._error("a key in double quotes", byte)
        value = self._capture((), _MAX_KEY_BYTES)
        try:
            key = str(orjson.loads(value.data or b""))
        except ValueError:
            found = "a text that is broken or too long"
            raise StructureError(value.offset, value.first_line, "a key", found) from None
        if (colon := self._next_byte()) != 0x3A:
            raise self._error("':' after the key", colon)
        self._position += 1
        return key

    def _capture(self, path: Path, limit: int | None = None) -> Value:
        """Cut out the value at the current position. Bytes beyond the limit are passed over, not kept."""
        limit = self._limit if limit is None else limit
        byte = self._next_byte()
        if byte is None or byte in b",:]}":
            raise self._error("a value", byte)
        start, first_line = self._base + self._position, self._line()
        held: list[bytes] | None = []
        size = 0
        for piece in self._pieces(byte):
            size += len(piece)
            if size > limit:
                held = None
            if held is not None:
                held.append(piece)
        return Value(path, start, None if held is None else b"".join(held), size, first_line)

    def _pieces(self, first: int) -> Iterator[bytes]:
        """The bytes of the value that begins here, as far as each buffer goes. An unfinished value ends with the file:
        its decoding then fails at the right byte."""
        begin, depth, in_string = self._position, 0, False
        if first not in _OPEN and first != _QUOTE:
            yield from self._scalar()
            return
        while True:
            if in_string:
                self._position = _string_end(self._buffer, self._position)
                if self._position < len(self._buffer) and self._buffer[self._position] == _QUOTE:
                    self._position += 1
                    in_string = False
                    if depth == 0:
                        yield self._buffer[begin : self._position]
                        return
            for token in () if in_string else _TOKEN.finditer(self._buffer, self._position):
                mark, size = self._buffer[token.start()], token.end() - token.start()
                if mark in _OPEN:
                    depth += size
                elif mark in _CLOSE:
                    if size >= depth:  # a run of brackets: the value ends within it
                        self._position = token.start() + depth
                        yield self._buffer[begin : self._position]
                        return
                    depth -= size
                elif size == 1:
                    in_string = True
                    self._position = _string_end(self._buffer, token.end())
                    break
                elif depth == 0:
                    self._position = token.end()
                    yield self._buffer[begin : self._position]
                    return
            # A backslash at the very end escapes the next buffer's first byte: it stays for then.
            cut = self._position if in_string else len(self._buffer)
            yield self._buffer[begin:cut]
            self._position = cut
            if not self._refill():
                yield self._buffer
                self._position = len(self._buffer)
                return
            begin = self._position

    def _scalar(self) -> Iterator[bytes]:
        while True:
            begin = self._position
            self._position = _end(_SCALAR.match(self._buffer, begin))
            yield self._buffer[begin : self._position]
            if self._position < len(self._buffer) or not self._refill():
                return

    def _next_byte(self) -> int | None:
        """The next byte that is not white space, not consumed; None at the end."""
        while True:
            self._position = _end(_SPACE.match(self._buffer, self._position))
            if self._position < len(self._buffer):
                return self._buffer[self._position]
            if not self._refill():
                return None

    def _refill(self) -> bool:
        """Drop what is passed and read on; whether there was more."""
        block = self._source.read()
        self._line()
        self._base += self._position
        self._counted = 0
        self._buffer = self._buffer[self._position :] + block
        self._position = 0
        return bool(block)

    def _line(self) -> int:
        """The physical line of the current position."""
        self._passed_lines += self._buffer.count(b"\n", self._counted, self._position)
        self._counted = self._position
        return self._passed_lines + 1

    def _error(self, expected: str, found: int | None) -> StructureError:
        if found is None:
            return StructureError(self._base + self._position, self._line(), expected, END_OF_FILE)
        piece = self._buffer[self._position : self._position + 20].decode("utf-8", errors="replace")
        return StructureError(self._base + self._position, self._line(), expected, repr(piece))


def _string_end(buffer: bytes, position: int) -> int:
    """Of a string's content from `position`: its closing quote, or as far as the buffer can be read."""
    quote = buffer.find(b'"', position)
    end = len(buffer) if quote < 0 else quote
    if buffer.find(b"\\", position, end) < 0:
        return end
    return _end(_MORE_OF_STRING.match(buffer, position))


def _end(match: re.Match[bytes] | None) -> int:
    assert match is not None  # the patterns match the empty text
    return match.end()


def close_truncated(head: bytes) -> bytes | None:
    """The longest beginning of `head` that becomes whole JSON when its open brackets are closed; None if there is none.

    For looking at the first fields of a record whose end is not at hand.
    """
    closers: list[bytes] = []
    best: tuple[int, bytes] | None = None
    for token in _HEAD_TOKEN.finditer(head):
        mark = token.group()[:1]
        if mark == b",":
            best = token.start(), b"".join(reversed(closers))
            continue
        if mark in (b"{", b"["):
            closers.append(b"}" if mark == b"{" else b"]")
        elif mark in (b"}", b"]"):
            if not closers:
                break
            closers.pop()
        else:
            continue
        best = token.end(), b"".join(reversed(closers))
        if not closers or len(closers) > _MAX_HEAD_DEPTH:
            break
    return head[: best[0]] + best[1] if best else None
