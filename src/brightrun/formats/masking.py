"""Hides secrets and personal data in what is shown, logged and exported. The length stays, so that positions hold."""

import re
from collections.abc import Iterable

from brightrun.formats.personal_data import find_personal_data
from brightrun.formats.secrets import Found, find_secrets

MASK = "•"
_RUN = re.compile(r"[A-Za-z0-9+/=_-]{20,}")
_KINDS = re.compile(r"[a-z]+|[A-Z]+|[0-9]+")
# A line break as raw JSON writes it: its letter must not hide where a secret begins (`\\nsk-…`).
_ESCAPE = re.compile(r"\\[nrtbf]")
# Secrets that are longer than a window's margin, by what each holds.
_LONG = ("PRIVATE KEY", "eyJ")
_LONGEST = 8_000


def find_sensitive(text: str) -> list[Found]:
    """Secrets and personal data, in order."""
    return sorted((*find_secrets(text), *find_personal_data(text)), key=lambda one: one.start)


def mask(text: str, found: Iterable[Found] | None = None) -> str:
    """The text with every letter and digit of what is found in it replaced by `•`, but the few that may be shown.
    found: where that is known already."""
    for one in find_sensitive(_ESCAPE.sub("  ", text) if "\\" in text else text) if found is None else found:
        first, last = one.start + one.keep_start, one.end - one.keep_end
        hidden = "".join(MASK if c.isalnum() or one.keep_end == 0 else c for c in text[first:last])
        text = text[:first] + hidden + text[last:]
    return text


def mask_piece(text: str) -> str:
    """As `mask`, for a piece of a longer text or a broken record: what is left of a key there lacks the beginning or
    the end that tells what it is, so whatever looks like one is hidden."""
    return _RUN.sub(lambda run: MASK * len(run[0]) if _is_jumble(run[0]) else run[0], mask(text))


def _is_jumble(run: str) -> bool:
    """Whether small letters, capitals and digits take turns as they do in a key, and not in words, paths and names."""
    kinds = _KINDS.findall(run)
    letters_and_digits = sum(map(len, kinds))
    has_all = any(k.islower() for k in kinds) and any(k.isupper() for k in kinds) and any(k.isdigit() for k in kinds)
    return has_all and len(kinds) >= 0.45 * letters_and_digits


def around(text: str, position: int, *, before: int = 60, after: int = 90, margin: int = 400) -> str:
    """What stands around a position, masked. A secret that the window cuts is recognised by looking `margin`
    characters further, and long ones by looking far."""
    start = max(0, position - before)
    return ("…" if start else "") + masked_part(text, start, position + after, margin)


def masked_part(text: str, start: int, end: int, margin: int = 400) -> str:
    """A part of a text, masked as it would be within the whole of it."""
    if any(sign in text for sign in _LONG):
        margin = max(margin, _LONGEST)
    low = max(0, start - margin)
    return mask_piece(text[low : end + margin])[start - low : end - low]
