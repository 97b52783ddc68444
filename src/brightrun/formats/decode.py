"""One JSON text to one value, or the exact place and reason why not."""

import re
from typing import Any, NamedTuple

import orjson


class Fault(NamedTuple):
    """code: of the catalogue. position: byte within the text. message: a sentence; suggestion: where better than the
    catalogue's."""

    code: str
    position: int
    message: str
    suggestion: str | None = None


def decode(text: bytes) -> Any:
    """The value of a JSON text. Raises ValueError when it is none; `locate_fault` then says why."""
    return orjson.loads(text)


# What people's tools write instead of JSON, looked for at the byte where reading stopped.
_HABITS: tuple[tuple[re.Pattern[bytes], str, str], ...] = (
    (re.compile(rb"'"), "a single quote", "JSON wants double quotes; write the file with `json.dumps`, not `str()`."),
    (re.compile(rb"(None|True|False)\b"), "a Python word", "JSON writes `null`, `true` and `false`."),
    (re.compile(rb"-?(NaN|Infinity)\b"), "a number that JSON does not have", "Write `null`, or leave the field out."),
    (re.compile(rb"(//|/\*|#)"), "a comment", "JSON has no comments; remove it."),
    (re.compile(rb"\xef\xbb\xbf"), "a byte order mark, as where two files were joined", "Remove it; it is invisible."),
    (re.compile(rb"\xc2\xa0|\xe2\x80[\x80-\x8f\xa8-\xaf]"), "an invisible character", "Remove it, or make it a space."),
    (re.compile(rb"\xe2\x80[\x9c-\x9f]"), "a curly quote", 'JSON wants the plain double quote `"`.'),
    (re.compile(rb"[\x80-\xff]"), "a character outside quotes", 'Curly quotes? JSON wants the plain double quote `"`.'),
    (re.compile(rb"[A-Za-z_]"), "a bare word", "Put names and texts in double quotes."),
)
_UNESCAPED = {
    0x09: ("tab", "\\t"),
    0x0A: ("line break", "\\n"),
    0x0D: ("carriage return", "\\r"),
    0x00: ("NUL byte", ""),
}
_CHARACTERS_OUTSIDE = 40


def locate_fault(text: bytes) -> Fault:
    """Why `text` is not JSON. To be called only when `decode` has refused it."""
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError as error:
        return _encoding_fault(text, error)
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        # orjson counts characters; people and tools seek in bytes.
        position = len(decoded[: error.pos].encode())
        return _json_fault(text, position, error.msg)
    raise ValueError("the text is valid JSON")


def _encoding_fault(text: bytes, error: UnicodeDecodeError) -> Fault:
    position, byte = error.start, text[error.start]
    if byte == 0xED and len(text) > position + 2 and 0xA0 <= text[position + 1] <= 0xBF:
        return Fault(
            "lone_surrogate", position, "Half of a surrogate pair is written as bytes; UTF-8 does not allow it."
        )
    guess = text[position : position + 1].decode("cp1252", errors="replace")
    likely = f", which would be {guess!r} in Windows-1252" if guess.isalpha() or guess in "’‘“”–—…€°" else ""
    return Fault("invalid_utf8", position, f"Byte 0x{byte:02X} at byte {position} of the record is not UTF-8{likely}.")


def _after_record(text: bytes, position: int) -> str | None:
    if text[:position].rstrip(b" \t").endswith(b"\r"):
        return "The lines end in bare carriage returns, as on old Macs. Save the file with ordinary line ends."
    return "Write one record a line, without commas between the lines." if text[position] in b",{" else None


def _json_fault(text: bytes, position: int, reason: str) -> Fault:
    if "surrogate" in reason:
        escape = text[position : position + 6].decode("ascii", errors="replace")
        return Fault("lone_surrogate", position, f"The escape near '{escape}' is half of a surrogate pair.")
    if "depth" in reason or "ecursion" in reason:
        return Fault("nesting_too_deep", position, "More than 1,000 brackets are nested inside one another.")
    here = text[position : position + 1]
    if not text[position:].strip():
        return Fault(
            "broken_json",
            len(text),
            "The record stops before it is complete: a closing quote or bracket is missing.",
            "Was the file cut off, or does the record contain a raw line break?",
        )
    if "control character" in reason and here:
        name, escape = _UNESCAPED.get(here[0], (f"control character 0x{here[0]:02X}", f"\\u{here[0]:04x}"))
        advice = f"Write it as `{escape}`." if escape else "Remove it; a file with NUL bytes was most likely damaged."
        return Fault(
            "broken_json", position, f"A raw {name} stands inside a text at byte {position} of the record.", advice
        )
    if "after document" in reason:
        found = text[position : position + _CHARACTERS_OUTSIDE].decode("utf-8", errors="replace")
        return Fault(
            "broken_json",
            position,
            f"The record is complete at byte {position}, but more follows: {found!r}.",
            _after_record(text, position),
        )
    for pattern, name, advice in _HABITS:
        if pattern.match(text, position):
            return Fault("broken_json", position, f"Found {name} at byte {position} of the record: {reason}.", advice)
    return Fault("broken_json", position, f"Not JSON at byte {position} of the record: {reason}.")
