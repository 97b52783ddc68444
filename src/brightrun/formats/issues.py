"""One finding in a training file: where, what, and what to do about it."""

import re
from functools import cache
from typing import Literal

import msgspec

from brightrun.formats.codes import CODES

Severity = Literal["error", "warning", "info"]
EXCERPT_CHARACTERS = 160
MESSAGE_CHARACTERS = 1_000
PATH_CHARACTERS = 400

# A field's name may be a secret or an address, where somebody has used one as a key. No format's names look like that.
_TELLING = re.compile(r"[^.\[\]]{24}|@").search


class Issue(msgspec.Struct, frozen=True):
    """One finding.

    line: 1-based physical line (JSONL), record number (JSON array) or pair number (full v4 file); 1 for the whole file.
    byte_offset: the exact byte for faults of the text itself (broken JSON, wrong encoding), else the record's first.
    path: of the field, with 0-based indices (`turns[2].content`); empty for the whole record.
    severity, suggestion, fixable: from the catalogue, unless the place allows a better suggestion.
    excerpt: at most EXCERPT_CHARACTERS of what was found, on one line. No text holds a NUL or grows with the file, and
      secrets and personal data in message and excerpt are masked.
    """

    line: int
    byte_offset: int
    path: str
    code: str
    severity: Severity
    message: str
    suggestion: str
    fixable: bool
    excerpt: str = ""


def mask(text: str) -> str:
    """The text without secrets and personal data. What finds them is loaded when there is something to report."""
    from brightrun.formats.masking import mask

    return mask(text)


def mask_piece(text: str) -> str:
    """As `mask`, and also what may be a part of a key."""
    from brightrun.formats.masking import mask_piece

    return mask_piece(text)


def make_issue(
    code: str,
    message: str,
    *,
    line: int = 1,
    byte_offset: int = 0,
    path: str = "",
    excerpt: str = "",
    suggestion: str | None = None,
    fixable: bool | None = None,
) -> Issue:
    """An issue with its severity and advice taken from the catalogue. KeyError for a code that is not in it."""
    entry = CODES[code]
    return Issue(
        line=line,
        byte_offset=byte_offset,
        path=storable(mask(path[:PATH_CHARACTERS]) if _TELLING(path) else path[:PATH_CHARACTERS]),
        code=code,
        severity=entry.severity,
        message=storable(mask(message[:MESSAGE_CHARACTERS])),
        suggestion=entry.suggestion if suggestion is None else suggestion,
        fixable=entry.fixable if fixable is None else fixable,
        excerpt=excerpt_of(mask_piece(excerpt[: 3 * EXCERPT_CHARACTERS])),
    )


@cache
def only_counted(code: str) -> Issue:
    """Stands for an issue that nobody will be shown, at line 0: a report counts all, and keeps the first ones."""
    entry = CODES[code]
    return Issue(0, 0, "", code, entry.severity, "", "", False)


def later(issue: Issue, lines: int) -> Issue:
    """The same issue, so many lines further down."""
    return msgspec.structs.replace(issue, line=issue.line + lines)


def storable(text: str) -> str:
    """The text with NUL shown as ␀: databases and C programs take no NUL, and a report goes to both."""
    return text.replace("\x00", "␀")


def excerpt_of(text: str, around: int | None = None) -> str:
    """A short one-line picture of `text`; centred on character `around` where given."""
    start = 0 if around is None else max(0, around - EXCERPT_CHARACTERS // 2)
    piece = text[start : start + EXCERPT_CHARACTERS]
    printable = "".join(c if c.isprintable() else _escape(c) for c in piece)
    before, after = "…" if start else "", "…" if start + len(piece) < len(text) else ""
    return before + printable[: EXCERPT_CHARACTERS - len(before) - len(after)] + after


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
