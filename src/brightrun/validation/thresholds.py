"""From when on a check speaks: every threshold with its default, unit and meaning."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]


class Thresholds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Applied by the content checks; the report names them. `MEANINGS` says what each is."""

    near_duplicate_similarity: Annotated[float, Meta(ge=0.5, le=1)] = 0.8
    repeated_opening_words: Annotated[int, Meta(ge=2, le=20)] = 5
    repeated_opening_share: Share = 0.1
    repeated_opening_replies: Annotated[int, Meta(ge=2)] = 10
    short_reply_characters: Annotated[int, Meta(ge=0)] = 20
    short_reply_share: Share = 0.1
    long_reply_characters: Count = 4_000
    long_reply_factor: Annotated[float, Meta(ge=1)] = 10.0
    length_replies: Count = 20
    language_letters: Count = 40
    language_share: Share = 0.1


# name: (unit, meaning)
MEANINGS: dict[str, tuple[str, str]] = {
    "near_duplicate_similarity": (
        "share",
        "Two conversations are near-duplicates when their word triples have at least this Jaccard similarity.",
    ),
    "repeated_opening_words": ("words", "How many first words of a reply count as its opening."),
    "repeated_opening_share": ("share of replies", "An opening is reported when at least so many replies begin so …"),
    "repeated_opening_replies": ("replies", "… and not fewer than this."),
    "short_reply_characters": ("characters", "A reply of at most this length is very short …"),
    "short_reply_share": ("share of the median", "… if it has also at most this share of the file's median length."),
    "long_reply_characters": ("characters", "A reply of at least this length is very long …"),
    "long_reply_factor": ("times the median", "… if it has also at least so many times the file's median length."),
    "length_replies": ("replies", "Files with fewer replies have no distribution to compare a length with."),
    "language_letters": ("letters", "A reply with fewer letters is not judged by its language."),
    "language_share": (
        "share of replies",
        "Replies in a language with a smaller share are strays, each named; one with more is named once.",
    ),
}


def parse_thresholds(given: Iterable[str], base: Thresholds | None = None) -> Thresholds:
    """`name=value` each, on top of `base`. ValueError names what does not fit."""
    values: dict[str, Any] = msgspec.to_builtins(base or Thresholds())
    for entry in given:
        name, equals, value = entry.partition("=")
        name = name.strip().replace("-", "_")
        if name not in MEANINGS or not equals:
            raise ValueError(f"{entry!r} is no threshold; write name=value with one of {', '.join(MEANINGS)}.")
        try:
            values[name] = float(value) if "." in value or "e" in value.lower() else int(value)
        except ValueError:
            raise ValueError(f"The threshold {name} is {value!r}; it must be a number.") from None
    try:
        return msgspec.convert(values, Thresholds)
    except msgspec.ValidationError as error:
        raise ValueError(f"A threshold does not fit: {error}.") from None


def changed(applied: Mapping[str, float]) -> dict[str, float]:
    """Of the thresholds that were applied, those that are not the defaults."""
    usual: dict[str, float] = msgspec.to_builtins(Thresholds())
    return {name: value for name, value in applied.items() if usual.get(name) != value}


def render_thresholds() -> list[str]:
    """A Markdown table of all thresholds."""
    lines = ["| Threshold | Default | Unit | Meaning |", "|---|---|---|---|"]
    for name, value in msgspec.to_builtins(Thresholds()).items():
        unit, meaning = MEANINGS[name]
        lines.append(f"| `{name}` | {value:,} | {unit} | {meaning} |")
    return lines
