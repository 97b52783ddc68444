"""What a text must not hold if a model is to learn from it. Most records are cleared by a look at their bytes."""

import re
from collections.abc import Iterator
from typing import Any

from brightrun.formats.reading import Reading, join_path

# What the JSON text of a record must hold for any check below to fire. Each pattern begins with one literal byte and
# goes on with a look ahead or a set, because only then does `re` jump from one such byte to the next (7 times as fast
# as `in` with two bytes, measured).
_SUSPECT = tuple(
    re.compile(pattern).search
    for pattern in (
        rb"\\(?=[\\bf]|u(?:00|ff|FF))",  # escapes of control characters, backslashes, � and ｜
        rb"\{(?=\{)",
        rb"\[(?=object |/?INST\]|INSERT )",
        rb"<(?=[|/<\\\xef]|s>|start_of|end_of)",
    )
)

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_PLACEHOLDER = re.compile(r"(?<!\$)\{\{\s*[A-Za-z_][\w .-]{0,40}\s*\}\}|\[object \w+\]|\[INSERT [^\]]{1,40}\]")
_SPECIAL_TOKEN = re.compile(
    r"<\|[a-zA-Z_][\w ]{0,40}\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>|<\|eot_id\|>|<｜[^｜]{1,40}｜>"
)
# A written-out line break stands where prose would break: doubled, or before a capital, a digit or a bullet. What
# follows in LaTeX (`\nabla`), paths (`C:\new`) and code (`"…\n"`) is something else.
_DOUBLED = re.compile(r"\\n\\n|(?<![\w:\\])\\n(?=[A-Z•*#\d-])|(?<=[.!?:,])\\n(?=[A-Z•*#\d-])")
_CODE = re.compile(r"```.*?(?:```|$)|`[^`\n]*`", re.DOTALL)
_DANGLING = re.compile(r"[a-z,] (?:the|a|an|and|or|of|to|with|for|from|your|my|our|their|because|that)$")
_SENTENCE_END = re.compile(r"[.!?][\"')]?\s")
_MINIMUM_TO_JUDGE = 80

# What every other pair of a v4 conversation shows again, and what is data rather than prose.
_NOT_WALKED = frozenset({"conversation_history", "tools", "functions", "tool_calls", "function_call", "arguments"})


def suspicious(raw: bytes) -> bool:
    """Whether the JSON text of a record can hold anything that `check_texts` would report."""
    if b"\x7f" in raw or (b"\xef" in raw and b"\xef\xbf\xbd" in raw):
        return True
    return any(search(raw) for search in _SUSPECT)


def check_texts(value: object, reading: Reading) -> None:
    """Warn about every text of the record that holds what no model should learn; each kind once a text."""
    for path, text in _texts(value, "", 0):
        if match := _CONTROL.search(text):
            found = f"U+{ord(match.group()):04X}"
            _warn(reading, "control_character", path, text, match, f"`{path}` holds the control character {found}.")
        if (position := text.find("\ufffd")) >= 0:
            reading.report(
                "replacement_character",
                path,
                f"`{path}` holds � at character {position + 1}.",
                excerpt=_around(text, position),
            )
        prose = _CODE.sub("", text) if "`" in text else text
        if match := _PLACEHOLDER.search(prose):
            _warn(reading, "unfilled_placeholder", path, prose, match, f"`{path}` holds {match.group()!r}.")
        if match := _SPECIAL_TOKEN.search(prose):
            _warn(reading, "special_token_in_text", path, prose, match, f"`{path}` holds {match.group()!r}.")
        if "\\n" in prose and (match := _doubled(prose)):
            count = prose.count("\\n")
            message = f"`{path}` holds {count} written-out line break{'s' if count > 1 else ''} (backslash and n)."
            _warn(reading, "doubled_escape", path, prose, match, message)


def _doubled(prose: str) -> re.Match[str] | None:
    """The first written-out line break outside quotes; JSON inside a text may hold as many as it likes."""
    if prose.lstrip().startswith(("{", "[")):
        return None
    for match in _DOUBLED.finditer(prose):
        line_begin = prose.rfind("\n", 0, match.start()) + 1
        line = prose[line_begin : match.start()]
        if line.count('"') % 2 == 0 and not line.lstrip().startswith(("'", "f'", 'f"')):
            return match
    return None


def check_answer(text: str, reading: Reading, path: str) -> None:
    """Warn about an answer that stops in the middle."""
    end = text.rstrip()
    if end.endswith("\\") and not end.endswith("\\\\"):
        reading.report("text_cut_off", path, f"`{path}` ends with a lone backslash.", excerpt=_around(end, len(end)))
    elif len(end) >= _MINIMUM_TO_JUDGE and (word := _DANGLING.search(end[-20:])) and _SENTENCE_END.search(end):
        last = word.group().split()[-1]
        reading.report(
            "text_cut_off",
            path,
            f"`{path}` ends in the middle of a sentence ({last!r}).",
            excerpt=_around(end, len(end)),
        )


def _texts(value: object, path: str, depth: int) -> Iterator[tuple[str, str]]:
    """Every text of a record with its path. No known format nests deeper than ten."""
    if isinstance(value, str):
        yield path, value
    elif depth < 12:
        if isinstance(value, dict):
            entries: dict[str, Any] = value
            for key, entry in entries.items():
                if key not in _NOT_WALKED:
                    yield from _texts(entry, join_path(path, key), depth + 1)
        elif isinstance(value, list):
            for number, entry in enumerate(value):
                yield from _texts(entry, f"{path}[{number}]", depth + 1)


def _warn(reading: Reading, code: str, path: str, text: str, match: re.Match[str], message: str) -> None:
    reading.report(code, path, message, excerpt=_around(text, match.start()))


def _around(text: str, position: int) -> str:
    start = max(0, position - 60)
    return ("…" if start else "") + text[start : position + 90]
