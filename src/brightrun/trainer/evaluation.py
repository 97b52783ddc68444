"""Held-out loss per trained token, adapter on or off, and sample answers."""

import contextlib
import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel

from brightrun.formats.chat import ChatTokenizer
from brightrun.formats.chat_errors import ChatError
from brightrun.formats.records import Message, Record
from brightrun.trainer.batches import micro_batches
from brightrun.trainer.data import Example
from brightrun.trainer.model import Numerics, TrainedHead, collate, token_losses

_ANSWER_TOKENS = 48
_PROMPT_TOKENS = 512
_ANSWER_SECONDS = 20.0


@dataclass
class HeldoutLoss:
    """Sums over trained tokens for each held-out record, in file order: what a paired bootstrap needs."""

    loss_sums: list[float]
    tokens: list[int]

    @property
    def mean(self) -> float:
        """Nats per trained token over all records."""
        return math.fsum(self.loss_sums) / sum(self.tokens)


@contextlib.contextmanager
def evaluating(model: PeftModel, *, adapter: bool) -> Iterator[None]:
    """No dropout, no gradients; with the adapter on, or off as if it were not there.

    Not `inference_mode`: some rotary embeddings keep buffers that they compute here, and training needs those.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), contextlib.nullcontext() if adapter else model.disable_adapter():
            yield
    finally:
        model.train(was_training)


def heldout_loss(
    model: PeftModel,
    head: TrainedHead,
    examples: Sequence[Example],
    numerics: Numerics,
    *,
    adapter: bool,
    budget: int,
    check_stop: Callable[[], None],
    saw_pass: Callable[[int], None] = lambda tokens: None,
) -> HeldoutLoss:
    """Loss of every held-out record. `budget`: padded tokens in one pass. `check_stop` may raise between passes;
    `saw_pass` is told how large each one is."""
    sums = [0.0] * len(examples)
    with evaluating(model, adapter=adapter):
        for group in micro_batches([len(example.ids) for example in examples], budget=budget):
            check_stop()
            batch = collate([examples[index] for index in group], numerics)
            saw_pass(batch.ids.numel())
            losses = token_losses(model, head, batch, numerics).double()
            rows = torch.zeros(len(group), dtype=torch.float64, device=losses.device)
            rows.index_add_(0, batch.owners, losses)
            for index, value in zip(group, rows.tolist(), strict=True):
                sums[index] = value
    return HeldoutLoss(sums, [example.targets for example in examples])


@dataclass(frozen=True)
class Sample:
    """One greedy answer. cut: it was ended by our limits and not by the model."""

    conversation_id: str
    prompt: str
    expected: str
    answer: str
    cut: bool


def sample_answers(
    model: PeftModel,
    tokenizer: ChatTokenizer,
    records: Sequence[Record],
    numerics: Numerics,
    *,
    adapter: bool,
    check_stop: Callable[[], None],
) -> tuple[list[Sample], list[str]]:
    """Answers to the last question of each record, at most 48 tokens each, and problems (a template may refuse)."""
    samples: list[Sample] = []
    problems: list[str] = []
    for record in records:
        check_stop()
        prompt, expected = _question(record)
        try:
            ids = list(tokenizer.encode_prompt(prompt, tools=record.tools))[-_PROMPT_TOKENS:]
        except ChatError as error:
            problems.append(f"line {record.line}: no sample answer: {error}")
            continue
        with evaluating(model, adapter=adapter):
            answer, cut = _greedy(model, ids, numerics, stop_ids=tokenizer.stop_ids)
        question = next((m.content for m in reversed(prompt) if m.role == "user"), "")
        samples.append(Sample(record.conversation_id, question, expected, tokenizer.decode(answer), cut))
    return samples, problems


def _question(record: Record) -> tuple[list[Message], str]:
    """The conversation up to its last trained answer, and that answer."""
    last = max(index for index, message in enumerate(record.messages) if message.trained)
    return record.messages[:last], record.messages[last].content


def _greedy(
    model: PeftModel, ids: list[int], numerics: Numerics, *, stop_ids: Collection[int]
) -> tuple[list[int], bool]:
    """The most likely continuation, token by token, and whether our limits ended it."""
    deadline = time.monotonic() + _ANSWER_SECONDS
    step = torch.tensor([ids], dtype=torch.int64, device=numerics.device)
    cache: Any = None
    answer: list[int] = []
    with torch.autocast(numerics.device.type, torch.bfloat16, enabled=numerics.precision == "bf16"):
        while len(answer) < _ANSWER_TOKENS and time.monotonic() < deadline:
            out = model(input_ids=step, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = out.past_key_values
            chosen = int(out.logits[0, -1].argmax())
            if chosen in stop_ids:
                return answer, False
            answer.append(chosen)
            step = torch.tensor([[chosen]], dtype=torch.int64, device=numerics.device)
    return answer, True
