"""What a step learns from its records: the loss with its gradients, and the same loss on held-out records."""

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from peft import PeftModel

from brightrun.formats.hyperparameters import Hyperparameters
from brightrun.trainer.batches import micro_batches
from brightrun.trainer.data import Item
from brightrun.trainer.model import Numerics, TrainedHead, collate, token_losses

SawPass = Callable[[int], None]


def unseen(_tokens: int) -> None:
    """Nobody wants to know how large a pass is."""


@dataclass(frozen=True)
class StepResult:
    """One step's loss; its gradients lie in the parameters, divided by `weight` already.

    loss_sum: over the step. weight: what it is divided by (trained tokens; with DPO pairs). trained_tokens, tokens:
    trained ones, and all but padding. more: what else the method has to tell, by name of the metric.
    """

    loss_sum: float
    weight: int
    trained_tokens: int
    tokens: int
    more: dict[str, float] = field(default_factory=dict)

    @property
    def loss(self) -> float:
        return self.loss_sum / self.weight


@dataclass
class HeldoutLoss:
    """Sums for each held-out record, in file order: what a paired bootstrap needs.

    tokens: what a sum is divided by (trained tokens; with DPO 1, for the pair). margins: with DPO, the reward margin
    of each pair. control: mean loss per token of the model without its adapter where `mean` does not show it (DPO).
    """

    loss_sums: list[float]
    tokens: list[int]
    margins: list[float] = field(default_factory=list)
    control: float | None = None

    @property
    def mean(self) -> float:
        """Loss per trained token (with DPO per pair) over all records, in nats."""
        return math.fsum(self.loss_sums) / sum(self.tokens)

    @property
    def more(self) -> dict[str, float]:
        """Margin and accuracy over all pairs; nothing for other methods."""
        if not self.margins:
            return {}
        return {"heldout_reward_margin": mean(self.margins), "heldout_reward_accuracy": accuracy(self.margins)}


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def accuracy(margins: Sequence[float]) -> float:
    """Share of the pairs whose chosen answer gained more than the rejected one; a tie counts half."""
    return sum(1.0 if margin > 0 else 0.5 if margin == 0 else 0.0 for margin in margins) / len(margins)


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


@dataclass
class Objective(ABC):
    """A loss over records. `unit`: what `loss` is measured in."""

    model: PeftModel
    head: TrainedHead
    numerics: Numerics
    hp: Hyperparameters

    unit = "nats per trained token"

    @abstractmethod
    def step(self, items: Sequence[Item], *, saw_pass: SawPass) -> StepResult:
        """Add the gradients of one optimiser step; `saw_pass` is told how large each forward pass is."""

    @abstractmethod
    def heldout(
        self,
        items: Sequence[Item],
        *,
        adapter: bool,
        check_stop: Callable[[], None],
        saw_pass: SawPass = unseen,
    ) -> HeldoutLoss:
        """Loss of every record, adapter on or off. `check_stop` may raise between passes."""

    @property
    @abstractmethod
    def divergence_limit(self) -> float:
        """The mean loss of five steps that no sound run reaches, where the user gives none."""


class Supervised(Objective):
    """Cross-entropy of the trained tokens, divided by those of the whole step."""

    def step(self, items: Sequence[Item], *, saw_pass: SawPass) -> StepResult:
        examples = [row for item in items for row in item.rows]
        trained = sum(example.targets for example in examples)
        total = 0.0
        for group in micro_batches([len(e.ids) for e in examples], budget=self.hp.micro_batch_tokens):
            batch = collate([examples[index] for index in group], self.numerics)
            saw_pass(batch.ids.numel())
            loss_sum = token_losses(self.model, self.head, batch, self.numerics).sum()
            (loss_sum / trained).backward()  # type: ignore[no-untyped-call]
            total += float(loss_sum.detach())
        return StepResult(total, trained, trained, sum(len(e.ids) for e in examples))

    def heldout(
        self,
        items: Sequence[Item],
        *,
        adapter: bool,
        check_stop: Callable[[], None],
        saw_pass: SawPass = unseen,
    ) -> HeldoutLoss:
        examples = [row for item in items for row in item.rows]
        sums = [0.0] * len(examples)
        with evaluating(self.model, adapter=adapter):
            for group in micro_batches([len(e.ids) for e in examples], budget=self.hp.micro_batch_tokens):
                check_stop()
                batch = collate([examples[index] for index in group], self.numerics)
                saw_pass(batch.ids.numel())
                losses = token_losses(self.model, self.head, batch, self.numerics).double()
                rows = torch.zeros(len(group), dtype=torch.float64, device=losses.device)
                rows.index_add_(0, batch.owners, losses)
                for index, value in zip(group, rows.tolist(), strict=True):
                    sums[index] = value
        return HeldoutLoss(sums, [example.targets for example in examples])

    @property
    def divergence_limit(self) -> float:
        return 2 * math.log(self.model.config.vocab_size)
