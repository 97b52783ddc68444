"""The complete list of issues as a file: JSON Lines or CSV."""

import csv
from typing import IO, Literal

import msgspec

from brightrun.formats.issues import Issue

Kind = Literal["jsonl", "csv"]
COLUMNS = Issue.__struct_fields__
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def kind_of(name: str) -> Kind:
    """csv for a name that ends so, else jsonl."""
    return "csv" if name.lower().endswith(".csv") else "jsonl"


class IssueWriter:
    """Writes issues into a binary stream. In CSV, a text that a spreadsheet would take for a formula gets a `'` before
    it: excerpts are other people's text."""

    def __init__(self, stream: IO[bytes], kind: Kind) -> None:
        self._stream, self._kind = stream, kind
        self._encoder = msgspec.json.Encoder()
        if kind == "csv":
            self._csv = csv.writer(_Lines(stream))
            self._csv.writerow(COLUMNS)

    def write(self, issue: Issue) -> None:
        """Append one. Raises OSError."""
        if self._kind == "jsonl":
            self._stream.write(self._encoder.encode(issue) + b"\n")
        else:
            self._csv.writerow([_cell(getattr(issue, column)) for column in COLUMNS])


class _Lines:
    """What `csv` writes into, as UTF-8."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(text.encode("utf-8", errors="replace"))


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
