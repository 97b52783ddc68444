"""What a file covers: how many conversations for each persona, emotional arc and topic, and where there are none.

The numbers come from what the records say about themselves (`Record.scaffold`); a file without such metadata has no
coverage, which is not a fault.
"""

from collections.abc import Iterable
from typing import Any

from brightrun.formats.issues import storable
from brightrun.formats.records import Record
from brightrun.validation.checks import Remark
from brightrun.validation.seen import SeenMap

MOST_NAMES = 100
"""Personas, and arcs, counted by name. What comes beyond is counted together."""
MOST_TOPICS = 500
_NAME_CHARACTERS = 200


class Survey:
    """Sees every record, remarks nothing. Keeps 24 to 48 bytes a conversation, and a bounded list of names."""

    names: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._seen = SeenMap()
        self._last: str | None = None
        self._grid: dict[tuple[str | None, str | None], int] = {}
        self._topics: dict[str | None, int] = {}
        self._personas: dict[str, None] = {}
        self._arcs: dict[str, None] = {}
        self._beyond = {"persona": 0, "arc": 0, "topic": 0}
        self._conversations = 0
        self._scored, self._score = 0, 0.0

    def look(self, record: Record) -> Iterable[Remark]:
        scaffold = record.scaffold
        if scaffold is not None and scaffold.quality_score is not None:
            self._scored += 1
            self._score += scaffold.quality_score
        # Records of one conversation stand together as a rule: most need no look at the map.
        if record.conversation_id != self._last:
            self._last = record.conversation_id
            key = hash(record.conversation_id)
            if self._seen.get(key) is None:
                self._seen.put(key, 1)
                self._count(
                    scaffold.persona if scaffold else None,
                    scaffold.emotional_arc if scaffold else None,
                    scaffold.topic if scaffold else None,
                )
        return ()

    def _count(self, persona: str | None, arc: str | None, topic: str | None) -> None:
        self._conversations += 1
        cell = self._known(persona, self._personas, "persona"), self._known(arc, self._arcs, "arc")
        self._grid[cell] = self._grid.get(cell, 0) + 1
        topic = _short(topic)
        if topic in self._topics or len(self._topics) < MOST_TOPICS:
            self._topics[topic] = self._topics.get(topic, 0) + 1
        else:
            self._beyond["topic"] += 1

    def _known(self, name: str | None, names: dict[str, None], kind: str) -> str | None:
        name = _short(name)
        if name is None or name in names:
            return name
        if len(names) >= MOST_NAMES:
            self._beyond[kind] += 1
            return None
        names[name] = None
        return name

    @property
    def quality(self) -> tuple[float | None, int]:
        """(mean of the records' own quality scores, how many have one)."""
        return (round(self._score / self._scored, 2) if self._scored else None), self._scored

    def coverage(self) -> dict[str, Any] | None:
        """`{conversations, personas, arcs, grid, empty, topics, without, beyond}`; None when no record says anything.

        personas, arcs: `[{name, conversations}]`, most first. grid: `[{persona, arc, conversations}]`, every pair of
        names, those without a conversation too; empty: how many these are. topics: as personas. without: conversations
        that name no persona, arc, topic. beyond: of names that came after the first MOST_NAMES (topics MOST_TOPICS),
        which are counted together only.
        """
        topics = {name: count for name, count in self._topics.items() if name is not None}
        if not (self._personas or self._arcs or topics):
            return None
        personas, arcs = (self._sums(side, names) for side, names in ((0, self._personas), (1, self._arcs)))
        grid = [
            {
                "persona": persona["name"],
                "arc": arc["name"],
                "conversations": self._grid.get((persona["name"], arc["name"]), 0),
            }
            for persona in personas
            for arc in arcs
        ]
        return {
            "conversations": self._conversations,
            "personas": personas,
            "arcs": arcs,
            "grid": grid,
            "empty": sum(not cell["conversations"] for cell in grid),
            "topics": _most_first(topics),
            "without": {
                "persona": sum(n for (name, _), n in self._grid.items() if name is None) - self._beyond["persona"],
                "arc": sum(n for (_, name), n in self._grid.items() if name is None) - self._beyond["arc"],
                "topic": self._topics.get(None, 0),
            },
            "beyond": dict(self._beyond),
        }

    def _sums(self, side: int, names: dict[str, None]) -> list[dict[str, Any]]:
        sums = dict.fromkeys(names, 0)
        for cell, count in self._grid.items():
            name = cell[side]
            if name is not None:
                sums[name] += count
        return _most_first(sums)


def _most_first(counts: dict[str, int]) -> list[dict[str, Any]]:
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return [{"name": name, "conversations": count} for name, count in ordered]


def _short(name: str | None) -> str | None:
    return storable(name.strip()[:_NAME_CHARACTERS]) or None if name else None
