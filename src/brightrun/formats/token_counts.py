"""How many tokens a text has: exactly what the tokenizer says, at many times its speed where that can be proven.

A byte-level BPE tokenizer cuts a text into words before it merges anything, and merges never cross a word. So a word's
tokens can be remembered. What costs most of the time is the cutting itself, a regular expression. It is left out: a
text is split at single spaces before a visible character, `str.split` does that at memory speed, and each piece is
counted once by the tokenizer itself and remembered. This is exact when every such space is the beginning of a word
for the tokenizer, and when a piece's words do not depend on its neighbours. `why_not_words` proves that from the
tokenizer's own definition or says why it cannot; then every text goes through `encode_batch`.
"""

import itertools
import json
import re
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, Literal, Protocol

from tokenizers import AddedToken, Tokenizer

from brightrun.formats.chat_errors import UnencodableTextError

Method = Literal["words", "encode_batch"]

REMEMBERED = 200_000
"""Pieces that a counter remembers, about 30 MB; then it forgets the half that it met last, which is the rarer one."""
_LONGEST_REMEMBERED = 48  # characters; longer pieces seldom come again
_BATCH = 4 * 1024 * 1024  # characters of text given to the tokenizer at once
_MARKS = ",.;:!?"
_SHORT = 40  # characters of a line whose words are sooner counted than looked up
_TAILS = 2_000_000  # characters of lines that are remembered whole: the same text often comes again at once
_FEW = 2_000  # characters that are sooner tokenised one by one than handed out to threads

# A space that begins a word. Python takes a few more characters for white space than the tokenizers' expressions do,
# which only means fewer cuts.
_WORD_BEGIN = re.compile(r" (?=\S)")
_FIRST = itemgetter(slice(1))  # the first character of a text, or nothing


class TokenCounter(Protocol):
    """Counts the tokens of texts.

    method: `words`, or `encode_batch`. reason: why it is not `words`; empty where it is.
    """

    method: Method
    reason: str

    def count(self, text: str) -> int:
        """Tokens of one text by itself, special tokens inside it read as such. Raises UnencodableTextError."""
        ...

    def counts(self, texts: Sequence[str]) -> list[int]:
        """The same of many texts. Raises UnencodableTextError."""
        ...


def token_counter(tokenizer: Tokenizer) -> TokenCounter:
    """The fastest exact counter for a tokenizer. It must neither cut nor pad (`tokenizer_folder.load` sees to that)."""
    reason = why_not_words(tokenizer)
    return WholeTexts(tokenizer, reason) if reason else Words(tokenizer)


class WholeTexts:
    """Counts by tokenising every text."""

    method: Method = "encode_batch"

    def __init__(self, tokenizer: Tokenizer, reason: str) -> None:
        self._tokenizer, self.reason = tokenizer, reason

    def count(self, text: str) -> int:
        return encoded_lengths(self._tokenizer, [text])[0]

    def counts(self, texts: Sequence[str]) -> list[int]:
        return encoded_lengths(self._tokenizer, texts)


class Words:
    """Counts pieces between words once, and remembers them.

    remember: how many pieces. Safe to share between threads: at worst a piece is counted twice.
    """

    method: Method = "words"
    reason = ""

    def __init__(self, tokenizer: Tokenizer, *, remember: int = REMEMBERED) -> None:
        self._tokenizer, self._remember = tokenizer, remember
        self._after_space: dict[str, int] = {}  # piece without the space that it begins with → tokens with it
        self._at_start: dict[str, int] = {}
        added = [token for token in tokenizer.get_added_tokens_decoder().values() if token.content]
        plain = [token for token in added if not _reaches_out(token)]
        self._difficult = _any_of([token for token in added if _reaches_out(token)])
        # The order in which the tokenizer looks for them: unnormalised ones win over normalised ones.
        classes = ([t for t in plain if not t.normalized], [t for t in plain if t.normalized])
        self._markers = [expression for tokens in classes if (expression := _any_of(tokens)) is not None]
        first = {token.content[0] for token in added}
        self._marker_begin = tuple(first) if len(first) <= 4 else None
        self._line_cuts = line_cuts(tokenizer)
        marks = _MARKS if splits_off_marks(tokenizer) else ""
        self._marks = dict(zip(marks, encoded_lengths(tokenizer, list(marks)), strict=True))
        self._tails: dict[str, int] = {}
        self._tail_characters = 0

    def count(self, text: str) -> int:
        self._forget()
        return self._count(text)

    def counts(self, texts: Sequence[str]) -> list[int]:
        self._forget()
        sizes = itertools.accumulate(map(len, texts))
        self._learn_all(texts[: sum(1 for _ in itertools.takewhile(_BATCH.__gt__, sizes)) + 1])
        return [self._count(text) for text in texts]

    def _count(self, text: str) -> int:
        markers, sections = self._sections(text)
        if sections is None:
            return encoded_lengths(self._tokenizer, [text])[0]
        return markers + sum(map(self._count_section, sections))

    def _may_hold_marker(self, text: str) -> bool:
        if self._marker_begin is not None:
            return any(character in text for character in self._marker_begin)
        return True

    def _sections(self, text: str) -> tuple[int, list[str] | None]:
        """How many added tokens a text holds, and what is between them line by line; None when one reaches out."""
        sections, markers = [text], 0
        if self._may_hold_marker(text):
            if self._difficult is not None and self._difficult.search(text):
                return 0, None
            for expression in self._markers:
                sections = list(itertools.chain.from_iterable(map(expression.split, sections)))
            markers = len(sections) - 1
        if self._line_cuts != "none" and "\n" in text:
            cut = _before_line_ends if self._line_cuts == "before" else _after_line_ends
            sections = list(itertools.chain.from_iterable(map(cut, sections)))
        return markers, sections

    def _count_section(self, section: str) -> int:
        first, _, tail = section.partition(" ")
        known = self._at_start.get(first)
        if known is None or not tail:
            return self._count_unknown(section) if known is None or len(section) > len(first) else known
        if len(tail) < _SHORT:
            words = self._count_words(tail)
            return self._count_unknown(section) if words is None else known + words
        counted = self._tails.get(tail)
        if counted is None:
            counted = self._count_words(tail)
            if counted is None:
                return self._count_unknown(section)
            self._tail_characters += len(tail)
            if self._tail_characters > _TAILS:
                self._tails.clear()
                self._tail_characters = len(tail)
            self._tails[tail] = counted
        return known + counted

    def _count_words(self, tail: str) -> int | None:
        """Tokens of what stands behind a section's first space; None when not all of it is remembered."""
        try:
            return sum(map(self._after_space.__getitem__, tail.split(" ")))
        except KeyError:
            return None

    def _count_unknown(self, section: str) -> int:
        """A section with a piece that is not remembered, or with spaces that begin no word."""
        first, *words = section.split(" ")
        if not all(map(str.strip, map(_FIRST, words))):  # spaces that begin no word
            first, *words = _WORD_BEGIN.split(section)
        start = self._at_start.get(first)
        if start is None:
            start = self._learn(self._at_start, "", [first])[first]
        known = self._after_space
        new = self._learn(known, " ", set(words).difference(known))
        try:
            return start + sum(map(known.__getitem__, words))
        except KeyError:  # pieces that are too long to be remembered, or that another thread has just let go
            counted = {word: known.get(word) for word in set(words)} | new
            rest = [word for word, tokens in counted.items() if tokens is None]
            lengths = {**counted, **self._learn({}, " ", rest)}
            return start + sum(lengths[word] or 0 for word in words)

    def _learn(self, memory: dict[str, int], before: str, unknown: Iterable[str]) -> dict[str, int]:
        """Count pieces, each with `before` in front, and remember them."""
        marked, others = [], []
        for piece in unknown:
            if piece[-1:] in self._marks and piece[:-1].isascii() and piece[:-1].isalpha():
                marked.append(piece)
            else:
                others.append(piece)
        others += {piece[:-1] for piece in marked}.difference(memory, others) if marked else ()
        lengths = encoded_lengths(self._tokenizer, [before + piece for piece in others])
        new = dict(zip(others, lengths, strict=True))
        for piece in marked:
            word = piece[:-1]
            tokens = new.get(word, memory.get(word))
            if tokens is None:  # another thread has just let it go
                tokens = encoded_lengths(self._tokenizer, [before + word])[0]
            new[piece] = tokens + self._marks[piece[-1]]
        memory.update((piece, tokens) for piece, tokens in new.items() if len(piece) <= _LONGEST_REMEMBERED)
        return new

    def _forget(self) -> None:
        for memory in (self._at_start, self._after_space):
            if len(memory) > self._remember:
                kept = dict(itertools.islice(memory.items(), self._remember // 2))
                memory.clear()
                memory.update(kept)

    def _learn_all(self, texts: Sequence[str]) -> None:
        """Count what is new in many texts by one call of the tokenizer, which it shares out to all cores. Later texts
        bring few new words."""
        starts: set[str] = set()
        words: set[str] = set()
        for text in texts:
            for section in self._sections(text)[1] or ():
                first, *rest = section.split(" ")
                starts.add(first)
                words.update(rest)
        words.difference_update(self._after_space)
        self._learn(self._at_start, "", starts.difference(self._at_start))
        self._learn(self._after_space, " ", [word for word in words if word and not word[0].isspace()])


def _before_line_ends(text: str) -> list[str]:
    """The text cut before each line end that stands before a visible character."""
    first, *lines = text.split("\n")
    cut = [first]
    for line in lines:
        if line[:1].strip():
            cut.append(f"\n{line}")
        else:
            cut[-1] += f"\n{line}"
    return cut


def _after_line_ends(text: str) -> list[str]:
    """The text cut behind each line end that stands before a visible character other than `/`."""
    first, *lines = text.split("\n")
    cut = [first]
    for line in lines:
        cut[-1] += "\n"
        if line[:1].strip() and line[0] != "/":
            cut.append(line)
        else:
            cut[-1] += line
    return cut


def encoded_lengths(tokenizer: Tokenizer, texts: Sequence[str]) -> list[int]:
    """Tokens of each text by the tokenizer itself. Raises UnencodableTextError."""
    if sum(map(len, texts)) < _FEW:
        return [_encoded_length(tokenizer, text) for text in texts]
    lengths: list[int] = []
    begin = size = 0
    for i, text in enumerate(texts):
        size += len(text)
        if size >= _BATCH or i + 1 == len(texts):
            batch = texts[begin : i + 1]
            try:
                lengths += map(len, tokenizer.encode_batch_fast(list(batch), add_special_tokens=False))
            except TypeError as error:
                for candidate in batch:
                    refuse_surrogates(candidate, error)
                raise
            begin, size = i + 1, 0
    return lengths


def _encoded_length(tokenizer: Tokenizer, text: str) -> int:
    try:
        return len(tokenizer.encode(text, add_special_tokens=False))
    except TypeError as error:
        refuse_surrogates(text, error)
        raise


def refuse_surrogates(text: str, cause: Exception) -> None:
    """Raises UnencodableTextError when the text holds half of a character, which is what tokenizers trip over."""
    broken = next((i for i, c in enumerate(text) if "\ud800" <= c <= "\udfff"), None)
    if broken is not None:
        raise UnencodableTextError(
            f"The text holds half of a character (U+{ord(text[broken]):04X}, a lone surrogate) after "
            f"{text[max(0, broken - 20) : broken]!r}; no tokenizer can read it. Delete or correct it."
        ) from cause


# --- added tokens -----------------------------------------------------------------------------------------------------


def _reaches_out(token: AddedToken) -> bool:
    """Whether an added token takes white space around it in, looks at its neighbours, or holds a space itself."""
    return token.lstrip or token.rstrip or token.single_word or any(map(str.isspace, token.content))


def _any_of(tokens: Sequence[AddedToken]) -> re.Pattern[str] | None:
    """The leftmost of the tokens, and the longest of those that begin there, as the tokenizer finds them."""
    if not tokens:
        return None
    longest_first = sorted((token.content for token in tokens), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)))


# --- the proof --------------------------------------------------------------------------------------------------------

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What a ByteLevel pre-tokenizer with `use_regex` splits by."""

# One alternative of a splitting expression that matches a space at its first character only.
_PROPERTY = r"\\p\{[A-Za-z]{1,2}\}"
_CLASS_ITEM = rf"(?:{_PROPERTY}|\\[rnd]|[A-Za-z0-9/'_一-龥])"
_ATOM = rf"(?:{_PROPERTY}|\\[rnd]|[A-Za-z0-9'’]|\[{_CLASS_ITEM}+\]|\[\^\\s{_CLASS_ITEM}*\])"
_QUANTIFIER = r"(?:[+*?]|\{\d+(?:,\d*)?\})"
_GROUP = rf"\((?:\?i?:)?{_ATOM}+(?:\|{_ATOM}+)*\)"
_LEAD = rf"(?: \?|\[\^{_CLASS_ITEM}+\]\?)"
_WORD = re.compile(rf"{_LEAD}?(?:(?:{_ATOM}|{_GROUP}){_QUANTIFIER}?)+")
# White space up to a line end, in which no space stands before a visible character.
_LINE_ENDS = frozenset({r"\s*[\r\n]+", r"\s*[\r\n]", r"\s*\n", r"\s*\n+"})
_SPACES = [r"\s+(?!\S)", r"\s+"]
_LINE_END = re.compile(r"\\[rn]")
_LEADING_NO_LINE_END = re.compile(r"^\[\^\\r\\n[^\]]*\]\?")
_LEADING = re.compile(r"^\[\^[^\]]*\]\?")
_TRAILING_LINE_ENDS = re.compile(r"\[\\r\\n/?\]\*$")


def why_not_words(tokenizer: Tokenizer) -> str:
    """Why texts cannot be counted piece by piece, for a person; empty when they can.

    The proof, for a space that stands before a visible character: (1) an alternative of the expression takes a space
    only as its first character, or within white space that ends in a line end, or as white space that is followed by
    no visible character, or (the last one) when it is a single one. So no match that began before the space goes over
    it: it begins a word. (2) Nothing looks back, so what comes before does not matter. (3) The one look ahead,
    `(?!\\S)`, gives the same answer before a space and before the end. (4) Unicode's canonical composition never
    crosses a space. (5) BPE merges within a word. An added token cuts the text before all this.
    """
    model = tokenizer.model
    kind = type(model).__name__
    if kind != "BPE":
        return f"the model is {kind}, not BPE"
    if model.dropout:
        return "its BPE drops merges by chance"
    if tokenizer.truncation is not None or tokenizer.padding is not None:
        return "it cuts or pads texts"
    added = tokenizer.get_added_tokens_decoder().values()
    normalizer = _definition(tokenizer.normalizer)
    if normalizer is not None:
        names = [part["type"] for part in normalizer.get("normalizers", [normalizer])]
        if any(name != "NFC" for name in names):
            return f"its normaliser ({', '.join(names)}) may join words"
        if any(token.normalized for token in added):
            return "it looks for added tokens in normalised text"
    return _why_not_split(_definition(tokenizer.pre_tokenizer))


def _definition(component: Any) -> dict[str, Any] | None:
    """The JSON of a part of a tokenizer; None for a part that is not there."""
    if component is None:
        return None
    definition: dict[str, Any] = json.loads(component.__getstate__())
    return definition


def _why_not_split(pre_tokenizer: dict[str, Any] | None) -> str:
    if pre_tokenizer is None:
        return "it does not split texts into words"
    parts = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    names = ", ".join(part["type"] for part in parts)
    match parts:
        case [{"type": "ByteLevel", "use_regex": True}]:
            return ""  # splits by _GPT2
        case [
            {"type": "Split", "pattern": {"Regex": str(expression)}, "behavior": behavior, "invert": invert},
            {"type": "ByteLevel", "use_regex": False},
        ] if (behavior, invert) in {("Isolated", False), ("Removed", True)}:
            if splits_at_spaces(expression):
                return ""
            return f"its splitting expression is one that BrightRun cannot prove: {expression}"
    return f"it splits texts in another way ({names})"


def line_cuts(tokenizer: Tokenizer) -> Literal["none", "before", "after"]:
    """Where lines of a text may be cut apart, for a tokenizer whose words begin at spaces.

    `before` a line end that stands before a visible character: it is a word of its own, by the same proof as for a
    space, where no alternative knows line ends. `after` it: the first alternatives take line ends greedily and with
    them all white space before them, so nothing goes on behind the last one (a `/` may, in one family of tokenizers,
    and is left out). `none` where a text's beginning is given a space.
    """
    definition = _definition(tokenizer.pre_tokenizer) or {}
    parts = definition.get("pretokenizers", [definition])
    if any(part.get("add_prefix_space") for part in parts):
        return "none"
    expression = parts[0].get("pattern", {}).get("Regex", _GPT2)
    if not _LINE_END.search(expression):
        return "before"
    *words, first_space = itertools.takewhile(lambda a: a != _SPACES[0], _alternatives(expression))
    bodies = (_TRAILING_LINE_ENDS.sub("", _LEADING_NO_LINE_END.sub("", word)) for word in words)
    return "after" if first_space in _LINE_ENDS and not any(map(_LINE_END.search, bodies)) else "none"


def splits_off_marks(tokenizer: Tokenizer) -> bool:
    """Whether a comma or full stop behind Latin letters, at the end of a piece, is always a word of its own.

    So it is where no alternative goes from a letter to such a mark: those that know marks are negated classes without
    letters, and a leading character of any kind is followed by no mark. The mark alone is then counted as behind
    letters, unless a text's beginning is given a space.
    """
    definition = _definition(tokenizer.pre_tokenizer) or {}
    parts = definition.get("pretokenizers", [definition])
    if any(part.get("add_prefix_space") for part in parts):
        return False
    expression = parts[0].get("pattern", {}).get("Regex", _GPT2)
    bodies = (_LEADING.sub("", alternative) for alternative in _alternatives(expression)[:-2])
    return all(r"\p{L}" in negated for body in bodies for negated in re.findall(r"\[\^([^\]]*)\]", body))


def splits_at_spaces(expression: str) -> bool:
    """Whether every space before a visible character begins a match of the expression, by the proof above."""
    alternatives = _alternatives(expression)
    return alternatives[-2:] == _SPACES and all(
        alternative in _LINE_ENDS or _WORD.fullmatch(alternative) for alternative in alternatives[:-2]
    )


def _alternatives(expression: str) -> list[str]:
    """The expression cut at each `|` that stands in no group and no class."""
    cut, depth, in_class, begin, i = [], 0, False, 0, 0
    while i < len(expression):
        character = expression[i]
        if character == "\\":
            i += 2
            continue
        if in_class:
            in_class = character != "]"
        elif character == "[":
            in_class = True
        elif character in "()":
            depth += 1 if character == "(" else -1
        elif character == "|" and not depth:
            cut.append(expression[begin:i])
            begin = i + 1
        i += 1
    return [*cut, expression[begin:]]
