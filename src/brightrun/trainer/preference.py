"""Direct preference optimisation: of two answers to one prompt, make the chosen one more likely than the rejected one.

Rafailov et al., 2023, arXiv:2305.18290, equation 7, with the smoothing of Mitchell's cDPO and an optional supervised
term. For a pair with log-probabilities π of the trained model and ρ of the reference, each summed over the trained
tokens of an answer:

    margin = β · ((π(chosen) − ρ(chosen)) − (π(rejected) − ρ(rejected)))
    loss   = −(1 − ε) · log σ(margin) − ε · log σ(−margin) + w · (−π(chosen) ÷ trained tokens of chosen)

β is `dpo_beta`, ε `dpo_label_smoothing`, w `dpo_sft_weight`. A step's loss is the mean over its pairs. The reference is
the same model with its adapter off, so there is no second copy of it; dropout is off in it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812

from brightrun.trainer.batches import CALL_COST_TOKENS, micro_batches
from brightrun.trainer.data import Item
from brightrun.trainer.model import Batch, collate, token_losses
from brightrun.trainer.objectives import HeldoutLoss, Objective, SawPass, StepResult, accuracy, evaluating, mean, unseen


def pair_losses(
    policy: torch.Tensor, reference: torch.Tensor, *, beta: float, label_smoothing: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss, margin) of each pair, without the supervised term.

    policy, reference: summed log-probabilities, shape (2 × pairs,), chosen and rejected by turns.
    """
    gained = policy - reference
    margins = beta * (gained[0::2] - gained[1::2])
    losses = -(1 - label_smoothing) * F.logsigmoid(margins) - label_smoothing * F.logsigmoid(-margins)
    return losses, margins


@dataclass(frozen=True)
class _Pairs:
    """One forward pass's pairs: their losses and margins, and how much each side gained (pairs × 2)."""

    losses: torch.Tensor
    margins: torch.Tensor
    gained: torch.Tensor


class Preference(Objective):
    """DPO. Both answers of a pair go through the model in one pass: the gradient of each depends on the other."""

    unit = "nats per pair"

    def step(self, items: Sequence[Item], *, saw_pass: SawPass) -> StepResult:
        total = 0.0
        margins: list[float] = []
        gained: list[list[float]] = []
        for group in self._groups(items):
            batch = self._batch(items, group)
            saw_pass(batch.ids.numel())
            reference = self._reference(batch)
            pairs = self._pairs(batch, self._log_probabilities(batch), reference)
            (pairs.losses.sum() / len(items)).backward()  # type: ignore[no-untyped-call]
            total += float(pairs.losses.detach().sum())
            margins += pairs.margins.detach().tolist()
            gained += pairs.gained.detach().tolist()
        more = {
            "reward_margin": mean(margins),
            "reward_accuracy": accuracy(margins),
            "reward_chosen": self.hp.dpo_beta * mean([chosen for chosen, _rejected in gained]),
            "reward_rejected": self.hp.dpo_beta * mean([rejected for _chosen, rejected in gained]),
        }
        tokens = sum(len(row.ids) for item in items for row in item.rows)
        return StepResult(total, len(items), sum(item.targets for item in items), tokens, more)

    def heldout(
        self,
        items: Sequence[Item],
        *,
        adapter: bool,
        check_stop: Callable[[], None],
        saw_pass: SawPass = unseen,
    ) -> HeldoutLoss:
        losses, margins = [0.0] * len(items), [0.0] * len(items)
        untouched = 0.0
        for group in self._groups(items):
            check_stop()
            batch = self._batch(items, group)
            saw_pass(batch.ids.numel())
            reference = self._reference(batch)
            untouched -= float(reference.sum())
            with evaluating(self.model, adapter=True):
                pairs = self._pairs(batch, self._log_probabilities(batch) if adapter else reference, reference)
            for index, loss, margin in zip(group, pairs.losses.tolist(), pairs.margins.tolist(), strict=True):
                losses[index], margins[index] = loss, margin
        control = untouched / sum(item.targets for item in items)
        return HeldoutLoss(losses, [1] * len(items), margins, control)

    @property
    def divergence_limit(self) -> float:
        return 5 * math.log(2) + self.hp.dpo_sft_weight * 2 * math.log(self.model.config.vocab_size)

    def _groups(self, items: Sequence[Item]) -> list[list[int]]:
        """Pairs that go through the model together; two rows each, both as long as the longest."""
        budget = max(1, self.hp.micro_batch_tokens // 2)
        return micro_batches([item.width for item in items], budget=budget, call_cost=CALL_COST_TOKENS // 2)

    def _batch(self, items: Sequence[Item], group: list[int]) -> Batch:
        return collate([row for index in group for row in items[index].rows], self.numerics)

    def _log_probabilities(self, batch: Batch) -> torch.Tensor:
        """Of the trained tokens of each row, summed: shape (rows,), float64."""
        losses = token_losses(self.model, self.head, batch, self.numerics).double()
        return torch.zeros(len(batch.ids), dtype=torch.float64, device=losses.device).index_add(
            0, batch.owners, -losses
        )

    def _reference(self, batch: Batch) -> torch.Tensor:
        with evaluating(self.model, adapter=False):
            return self._log_probabilities(batch)

    def _pairs(self, batch: Batch, policy: torch.Tensor, reference: torch.Tensor) -> _Pairs:
        hp = self.hp
        losses, margins = pair_losses(policy, reference, beta=hp.dpo_beta, label_smoothing=hp.dpo_label_smoothing)
        if hp.dpo_sft_weight:
            counts = torch.bincount(batch.owners, minlength=len(batch.ids))
            losses = losses - hp.dpo_sft_weight * policy[0::2] / counts[0::2]
        return _Pairs(losses, margins, (policy - reference).reshape(-1, 2))
