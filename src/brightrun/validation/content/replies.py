"""Checks that compare every reply with all others of the file: openings, lengths, languages.

Of each reply about 40 bytes are put aside; when the file is over they are read through once more.
"""

import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from brightrun.formats.masking import mask
from brightrun.formats.records import Record
from brightrun.validation.checks import LateRemark, Remark, Reread, percent
from brightrun.validation.content.languages import LANGUAGES, language_of
from brightrun.validation.content.places import Places, trained_replies
from brightrun.validation.spill import Spill
from brightrun.validation.thresholds import Thresholds

_ROW = struct.Struct("<QQIqBHH")
_READ = 1 << 16
_LANGUAGE_NUMBER = {name: number for number, name in enumerate(LANGUAGES)}
_COUNTED_LENGTHS = 1 << 16
_TOP_OPENINGS = 256
_NAMED_LINES = 8
_FIRST = 200


class _Reply(NamedTuple):
    """One answer. opening: hash of its first words; 0 where it has fewer. path: of its record. field: within the
    record, where it was likely to be wanted when the answer was seen."""

    line: int
    byte_offset: int
    length: int
    opening: int
    language: int
    path: str
    field: str


_Judge = Callable[[_Reply], tuple[str, str] | None]


class Replies:
    """names: those of `repeated_openings`, `reply_lengths` and `language_mix` that are wanted. memory_bytes: what is
    kept in memory before a temporary file is used."""

    def __init__(self, names: tuple[str, ...], thresholds: Thresholds, places: Places, memory_bytes: int) -> None:
        self.names = names
        self._limits, self._places = thresholds, places
        self._languages = "language_mix" in names
        self._rows = Spill(memory_bytes)
        self._count = 0
        self._lengths = Counter[int]()
        self._spoken = Counter[int]()
        self._main = -1  # the language of most replies so far
        self._openings = _Commonest(_TOP_OPENINGS)

    def look(self, record: Record) -> None:
        """Put aside what is compared."""
        limits = self._limits
        for side, number, message in trained_replies(record):
            text = message.content.strip()
            if not text:
                continue  # a tool call says nothing
            self._count += 1
            self._lengths[min(len(text), _COUNTED_LENGTHS)] += 1
            language = _LANGUAGE_NUMBER[language_of(text, limits.language_letters)] if self._languages else 0
            self._spoken[language] += 1
            if self._spoken[language] > self._spoken[self._main] and LANGUAGES[language] is not None:
                self._main = language
            opening = self._openings.add(_opening(text, limits.repeated_opening_words))
            field = self._places.path(record, number, side) if self._may_be_odd(len(text), language) else ""
            path, within = record.path.encode(), field.encode("utf-8", "replace")[:0xFFFF]
            numbers = (record.line, record.byte_offset, min(len(text), 0xFFFFFFFF), opening, language)
            self._rows.append(_ROW.pack(*numbers, len(path), len(within)) + path + within)

    def _may_be_odd(self, length: int, language: int) -> bool:
        """Whether a reply may be named in the end: where it stands is worth finding out."""
        limits = self._limits
        if self._count <= _FIRST:  # it is not yet known what is usual
            return True
        if length <= limits.short_reply_characters or length >= limits.long_reply_characters:
            return True
        return LANGUAGES[language] is not None and language != self._main

    def finish(self, reread: Reread | None) -> Iterable[LateRemark]:
        """One remark for an opening, one for a reply of odd length or language, one for a second language."""
        try:
            if "repeated_openings" in self.names:
                yield from self._repeated()
            lengths, languages = self._odd_lengths(), self._odd_languages()
            for reply in self._all() if lengths or languages else ():
                for judge in (*lengths, *languages):
                    if (said := judge(reply)) is not None:
                        code, message = said
                        remark = Remark(code, reply.field, message)
                        yield LateRemark(reply.line, reply.byte_offset, reply.path, remark)
        finally:
            self.close()

    def close(self) -> None:
        """Remove the temporary file."""
        self._rows.close()

    def _all(self) -> Iterator[_Reply]:
        """What was put aside, in file order."""
        start, held = 0, b""
        while start < self._rows.size:
            block = self._rows.read(start, _READ)
            start += len(block)
            held, position = held + block, 0
            while position + _ROW.size <= len(held):
                *numbers, path, field = _ROW.unpack_from(held, position)
                middle = position + _ROW.size + path
                if (end := middle + field) > len(held):
                    break
                names = (held[position + _ROW.size : middle].decode(), held[middle:end].decode("utf-8", "replace"))
                yield _Reply._make((*numbers, *names))
                position = end
            held = held[position:]

    def _repeated(self) -> Iterator[LateRemark]:
        limits = self._limits
        needed = max(limits.repeated_opening_replies, limits.repeated_opening_share * self._count)
        counts, first = Counter[int](), dict[int, list[_Reply]]()
        if not self._openings.texts:
            return
        for reply in self._all():
            if reply.opening in self._openings.texts:
                counts[reply.opening] += 1
                first.setdefault(reply.opening, [])
                if len(first[reply.opening]) < _NAMED_LINES:
                    first[reply.opening].append(reply)
        for opening, count in counts.items():
            if count >= needed:
                replies = first[opening]
                lines = list(dict.fromkeys(reply.line for reply in replies))
                more = f" and {count - len(replies):,} more" if count > len(replies) else ""
                message = (
                    f"{count:,} of {self._count:,} replies ({percent(count / self._count)}) begin with "
                    f"“{mask(self._openings.texts[opening])}”: {_units(replies[0])} "
                    f"{', '.join(f'{line:,}' for line in lines)}{more}."
                )
                place = replies[0]
                yield LateRemark(place.line, place.byte_offset, place.path, Remark("repeated_opening", "", message))

    def _odd_lengths(self) -> list[_Judge]:
        limits = self._limits
        if "reply_lengths" not in self.names or self._count < limits.length_replies:
            return []
        median = _median(self._lengths, self._count)
        short = min(limits.short_reply_characters, limits.short_reply_share * median)
        long = max(limits.long_reply_characters, limits.long_reply_factor * median)

        def judge(reply: _Reply) -> tuple[str, str] | None:
            usual = f"half of the file's replies have at least {median:,}"
            if reply.length <= short:
                return "short_reply", f"The reply has {reply.length:,} characters; {usual}."
            if reply.length >= long:
                return "long_reply", f"The reply has {reply.length:,} characters; {usual.replace('least', 'most')}."
            return None

        return [judge]

    def _odd_languages(self) -> list[_Judge]:
        spoken = {language: count for language, count in self._spoken.items() if LANGUAGES[language]}
        total = sum(spoken.values())
        if len(spoken) < 2:
            return []
        main = max(spoken, key=lambda language: spoken[language])
        second = {language for language, n in spoken.items() if n >= self._limits.language_share * total} - {main}
        told: set[int] = set()

        def judge(reply: _Reply) -> tuple[str, str] | None:
            language, name = reply.language, LANGUAGES[reply.language]
            if name is None or language == main or language in told:
                return None
            verb = "is" if spoken[main] == 1 else "are"
            most = f"of {total:,} whose language is certain, {spoken[main]:,} {verb} in {LANGUAGES[main]}"
            if language in second:
                told.add(language)
                many = spoken[language]
                these = "One reply, this one, is" if many == 1 else f"{many:,} replies, this one first, are"
                return "second_language", f"{these} in {name}; {most}."
            return "other_language", f"The reply is in {name}; {most}."

        return [judge]


class _Commonest:
    """Counts which openings may be common, in bounded memory (Misra and Gries, 1982): whatever makes up more than one
    in `size` of all is among them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._counts: dict[int, int] = {}
        self.texts: dict[int, str] = {}

    def add(self, text: str) -> int:
        """Count an opening. Returns its hash; 0 for none."""
        if not text:
            return 0
        key, counts = hash(text) or 1, self._counts
        if key in counts:
            counts[key] += 1
        elif len(counts) < self._size:
            counts[key], self.texts[key] = 1, text
        else:
            for other in [other for other, count in counts.items() if count == 1]:
                del counts[other], self.texts[other]
            for other in counts:
                counts[other] -= 1
        return key


def _opening(text: str, words: int) -> str:
    """The first words in lower case without punctuation; empty where there are not more than these."""
    written = text[:400].split(None, words)
    if len(written) <= words:
        return ""
    return " ".join(word.strip(".,;:!?…\"'“”„«»()*_#—–-") for word in written[:words]).lower()


def _median(counts: Counter[int], total: int) -> int:
    """Of values counted by value; the lower one of two."""
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        if 2 * seen >= total:
            return value
    return 0


def _units(reply: _Reply) -> str:
    return "lines" if not reply.path else "records" if reply.path.startswith("[") else "pairs"
