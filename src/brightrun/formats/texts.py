"""What a text must not hold if a model is to learn from it. Most records are cleared by a look at their bytes."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from brightrun.formats.reading import Reading, join_path


def _rarely(sign: bytes, begins: bytes, follows: bytes) -> Callable[[bytes], bool]:
    """Tells whether bytes hold a byte that is rare in most texts, with what the pattern says behind it.

    begins: all bytes with which that can begin. Finding one byte is ten times as fast as an expression that goes over
    all of them (measured), so the expression is only asked where it may fit; and about all the rest where the byte
    proves to be frequent.
    """
    pattern, possible = re.compile(re.escape(sign) + follows), frozenset(begins)
    match, search = pattern.match, pattern.search

    def holds(raw: bytes) -> bool:
        find, last = raw.find, len(raw) - 1  # nothing follows the last byte
        position = find(sign, 0, last)
        if position < 0:
            return False
        for _ in range(1 + last // _RARE_BYTES):
            if raw[position + 1] in possible and match(raw, position):
                return True
            if (position := find(sign, position + 1, last)) < 0:
                return False
        return search(raw, position) is not None

    return holds


_RARE_BYTES = 512

# What the JSON text of a record must hold for any check below to fire. Each pattern begins with one literal byte and
# goes on with a look ahead or a set, because only then does `re` run at the speed of a plain loop.
# As escapes: control characters, � and ｜, and what begins a character that was decoded wrongly.
_ESCAPED = _rarely(
    b"\\", b"bfu", rb"(?=[bf]|u(?:00(?:[01789]|[cC][23]|[eE]2\\u(?:20[aA][cC]|0080)|[fF]0\\u01)|[fF]{2}))"
)
_BRACKETS = rb"(?=object |INSERT |/?(?:INST\]|TOOL_|AVAILABLE_TOOLS\]|SYSTEM_PROMPT\])|gMASK\]|\|)"
# Harmful wherever they stand in a record's bytes, whichever of its texts they belong to; `formats.lean` asks, too.
BRACES, BRACKETED = re.compile(rb"\{(?=[{%])").search, _rarely(b"[", b"oI/TASg|", _BRACKETS)  # JSON is full of braces
_ESCAPED_SIGNS = _rarely(b"\\", b"\\u", rb"(?=\\|u005|u003)")
MARKUP = _rarely(b"<", b"|/<%\\\xefsben", rb"(?=[|/<%\\\xef]|s>|[be]os>|start_of|end_of|noinput>)")
_HIGH_CONTROL = _rarely(b"\xc2", bytes(range(0x80, 0xA0)), rb"(?=[\x80-\x9f])")
_WRONGLY_DECODED = _rarely(
    b"\xc3", b"\x82\x83\xa2\xb0", rb"(?=[\x82\x83]|\xa2(?:\xe2\x82\xac|\xc2\x80)|\xb0(?:\xc5\xb8|\xc2\x9f))"
)

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# UTF-8 that was read as Windows-1252 or Latin-1 and written again: `Ã©` for é, `â€™` for ’. No language writes so.
_SECOND = "\x80-\xbf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122"
GARBLED = re.compile(rf"Ã[{_SECOND}]|Â[\x80-\xbf]|â[\x80€][{_SECOND}]|ð[\x9fŸ][{_SECOND}]|[\x80-\x9f]")
_C1 = re.compile("[\x80-\x9f]")
# What stands before the braces or within them tells a template from a formula (`x^{{n}}`) and from code (`${{…}}`).
_PLACEHOLDER = re.compile(
    r"(?<![$^_\\\w}])\{\{\{?\s*[#/^]?\s*[A-Za-z_][\w .,?:|'\"()-]{0,80}\}\}\}?"
    r"|\{%-?\s*(?:if|for|else|elif|endif|endfor|set|include|block|endblock|raw)\b[^%\n]{0,80}%\}|<%=\s*[^%\n]{1,60}%>"
    r"|\[object \w+\]|\[INSERT [^\]]{1,40}\]|<noinput>"
)
SPECIAL_TOKEN = re.compile(
    r"(?P<struck><s>(?!\s*\[INST)[^<\n]{1,80}</s>)"  # HTML for crossed out: nothing of a chat template's
    r"|<\|[a-zA-Z_][\w -]{0,40}\|>|\[/?INST\]|<</?SYS>>|</?s>|<[be]os>|<(?:start|end)_of_turn>|<｜[^｜]{1,40}｜>"
    r"|\[/?(?:TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS|SYSTEM_PROMPT)\]|\[\|\w{1,20}\|\]|\[gMASK\]"
)
_BRACKETED = re.compile(r"\[" + _BRACKETS.decode()).search
_MARKED = re.compile(r"<%=|<noinput>").search
# A written-out line break stands where prose would break: doubled, or before a capital, a digit or a bullet. What
# follows in LaTeX (`\nabla`), paths (`C:\new`) and code (`"…\n"`) is something else. A letter that was escaped twice
# (`caf\u00e9`) and escaped quotes around words (`\"like this\"`) come from the same mistake.
_DOUBLED = re.compile(
    r"\\r\\n|\\n\\n|(?<![\w:\\])\\n(?=[A-Z•*#\d-])|(?<=[.!?:,])\\n(?=[A-Z•*#\d-])"
    r"|(?<!\\)\\u[0-9a-fA-F]{4}|(?:(?<=[\s(])|^)\\\"(?=\w[^\"\n]{0,200}\\\")|(?<=[\w.,!?])\\\"(?=[\s.,;:!?)]|$)"
)
# Where a text has no real line break but these, they are meant as line breaks before small letters, too.
_DOUBLED_BEFORE_WORD = re.compile(r"(?<=[\w.,;:!?)])\\n(?=[a-z])(?!(?:abla|eq?|ot|otin|u|leq|geq|exists|ewline)\b)")
CODE = re.compile(r"```.*?(?:```|$)|`[^`\n]*`", re.DOTALL)
_DANGLING = re.compile(r"[a-z,] (?:the|a|an|and|or|of|to|with|for|from|your|my|our|their|because|that)$")
_SENTENCE_END = re.compile(r"[.!?…][\"')\]”»]?\s")
_LIST_MARKER = re.compile(r"\s*(?:\d{1,3}[.)]|[-*•–]|[a-zA-Z][.)]|#+)\s+")
_FENCE = re.compile(r"^\s*```", re.MULTILINE)
_MINIMUM_TO_JUDGE, _MINIMUM_TO_JUDGE_SENTENCE = 80, 120
_FRAGMENT_WORDS = 3

# Fields of a message whose texts a model sees.
_MESSAGE_FIELDS = frozenset({"content", "value", "text", "refusal", "messages"})
# Of a v4 pair: not its history, because other pairs show those turns again.
PAIR_FIELDS = frozenset({"system_prompt", "current_user_input", "target_response", "conversation_metadata"})
# What the scaffolding says goes into no model, but a placeholder there shows that the record was made from nothing.
_SCAFFOLD, _PAIRS = "conversation_metadata", "training_pairs"


def suspicious(raw: bytes) -> bool:
    """Whether the JSON text of a record can hold anything that `check_texts` would report."""
    return suspicious_bytes(raw) or BRACES(raw) is not None or BRACKETED(raw) or _ESCAPED_SIGNS(raw) or MARKUP(raw)


def suspicious_bytes(raw: bytes) -> bool:
    """The part of `suspicious` that only the JSON text shows; `suspicious_text` is the other."""
    return b"\x7f" in raw or _ESCAPED(raw) or damaged_characters(raw)


def damaged_characters(raw: bytes) -> bool:
    """Whether the bytes hold characters that were lost or decoded wrongly."""
    return (b"\xef" in raw and b"\xef\xbf\xbd" in raw) or _HIGH_CONTROL(raw) or _WRONGLY_DECODED(raw)


def suspicious_braces(raw: bytes) -> bool:
    """Whether the JSON text can hold a placeholder."""
    return BRACES(raw) is not None or BRACKETED(raw) or MARKUP(raw)


def suspicious_text(text: str) -> bool:
    """Whether a decoded text can hold what `suspicious_bytes` does not look for."""
    return (
        "\\" in text
        or ("[" in text and _BRACKETED(text) is not None)
        or ("{" in text and ("{{" in text or "{%" in text))
        or ("<" in text and (SPECIAL_TOKEN.search(text) is not None or _MARKED(text) is not None))
    )


def check_texts(record: dict[str, Any], reading: Reading, fields: frozenset[str]) -> None:
    """Warn about every text in those fields that holds what no model should learn; each kind once a text."""
    for path, text, is_prose in _texts_of(record, "", fields):
        prose = CODE.sub("", text) if "`" in text else text
        if ("{" in prose or "[" in prose or "<" in prose) and (match := _PLACEHOLDER.search(prose)):
            _warn(reading, "unfilled_placeholder", path, prose, match, f"`{path}` holds {match.group()!r}.")
        if not is_prose:
            continue
        if match := CONTROL.search(text):
            found = f"U+{ord(match.group()):04X}"
            _warn(reading, "control_character", path, text, match, f"`{path}` holds the control character {found}.")
        if not text.isascii() and _may_be_garbled(text) and (match := GARBLED.search(text)):
            _warn(reading, "garbled_characters", path, text, match, f"`{path}` holds {match.group()!r}.")
        if (position := text.find("\ufffd")) >= 0:
            reading.report(
                "replacement_character",
                path,
                f"`{path}` holds � at character {position + 1}.",
                excerpt=around(text, position) if reading.hears("replacement_character") else "",
            )
        if ("<" in prose or "[" in prose) and (match := next(special_tokens(prose), None)) is not None:
            _warn(reading, "special_token_in_text", path, prose, match, f"`{path}` holds {match.group()!r}.")
        if "\\" in prose and (match := next(doubled_escapes(prose), None)):
            _warn(reading, "doubled_escape", path, prose, match, _written_out(path, prose, match.group()))


def _may_be_garbled(text: str) -> bool:
    """Whether GARBLED could find something, in a fraction of its time."""
    return "Ã" in text or "Â" in text or "â" in text or "ð" in text or _C1.search(text) is not None


def special_tokens(prose: str) -> Iterator[re.Match[str]]:
    """The markers of chat templates."""
    return (match for match in SPECIAL_TOKEN.finditer(prose) if match["struck"] is None)


def _written_out(path: str, prose: str, first: str) -> str:
    if not first.endswith("n"):
        return f"`{path}` holds the written-out escape {first} where {unescaped(first)} was meant."
    count = prose.count("\\n")
    return f"`{path}` holds {count} written-out line break{'s' if count > 1 else ''} (backslash and n)."


def unescaped(escape: str) -> str:
    """What a doubled escape was meant to be. Half of a surrogate pair stays as it is."""
    if not escape.startswith("\\u"):
        return escape.replace("\\r\\n", "\n").replace("\\n", "\n").replace('\\"', '"')
    point = int(escape[2:], 16)
    return escape if 0xD800 <= point <= 0xDFFF or point < 0x20 else chr(point)


def doubled_escapes(prose: str) -> Iterator[re.Match[str]]:
    """The written-out escapes outside quotes; JSON inside a text may hold as many as it likes."""
    if prose.lstrip().startswith(("{", "[")):
        return
    matches = _DOUBLED.finditer(prose)
    if "\n" not in prose and len(breaks := list(_DOUBLED_BEFORE_WORD.finditer(prose))) > 1:
        matches = iter(sorted([*matches, *breaks], key=lambda match: match.start()))
    for match in matches:
        line_begin = prose.rfind("\n", 0, match.start()) + 1
        line = prose[line_begin : match.start()]
        if (line.count('"') - line.count('\\"')) % 2 == 0 and not line.lstrip().startswith(("'", "f'", 'f"')):
            yield match


# An answer that ends like this and opens no code block cannot be cut off in a way that `check_answer` would see.
WHOLE_ENDS = frozenset(".!?)\"'*`:;0123456789”…>]}|")


def may_be_cut_off(text: str) -> bool:
    """Whether `check_answer` could have something to say: quick, and never wrong when it says no."""
    return text[-1:] not in WHOLE_ENDS or ("`" in text and "```" in text)  # one byte is found faster


def check_answer(text: str, reading: Reading, path: str) -> None:
    """Warn about an answer that stops in the middle."""
    end = text.rstrip()
    if (how := _cut_off(end)) is not None:
        reading.report(
            "text_cut_off",
            path,
            f"`{path}` {how}.",
            excerpt=around(end, len(end)) if reading.hears("text_cut_off") else "",
        )


def how_cut_off(text: str) -> str | None:
    """How a text stops in the middle (`ends with a lone backslash`); None when it does not."""
    end = text.rstrip()
    return _cut_off(end) if end else None


def _cut_off(end: str) -> str | None:
    """How a text without trailing white space stops in the middle; None when it does not."""
    if end.endswith("\\") and not end.endswith("\\\\"):
        return "ends with a lone backslash"
    if "```" in end and end[-1] not in ".!?`" and end.count("```") % 2 and len(_FENCE.findall(end)) % 2:
        return "opens a code block (```) and stops before it is closed"
    if len(end) >= _MINIMUM_TO_JUDGE and (word := _DANGLING.search(end[-20:])) and _SENTENCE_END.search(end):
        return f"ends in the middle of a sentence ({word.group().split()[-1]!r})"
    if len(end) < _MINIMUM_TO_JUDGE_SENTENCE or not (end[-1].islower() or end[-1] == ","):
        return None
    # Only whole sentences in the same line show that another was begun: a last line of a list or a title shows nothing.
    line = end[end.rfind("\n") + 1 :]
    line = line[marker.end() :] if (marker := _LIST_MARKER.match(line)) else line
    *_, last = [None, *_SENTENCE_END.finditer(line)]
    fragment = line[last.end() :] if last is not None else ""
    if fragment[:1] in "-–—*(" or len(words := fragment.split()) < _FRAGMENT_WORDS:
        return None
    return f"ends without the end of its last sentence (“… {' '.join(words[-3:])[-60:]}”)"


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


def around(text: str, position: int) -> str:
    """What stands around a position, masked. What finds secrets is loaded when there is something to report."""
    from brightrun.formats.masking import around

    return around(text, position)


def _warn(reading: Reading, code: str, path: str, text: str, match: re.Match[str], message: str) -> None:
    reading.report(code, path, message, excerpt=around(text, match.start()) if reading.hears(code) else "")
