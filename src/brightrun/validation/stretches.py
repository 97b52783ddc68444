"""One file read by several processes: where it is cut, and what each part contributes to the whole."""

import os
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from brightrun.formats.issues import Issue
from brightrun.formats.reader import Totals

MIB = 1 << 20
_LEAST, _MOST = 2 * MIB, 16 * MIB
_WORTH_IT = 8 * MIB


class Sums(NamedTuple):
    """What `Statistics` adds up of a part. keys, values: conversations and the turns of each, where these are kept."""

    anonymous: int
    training_pairs: int
    turns: int
    tokens: int
    spoken_tokens: int
    spoken_messages: int
    lengths: "array[int]"
    keys: "array[int]"
    values: "array[int]"


class Found(NamedTuple):
    """The issues of a part: counted, and the first ones of each severity, each with its number among all of the part.
    Lines count from the part's first."""

    by_code: dict[str, int]
    totals: dict[str, int]
    kept: dict[str, list[tuple[int, Issue]]]


class Part(NamedTuple):
    """What one process made of one stretch. list: file with all issues, where somebody wants them."""

    end: int
    totals: Totals
    sums: Sums
    found: Found
    list: str | None


def workers_for(path: Path, wanted: int | None, cpus: Callable[[], int]) -> int:
    """How many processes read a file: as many as wanted, else one a processor where the file is large enough."""
    if wanted is not None:
        return wanted
    return min(cpus(), 16) if path.stat().st_size >= _WORTH_IT else 1


def cut(path: Path, start: int, workers: int) -> list[tuple[int, int]]:
    """The file from byte `start`, where a line begins, in stretches of whole lines.

    There are more stretches than workers, so that none waits long for another.
    """
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        step = max(_LEAST, min(_MOST, (size - start) // (workers * 4) + 1))
        ends = list(_line_ends(stream.fileno(), start, size, step))
    return list(zip([start, *ends[:-1]], ends, strict=True))


def _line_ends(descriptor: int, start: int, size: int, step: int) -> Iterator[int]:
    """Ascending ends of lines, at least `step` apart; the last is the end of the file."""
    position = start + step
    while position < size:
        block = os.pread(descriptor, 1 << 16, position - 1)
        found = block.find(b"\n")
        if not block:
            break
        if found < 0:
            position += len(block)
            continue
        end = position + found
        if end >= size:
            break
        yield end
        position = end + step
    yield size
