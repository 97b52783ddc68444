"""Which conversations a file holds, in order, with their scaffolding: what a split needs, without the file.

Written beside the list of findings when a file is validated: gzipped JSON Lines, one for each run of records of one
conversation: `[conversation id, persona, arc, topic, line of the first record, records]`.
"""

import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from brightrun.formats.records import Record
from brightrun.validation.checks import Remark


class Conversation(NamedTuple):
    """line: of its first record."""

    id: str
    persona: str | None
    arc: str | None
    topic: str | None
    line: int
    records: int


class ConversationListWriter:
    """Takes note of conversations while a file is read. A record check that never has anything to remark."""

    names: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream = gzip.open(path, "wb", compresslevel=1)  # noqa: SIM115 - closed by close()
        self._encoder = msgspec.json.Encoder()
        self._run: Conversation | None = None
        self._records = 0

    def look(self, record: Record) -> Iterable[Remark]:
        if self._run is not None and self._run.id == record.conversation_id:
            self._records += 1
            return ()
        self._write()
        s = record.scaffold
        names = (None, None, None) if s is None else (s.persona, s.emotional_arc, s.topic)
        self._run, self._records = Conversation(record.conversation_id, *names, record.line, 0), 1
        return ()

    def close(self) -> None:
        """Complete the file."""
        self._write()
        self._run = None
        self._stream.close()

    def _write(self) -> None:
        if self._run is not None:
            fields = self._run._replace(records=self._records)
            try:
                line = self._encoder.encode(fields)
            except UnicodeEncodeError:  # a lone surrogate; such an id cannot be told from others of its kind
                line = self._encoder.encode(fields._replace(id=repr(fields.id)))
            self._stream.write(line + b"\n")


def read_conversations(data: bytes) -> Iterator[Conversation]:
    """Each conversation once, in order of first appearance."""
    decoder = msgspec.json.Decoder(tuple[str, str | None, str | None, str | None, int, int])
    found: dict[str, Conversation] = {}
    for line in gzip.decompress(data).splitlines():
        run = Conversation(*decoder.decode(line))
        before = found.get(run.id)
        found[run.id] = run if before is None else before._replace(records=before.records + run.records)
    yield from found.values()
