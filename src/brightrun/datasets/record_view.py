"""A record as lines of text for a page: its JSON, bounded in size, with the fields that findings speak of marked."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from brightrun.datasets.records import StoredRecord
from brightrun.formats.issues import Issue

MOST_LINES = 400
SHOWN_CHARACTERS = 280
MOST_CHARACTERS = 20_000
_WORTH_FOLDING = 120
_AROUND_BYTES = 1_500
_BREAKS = frozenset({"broken_json", "broken_structure", "invalid_utf8", "lone_surrogate", "nesting_too_deep"})
_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Line:
    """depth: how far in. key: with its quotes, before a colon. text: what is shown; rest: what is folded away; cut: how
    many characters more there are. tail: a comma or nothing. marked: a finding speaks of it."""

    depth: int
    text: str
    key: str | None = None
    rest: str = ""
    cut: int = 0
    tail: str = ""
    marked: bool = False


@dataclass(frozen=True)
class Around:
    """Text around a fault: what stands before it, the character itself, what follows."""

    before: str
    at: str
    after: str


def around(record: StoredRecord, issues: Iterable[Issue]) -> Around | None:
    """Where a record that is no JSON breaks; None when no finding says so."""
    data = record.data or b""
    for issue in issues:
        position = issue.byte_offset - record.byte_offset
        if issue.code in _BREAKS and 0 <= position <= len(data):
            start = max(0, position - _AROUND_BYTES)
            end = position + 1
            while end < len(data) and data[end] & 0xC0 == 0x80:
                end += 1
            pieces = data[start:position], data[position:end], data[end : position + _AROUND_BYTES]
            return Around(*(piece.decode("utf-8", errors="replace") for piece in pieces))
    return None


def lines_of(value: Any, marked: Iterable[Path]) -> tuple[list[Line], bool]:
    """(the first MOST_LINES of the value's JSON, whether that is all)."""
    found: list[Line] = []
    for line in _walk(value, (), 0, frozenset(marked), None, ""):
        if len(found) == MOST_LINES:
            return found, False
        found.append(line)
    return found, True


def place_of(path: str, value: Any) -> Path:
    """Where in the value a finding's path leads; of what is missing, the object that should have it."""
    place: list[str | int] = []
    for number, name in _STEP.findall(path):
        step: str | int = int(number) if number else name
        match value:
            case dict() if step in value:
                value = value[step]
            case list() if isinstance(step, int) and step < len(value):
                value = value[step]
            case _:
                break
        place.append(step)
    return tuple(place)


def _walk(value: Any, place: Path, depth: int, marked: frozenset[Path], key: str | None, tail: str) -> Iterator[Line]:
    here = place in marked
    if isinstance(value, dict | list) and value:
        opens, closes = ("{", "}") if isinstance(value, dict) else ("[", "]")
        yield Line(depth, opens, key, marked=here)
        entries = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
        for number, (step, entry) in enumerate(entries):
            name = _json(step) if isinstance(step, str) else None
            comma = "," if number + 1 < len(entries) else ""
            yield from _walk(entry, (*place, step), depth + 1, marked, name, comma)
        yield Line(depth, closes, tail=tail, marked=here)
        return
    text = _json(value)
    shown = SHOWN_CHARACTERS if len(text) > SHOWN_CHARACTERS + _WORTH_FOLDING else len(text)
    yield Line(depth, text[:shown], key, text[shown:MOST_CHARACTERS], max(0, len(text) - MOST_CHARACTERS), tail, here)


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except (TypeError, ValueError):  # lone surrogates, numbers that orjson does not write
        return repr(value)
