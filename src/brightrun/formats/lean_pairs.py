"""Decodes lines of v4 pairs as bytes that need no decoding, and knows by their lengths that no key stands twice.

A line is its values, its keys and what JSON puts around them: where the lengths of what was decoded add up to that of
the block, nothing else stands in it. Every field is decoded for that, also those that are nobody's reading.
"""

import re
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from brightrun.formats.decode import decode
from brightrun.formats.repeated_keys import may_repeat

_UNKNOWN = re.compile(r"Object contains unknown field `(.+)` - at `\$\[\d+\](\.conversation_history\[\d+\])?`$")
_MOST_FIELDS = 24
_ROLES = [(role, len(role) + 2) for role in ("user", "assistant", "system")]
_SPACED = re.compile(rb'\{"[^"]*": ').match
_LINE_FEED = 0x0A
_FIXED = ("current_user_input", "target_response", "system_prompt", "conversation_metadata", "training_metadata")
_SCORE = b'"quality_score"'


class PairDecoder:
    """Decoder of one kind of row, which learns the other fields that a file's rows have.

    pair, turn: the types of a row and of an entry of its history, both without further fields.
    """

    def __init__(self, pair: type[Any], turn: type[Any]) -> None:
        self._pair, self._turn = pair, turn
        self._fields: list[str] = []
        self._turn_fields: list[str] = []
        self._make()

    def _make(self) -> None:
        turn = _extended(self._turn, self._turn_fields)
        pair = _extended(self._pair, self._fields, ("conversation_history", list[turn]))  # type: ignore[valid-type]
        self._decoder = msgspec.json.Decoder(pair)
        self._keys = [len(key) + 3 for key in (*_FIXED, *self._fields)]
        self._values: list[Callable[[Any], Any]] = [*map(attrgetter, _FIXED), *_others(self._fields)]
        self._turn_keys = [len(key) + 3 for key in self._turn_fields]
        self._turn_values = _others(self._turn_fields)

    def decode_lines(self, data: bytes) -> list[Any] | None:
        """The rows; None where they have too many fields. Raises msgspec.DecodeError for what is no such row."""
        for _ in range(_MOST_FIELDS):
            try:
                rows: list[Any] = self._decoder.decode_lines(data)
            except msgspec.ValidationError as error:
                found = _UNKNOWN.search(str(error))
                if found is None:
                    raise
                if len(self._fields) + len(self._turn_fields) >= _MOST_FIELDS:  # those of other files
                    self._fields.clear()
                    self._turn_fields.clear()
                (self._fields if found[2] is None else self._turn_fields).append(found[1])
                self._make()
            else:
                return rows
        return None

    def repeat(self, data: bytes, rows: Sequence[Any]) -> bool:
        """Whether a key may stand twice in what is read of these rows. data: their lines, each of one row."""
        count = len(rows)
        # Of each row `{}`, `"conversation_id":""` and `"conversation_history":[]`.
        size, fields = 47 * count + sum(map(_bytes, [row.conversation_id for row in rows])), 2 * count
        ids = [row.id for row in rows if row.id is not None]
        size, fields = size + 7 * len(ids) + sum(map(_bytes, ids)), fields + len(ids)
        numbers = [row.turn_number for row in rows]
        size, fields = size + _numbers(numbers, 14), fields + count - numbers.count(None)
        for values, key in zip(self._values, self._keys, strict=True):
            lengths = list(map(len, map(values, rows)))
            present = count - lengths.count(0) if 0 in lengths else count
            size, fields = size + sum(lengths) + present * key, fields + present
        gaps = 2 * fields - count
        size += fields - count
        if turns := [turn for row in rows for turn in row.conversation_history]:
            histories = count - [row.conversation_history for row in rows].count([])
            of_turns, fields = self._turns_written(turns)
            size += of_turns + fields - histories
            gaps += 2 * fields - histories
        surplus = len(data) - size - count + (data[-1] != _LINE_FEED)
        # Written with a space behind each colon and comma, or without any: a writer does so everywhere or nowhere.
        if surplus and (surplus != gaps or not (_SPACED(data) and _SPACED(data, data.rfind(b"\n", 0, -1) + 1))):
            return True
        return _metadata_repeats(rows)

    def _turns_written(self, turns: list[Any]) -> tuple[int, int]:
        """Of all messages: their bytes without the commas, and how many fields they have."""
        count = len(turns)
        roles = [turn.role for turn in turns]
        size = 19 * count + sum(map(len, [turn.content for turn in turns]))  # `{}`, `"role":` and `"content":`
        size += sum(roles.count(role) * length for role, length in _ROLES)
        fields = 2 * count
        for numbers, key in (([turn.turn for turn in turns], 7), ([turn.turn_number for turn in turns], 14)):
            if (absent := numbers.count(None)) == count:
                continue
            size, fields = size + _numbers(numbers, key), fields + count - absent
        for values, key in zip(self._turn_values, self._turn_keys, strict=True):
            lengths = list(map(len, map(values, turns)))
            present = count - lengths.count(0) if 0 in lengths else count
            size, fields = size + sum(lengths) + present * key, fields + present
        return size, fields


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _numbers(numbers: Sequence[int | None], key: int) -> int:
    """The bytes of a field of some objects, with those of its name."""
    there = [number for number in numbers if number is not None]
    if not there:
        return 0
    digits = len(there) if min(there) >= 0 and max(there) < 10 else sum(len(str(number)) for number in there)
    return digits + key * len(there)


def _metadata_repeats(rows: Sequence[Any]) -> bool:
    about = None
    different: list[bytes] = []
    for row in rows:
        if row.conversation_metadata != about:
            about = row.conversation_metadata
            if about:
                different.append(bytes(about))
    if different and may_repeat(listed := b"[%b]" % b",".join(different), decode(listed)):
        return True
    scores = b"\n".join([row.training_metadata for row in rows])
    if b"\\u" in scores:
        return True  # the name of a field may be written so
    return not all(b"\n" in between for between in scores.split(_SCORE)[1:-1])


def _others(keys: Sequence[str]) -> list[Callable[[Any], Any]]:
    return [attrgetter(f"other{number}") for number in range(len(keys))]


def _extended(base: type[Any], keys: Sequence[str], *changed: tuple[str, Any]) -> type[Any]:
    others = [(f"other{number}", msgspec.Raw, msgspec.Raw()) for number in range(len(keys))]
    names = {name: key for (name, _, _), key in zip(others, keys, strict=True)}
    return msgspec.defstruct(
        base.__name__,
        [*others, *changed],
        bases=(base,),
        rename=names,
        gc=False,
        kw_only=True,
        forbid_unknown_fields=True,
    )
