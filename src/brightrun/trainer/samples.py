"""Answers to fixed prompts, before, during and after training: greedy, short, and bounded in time."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from peft import PeftModel

from brightrun.formats.chat import ChatTokenizer
from brightrun.formats.chat_errors import ChatError
from brightrun.formats.records import Message, Record
from brightrun.trainer.context import RunContext
from brightrun.trainer.model import Numerics
from brightrun.trainer.objectives import evaluating

_ANSWER_TOKENS = 48
_PROMPT_TOKENS = 512
_ANSWER_SECONDS = {"before": 20.0, "during": 5.0, "after": 20.0}
# Answers on the way may take this share of the time trained; beyond it an evaluation point goes without.
_SHARE = 0.1
_ALWAYS_SECONDS = 10.0


@dataclass(frozen=True)
class _Prompt:
    """conversation_id, line: of a held-out record; None for a question from run.json, which has no expected answer."""

    messages: list[Message]
    expected: str | None = None
    conversation_id: str | None = None
    line: int | None = None
    tools: list[dict[str, Any]] | None = None


def prompts_of(questions: Sequence[str], records: Sequence[Record]) -> list[_Prompt]:
    """The questions of run.json where it has any, else the last question of each held-out record."""
    if questions:
        return [_Prompt([Message(role="user", content=question)]) for question in questions]
    return [_of_record(record) for record in records]


def _of_record(record: Record) -> _Prompt:
    """The conversation up to its last trained answer, and that answer; of a pair the prompt and the chosen answer."""
    if record.chosen is not None:
        expected = next((m.content for m in record.chosen if m.role == "assistant"), "")
        messages = record.messages
    else:
        last = max(index for index, message in enumerate(record.messages) if message.trained)
        messages, expected = record.messages[:last], record.messages[last].content
    return _Prompt(messages, expected, record.conversation_id, record.line, record.tools)


@dataclass
class Sampler:
    """Answers the prompts and says so in `sample` events."""

    run: RunContext
    model: PeftModel
    tokenizer: ChatTokenizer
    numerics: Numerics
    prompts: list[_Prompt]
    _problems: set[str] = field(default_factory=set)
    _spent: float = 0.0
    _started: float = field(default_factory=time.monotonic)
    _thinned: bool = False

    def answer(self, when: Literal["before", "during", "after"], step: int) -> None:
        """Answer every prompt, before: with the adapter off. A stop that is asked for passes between two answers."""
        if when == "during" and not self._may_answer():
            return
        began = time.monotonic()
        for prompt in self.prompts:
            self.run.check_stop()
            self._answer(prompt, when, step)
        if when == "during":
            self._spent += time.monotonic() - began

    def _may_answer(self) -> bool:
        allowed = max(_ALWAYS_SECONDS, _SHARE * (time.monotonic() - self._started))
        if self.prompts and self._spent > allowed and not self._thinned:
            self._thinned = True
            self.run.warn(
                "samples_thinned",
                f"Sample answers have taken more than {_SHARE:.0%} of the time; they come less often from here on.",
            )
        return self._spent <= allowed

    def _answer(self, prompt: _Prompt, when: str, step: int) -> None:
        try:
            ids = list(self.tokenizer.encode_prompt(prompt.messages, tools=prompt.tools))[-_PROMPT_TOKENS:]
        except ChatError as error:
            where = "a question of run.json" if prompt.line is None else f"line {prompt.line}"
            problem = f"{where}: no sample answer: {error}"
            if problem not in self._problems:
                self._problems.add(problem)
                self.run.warn("no_sample", problem)
            return
        with evaluating(self.model, adapter=when != "before"):
            answer, cut = self._greedy(ids, stop_ids=self.tokenizer.stop_ids, seconds=_ANSWER_SECONDS[when])
        question = next((m.content for m in reversed(prompt.messages) if m.role == "user"), "")
        self.run.events.emit(
            "sample",
            when=when,
            step=step,
            conversation_id=prompt.conversation_id,
            prompt=question,
            expected=prompt.expected,
            answer=self.tokenizer.decode(answer),
            cut=cut,
        )

    def _greedy(self, ids: list[int], *, stop_ids: Collection[int], seconds: float) -> tuple[list[int], bool]:
        """The most likely continuation, token by token, and whether our limits ended it."""
        deadline = time.monotonic() + seconds
        device = self.numerics.device
        step = torch.tensor([ids], dtype=torch.int64, device=device)
        cache: Any = None
        answer: list[int] = []
        with torch.autocast(device.type, torch.bfloat16, enabled=self.numerics.precision == "bf16"):
            while len(answer) < _ANSWER_TOKENS and time.monotonic() < deadline:
                out = self.model(input_ids=step, past_key_values=cache, use_cache=True, logits_to_keep=1)
                cache = out.past_key_values
                chosen = int(out.logits[0, -1].argmax())
                if chosen in stop_ids:
                    return answer, False
                answer.append(chosen)
                step = torch.tensor([[chosen]], dtype=torch.int64, device=device)
        return answer, True
