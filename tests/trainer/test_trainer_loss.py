"""The loss is the mean over the trained tokens of a step: however the step is cut, and whatever else is computed."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
import transformers
from peft import PeftModel

from brightrun.formats.base_models import BUILTIN
from brightrun.formats.hyperparameters import Hyperparameters
from brightrun.trainer.batches import micro_batches
from brightrun.trainer.data import Example
from brightrun.trainer.loop import learning_rate
from brightrun.trainer.model import (
    Numerics,
    TrainedHead,
    add_adapter,
    choose_precision,
    choose_threads,
    collate,
    token_losses,
)

NUMERICS = Numerics(torch.device("cpu"), "fp32", pad_id=0)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model() -> tuple[PeftModel, TrainedHead]:
    torch.manual_seed(0)
    config = transformers.AutoConfig.from_pretrained(BUILTIN["tiny-random"])
    base = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).requires_grad_(False)
    model = add_adapter(base, Hyperparameters(rank=4, alpha=8.0), name="tiny-random")
    with torch.no_grad():  # LoRA starts at zero; give it something to do
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    return model, TrainedHead(base)


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    rng = np.random.default_rng(0)
    made = []
    for number, length in enumerate([5, 60, 17, 33, 8, 60, 41]):
        trained = rng.random(length) < 0.4
        trained[0], trained[-1] = False, True
        made.append(Example(f"c{number}", number + 1, rng.integers(1, 4000, length).astype(np.int32), trained))
    return made


def step_gradients(
    model: PeftModel, head: TrainedHead, examples: list[Example], budget: int
) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of one optimiser step cut into micro-batches of `budget` tokens."""
    model.zero_grad(set_to_none=True)
    trained, total = sum(example.targets for example in examples), 0.0
    for group in micro_batches([len(example.ids) for example in examples], budget=budget):
        loss = token_losses(model, head, collate([examples[i] for i in group], NUMERICS), NUMERICS).sum() / trained
        loss.backward()
        total += float(loss.detach())
    return total, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def naive_loss(model: PeftModel, examples: list[Example]) -> Any:
    """The textbook way: one record at a time, full logits, labels of -100, mean over all trained tokens at the end."""
    total, count = torch.zeros(()), 0
    for example in examples:
        ids = torch.from_numpy(example.ids).long()[None]
        labels = torch.where(torch.from_numpy(example.trained), ids[0], -100)
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0].float()
        total = total + F.cross_entropy(logits[:-1], labels[1:], ignore_index=-100, reduction="sum")
        count += int((labels[1:] != -100).sum())
    return total / count


def test_loss_and_gradients_equal_the_unbatched_reference(
    model: tuple[PeftModel, TrainedHead], examples: list[Example]
) -> None:
    peft_model, head = model
    peft_model.train()
    loss, gradients = step_gradients(peft_model, head, examples, budget=4096)
    peft_model.zero_grad(set_to_none=True)
    expected = naive_loss(peft_model, examples)
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    for name, parameter in peft_model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("budget", [16, 64, 120, 300])
def test_micro_batches_never_change_loss_or_gradients(
    model: tuple[PeftModel, TrainedHead], examples: list[Example], budget: int
) -> None:
    whole, whole_gradients = step_gradients(*model, examples, budget=10_000)
    cut, cut_gradients = step_gradients(*model, examples, budget=budget)
    assert cut == pytest.approx(whole, rel=1e-6)
    for name, gradient in whole_gradients.items():
        torch.testing.assert_close(cut_gradients[name], gradient, rtol=1e-3, atol=1e-6)


def test_the_loss_is_normalised_by_tokens_and_not_by_records(
    model: tuple[PeftModel, TrainedHead], examples: list[Example]
) -> None:
    losses = [token_losses(*model, collate([example], NUMERICS), NUMERICS).detach() for example in examples]
    per_token = float(torch.cat(losses).mean())
    per_record = float(torch.stack([loss.mean() for loss in losses]).mean())
    assert step_gradients(*model, examples, budget=4096)[0] == pytest.approx(per_token, rel=1e-5)
    assert abs(per_token - per_record) > 1e-4


def test_padding_changes_no_token_loss(model: tuple[PeftModel, TrainedHead], examples: list[Example]) -> None:
    batch = collate(examples, NUMERICS)
    together = token_losses(*model, batch, NUMERICS)
    for row, example in enumerate(examples):
        alone = token_losses(*model, collate([example], NUMERICS), NUMERICS)
        torch.testing.assert_close(together[batch.owners == row], alone, rtol=1e-5, atol=1e-5)
    assert batch.tokens == sum(len(example.ids) for example in examples)


def test_bf16_stays_within_two_percent(model: tuple[PeftModel, TrainedHead], examples: list[Example]) -> None:
    batch = collate(examples, NUMERICS)
    exact = token_losses(*model, batch, NUMERICS).mean().detach()
    rounded = token_losses(*model, batch, Numerics(torch.device("cpu"), "bf16", pad_id=0)).mean().detach()
    assert float(rounded) == pytest.approx(float(exact), rel=2e-2)


def test_the_head_gives_all_logits_again_outside_of_training(model: tuple[PeftModel, TrainedHead]) -> None:
    with torch.no_grad():
        logits = model[0](input_ids=torch.tensor([[1, 2, 3]]), use_cache=False).logits
    assert logits.shape == (1, 3, 4096)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("cosine", 0.5), ("linear", 0.5), ("constant", 1.0)],
    ids=["cosine", "linear", "constant"],
)
def test_the_learning_rate_warms_up_and_falls_as_the_schedule_says(schedule: str, expected: float) -> None:
    rates = [learning_rate(step, total=100, peak=1.0, warmup_ratio=0.1, schedule=schedule) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(expected)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[99] < 0.02 or schedule == "constant"


def test_auto_precision_stays_fp32_for_a_small_model_on_a_cpu() -> None:
    cpu = torch.device("cpu")
    assert choose_precision("auto", cpu, 128) == "fp32"
    assert choose_precision("bf16", cpu, 128) == "bf16"
    assert choose_precision("fp32", cpu, 4096) == "fp32"


def test_a_narrow_model_takes_one_thread() -> None:
    assert choose_threads(8, 128) == 1
    assert 1 <= choose_threads(8, 4096) <= 8
