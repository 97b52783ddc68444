"""What could go better another time: a change of the configuration where one helps, and the one button to press."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from brightrun.formats.hyperparameters import ADJUSTABLE
from brightrun.training.failures.classes import FailureClass

_C = FailureClass
_LEAST_PASS_TOKENS, _LEAST_SEQUENCE, _LEAST_RATE = 64, 256, 1e-6
ActionKind = Literal["retry", "retry_with_fix", "open_dataset", "start_similar", "raise_limit"]


@dataclass(frozen=True)
class Change:
    """One line of the diff."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Fix:
    """changes: of hyperparameters. why: in words. starts_anew: it changes what is learned, so it makes a new job."""

    why: str
    changes: list[Change] = field(default_factory=list)

    @property
    def starts_anew(self) -> bool:
        return any(change.field not in ADJUSTABLE for change in self.changes)

    @property
    def values(self) -> dict[str, Any]:
        return {change.field: change.after for change in self.changes}


@dataclass(frozen=True)
class Action:
    """kind: what the button does. url: where it leads, for those that only lead somewhere."""

    kind: ActionKind
    label: str
    url: str | None = None


def suggested_fix(kind: FailureClass, values: Mapping[str, Any]) -> Fix | None:
    """values: the hyperparameters as the last attempt had them. None: no change is known to help."""
    match kind:
        case _C.GPU_MEMORY | _C.HOST_MEMORY:
            return _less_memory(values, on_gpu=kind is _C.GPU_MEMORY)
        case _C.DIVERGED:
            rate = float(values["learning_rate"])
            lower = float(f"{rate / 3:.2g}")
            if lower < _LEAST_RATE:
                return None
            return Fix(
                "A third of the learning rate usually keeps the loss from growing. The run starts anew with it.",
                [Change("learning_rate", rate, lower)],
            )
        case _C.PREEMPTED:
            every = int(values["checkpoint_every_steps"])
            if every == 1:
                return None
            return Fix(
                "Saving more often, it gets on although it is stopped again and again.",
                [Change("checkpoint_every_steps", every, max(1, every // 5))],
            )
        case _C.DISK:
            kept = int(values["keep_checkpoints"])
            if kept == 1:
                return None
            return Fix("Keeping one checkpoint only, it needs less room.", [Change("keep_checkpoints", kept, 1)])
    return None


def _less_memory(values: Mapping[str, Any], *, on_gpu: bool) -> Fix | None:
    tokens, length = int(values["micro_batch_tokens"]), int(values["max_seq_length"])
    changes = []
    if tokens > _LEAST_PASS_TOKENS:
        changes.append(Change("micro_batch_tokens", tokens, max(_LEAST_PASS_TOKENS, tokens // 2)))
    if not values["activation_checkpointing"]:
        changes.append(Change("activation_checkpointing", False, True))
    if changes:
        return Fix("Less is in memory at once; what is learned stays the same.", changes)
    if on_gpu and values.get("method", "lora") == "lora" and importlib.util.find_spec("bitsandbytes") is not None:
        return Fix(
            "Nothing else is left to lower but the base model itself: in 4 bits it takes a quarter of the memory. The "
            "run starts anew.",
            [Change("method", "lora", "qlora")],
        )
    if length >= 2 * _LEAST_SEQUENCE:
        return Fix(
            "Nothing else is left to lower: long records are cut to half the length, each named. The run starts anew.",
            [Change("max_seq_length", length, length // 2)],
        )
    return None


def action_for(kind: FailureClass, fix: Fix | None, *, job_id: UUID, dataset_id: UUID) -> Action:
    if kind is _C.DATA:
        return Action("open_dataset", "Open the dataset", f"/datasets/{dataset_id}")
    if kind is _C.BUDGET:
        return Action("raise_limit", "Raise the limit and go on")
    if fix is not None:
        return Action("retry_with_fix", "Try again with this change")
    if kind in {_C.TEMPLATE, _C.TOKENIZER, _C.CONFIGURATION}:
        return Action("start_similar", "Start a similar job", f"/training/new?again={job_id}")
    return Action("retry", "Try again")
