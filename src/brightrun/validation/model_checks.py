"""What the chosen base model makes of each record: whether its chat template takes it, and how long it becomes.

Every record is rendered by the model's real template and labelled by the code that the trainer labels with. Its length
is that of the whole rendered chat, role headers and end-of-turn tokens included: what counts against the maximum
length. The report's `tokens` are another number, those of the messages' texts alone.
"""

from array import array
from collections.abc import Iterable, Sequence
from typing import Any, TypedDict

from brightrun.formats.chat import ChatError, ChatTokenizer, preference_sides
from brightrun.formats.chat_errors import TemplateRefusedError
from brightrun.formats.fit import fit
from brightrun.formats.records import Message, Record
from brightrun.validation.checks import ComparingCheck, LateRemark, RecordCheck, Remark, Reread
from brightrun.validation.readiness import lengths_of

_MOST_PREFIXES = 60  # messages of a refused chat that are tried one by one to find the one at fault
_MOST_ORDERS = 1_000  # orders of speakers whose fault is remembered
_MOST_REMEMBERED = 5_000  # remarks


class Lengths(TypedDict):
    """What is added to `readiness.lengths_of`: lengths in tokens of the rendered chat, of a preference pair the longer.

    of: `rendered chats`. method: `words` or `encode_batch` (how they were counted; the numbers are the same), and
    method_reason why not the quick one. refused: records that could not be rendered or labelled, and so have no length.
    max_length: the limit that was asked about, None if none; over: records longer than it; shortened: of these, those
    whose oldest messages are left out; cut: those that are cut at the end; unused: those with nothing left to learn;
    trained_lost: trained tokens lost in all.
    """

    of: str
    method: str
    method_reason: str
    refused: int
    max_length: int | None
    over: int
    shortened: int
    cut: int
    unused: int
    trained_lost: int


class ModelCheck(RecordCheck):
    """One model's view of a file.

    model: the name that messages and `source` show. max_length: tokens; None to ask nothing about length.
    lengths_only: measure, and say nothing about any record. Keeps four bytes a record, and its first remarks.

    said: all remarks made, for who wants to remember them; None when they became too many.
    """

    def __init__(
        self, tokenizer: ChatTokenizer, model: str, *, max_length: int | None = None, lengths_only: bool = False
    ) -> None:
        self._tokenizer, self._model, self._max_length = tokenizer, model, max_length
        self._lengths_only = lengths_only
        self.said: list[LateRemark] | None = []
        self._lengths = array("I")
        self._refused = self._over = self._shortened = self._cut = self._unused = self._trained_lost = 0
        self._trainable = 0
        self._said_end_of_turn = False
        self._culprits: dict[tuple[str, ...], int | None] = {}

    @property
    def names(self) -> tuple[str, ...]:
        if self._lengths_only:
            return ("lengths",)
        return ("chat_template",) if self._max_length is None else ("chat_template", "truncation")

    def look(self, record: Record) -> Iterable[Remark]:
        """What this model has to say about a record."""
        try:
            if self._lengths_only:
                self._measure(record)
                return ()
            remarks = self._look_at_sides(record) if record.kind == "preference" else self._look_at_chat(record)
        except ChatError as error:
            self._refused += 1
            remarks = [] if self._lengths_only else [self._refusal(record, error)]
        for remark in remarks:
            self._remember(LateRemark(record.line, record.byte_offset, record.path, remark))
        return remarks

    def _remember(self, remark: LateRemark) -> None:
        if self.said is not None:
            self.said.append(remark)
            if len(self.said) > _MOST_REMEMBERED:
                self.said = None

    def _measure(self, record: Record) -> None:
        chats = preference_sides(record) if record.kind == "preference" else (record.messages,)
        texts = [self._tokenizer.render(chat, tools=record.tools) for chat in chats]
        self._lengths.append(max(map(self._tokenizer.count, texts)))

    def nothing_fits(self) -> Iterable[LateRemark]:
        """When the file is over: an error if the maximum length leaves nothing to learn in all of it."""
        if self._unused and self._unused == self._trainable:
            message = (
                f"In none of the {self._unused:,} records does a trained token lie within {self._max_length:,} tokens: "
                "nothing would be learned."
            )
            remark = Remark("nothing_to_train", "", message, suggestion="Raise the maximum length.")
            late = LateRemark(1, 0, "", remark)
            self._remember(late)
            yield late

    def _look_at_chat(self, record: Record) -> list[Remark]:
        rendered = self._tokenizer.label(record.messages, tools=record.tools)
        length = self._tokenizer.count(rendered.text)
        self._lengths.append(length)
        if not rendered.spans:
            return []
        self._trainable += 1
        remarks = []
        if not self._said_end_of_turn and not all(span.ends_turn for span in rendered.spans):
            self._said_end_of_turn = True
            message = f"The chat template of {self._model} ends an answer without an end-of-turn token that is trained."
            remarks.append(Remark("end_of_turn_not_trained", "", message))
        if self._max_length is not None and length > self._max_length:
            self._over += 1
            remarks += self._too_long(record, length, self._max_length)
        return remarks

    def _too_long(self, record: Record, length: int, max_length: int) -> list[Remark]:
        """What the trainer would do about a record that is too long: it leaves out and cuts by the same code."""
        fitted = fit(self._tokenizer, record, max_length=max_length)
        encoded, remarks = fitted.encoded, []
        self._trained_lost += encoded.trained_lost
        limit = f"The row has {length:,} tokens; {max_length:,} are allowed"
        if fitted.left_out:
            self._shortened += 1
            message = f"{limit}: the oldest {_messages(fitted.left_out)} would be left out."
            remarks.append(Remark("history_shortened", "", message))
        if not encoded.trained_kept:
            self._unused += 1
            message = (
                f"{limit}: all its {encoded.trained_total:,} trained tokens lie beyond them. It would not be used."
            )
            remarks.append(Remark("all_trained_tokens_cut", "", message))
        elif encoded.truncated_tokens:
            self._cut += 1
            message = (
                f"{limit}: {encoded.truncated_tokens:,} would be cut off, {encoded.trained_lost:,} of them "
                f"trained (of {encoded.trained_total:,})."
            )
            remarks.append(Remark("truncated", "", message))
        return remarks

    def _look_at_sides(self, record: Record) -> list[Remark]:
        """Both answers of a preference pair, each after the prompt. Each is cut at its end."""
        rendered = [self._tokenizer.label(side, tools=record.tools) for side in preference_sides(record)]
        lengths = [self._tokenizer.count(side.text) for side in rendered]
        self._lengths.append(max(lengths))
        self._trainable += 1
        if self._max_length is None or max(lengths) <= self._max_length:
            return []
        self._over += 1
        self._cut += 1
        pair = self._tokenizer.encode_preference(record, max_length=self._max_length)
        self._trained_lost += pair.chosen.trained_lost + pair.rejected.trained_lost
        message = (
            f"With its chosen answer the row has {lengths[0]:,} tokens, with its rejected one {lengths[1]:,}; "
            f"{self._max_length:,} are allowed. {pair.chosen.trained_lost:,} and {pair.rejected.trained_lost:,} "
            "trained tokens would be cut off."
        )
        return [Remark("truncated", "", message)]

    def _refusal(self, record: Record, error: ChatError) -> Remark:
        """The template's own words, and the order of speakers where that is what it refuses."""
        if not isinstance(error, TemplateRefusedError):
            return Remark(error.code, "", str(error))
        roles = tuple(message.role for message in record.messages)
        order = ", ".join(roles[:12]) + (", …" if len(roles) > 12 else "")
        message = f"The chat template of {self._model} refuses the conversation: {error}"
        message += "" if message.endswith((".", "!", "?")) else "."
        culprit = self._culprit(record, roles)
        at = "" if culprit is None else f", refused from message {culprit + 1} ({roles[culprit]}) on"
        return Remark(error.code, "", f"{message} Order of speakers: {order}{at}.")

    def _culprit(self, record: Record, roles: tuple[str, ...]) -> int | None:
        """The first message from which on every beginning of the chat is refused; None where that is not told."""
        if roles not in self._culprits:
            if len(self._culprits) >= _MOST_ORDERS:
                return None
            self._culprits[roles] = self._find_culprit(record.messages, record.tools)
        return self._culprits[roles]

    def _find_culprit(self, messages: Sequence[Message], tools: list[dict[str, Any]] | None) -> int | None:
        if len(messages) > _MOST_PREFIXES:
            return None
        for count in range(len(messages) - 1, 0, -1):
            try:
                self._tokenizer.render(messages[:count], tools=tools)
            except TemplateRefusedError:
                continue
            except ChatError:
                return None
            return count
        return 0

    def lengths(self) -> dict[str, Any] | None:
        """The distribution, when the file is over: `readiness.lengths_of` and `Lengths`. None without a length."""
        distribution = lengths_of(self._lengths, f"exact:{self._model}", 1)
        if distribution is None:
            return None
        counter = self._tokenizer.counter
        more = Lengths(
            of="rendered chats",
            method=counter.method,
            method_reason=counter.reason,
            refused=self._refused,
            max_length=self._max_length,
            over=self._over,
            shortened=self._shortened,
            cut=self._cut,
            unused=self._unused,
            trained_lost=self._trained_lost,
        )
        return {**distribution, **more}


class WholeFileCheck(ComparingCheck):
    """What a model check has to say about the file as a whole. Hand it to the validator beside the check itself."""

    def __init__(self, check: ModelCheck) -> None:
        self._check = check

    @property
    def names(self) -> tuple[str, ...]:
        return ()

    def look(self, record: Record) -> None:
        """Nothing to note: the check itself saw the record."""

    def finish(self, reread: Reread | None) -> Iterable[LateRemark]:
        return self._check.nothing_fits()


def _messages(number: int) -> str:
    return "message" if number == 1 else f"{number:,} messages"
