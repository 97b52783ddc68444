"""What a text must not hold if a model is to learn from it. Most records are cleared by a look at their bytes."""

import re
from collections.abc import Iterator
from typing import Any

from brightrun.formats.reading import Reading, join_path

# What the JSON text of a record must hold for any check below to fire. Each pattern begins with one literal byte and
# goes on with a look ahead or a set, because only then does `re` run at the speed of a plain loop; `in` with one byte
# is six times as fast again, with two bytes six times slower (measured).
_ESCAPED = re.compile(rb"\\(?=[bf]|u(?:00[017]|[fF]{2}))").search  # control characters, � and ｜ as escapes
_RAW = tuple(
    re.compile(pattern).search for pattern in (rb"\\(?=\\|u005|u003)", rb"\{(?=\{)", rb"\[(?=object |/?INST\]|INSERT )")
)
_MARKUP = re.compile(rb"<(?=[|/<\\\xef]|s>|start_of|end_of)").search

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_PLACEHOLDER = re.compile(r"(?<!\$)\{\{\s*[A-Za-z_][\w .-]{0,40}\s*\}\}|\[object \w+\]|\[INSERT [^\]]{1,40}\]")
SPECIAL_TOKEN = re.compile(
    r"<\|[a-zA-Z_][\w ]{0,40}\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>|<\|eot_id\|>|<｜[^｜]{1,40}｜>"
)
_BRACKETED = re.compile(r"\[(?=object |/?INST\]|INSERT )").search
# A written-out line break stands where prose would break: doubled, or before a capital, a digit or a bullet. What
# follows in LaTeX (`\nabla`), paths (`C:\new`) and code (`"…\n"`) is something else.
_DOUBLED = re.compile(r"\\n\\n|(?<![\w:\\])\\n(?=[A-Z•*#\d-])|(?<=[.!?:,])\\n(?=[A-Z•*#\d-])")
CODE = re.compile(r"```.*?(?:```|$)|`[^`\n]*`", re.DOTALL)
_DANGLING = re.compile(r"[a-z,] (?:the|a|an|and|or|of|to|with|for|from|your|my|our|their|because|that)$")
_SENTENCE_END = re.compile(r"[.!?][\"')]?\s")
_MINIMUM_TO_JUDGE = 80

# Fields of a message whose texts a model sees.
_MESSAGE_FIELDS = frozenset({"content", "value", "text", "refusal", "messages"})
# Of a v4 pair: not its history, because other pairs show those turns again.
PAIR_FIELDS = frozenset({"system_prompt", "current_user_input", "target_response", "conversation_metadata"})
# What the scaffolding says goes into no model, but a placeholder there shows that the record was made from nothing.
_SCAFFOLD, _PAIRS = "conversation_metadata", "training_pairs"


def suspicious(raw: bytes) -> bool:
    """Whether the JSON text of a record can hold anything that `check_texts` would report."""
    return suspicious_bytes(raw) or any(search(raw) for search in _RAW) or (b"<" in raw and _MARKUP(raw) is not None)


def suspicious_bytes(raw: bytes) -> bool:
    """The part of `suspicious` that only the JSON text shows; `suspicious_text` is the other."""
    return b"\x7f" in raw or _ESCAPED(raw) is not None or (b"\xef" in raw and b"\xef\xbf\xbd" in raw)


def suspicious_braces(raw: bytes) -> bool:
    """Whether the JSON text can hold a placeholder."""
    return any(search(raw) for search in _RAW[1:])


def suspicious_text(text: str) -> bool:
    """Whether a decoded text can hold what `suspicious_bytes` does not look for."""
    return (
        "\\" in text
        or ("[" in text and _BRACKETED(text) is not None)
        or ("{" in text and "{{" in text)
        or ("<" in text and SPECIAL_TOKEN.search(text) is not None)
    )


def check_texts(record: dict[str, Any], reading: Reading, fields: frozenset[str]) -> None:
    """Warn about every text in those fields that holds what no model should learn; each kind once a text."""
    for path, text, is_prose in _texts_of(record, "", fields):
        prose = CODE.sub("", text) if "`" in text else text
        if match := _PLACEHOLDER.search(prose):
            _warn(reading, "unfilled_placeholder", path, prose, match, f"`{path}` holds {match.group()!r}.")
        if not is_prose:
            continue
        if match := CONTROL.search(text):
            found = f"U+{ord(match.group()):04X}"
            _warn(reading, "control_character", path, text, match, f"`{path}` holds the control character {found}.")
        if (position := text.find("\ufffd")) >= 0:
            reading.report(
                "replacement_character",
                path,
                f"`{path}` holds � at character {position + 1}.",
                excerpt=_around(text, position),
            )
        if match := SPECIAL_TOKEN.search(prose):
            _warn(reading, "special_token_in_text", path, prose, match, f"`{path}` holds {match.group()!r}.")
        if "\\n" in prose and (match := next(doubled_escapes(prose), None)):
            count = prose.count("\\n")
            message = f"`{path}` holds {count} written-out line break{'s' if count > 1 else ''} (backslash and n)."
            _warn(reading, "doubled_escape", path, prose, match, message)


def doubled_escapes(prose: str) -> Iterator[re.Match[str]]:
    """The written-out line breaks outside quotes; JSON inside a text may hold as many as it likes."""
    if prose.lstrip().startswith(("{", "[")):
        return
    for match in _DOUBLED.finditer(prose):
        line_begin = prose.rfind("\n", 0, match.start()) + 1
        line = prose[line_begin : match.start()]
        if line.count('"') % 2 == 0 and not line.lstrip().startswith(("'", "f'", 'f"')):
            yield match


# An answer that ends like this cannot be cut off in a way that `check_answer` would see.
WHOLE_ENDS = frozenset(".!?)\"'*`:;,0123456789”…>]}|")


def may_be_cut_off(text: str) -> bool:
    """Whether `check_answer` could have something to say: quick, and never wrong when it says no."""
    return text[-1:] not in WHOLE_ENDS


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


def _texts_of(record: dict[str, Any], path: str, fields: frozenset[str]) -> Iterator[tuple[str, str, bool]]:
    """The texts of a record with their paths, and whether a model sees them."""
    for key, value in record.items():
        where = join_path(path, key)
        if key not in fields:
            continue
        if key == _PAIRS and isinstance(value, list):
            for number, pair in enumerate(value):
                if isinstance(pair, dict):
                    yield from _texts_of(pair, f"{where}[{number}]", PAIR_FIELDS)
        else:
            yield from _texts(value, where, 0, None if key == _SCAFFOLD else _MESSAGE_FIELDS)


def _texts(value: object, path: str, depth: int, fields: frozenset[str] | None) -> Iterator[tuple[str, str, bool]]:
    """The texts below a field: all of them (fields None), or a message's. No known format nests deeper than ten."""
    if isinstance(value, str):
        yield path, value, fields is not None
    elif depth < 12:
        if isinstance(value, dict):
            entries: dict[str, Any] = value
            for key, entry in entries.items():
                if fields is None or key in fields:
                    yield from _texts(entry, join_path(path, key), depth + 1, fields)
        elif isinstance(value, list):
            for number, entry in enumerate(value):
                yield from _texts(entry, f"{path}[{number}]", depth + 1, fields)


def _warn(reading: Reading, code: str, path: str, text: str, match: re.Match[str], message: str) -> None:
    reading.report(code, path, message, excerpt=_around(text, match.start()))


def _around(text: str, position: int) -> str:
    start = max(0, position - 60)
    return ("…" if start else "") + text[start : position + 90]
