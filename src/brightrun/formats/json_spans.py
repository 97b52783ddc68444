"""Where each value of a JSON text stands, so that one can be changed and every other byte stays as it was written."""

import json
import re
from collections.abc import Iterable
from typing import NamedTuple

import orjson

_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\],:]|[^\s{}\[\],:"]++', re.DOTALL)
_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")
_OPEN, _CLOSE = b"{[", b"}]"


class Span:
    """A value of the text: `text[start:end]`. begin: where the entry begins, its key included. children: of a list or
    an object, in the order of the text; keys: of an object, key to the child's number (the last of equal keys);
    earlier: the equal keys before it, with their numbers."""

    __slots__ = ("begin", "children", "earlier", "end", "keys", "start")

    def __init__(self, begin: int, start: int, end: int) -> None:
        self.begin, self.start, self.end = begin, start, end
        self.children: list[Span] = []
        self.keys: dict[str, int] = {}
        self.earlier: list[tuple[str, int]] = []

    def child(self, step: str | int) -> "Span | None":
        """The value of a key, or the entry with a number."""
        number = self.keys.get(step) if isinstance(step, str) else step
        return self.children[number] if number is not None and 0 <= number < len(self.children) else None

    def find(self, path: Iterable[str | int]) -> "Span | None":
        """The value at a path below this one."""
        found: Span | None = self
        for step in path:
            if found is None:
                return None
            found = found.child(step)
        return found


class Edit(NamedTuple):
    """Put `data` in the place of `text[start:end]`."""

    start: int
    end: int
    data: bytes = b""


def spans_of(text: bytes) -> Span:
    """The spans of a text that is valid JSON."""
    root: Span | None = None
    stack: list[tuple[Span, bool]] = []
    key: tuple[str, int] | None = None
    for token in _TOKEN.finditer(text):
        start, mark = token.start(), text[token.start()]
        if mark in b",:":
            continue
        if mark in _CLOSE:
            stack.pop()[0].end = token.end()
            continue
        if stack and stack[-1][1] and key is None:
            key = (orjson.loads(token.group()), start)
            continue
        span = Span(start if key is None else key[1], start, token.end())
        if stack:
            parent = stack[-1][0]
            if key is not None:
                if key[0] in parent.keys:
                    parent.earlier.append((key[0], parent.keys[key[0]]))
                parent.keys[key[0]] = len(parent.children)
            parent.children.append(span)
        else:
            root = span
        key = None
        if mark in _OPEN:
            stack.append((span, mark == 0x7B))
    assert root is not None
    return root


def steps_of(path: str) -> list[str | int]:
    """`messages[0].content` as `["messages", 0, "content"]`. Fields of formats have no dots or brackets."""
    return [int(number) if number else key for number, key in _STEP.findall(path)]


def removal(parent: Span, first: int, last: int | None = None) -> Edit:
    """Take out the entries from `first` to `last` (itself alone when None), and the comma that joined them."""
    last = first if last is None else last
    children = parent.children
    if last + 1 < len(children):
        return Edit(children[first].begin, children[last + 1].begin)
    if first:
        return Edit(children[first - 1].end, children[last].end)
    return Edit(children[first].begin, children[last].end)


def apply(text: bytes, edits: Iterable[Edit]) -> bytes:
    """The text with edits that do not overlap."""
    for edit in sorted(edits, reverse=True):
        text = text[: edit.start] + edit.data + text[edit.end :]
    return text


def string_like(old: bytes, value: str) -> bytes:
    """A JSON text in the manner of the one it replaces: with escapes for what is not ASCII where that one has them."""
    if b"\\u" in old and old.isascii() and not value.isascii():
        return json.dumps(value).encode()
    return orjson.dumps(value)
