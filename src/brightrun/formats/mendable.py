"""What a faulty value can only have meant. Readers ask here whether a finding can be mended, the repair asks what to.

Nothing here guesses: a value with two readings has none.
"""

import ast
import math
import re

import orjson

from brightrun.formats.records import Role

_NOT_A_LETTER = re.compile(r"[^a-z]+")
_ROLES: dict[str, Role] = {
    "system": "system",
    "sys": "system",
    "systemprompt": "system",
    "systemmessage": "system",
    "user": "user",
    "human": "user",
    "humanuser": "user",
    "usermessage": "user",
    "assistant": "assistant",
    "aiassistant": "assistant",
    "assistantmessage": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "llm": "assistant",
    "claude": "assistant",
    "gemini": "assistant",
    "toolresult": "tool",
    "tooloutput": "tool",
}
_WORDS = {"true": True, "false": False}
_STRING_OR_COMMA = re.compile(rb'"(?:[^"\\]++|\\.)*+"|,(?=[ \t\r\n]*[}\]])', re.DOTALL)
_RAW_CONTROL = re.compile(rb"[\x00-\x1f]")
_SHORT_ESCAPES = {0x08: b"\\b", 0x09: b"\\t", 0x0A: b"\\n", 0x0C: b"\\f", 0x0D: b"\\r"}
_PYTHON = re.compile(rb"'|\b(?:None|True|False)\b").search
_MOST_PYTHON_BYTES = 1 << 20


def role_meant(name: str) -> Role | None:
    """The role behind a speaker's name that no reader knows (`User:`, `AI assistant`); None if that is a guess."""
    return _ROLES.get(_NOT_A_LETTER.sub("", name.lower()))


def weight_meant(value: object) -> int | None:
    """0 or 1 where a weight says so in another way (`true`, `"1"`); None for anything between or beyond."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        text = value.strip().lower()
        if text in _WORDS:
            return int(_WORDS[text])
        return int(text) if text in {"0", "1"} else None
    return None


def label_meant(value: object) -> bool | None:
    """The KTO label where it is written as a number or a text; None for anything else."""
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    return _WORDS.get(value.strip().lower()) if isinstance(value, str) else None


def json_meant(text: bytes) -> bytes | None:
    """The text as JSON where only its spelling is wrong; None where something is missing or can be read in two ways.

    Mended are a comma after the record, commas before a closing bracket, raw control characters inside a text, and an
    object written with Python's `str()`. The text itself must not be JSON.
    """
    body = text.strip().removesuffix(b",").rstrip()
    plain = _STRING_OR_COMMA.sub(_spelled, body)
    if _is_object(plain):
        return plain
    return _from_python(text) if len(text) <= _MOST_PYTHON_BYTES and _PYTHON(text) else None


def _spelled(match: re.Match[bytes]) -> bytes:
    found = match.group()
    return b"" if found == b"," else _RAW_CONTROL.sub(_escape, found)


def _escape(match: re.Match[bytes]) -> bytes:
    byte = match.group()[0]
    return _SHORT_ESCAPES.get(byte) or b"\\u%04x" % byte


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(orjson.loads(text), dict)
    except ValueError:
        return False


def _from_python(text: bytes) -> bytes | None:
    try:
        value = ast.literal_eval(text.decode().strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return orjson.dumps(value) if isinstance(value, dict) and _is_plain(value, 0) else None


def _is_plain(value: object, depth: int) -> bool:
    """Whether Python's value is one that JSON has, too."""
    match value:
        case None | bool() | str():
            return True
        case int():
            return -(2**63) <= value < 2**64
        case float():
            return math.isfinite(value)
        case list():
            return depth < 50 and all(_is_plain(entry, depth + 1) for entry in value)
        case dict():
            return depth < 50 and all(isinstance(k, str) and _is_plain(v, depth + 1) for k, v in value.items())
        case _:
            return False
