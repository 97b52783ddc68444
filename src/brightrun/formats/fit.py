"""Make a record fit a model's window without losing what it is there to teach."""

from dataclasses import dataclass

import msgspec

from brightrun.formats.chat import ChatTokenizer, EncodedRecord, PreferenceEncoding
from brightrun.formats.records import Message, Record


@dataclass(frozen=True, slots=True)
class Fitted:
    """encoded: the record as tokens. left_out: how many of the oldest messages were left out of it."""

    encoded: EncodedRecord
    left_out: int


def fit(tokenizer: ChatTokenizer, record: Record, *, max_length: int) -> Fitted:
    """Encode `record` in at most `max_length` tokens.

    Where the cut at the end would cost trained tokens, the oldest exchanges before the first trained answer are left
    out instead, whole turns at a time and never the system prompt: a pair with a long history is trained on its
    answer. What then still does not fit is cut at the end. Raises ChatError.
    """
    whole = tokenizer.encode(record, max_length=max_length)
    if not whole.trained_lost:
        return Fitted(whole, 0)
    best = Fitted(whole, 0)
    first = next((i for i, message in enumerate(record.messages) if message.trained), 0)
    for start in _later_starts(record.messages, upto=first):
        kept = [*_system(record.messages), *record.messages[start:]]
        encoded = tokenizer.encode(msgspec.structs.replace(record, messages=kept), max_length=max_length)
        if encoded.trained_lost < best.encoded.trained_lost:
            best = Fitted(encoded, len(record.messages) - len(kept))
        if not encoded.trained_lost:
            break
    return best


@dataclass(frozen=True, slots=True)
class FittedPair:
    """encoded: both sides as tokens. left_out: how many of the prompt's oldest messages were left out of both."""

    encoded: PreferenceEncoding
    left_out: int


def fit_preference(tokenizer: ChatTokenizer, record: Record, *, max_length: int) -> FittedPair:
    """Encode a pair in at most `max_length` tokens a side, as `fit`; both keep the same prompt. Raises ChatError."""
    best = FittedPair(tokenizer.encode_preference(record, max_length=max_length), 0)
    for start in _later_starts(record.messages, upto=len(record.messages)):
        if not _lost(best):
            break
        kept = [*_system(record.messages), *record.messages[start:]]
        encoded = tokenizer.encode_preference(msgspec.structs.replace(record, messages=kept), max_length=max_length)
        shorter = FittedPair(encoded, len(record.messages) - len(kept))
        if _lost(shorter) < _lost(best):
            best = shorter
    return best


def _lost(pair: FittedPair) -> int:
    return pair.encoded.chosen.trained_lost + pair.encoded.rejected.trained_lost


def _system(messages: list[Message]) -> list[Message]:
    """The messages before the first that is not the system's."""
    count = next((i for i, message in enumerate(messages) if message.role != "system"), len(messages))
    return messages[:count]


def _later_starts(messages: list[Message], *, upto: int) -> list[int]:
    """Where the conversation could begin instead: at each later user turn before message `upto`, the first trained."""
    opening = len(_system(messages))
    return [i for i in range(opening + 1, upto) if messages[i].role == "user" and messages[i - 1].role != "user"]
