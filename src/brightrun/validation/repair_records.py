"""Mends one record: its JSON text in, the text with the chosen findings mended out, each change with before and after.

Only what a finding names is changed. Every other byte stays: unknown fields, order of keys, spelling of numbers.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import msgspec

from brightrun.formats.decode import decode
from brightrun.formats.issues import EXCERPT_CHARACTERS, Issue, excerpt_of
from brightrun.formats.json_spans import Edit, apply, spans_of, steps_of, string_like
from brightrun.formats.masking import masked_part
from brightrun.formats.reading import Reading, join_path
from brightrun.validation.repair_bytes import BYTE_REPAIRS
from brightrun.validation.repair_fields import FIELD_REPAIRS, Found, history_repeats
from brightrun.validation.repair_texts import TEXT_REPAIRS

# Taking a message out can bring another finding to light, and mending bytes brings all of them; real files need two.
_MOST_ROUNDS = 10
_CONTEXT = 24


class Change(msgspec.Struct, frozen=True):
    """One change of a file.

    line, path, code: of the finding that it mends, in the file as it was. before, after: a short one-line picture of
    the place, each at most EXCERPT_CHARACTERS; `after` is empty where something was taken out.
    """

    line: int
    path: str
    code: str
    before: str
    after: str


class Chooses(Protocol):
    """Which findings are to be mended. once: those that were named, and nothing that their repair brings to light."""

    @property
    def once(self) -> bool: ...

    def takes(self, code: str, line: int, path: str) -> bool:
        """Whether this one is."""
        ...


class Mended(NamedTuple):
    """text: of the record, mended as far as was asked. changes: one a finding. reading: of the mended text."""

    text: bytes
    changes: list[Change]
    reading: Reading


class _Step(NamedTuple):
    code: str
    path: str
    edits: list[Edit]
    before: str
    after: str


def mend(text: bytes, reading: Reading, chosen: Chooses, reread: Callable[[bytes], Reading]) -> Mended:
    """Mend the record of a reading. text: of its bytes. reread: reads a text as this record again.

    A repair that would make the record worse (a text with nothing but control characters would become blank) is not
    made; its finding stays.
    """
    changes: list[Change] = []
    refused: set[tuple[str, str]] = set()
    for _ in range(_MOST_ROUNDS):
        steps = [step for step in _steps(text, reading, chosen) if (step.code, step.path) not in refused]
        if not steps:
            break
        at_once, alone = _apart(steps), _one_by_one(steps)
        for together in (at_once, *alone):
            mended = apply(text, dict.fromkeys(edit for step in together for edit in step.edits))
            after = reread(mended)
            if _is_better(after, reading):
                changes += [Change(reading.line, step.path, step.code, step.before, step.after) for step in together]
                text, reading = mended, after
                break
            if together is not at_once or not alone:
                refused.update((step.code, step.path) for step in together)
        if chosen.once and len(at_once) == len(steps):
            break  # a path could by now mean another place
    return Mended(text, changes, reading)


def _is_better(after: Reading, before: Reading) -> bool:
    """Of a broken record nothing else was known: what comes to light was there. It must belong to the file, though."""
    if before.broken:
        return not any(issue.code == "mixed_formats" for issue in after.issues)
    return after.errors <= before.errors


def _one_by_one(steps: list[_Step]) -> list[list[_Step]]:
    """Steps that are one edit stay together."""
    groups: dict[tuple[Edit, ...], list[_Step]] = {}
    for step in steps:
        groups.setdefault(tuple(step.edits), []).append(step)
    return list(groups.values()) if len(groups) > 1 else []


def _apart(steps: Iterable[_Step]) -> list[_Step]:
    """As many as do not touch one another; the others have their turn in the next round."""
    taken: list[_Step] = []
    for step in steps:
        if not any(
            edit.start < other.end and other.start < edit.end
            for edit in step.edits
            for earlier in taken
            for other in earlier.edits
            if edit != other
        ):
            taken.append(step)
    return taken


def _steps(text: bytes, reading: Reading, chosen: Chooses) -> list[_Step]:
    issues = [issue for issue in reading.issues if issue.fixable and chosen.takes(issue.code, issue.line, issue.path)]
    if reading.broken:
        return [step for issue in issues if (step := _of_bytes(text, issue)) is not None]
    repeats = reading.history_repeats and chosen.takes("history_repeats_input", reading.line, "")
    if not issues and not repeats:
        return []
    value = decode(text)
    if not isinstance(value, dict):
        return []
    root = spans_of(text)
    steps = _of_texts(Found(text, value, root, []), reading, issues)
    for issue in issues:
        if (repair := FIELD_REPAIRS.get(issue.code)) is not None:
            edits = repair(Found(text, value, root, _steps_below(reading, issue.path)))
            if edits:
                steps.append(_Step(issue.code, issue.path, edits, *_pictures(text, edits)))
    if repeats:
        for where, edits in history_repeats(Found(text, value, root, [])):
            steps.append(_Step("history_repeats_input", join_path(reading.path, where), edits, *_pictures(text, edits)))
    return steps


def _steps_below(reading: Reading, path: str) -> list[str | int]:
    """From the record to the field: an issue's path begins with the record's own."""
    return steps_of(path.removeprefix(reading.path))


def _of_bytes(text: bytes, issue: Issue) -> _Step | None:
    mended = BYTE_REPAIRS[issue.code](text) if issue.code in BYTE_REPAIRS else None
    if mended is None or mended == text:
        return None
    pictures = _difference(text.decode("utf-8", "backslashreplace"), mended.decode("utf-8", "backslashreplace"))
    return _Step(issue.code, issue.path, [Edit(0, len(text), mended)], *pictures)


def _of_texts(found: Found, reading: Reading, issues: list[Issue]) -> list[_Step]:
    """Several findings in one text are mended one after the other, and make one edit."""
    by_path: dict[str, list[str]] = {}
    for issue in issues:
        if issue.code in TEXT_REPAIRS:
            by_path.setdefault(issue.path, []).append(issue.code)
    steps = []
    for path, codes in by_path.items():
        where = _steps_below(reading, path)
        text, span = found.at(where), found.root.find(where)
        if not isinstance(text, str) or span is None:
            continue
        mended, made = text, list[tuple[str, str, str]]()
        for code in TEXT_REPAIRS:
            after = TEXT_REPAIRS[code](mended) if code in codes else mended
            if after != mended and after.strip():
                made.append((code, *_difference(mended, after)))
                mended = after
        edit = Edit(span.start, span.end, string_like(found.text[span.start : span.end], mended))
        steps += [_Step(code, path, [edit], before, after) for code, before, after in made]
    return steps


def _pictures(text: bytes, edits: list[Edit]) -> tuple[str, str]:
    """What stood where the edits are, and what stands there now."""
    before = " … ".join(text[e.start : e.end].decode("utf-8", "replace").strip(" ,\r\n\t") for e in edits)
    after = " … ".join(piece for e in edits if (piece := e.data.decode("utf-8", "replace")))
    return picture(before), picture(after)


# A real line break must not look like a written-out one.
_VISIBLE = str.maketrans({"\n": "⏎", "\t": "⇥"})


def _difference(before: str, after: str) -> tuple[str, str]:
    """Both texts around the first place where they differ."""
    same = next((n for n, (one, other) in enumerate(zip(before, after, strict=False)) if one != other), None)
    start = max(0, (min(len(before), len(after)) if same is None else same) - _CONTEXT)
    return picture(before, start, _VISIBLE), picture(after, start, _VISIBLE)


def picture(text: str, start: int = 0, signs: dict[int, str] | None = None) -> str:
    """A text from `start` on as a log may show it: short, on one line, secrets and personal data masked. signs: put in
    the place of single characters afterwards."""
    shown = masked_part(text, start, start + EXCERPT_CHARACTERS + 1).translate(signs or {})
    return excerpt_of("…" + shown if start else shown)
