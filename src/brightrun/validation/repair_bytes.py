"""Repairs of a record whose bytes are no JSON text: they work before anything can be decoded."""

import re
from collections.abc import Callable

from brightrun.formats.mendable import json_meant

_REPLACEMENT = "\ufffd".encode()
# Surrogates written as bytes: a pair of them is one character, one alone is none.
_RAW_PAIR = re.compile(rb"\xed([\xa0-\xaf][\x80-\xbf])\xed([\xb0-\xbf][\x80-\xbf])")
_RAW_HALF = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


def as_utf8(text: bytes) -> bytes | None:
    """Every byte that is not UTF-8 read as Windows-1252, which is what such files nearly always were.

    Bytes that this encoding does not have, and characters that were cut in the middle, become �: there text was lost.
    """
    pieces, rest = [], _without_raw_surrogates(text)
    while True:
        try:
            rest.decode()
        except UnicodeDecodeError as error:
            bad = rest[error.start : error.end]
            pieces += [rest[: error.start], _REPLACEMENT if len(bad) > 1 else _from_windows(bad)]
            rest = rest[error.end :]
        else:
            return b"".join((*pieces, rest))


def _from_windows(byte: bytes) -> bytes:
    try:
        return byte.decode("cp1252").encode()
    except UnicodeDecodeError:
        return _REPLACEMENT


def without_half_characters(text: bytes) -> bytes | None:
    """Halves of surrogate pairs go: no text contains such a character. Halves that belong together become it."""
    text = _without_raw_surrogates(text)
    return _ESCAPE.sub(lambda match: b"" if match.group(1) else match.group(), text)


def _without_raw_surrogates(text: bytes) -> bytes:
    def join(match: re.Match[bytes]) -> bytes:
        halves = match.group().decode("utf-8", "surrogatepass")
        return halves.encode("utf-16", "surrogatepass").decode("utf-16").encode()

    return _RAW_HALF.sub(b"", _RAW_PAIR.sub(join, text))


BYTE_REPAIRS: dict[str, Callable[[bytes], bytes | None]] = {
    "invalid_utf8": as_utf8,
    "lone_surrogate": without_half_characters,
    "broken_json": json_meant,
}
"""Code to repair; each answers None where there is nothing that it can do."""
