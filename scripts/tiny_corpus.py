"""The text that BrightRun's tiny model is pre-trained on: conversations written from hand-made sentence grammars.

The grammar files (`assets/tiny/grammar/*.txt`) hold, section by section:

    = name                       a symbol; every following line is one alternative
    = table name: column | …     a table of facts; every following line is one row
    = talk                       conversations, separated by blank lines; lines begin with `S:`, `U:` or `A:`

Inside a line: `[one|two]` chooses, `{symbol}` expands, `{x=symbol}` expands and remembers as `{x}` for the rest of the
conversation, `{table.column}` takes a column of the row that this conversation drew, `{other:table.column}` one of a
second, different row, and `{^…}` begins with a capital letter.

The same seed gives the same bytes on every machine: only `random.Random(seed)` is used, in a fixed order.
"""

import hashlib
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

GRAMMAR = Path(__file__).resolve().parent.parent / "assets" / "tiny" / "grammar"
ROLES = {"S": "system", "U": "user", "A": "assistant"}
CHOICE = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")
SLOT = re.compile(r"\{([^{}]+)\}")

Conversation = list[dict[str, str]]


@dataclass
class Grammar:
    """symbols: name → alternatives. tables: name → rows. talks: one list of (role, line) per conversation pattern."""

    symbols: dict[str, list[str]] = field(default_factory=dict)
    tables: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    talks: list[list[list[tuple[str, str]]]] = field(default_factory=list)

    @classmethod
    def load(cls, folder: Path = GRAMMAR) -> "Grammar":
        """Read every grammar file of a folder, in the order of their names."""
        grammar = cls()
        for path in sorted(folder.glob("*.txt")):
            patterns: list[list[tuple[str, str]]] = []
            for section in re.split(r"^= ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
                grammar._add(section, patterns)
            grammar.talks.append(patterns)
        numbers = range(2, 21)
        grammar.tables["sum"] = [{"a": str(a), "b": str(b), "total": str(a + b)} for a in numbers for b in numbers]
        grammar.tables["product"] = [
            {"a": str(a), "b": str(b), "total": str(a * b)} for a in range(2, 11) for b in range(2, 11)
        ]
        return grammar

    def _add(self, section: str, patterns: list[list[tuple[str, str]]]) -> None:
        header, _, body = section.partition("\n")
        if header == "talk":
            for block in re.split(r"\n\s*\n", body.strip()):
                turns = [line.partition(": ") for line in block.splitlines() if not line.startswith("#")]
                patterns.append([(ROLES[role], text) for role, _, text in turns])
            return
        lines = [line for line in body.splitlines() if line.strip() and not line.startswith("#")]
        if header.startswith("table "):
            name, _, columns = header.removeprefix("table ").partition(": ")
            names = [column.strip() for column in columns.split("|")]
            self.tables[name] = [
                dict(zip(names, (cell.strip() for cell in line.split("|")), strict=True)) for line in lines
            ]
        else:
            self.symbols[header.strip()] = lines


class Writer:
    """Writes one conversation after another; everything that is chosen comes from `rng`."""

    def __init__(self, grammar: Grammar, rng: random.Random) -> None:
        self._grammar = grammar
        self._rng = rng
        self._rows: dict[str, dict[str, str]] = {}
        self._bound: dict[str, str] = {}

    def conversation(self) -> Conversation:
        """One conversation as chat messages. Files are drawn by their number of patterns, tables by row."""
        self._rows, self._bound = {}, {}
        everything = [pattern for patterns in self._grammar.talks for pattern in patterns]
        pattern = self._rng.choice(everything)
        return [{"role": role, "content": _tidy(self._expand(text))} for role, text in pattern]

    def _expand(self, text: str) -> str:
        while (match := CHOICE.search(text)) is not None:
            chosen = self._rng.choice(match[1].split("|"))
            text = text[: match.start()] + chosen + text[match.end() :]
        while (match := SLOT.search(text)) is not None:
            text = text[: match.start()] + self._slot(match[1]) + text[match.end() :]
        return text

    def _slot(self, slot: str) -> str:
        if slot.startswith("^"):
            value = self._slot(slot[1:])
            return value[:1].upper() + value[1:]
        name, equals, source = slot.partition("=")
        if equals:
            self._bound[name] = self._slot(source)
            return self._bound[name]
        if slot in self._bound:
            return self._bound[slot]
        if "." in slot:
            alias, _, rest = slot.rpartition(":")
            table, _, column = rest.partition(".")
            return self._expand(self._row(alias, table)[column])
        return self._expand(self._rng.choice(self._grammar.symbols[slot]))

    def _row(self, alias: str, table: str) -> dict[str, str]:
        key = f"{alias}:{table}"
        if key not in self._rows:
            taken = [row for name, row in self._rows.items() if name.endswith(f":{table}")]
            self._rows[key] = self._rng.choice([row for row in self._grammar.tables[table] if row not in taken])
        return self._rows[key]


def _tidy(text: str) -> str:
    """Sentences begin with a capital letter and are one space apart."""
    text = re.sub(r" +", " ", text).strip()
    return re.sub(r"(^|[.!?] )([a-z])", lambda match: match[1] + match[2].upper(), text)


def conversations(count: int, seed: int) -> Iterator[Conversation]:
    """`count` conversations; the same seed gives the same ones."""
    writer = Writer(Grammar.load(), random.Random(seed))
    for _ in range(count):
        yield writer.conversation()


def corpus_sha256(talks: list[Conversation]) -> str:
    """Hash over the canonical JSON lines of a corpus: what the model card records."""
    digest = hashlib.sha256()
    for talk in talks:
        digest.update(json.dumps(talk, ensure_ascii=False, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()
