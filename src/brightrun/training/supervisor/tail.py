"""Read what a trainer wrote since the last time: whole lines only, from a byte offset that is kept in the database."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brightrun.logs import get_logger

log = get_logger(__name__)

EVENTS_FILE = "events.jsonl"
_AT_ONCE = 1024 * 1024
_LONGEST_LOG_LINE = 2000
_EVIDENCE_LINES = 30
_EVIDENCE_BYTES = 16 * 1024


@dataclass
class Lines:
    """`lines` with the offset at which each begins; `offset` behind the last of them."""

    lines: list[tuple[int, bytes]]
    offset: int


def read_lines(path: Path, offset: int) -> Lines:
    """At most 1 MiB of whole lines from `offset`. A file that became shorter is read again from its start."""
    try:
        with path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_size < offset:
                offset = 0  # a torn tail was cut off; the numbers in the events say what is known already
            stream.seek(offset)
            block = stream.read(_AT_ONCE)
            # One line longer than all of that: read until its end.
            while b"\n" not in block and (more := stream.read(_AT_ONCE)):
                block += more
    except FileNotFoundError:
        return Lines([], 0)
    whole = block[: block.rfind(b"\n") + 1]
    lines = []
    position = offset
    for line in whole.splitlines(keepends=True):
        lines.append((position, line))
        position += len(line)
    return Lines(lines, position)


def parse_events(lines: list[tuple[int, bytes]], *, after_seq: int, run_dir: Path) -> list[dict[str, Any]]:
    """Events with a number above `after_seq`. A line that is none (torn by a crash) is told of in our log."""
    events = []
    for offset, line in lines:
        try:
            event = json.loads(line)
            seq = int(event["seq"])
        except (ValueError, KeyError, TypeError):
            log.warning("a line of events.jsonl is no event", run_dir=str(run_dir), offset=offset)
            continue
        if seq > after_seq:
            events.append(event)
            after_seq = seq
    return events


def last_event(run_dir: Path) -> dict[str, Any] | None:
    """The last whole event of a run, whoever has read it before."""
    path = run_dir / EVENTS_FILE
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            stream.seek(max(0, size - _AT_ONCE))
            tail = stream.read()
    except FileNotFoundError:
        return None
    for line in reversed(tail.split(b"\n")[:-1]):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("seq"), int):
            return event
    return None


def readable(line: bytes) -> str:
    """A line of a log for people and for PostgreSQL, which cannot store NUL."""
    text = line.decode("utf-8", "replace").rstrip("\r\n").replace("\x00", "\N{REPLACEMENT CHARACTER}")
    return text if len(text) <= _LONGEST_LOG_LINE else text[: _LONGEST_LOG_LINE - 1] + "…"


def log_tail(path: Path) -> str:
    """The last lines of a log, as evidence."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - _EVIDENCE_BYTES))
            lines = stream.read().splitlines()[-_EVIDENCE_LINES:]
    except FileNotFoundError:
        return ""
    return "\n".join(readable(line) for line in lines)
