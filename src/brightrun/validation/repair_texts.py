"""Repairs of what a text holds. Each takes a text and gives it back as the checks of `formats.texts` want it."""

import re
from collections.abc import Callable

from brightrun.formats.texts import CODE, CONTROL, SPECIAL_TOKEN, doubled_escapes, unescaped

# A colour or a cursor movement of a terminal: without its first character the rest would stay as visible rubbish.
_TERMINAL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# What JSON and C make of a formula's `\frac` or `\beta` written with one backslash, and the letter each stood for.
_FORMULA = re.compile(
    r"\x0c(?=rac(?:\b|\d)|orall\b)|\x08(?=egin\{|eta\b|inom\{|ar\{|oxed\{|ullet\b)|\x07(?=lpha\b|pprox\b|ngle\b)"
    r"|\x0b(?=ec\{|ec\b|arepsilon\b|arphi\b)"
)
_LETTERS = {"\x0c": "f", "\x08": "b", "\x07": "a", "\x0b": "v"}
_PAGE_BREAK = re.compile(r"(?<=\S)[\x0b\x0c](?=\S)")
# The name of the speaker belongs to the marker that opens a message.
_HEADER = re.compile(
    r"<\|im_start\|>(?:system|user|assistant|tool)\n?|<\|start_header_id\|>[a-z]+<\|end_header_id\|>(?:\n\n)?|"
    r"<start_of_turn>(?:user|model)\n?"
)
_MOST_ROUNDS = 20


def without_control_characters(text: str) -> str:
    r"""Control characters go; a vertical tab or form feed between two words becomes the line break it stood for, and
    one that begins a name of LaTeX (`\frac`) the backslash and letter."""
    text = _FORMULA.sub(lambda match: "\\" + _LETTERS[match[0]], text)
    return CONTROL.sub("", _PAGE_BREAK.sub("\n", _TERMINAL.sub("", text)))


def without_special_tokens(text: str) -> str:
    """Markers of chat templates go, with the speaker's name that some open a message with. Code stays as it is."""
    return _outside_code(text, lambda prose: SPECIAL_TOKEN.sub(_unless_struck, _HEADER.sub("", prose)))


def _unless_struck(match: re.Match[str]) -> str:
    return match["struck"] or ""


def with_real_line_breaks(text: str) -> str:
    r"""A written-out `\n` becomes a line break where the check finds it: not in code, quotes, paths or formulas. So do
    the other escapes that were written twice."""
    for _ in range(_MOST_ROUNDS):
        before = text
        text = _break_lines(text)
        if text == before:
            break
    return text


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    pieces, position = [], 0
    for code in CODE.finditer(text):
        pieces += [change(text[position : code.start()]), code.group()]
        position = code.end()
    return "".join((*pieces, change(text[position:])))


def _break_lines(text: str) -> str:
    """One round: the check looks at the text with its code cut out, so what it finds is carried back by position."""
    kept: list[tuple[int, int]] = []  # of each piece of prose: where it begins in the prose, and in the text
    prose, position = "", 0
    for code in CODE.finditer(text):
        kept.append((len(prose), position))
        prose += text[position : code.start()]
        position = code.end()
    kept.append((len(prose), position))
    prose += text[position:]
    pieces, done = [], 0
    for match in doubled_escapes(prose):
        begin, offset = next((b, o) for b, o in reversed(kept) if b <= match.start())
        start = match.start() - begin + offset
        end = start + len(match.group())
        if text[start:end] != match.group():
            continue  # it spans code that was cut out: no such thing stands in the text
        pieces += [text[done:start], unescaped(match.group())]
        done = end
    return "".join((*pieces, text[done:]))


TEXT_REPAIRS: dict[str, Callable[[str], str]] = {
    "control_character": without_control_characters,
    "special_token_in_text": without_special_tokens,
    "doubled_escape": with_real_line_breaks,
}
