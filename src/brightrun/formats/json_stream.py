"""Walks one large JSON document value by value, in bounded memory: a JSON array, or the full v4 file.

Only the containers that the caller wants opened are opened; everything below is cut out as bytes and handed over, each
with its path and offset. Depth is counted, not recursed into, so nesting cannot overflow anything.
"""

import re
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import NamedTuple

import orjson

from brightrun.formats.decode import locate_fault
from brightrun.formats.lines import MAX_RECORD_BYTES, ByteSource

Path = tuple[str | int, ...]
END_OF_FILE, ANOTHER_ENTRY = "the end of the file", "another entry after the comma"

_MORE_OF_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|"|[{\[]++|[}\]]++', re.DOTALL)
_SPACE = re.compile(rb"[ \t\r\n]*+")
_SCALAR = re.compile(rb"[^\s,:\]}\[{\"]*+")
_OPEN, _CLOSE, _QUOTE = b"{[", b"}]", 0x22
_MAX_KEY_BYTES = 64 << 10
_KEYS_REMEMBERED = 100  # of an object that is walked into; no format has a tenth of that
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
# How an object begins; and where another list of records does, which may not be passed unawares.
_FENCE = b'"training_pairs"'
_BEGINNING = re.compile(rb'\{(?=[ \t\r\n]*+")|' + _FENCE)
_BEGINNING_BYTES = 256
# Bytes that may be looked at in vain for the next record: these, and once more what was read, so that no file makes the
# walker crawl. A record beyond _SEEK_BYTES is not looked for.
_EFFORT_BYTES, _SEEK_BYTES = 1 << 20, 1 << 20
_CUT_CHARACTER = 8  # a text that was cut anywhere breaks within this many bytes before its end
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
    """The document is broken between values. offset: the byte; expected: what should stand there; found: what does.

    resumed_at: the byte where a later record begins for certain; None when the document could not be followed further.
    """

    def __init__(self, offset: int, line: int, expected: str, found: str) -> None:
        super().__init__(offset, line, expected, found)
        self.offset, self.line, self.expected, self.found = offset, line, expected, found
        self.resumed_at: int | None = None

    def __str__(self) -> str:
        return f"Expected {self.expected} at byte {self.offset} (physical line {self.line}), found {self.found}."


class _Container:
    """A container being walked: where it is, what it is, how many entries were begun, and its first keys."""

    __slots__ = ("entries", "is_object", "keys", "line", "offset", "path")

    def __init__(self, path: Path, offset: int, line: int, *, is_object: bool) -> None:
        self.path, self.offset, self.line, self.is_object, self.entries = path, offset, line, is_object, 0
        self.keys = set[str]()

    @property
    def empty(self) -> bytes:
        """The text of such a container without entries."""
        return b"{}" if self.is_object else b"[]"


def _no_record(_: object) -> int | None:
    return None


class JsonWalker:
    """Iterates over the values of one document.

    opens(path) says whether the container at `path` is walked into; every other value is yielded whole. faults:
    what was wrong between values and could be read over. repeated: paths of fields that an object it walks into holds a
    second time, and the byte of the second value. Raises StructureError where the document cannot be followed.

    resumes(object) says of what list an object is an entry, as the length of that list's path, or None when it is no
    record. With it, what follows a broken record or a broken place is found again: at the next byte where a whole
    object begins that is a record. No text can hold such a beginning, because quotes are escaped there.
    """

    def __init__(
        self,
        source: ByteSource,
        opens: Callable[[Path], bool],
        max_value_bytes: int = MAX_RECORD_BYTES,
        resumes: Callable[[object], int | None] = _no_record,
    ) -> None:
        self._source, self._opens, self._limit, self._resumes = source, opens, max_value_bytes, resumes
        self._buffer, self._position, self._base = b"", 0, source.bytes_read
        self._passed_lines, self._counted = 0, 0
        self._stack: list[_Container] = []
        self._resumed: int | None = None
        self._effort = _EFFORT_BYTES
        self.faults: list[StructureError] = []
        self.repeated: list[tuple[Path, int]] = []

    def __iter__(self) -> Iterator[Value]:
        yield from self._walk()
        if (byte := self._next_byte()) is not None:
            raise self._error(END_OF_FILE, byte)

    def at_end(self) -> bool:
        """Whether nothing but white space is left."""
        return self._next_byte() is None

    def offset_within(self, depth: int) -> int:
        """The first byte of the container that is `depth` containers below the document."""
        return self._stack[depth].offset if depth < len(self._stack) else self._base + self._position

    def _walk(self) -> Iterator[Value]:
        stack = self._stack
        closed: _Container | None = None
        path: Path = ()
        while True:
            try:
                byte = self._next_byte()
                if byte is not None and byte in _OPEN and self._opens(path):
                    stack.append(_Container(path, self._base + self._position, self._line(), is_object=byte == 0x7B))
                    self._position += 1
                else:
                    yield self._capture(path)
                while self._resumed is None and stack and self._closed(stack[-1]):
                    closed = stack.pop()
                    if not closed.entries:
                        length = self._base + self._position - closed.offset
                        yield Value(closed.path, closed.offset, closed.empty, length, closed.line)
                if not stack:
                    if closed is None or (byte := self._next_byte()) is None:
                        return
                    stack.append(closed)  # a bracket too many: entries of the list may follow all the same
                    raise self._error(END_OF_FILE, byte)
                self._resumed = None
                container = stack[-1]
                path = (*container.path, self._key_in(container) if container.is_object else container.entries)
            except StructureError as error:
                if error.found == END_OF_FILE or not stack or not self._seek():
                    raise
                error.resumed_at, self._resumed = self._resumed, None
                self.faults.append(error)
                container = stack[-1]
                path = (*container.path, container.entries)
            container.entries += 1

    def resume(self, broken: Value, fault: int) -> int | None:
        """Where the next record begins within a value that cannot be decoded; None where none does for certain.

        fault: the byte of the value at which decoding stopped. A record that lacks a bracket or a quote swallows those
        after it; with this they are walked after all. To be called before the next value is asked for.
        """
        if self._resumed is None and broken.data is not None:
            end = broken.offset + len(broken.data)
            self._push_back(broken.data)
            self._position += _lost_from(broken.data, fault)
            if not self._seek(end) and self._base <= end:
                self._position = end - self._base
        return self._resumed

    def _seek(self, stop: int | None = None) -> bool:
        """Move to the next record, not beyond the byte `stop`: whether there is one. The containers that it does not
        stand in are left."""
        fenced = False
        while self._effort > 0:
            match = _BEGINNING.search(self._buffer, self._position)
            if match is None:
                self._position = max(self._position, len(self._buffer) - _BEGINNING_BYTES)
                if (stop is not None and self._base + len(self._buffer) >= stop) or not self._refill():
                    return False
                continue
            self._position = match.start()
            start = self._base + self._position
            if stop is not None and start >= stop:
                return False
            if match.group() == _FENCE or self._follows_colon():
                fenced = fenced or match.group() == _FENCE
                self._position = match.end()
                continue
            value = self._capture((), min(self._limit, _SEEK_BYTES), seeking=True)
            decoded = _decoded(value.data)
            found, data = self._place_of(decoded, fenced=fenced), value.data or b""
            if found is not None:
                del self._stack[found + 1 :]
                self._push_back(data)
                self._resumed = start
                return True
            if decoded is None:
                self._effort -= value.length + _BEGINNING_BYTES
                self._push_back(data)
                self._position += 1
            else:
                fenced = fenced or _FENCE in data
        return False

    def _follows_colon(self) -> bool:
        """Whether what begins here is the value of a field, and so no record."""
        before = self._position - 1
        while before >= 0 and self._buffer[before] in b" \t\r\n":
            before -= 1
        return before >= 0 and self._buffer[before] == 0x3A

    def _place_of(self, value: object, *, fenced: bool) -> int | None:
        """Which of the open containers a value found again is an entry of. fenced: another list of records began before
        it, so that only an entry of the outermost list has a certain place."""
        length = None if value is None else self._resumes(value)
        lists = [n for n, container in enumerate(self._stack) if not container.is_object]
        place = next((n for n in lists if len(self._stack[n].path) == length), None)
        return None if place is None or (fenced and place != lists[0]) else place

    def _push_back(self, data: bytes) -> None:
        """Go back to the beginning of `data`, which was just read."""
        self._line()
        self._passed_lines -= data.count(b"\n")
        self._base += self._position - len(data)
        self._buffer = data + self._buffer[self._position :]
        self._position = self._counted = 0

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
            if byte != (_QUOTE if container.is_object else 0x7B):
                raise error
            error.resumed_at = error.offset
            self.faults.append(error)  # a forgotten comma before the next entry: said, and read on
            return False
        self._position += 1
        if self._next_byte() == close:
            error = self._error(ANOTHER_ENTRY, close)
            error.resumed_at = error.offset
            self.faults.append(error)
            self._position += 1
            return True
        return False

    def _key_in(self, container: _Container) -> str:
        key = self._key()
        if key in container.keys:
            self.repeated.append(((*container.path, key), self._base + self._position))
        elif len(container.keys) < _KEYS_REMEMBERED:
            container.keys.add(key)
        return key

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

    def _capture(self, path: Path, limit: int | None = None, *, seeking: bool = False) -> Value:
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
            if held is not None:
                held.append(piece)
                if size > limit and seeking:
                    break
                if size > limit:
                    if (cut := self._cut_open(b"".join(held), start)) is not None:
                        return Value(path, start, cut, len(cut), first_line)
                    held = None
        return Value(path, start, None if held is None else b"".join(held), size, first_line)

    def _cut_open(self, data: bytes, start: int) -> bytes | None:
        """Of a value above the limit: what stands before the next record, where the value is too long only because a
        bracket or a quote is missing in it; the record is what is read next."""
        if self._resumes is _no_record:
            return None
        fault = locate_fault(data).position
        if fault >= len(data) - _CUT_CHARACTER:
            return None  # nothing wrong so far: it is simply long
        begin = _lost_from(data, fault)
        within = JsonWalker(ByteSource(BytesIO(data[begin:])), self._opens, self._limit, self._resumes)
        within._stack, within._effort = self._stack, self._effort
        found = within._seek()
        self._effort = within._effort
        if not found or within._resumed is None:
            return None
        own, self._resumed = data[: begin + within._resumed], start + begin + within._resumed
        self._push_back(data[len(own) :])
        return own

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
            self._position = cut
            yield self._buffer[begin:cut]
            if not self._refill():
                rest, self._position = self._buffer, len(self._buffer)
                yield rest
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
        self._effort += len(block)
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


def _lost_from(data: bytes, fault: int) -> int:
    """From where a broken text may hold a record: from its fault, or from the string whose missing quote made it."""
    start = end = 0
    for string in _STRING.finditer(data, 0, fault):
        start, end = string.span()
    if end and not data[end:fault].strip():
        return start + 1
    opened = data.find(b'"', end, fault)
    return max(1, opened + 1 if opened >= 0 else fault)


def _decoded(data: bytes | None) -> object:
    try:
        return orjson.loads(data) if data else None
    except ValueError:
        return None


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
