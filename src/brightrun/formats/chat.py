"""From a record to what a model sees: the rendered chat, its token ids, and which of them are trained.

One code for the trainer, the validator, the estimate and the mask view. The chat is rendered whole by the model's own
template and tokenised whole, so the ids are those of transformers' `apply_chat_template`. Labels are ours: exactly the
text of trained messages and the token that ends their turn, whatever the template (`chat_spans` says how).
"""

import hashlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import msgspec
from tokenizers import Encoding

from brightrun.formats import chat_messages, tokenizer_folder
from brightrun.formats.chat_errors import (
    ChatError,
    ChatTemplateMissingError,
    TemplateFaultError,
    TemplateRefusedError,
    TokenizerFolderError,
    TrainedSpanError,
    UnencodableTextError,
)
from brightrun.formats.chat_spans import SpanFinder, TemplateMessage, TrainedSpan
from brightrun.formats.records import Message, Record
from brightrun.formats.template_env import ChatTemplate
from brightrun.formats.token_counts import TokenCounter, refuse_surrogates, token_counter

__all__ = [
    "IGNORED",
    "ChatError",
    "ChatTemplateMissingError",
    "ChatTokenizer",
    "EncodedRecord",
    "Inspection",
    "PreferenceEncoding",
    "RenderedRecord",
    "TemplateFaultError",
    "TemplateRefusedError",
    "TokenizerFolderError",
    "TrainedSpanError",
    "UnencodableTextError",
]

IGNORED = -100
"""The label of a token that is not trained, as PyTorch's cross entropy ignores it."""


@dataclass(frozen=True, slots=True)
class EncodedRecord:
    """One record as tokens, cut at the end to at most `max_length`.

    input_ids, labels: int32 arrays of the same length; a label is the token's own id, or IGNORED (the shift by one is
      the model's). truncated_tokens: tokens that were cut off. trained_total: trained tokens of the whole record,
      before the cut; trained_lost: those of them that were cut off. eot_trained: every trained message ends in an
      end-of-turn token that is trained and was not cut off (False when nothing is trained).
    """

    input_ids: "array[int]"
    labels: "array[int]"
    truncated_tokens: int
    trained_total: int
    trained_lost: int
    eot_trained: bool

    @property
    def trained_kept(self) -> int:
        """Trained tokens that are left; 0 means that a model learns nothing from this record."""
        return self.trained_total - self.trained_lost


@dataclass(frozen=True, slots=True)
class PreferenceEncoding:
    """Prompt + chosen and prompt + rejected, each with only the continuation trained."""

    chosen: EncodedRecord
    rejected: EncodedRecord


@dataclass(frozen=True, slots=True)
class RenderedRecord:
    """A record as text, and what of it is trained. spans: one for each trained message, in order."""

    text: str
    spans: list[TrainedSpan]


class InspectedToken(TypedDict):
    id: int
    text: str
    trained: bool
    cut: bool


class Inspection(TypedDict):
    """The mask, made visible. The texts of all tokens, joined, are the rendered chat.

    Where several tokens make one character (an emoji), the first carries it and the others have an empty text.
    `trained` is what would be trained without the cut; `cut` marks tokens beyond the maximum length.
    """

    tokens: list[InspectedToken]
    trained_total: int
    eot_trained: bool
    template_sha256: str


class ChatTokenizer:
    """A model's tokenizer together with its chat template. Safe to share between threads.

    name: of the folder. template_sha256: of the default template's text. eos/pad/bos_token: their texts or None, and
    `…_id` their ids (pad falls back to end-of-sequence, as label masks make that harmless). stop_ids: ids that end
    generation. vocab_size: with added tokens.
    """

    def __init__(
        self, parts: tokenizer_folder.TokenizerFolder, *, name: str, template: str | None, now: datetime | None
    ) -> None:
        self._parts = parts
        self._template_choice = template
        self._now = now
        self._compiled: dict[str, _CompiledTemplate] = {}
        self._counter: TokenCounter | None = None
        self.name = name
        self.template_sha256 = hashlib.sha256(parts.template(template).encode()).hexdigest()
        self.eos_token, self.eos_id = self._special("eos_token")
        self.bos_token, self.bos_id = self._special("bos_token")
        self.pad_token, pad_id = self._special("pad_token")
        self.pad_id = next((i for i in (pad_id, self.eos_id) if i is not None), 0)
        self.stop_ids = parts.stop_ids
        self.vocab_size = parts.tokenizer.get_vocab_size(with_added_tokens=True)
        self._template_for(None)  # a template that is not valid Jinja is refused here, not at the first record

    @classmethod
    def from_folder(cls, folder: Path, *, template: str | None = None, now: datetime | None = None) -> "ChatTokenizer":
        """Load a model folder's tokenizer and chat template.

        template: Jinja text to use instead, or the name of one of the folder's. now: what a template that writes the
        date sees; give the time of the run, so that a resumed run sees the same tokens.
        Raises TokenizerFolderError, ChatTemplateMissingError, TemplateFaultError.
        """
        return cls(tokenizer_folder.load(folder), name=folder.name, template=template, now=now)

    def _special(self, name: str) -> tuple[str | None, int | None]:
        text = self._parts.special_tokens.get(name)
        return text, None if text is None else self._parts.tokenizer.token_to_id(text)

    @property
    def counter(self) -> TokenCounter:
        """Counts the tokens of many texts, quickly and exactly."""
        if self._counter is None:
            self._counter = token_counter(self._parts.tokenizer)
        return self._counter

    def count(self, text: str) -> int:
        """Tokens of a text by itself, without any template. Raises UnencodableTextError."""
        return self.counter.count(text)

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: list[dict[str, Any]] | None = None,
        add_generation_prompt: bool = False,
    ) -> str:
        """The chat as the model sees it. Raises TemplateRefusedError (the template's words), TemplateFaultError."""
        compiled = self._template_for(tools)
        return compiled.render(tools, compiled.messages(messages), add_generation_prompt)

    def encode_prompt(self, messages: Sequence[Message], *, tools: list[dict[str, Any]] | None = None) -> "array[int]":
        """Token ids of a chat up to where the model begins its answer, for generation. Raises ChatError."""
        return array("i", self._encode(self.render(messages, tools=tools, add_generation_prompt=True)).ids)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of token ids; bytes that make no whole character become U+FFFD."""
        return self._parts.tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)

    def encode(self, record: Record, *, max_length: int | None = None) -> EncodedRecord:
        """Token ids and labels of a chat record, cut at the end to `max_length` tokens.

        A record without trained tokens is returned as such (`trained_total` 0), as is one whose trained tokens were
        all cut off (`trained_kept` 0): what to do about it is the caller's to say. Raises ChatError.
        """
        rendered = self.label(record.messages, tools=record.tools)
        return _cut(self._encode(rendered.text), rendered.spans, max_length)

    def encode_preference(self, record: Record, *, max_length: int | None = None) -> PreferenceEncoding:
        """Both continuations of a preference record after its prompt. Raises ChatError, ValueError (other kinds)."""
        sides = [self.label(side, tools=record.tools) for side in preference_sides(record)]
        chosen, rejected = (_cut(self._encode(side.text), side.spans, max_length) for side in sides)
        return PreferenceEncoding(chosen, rejected)

    def inspect(self, record: Record, max_length: int | None = None) -> Inspection:
        """Every token of a record with its text and whether it is trained and cut off. Raises ChatError."""
        rendered = self.label(record.messages, tools=record.tools)
        encoding = self._encode(rendered.text)
        labels = _labels(encoding, rendered.spans)
        encoded = _cut(encoding, rendered.spans, max_length)
        tokens: list[InspectedToken] = []
        shown = 0
        for i, (token, (_, end)) in enumerate(zip(encoding.ids, encoding.offsets, strict=True)):
            last = i + 1 == len(labels)
            upto = len(rendered.text) if last else max(shown, end)
            tokens.append(
                {
                    "id": token,
                    "text": rendered.text[shown:upto],
                    "trained": labels[i] != IGNORED,
                    "cut": i >= len(encoded.input_ids),
                }
            )
            shown = upto
        return {
            "tokens": tokens,
            "trained_total": encoded.trained_total,
            "eot_trained": encoded.eot_trained,
            "template_sha256": self.template_sha256_of(record),
        }

    def template_sha256_of(self, record: Record) -> str:
        """SHA-256 of the template that writes this record: one with tools may have its own."""
        return self._template_for(record.tools).sha256

    def label(self, messages: Sequence[Message], *, tools: list[dict[str, Any]] | None = None) -> RenderedRecord:
        """The chat as the model sees it, and which characters of it are trained. Raises ChatError."""
        compiled = self._template_for(tools)
        written = compiled.messages(messages)
        rendered = compiled.render(tools, written, False)
        chat_messages.check_tool_calls_shown(written, rendered)
        wanted = [i for i, message in enumerate(messages) if message.trained]
        return RenderedRecord(
            rendered, compiled.finder.find(partial(compiled.render, tools), written, rendered, wanted)
        )

    def _encode(self, text: str) -> Encoding:
        try:
            return self._parts.tokenizer.encode(text, add_special_tokens=False)
        except TypeError as error:
            refuse_surrogates(text, error)
            raise

    def _template_for(self, tools: list[dict[str, Any]] | None) -> "_CompiledTemplate":
        source = self._parts.template(self._template_choice, tools=tools is not None)
        if source not in self._compiled:
            self._compiled[source] = _CompiledTemplate(source, self._parts, self._now)
        return self._compiled[source]


class _CompiledTemplate:
    """One template, and what was found out about it by probing."""

    def __init__(self, source: str, parts: tokenizer_folder.TokenizerFolder, now: datetime | None) -> None:
        self._template = ChatTemplate(source, now=now)
        self._variables = parts.special_tokens
        self.sha256 = hashlib.sha256(source.encode()).hexdigest()
        added = parts.tokenizer.get_added_tokens_decoder()
        stops = [added[i].content for i in parts.stop_ids if i in added]
        special = {token.content for token in added.values() if token.special}
        self.finder = SpanFinder(partial(self.render, None), special | set(stops), stops)
        self._arguments_as_text: bool | None = None

    def render(self, tools: list[dict[str, Any]] | None, messages: list[TemplateMessage], prompt: bool) -> str:
        return self._template.render(messages, tools=tools, add_generation_prompt=prompt, variables=self._variables)

    def messages(self, messages: Sequence[Message]) -> list[TemplateMessage]:
        """Messages as this template wants them; tool call arguments as an object or as text."""
        if self._arguments_as_text is None and any(message.tool_calls for message in messages):
            self._arguments_as_text = chat_messages.wants_arguments_as_text(partial(self.render, None))
        return chat_messages.for_template(messages, arguments_as_text=bool(self._arguments_as_text))


def preference_sides(record: Record) -> tuple[list[Message], list[Message]]:
    """Prompt + chosen and prompt + rejected as two chats, with only the continuation trained. Raises ValueError."""
    if record.chosen is None or record.rejected is None:
        raise ValueError(f"Record {record.index} has no chosen and rejected answer: it is a {record.kind} record.")
    prompt = [msgspec.structs.replace(message, trained=False) for message in record.messages]
    chosen, rejected = (
        [msgspec.structs.replace(message, trained=message.role == "assistant") for message in answer]
        for answer in (record.chosen, record.rejected)
    )
    return [*prompt, *chosen], [*prompt, *rejected]


def _labels(encoding: Encoding, spans: list[TrainedSpan]) -> "array[int]":
    """A label for each token: a token is trained when any of its characters is.

    Tokens may share characters (the bytes of an emoji) or have none (a prefix space that a normaliser adds). The very
    first token is never trained: nothing predicts it.
    """
    ids = encoding.ids
    labels = array("i", [IGNORED]) * len(ids)
    offsets = encoding.offsets  # a fresh list at every access
    starts = [start for start, _ in offsets]
    ends = [end for _, end in offsets]
    for span in spans:
        first = bisect_right(ends, span.start)
        while first > 0 and starts[first - 1] >= span.start:
            first -= 1  # a token without characters, exactly at the beginning of the answer
        for i in range(first, bisect_left(starts, span.end)):
            labels[i] = ids[i]
    labels[:1] = array("i", [IGNORED])[: len(labels)]
    return labels


def _cut(encoding: Encoding, spans: list[TrainedSpan], max_length: int | None) -> EncodedRecord:
    labels = _labels(encoding, spans)
    total = len(labels) - labels.count(IGNORED)
    length = len(labels) if max_length is None else min(max_length, len(labels))
    kept = labels[:length]
    last_char = encoding.offsets[length - 1][1] if length else 0
    return EncodedRecord(
        input_ids=array("i", encoding.ids[:length]),
        labels=kept,
        truncated_tokens=len(labels) - length,
        trained_total=total,
        trained_lost=total - (len(kept) - kept.count(IGNORED)),
        eot_trained=bool(spans) and all(span.ends_turn and span.end <= last_char for span in spans),
    )
