"""What a training file amounts to: conversations, turns, pairs, tokens, and a first look at it."""

from array import array
from collections.abc import Callable
from typing import Any

import orjson

from brightrun.formats.issues import storable
from brightrun.formats.lean import Cleared
from brightrun.formats.reading import NullTarget
from brightrun.formats.records import Message, Record
from brightrun.formats.typed import CleanRun, conversation_of, messages_of
from brightrun.validation.seen import SeenMap
from brightrun.validation.stretches import Sums

SAMPLE_CONVERSATIONS = 3
SAMPLE_MESSAGES = 40
SAMPLE_CHARACTERS = 2_000
_WORDS_TO_TOKENS = 1.3

CountTokens = Callable[[str], int]


class Statistics:
    """Adds up records. Keeps at most 64 bytes a conversation and 4 a record, and nothing else that grows.

    count_tokens: of one text; None when tokens are not wanted. pairs_share_history: v4, whose pairs repeat the
    conversation so far, so that a turn appears in many of them.
    """

    def __init__(self, count_tokens: CountTokens | None, *, pairs_share_history: bool) -> None:
        self._count_tokens, self._pairs_share_history = count_tokens, pairs_share_history
        self._turns_of = SeenMap()
        self._anonymous = 0
        self._last_id: str | None = None
        self._last_turns = 0
        self._unsettled = False
        self.training_pairs = self.turns = 0
        self.tokens = self._spoken_tokens = self._spoken_messages = 0
        self.lengths = array("I")
        """What was counted of each record."""
        self.sample = Sample()

    @property
    def conversations(self) -> int:
        """Distinct conversation ids, and records without one."""
        return self._anonymous + len(self._turns_of)

    @property
    def tokens_per_turn(self) -> float | None:
        """Mean over all messages that are not the system's; None without token counts."""
        if self._count_tokens is None or not self._spoken_messages:
            return None
        return self._spoken_tokens / self._spoken_messages

    def add(self, record: Record, *, anonymous: bool) -> None:
        """Count a record. anonymous: it has no id that groups it with others."""
        spoken = sum(message.role != "system" for message in record.messages) + len(record.chosen or ())
        self.training_pairs += record.training_pairs
        self._add_turns(record.conversation_id, spoken, anonymous=anonymous)
        if self._count_tokens is not None:
            self._add_tokens(record, self._count_tokens)
        self.sample.add(record)

    def add_run(self, run: CleanRun) -> None:
        """Count rows that were read the fast way."""
        count = self._count_tokens
        for row, counted in zip(run.rows, run.counted, strict=True):
            conversation_id = conversation_of(row)
            self.training_pairs += counted.pairs
            self._add_turns(conversation_id or "", counted.spoken, anonymous=conversation_id is None)
            if count is not None:
                before = self.tokens
                for role, content in messages_of(row):
                    self._add_counted(role, count(content))
                self.lengths.append(self.tokens - before)

    def add_cleared(self, cleared: Cleared) -> None:
        """Count a block of which only sums are known; for who wants no tokens."""
        self.training_pairs += cleared.pairs
        if cleared.ids is None:
            self._anonymous += cleared.rows
            self.turns += cleared.spoken
            return
        for conversation_id, spoken in cleared.ids:
            self._add_turns(conversation_id or "", spoken, anonymous=conversation_id is None)

    @property
    def sums(self) -> Sums:
        """What was added up, to be merged elsewhere."""
        self._settle()
        return Sums(
            self._anonymous,
            self.training_pairs,
            self.turns,
            self.tokens,
            self._spoken_tokens,
            self._spoken_messages,
            self.lengths,
            *self._turns_of.entries(),
        )

    def merge(self, part: Sums) -> None:
        """Add what was added up of the lines that follow. A conversation may go on over the boundary."""
        self._anonymous += part.anonymous
        self.training_pairs += part.training_pairs
        self.tokens += part.tokens
        self._spoken_tokens += part.spoken_tokens
        self._spoken_messages += part.spoken_messages
        self.lengths.extend(part.lengths)
        self.turns += part.turns - sum(part.values)
        self._settle()
        self._last_id = None
        for key, turns in zip(part.keys, part.values, strict=True):
            before = self._turns_of.get(key)
            if before is None or turns > before:
                self._turns_of.put(key, turns)
                self.turns += turns - (before or 0)

    def add_null_target(self, pair: NullTarget) -> None:
        """Count the turn of a pair that trains nothing."""
        self._add_turns(pair.conversation_id, pair.turns, anonymous=False)

    def _add_turns(self, conversation_id: str, spoken: int, *, anonymous: bool) -> None:
        if anonymous:
            self._anonymous += 1
            self.turns += spoken
            return
        # Pairs of one conversation stand together: most need no look at the map.
        if conversation_id != self._last_id:
            self._settle()
            key = hash(conversation_id)
            before = self._turns_of.get(key)
            if before is None:
                self._turns_of.put(key, 0)
            self._last_id, self._last_turns = conversation_id, before or 0
        if not self._pairs_share_history:
            self.turns += spoken
        elif spoken > self._last_turns:
            self.turns += spoken - self._last_turns
            self._last_turns, self._unsettled = spoken, True

    def _settle(self) -> None:
        """Note the turns of the last conversation, which is done once and not for each of its pairs."""
        if self._unsettled:
            self._turns_of.put(hash(self._last_id), self._last_turns)
            self._unsettled = False

    def _add_tokens(self, record: Record, count: CountTokens) -> None:
        before = self.tokens
        for message in (*record.messages, *(record.chosen or ()), *(record.rejected or ())):
            tokens = count(message.content)
            if message.tool_calls:
                tokens += count(orjson.dumps(message.tool_calls).decode())
            self._add_counted(message.role, tokens)
        self.lengths.append(self.tokens - before)

    def _add_counted(self, role: str, tokens: int) -> None:
        self.tokens += tokens
        if role != "system":
            self._spoken_tokens += tokens
            self._spoken_messages += 1


class WordEstimate:
    """Words × 1.3, rounded once over the whole file: the sum of words is what is counted."""

    @staticmethod
    def count(text: str) -> int:
        """Words of a text, split at white space."""
        return len(text.split())

    @staticmethod
    def tokens(words: float) -> float:
        """Tokens that so many words amount to."""
        return words * _WORDS_TO_TOKENS


class Sample:
    """The first conversations as people see them, bounded in size whatever the file holds.

    complete: a conversation after them was seen, so that no more of theirs is to be expected.
    """

    def __init__(self) -> None:
        self._conversations: dict[str, dict[str, Any]] = {}
        self.complete = False

    def add(self, record: Record) -> None:
        """Take a record in if it belongs to one of the first conversations. Of v4 pairs the longest is shown, with
        every answer that some pair trains marked."""
        if self.complete:
            return
        shown = self._conversations.get(record.conversation_id)
        if shown is None:
            if len(self._conversations) < SAMPLE_CONVERSATIONS:
                self._conversations[record.conversation_id] = _shown(record)
            else:
                self.complete = True
            return
        if record.kind != "chat" or shown["kind"] != "chat":
            return
        trained = {n for n, message in enumerate(shown["messages"]) if message["trained"]}
        longer = _shown(record) if len(record.messages) > shown["total_messages"] else shown
        trained |= {n for n, message in enumerate(record.messages[:SAMPLE_MESSAGES]) if message.trained}
        for number in trained:
            if number < len(longer["messages"]) and longer["messages"][number]["role"] == "assistant":
                longer["messages"][number]["trained"] = True
        longer["line"] = shown["line"]
        self._conversations[record.conversation_id] = longer

    def conversations(self) -> list[dict[str, Any]]:
        """`[{conversation_id, line, kind, messages: [{role, content, trained, truncated?, tool_calls?}],
        total_messages, chosen?, rejected?, label?}]`."""
        return list(self._conversations.values())


def _shown(record: Record) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "conversation_id": storable(record.conversation_id[:SAMPLE_CHARACTERS]),
        "line": record.line,
        "kind": record.kind,
        "messages": [_shown_message(message) for message in record.messages[:SAMPLE_MESSAGES]],
        "total_messages": len(record.messages),
    }
    for side in ("chosen", "rejected"):
        if (messages := getattr(record, side)) is not None:
            shown[side] = [_shown_message(message) for message in messages[:SAMPLE_MESSAGES]]
    if record.label is not None:
        shown["label"] = record.label
    return shown


def _shown_message(message: Message) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "role": message.role,
        "content": storable(message.content[:SAMPLE_CHARACTERS]),
        "trained": message.trained,
    }
    if len(message.content) > SAMPLE_CHARACTERS:
        shown["truncated"] = True
    if message.tool_calls:
        shown["tool_calls"] = orjson.dumps(message.tool_calls)[:SAMPLE_CHARACTERS].decode(errors="ignore")
    return shown
