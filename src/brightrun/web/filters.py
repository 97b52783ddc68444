"""How numbers, money, sizes and times read on a page. One place, so that a number looks the same everywhere.

`None` is an em dash in every filter: a value that is not there is shown as not there, never as zero.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from markupsafe import Markup

from brightrun.clock import utcnow

NONE = "—"
_NO_TIME = Markup("—")
_CODE_SPAN = re.compile(r"`([^`\n]+)`")
_UNITS = ("bytes", "KB", "MB", "GB", "TB", "PB")


def number(value: float | Decimal | None, digits: int | None = None) -> str:
    """`1234567` → `1,234,567`; with `digits`, that many decimals: `number(1.5, 2)` → `1.50`."""
    if value is None:
        return NONE
    if digits is not None:
        return f"{value:,.{digits}f}"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def compact(value: float | None) -> str:
    """A number for a card: `1840000` → `1.84 M`. Below ten thousand it is written out."""
    if value is None:
        return NONE
    if abs(value) < 10_000:
        return number(value)
    for size, suffix in ((1e3, "K"), (1e6, "M"), (1e9, "B")):
        if abs(value) < 999.5 * size:
            return f"{value / size:.3g} {suffix}"
    return f"{value / 1e12:,.3g} T"


def filesize(value: int | None) -> str:
    """Bytes in decimal units, as disks and browsers count: `16_800_000` → `16.8 MB`."""
    if value is None:
        return NONE
    size = float(value)
    for unit in _UNITS:
        # 999.95 would print as 1000.0; it belongs to the next unit.
        if abs(size) < 999.95 or unit == _UNITS[-1]:
            return f"{value:,} {'byte' if value == 1 else 'bytes'}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")


def money(value: Decimal | int | None) -> str:
    """US dollars, half up: `Decimal("3.5")` → `$3.50`. An amount below one cent keeps what it has: `$0.0042`."""
    if value is None:
        return NONE
    amount = Decimal(value)
    sign, amount = ("−" if amount < 0 else ""), abs(amount)
    if 0 < amount < Decimal("0.01"):
        return f"{sign}${amount.quantize(Decimal('0.000001'), ROUND_HALF_UP).normalize():f}"
    return f"{sign}${amount.quantize(Decimal('0.01'), ROUND_HALF_UP):,}"


def percent(value: float | None, digits: int = 0) -> str:
    """A share of one: `0.625` → `63%`. Only what is whole is called 100%."""
    if value is None:
        return NONE
    shown = f"{value * 100:.{digits}f}"
    if value < 1 and float(shown) == 100:
        shown = f"{100 - 10**-digits:.{digits}f}"
    return f"{shown}%"


def duration(value: float | timedelta | None) -> str:
    """Seconds as two units: `45 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`; below ten seconds one decimal."""
    if value is None:
        return NONE
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds % 1 else f"{seconds:.0f} s"
    whole = round(seconds)
    for size, name, smaller, small_name in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {name} {rest} {small_name}" if rest else f"{whole // size} {name}"
    return f"{whole} s"


def plural(count: int, one: str, many: str | None = None) -> str:
    """`plural(1, "row")` → `1 row`; `plural(3, "entry", "entries")` → `3 entries`."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def ago(value: datetime | None) -> Markup:
    """`<time>` with how long ago; app.js keeps it true while the page stays open."""
    if value is None:
        return _NO_TIME
    return _time(value, relative_text((utcnow() - value).total_seconds()), relative=True)


def moment(value: datetime | None) -> Markup:
    """`<time>` with date and clock time, UTC; app.js shows it in the reader's own zone."""
    if value is None:
        return _NO_TIME
    return _time(value, _absolute(value), relative=False)


def relative_text(seconds: float) -> str:
    """How long ago (or, below zero, how far ahead), in one unit. assets/web/js/time.js says the same."""
    ahead, seconds = seconds < 0, abs(seconds)
    if seconds < 45:
        return "in a moment" if ahead else "just now"
    for size, limit, unit in ((60, 60, "min"), (3600, 24, "h"), (86_400, 30, "d"), (2_629_800, 12, "mo")):
        amount = max(1, round(seconds / size))
        if amount < limit:
            return f"in {amount} {unit}" if ahead else f"{amount} {unit} ago"
    amount = max(1, round(seconds / 31_557_600))
    return f"in {amount} y" if ahead else f"{amount} y ago"


def _absolute(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%d %b %Y, %H:%M UTC").lstrip("0")


def _time(value: datetime, text: str, *, relative: bool) -> Markup:
    kind = "relative" if relative else "absolute"
    return Markup('<time datetime="{}" title="{}" data-time="{}">{}</time>').format(
        value.astimezone(UTC).isoformat(timespec="seconds"), _absolute(value), kind, text
    )


def pretty_json(value: Any) -> str:
    """Indented JSON of anything a row may hold; what JSON cannot say is said as text."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def code_spans(text: str | None) -> Markup:
    """A message with its names of fields, written `like this`, set as code. Everything else is text, escaped."""
    if text is None:
        return Markup("—")
    pieces = _CODE_SPAN.split(text)
    return Markup("").join(
        Markup('<code class="mono">{}</code>').format(piece) if number % 2 else Markup("{}").format(piece)
        for number, piece in enumerate(pieces)
    )


def words(name: str) -> str:
    """A key as it reads: `couple_conflict` → `couple conflict`."""
    return name.replace("_", " ")


def decode_shown(data: bytes) -> str:
    """Bytes of a file as text; what is no UTF-8 as �."""
    return data.decode("utf-8", errors="replace")


FILTERS = {
    "number": number,
    "compact": compact,
    "filesize": filesize,
    "money": money,
    "percent": percent,
    "duration": duration,
    "plural": plural,
    "ago": ago,
    "moment": moment,
    "pretty_json": pretty_json,
    "code_spans": code_spans,
    "words": words,
    "decode_shown": decode_shown,
}
