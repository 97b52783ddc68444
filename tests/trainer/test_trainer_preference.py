"""The DPO loss is the formula of the paper, however a step is cut; what a run tells of it is on the same pairs."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
import transformers
from trainer_runs import Run

from brightrun.formats.base_models import BUILTIN
from brightrun.formats.hyperparameters import Hyperparameters
from brightrun.trainer.data import Example, Pair
from brightrun.trainer.model import Numerics, TrainedHead, add_adapter
from brightrun.trainer.objectives import accuracy
from brightrun.trainer.preference import Preference

NUMERICS = Numerics(torch.device("cpu"), "fp32", pad_id=0)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    rng = np.random.default_rng(0)

    def answer(prompt: Any, number: int, length: int) -> Example:
        ids = np.concatenate([prompt, rng.integers(1, 4000, length)]).astype(np.int32)
        trained = np.arange(len(ids)) >= len(prompt)
        return Example(f"c{number}", number + 1, ids, trained)

    made = []
    for number, (prompt_length, chosen, rejected) in enumerate([(5, 9, 3), (20, 4, 30), (8, 8, 8), (3, 50, 12)]):
        prompt = rng.integers(1, 4000, prompt_length)
        made.append(Pair(answer(prompt, number, chosen), answer(prompt, number, rejected)))
    return made


def objective(**settings: Any) -> Preference:
    torch.manual_seed(0)
    config = transformers.AutoConfig.from_pretrained(BUILTIN["tiny-random"])
    base = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).requires_grad_(False)
    hp = Hyperparameters(method="dpo", rank=4, alpha=8.0, **settings)
    model = add_adapter(base, hp, name="tiny-random")
    with torch.no_grad():  # LoRA starts at zero; give it something to do
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    model.train()
    return Preference(model, TrainedHead(base), NUMERICS, hp)


def textbook(made: Preference, pairs: list[Pair]) -> tuple[torch.Tensor, list[float]]:
    """The formula in plain torch, one answer at a time, over all logits: (mean loss, margins)."""
    hp, model = made.hp, made.model

    def log_probability(example: Example) -> torch.Tensor:
        ids = torch.from_numpy(example.ids).long()[None]
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0]
        each = torch.log_softmax(logits[:-1], -1).gather(1, ids[0, 1:, None])[:, 0]
        return each[torch.from_numpy(example.trained)[1:]].sum()

    losses, margins = [], []
    for pair in pairs:
        chosen, rejected = log_probability(pair.chosen), log_probability(pair.rejected)
        with torch.no_grad(), model.disable_adapter():
            chosen_reference, rejected_reference = log_probability(pair.chosen), log_probability(pair.rejected)
        logits = hp.dpo_beta * (chosen - rejected - (chosen_reference - rejected_reference))
        e = hp.dpo_label_smoothing
        loss = -(1 - e) * torch.log(torch.sigmoid(logits)) - e * torch.log(torch.sigmoid(-logits))
        losses.append(loss - hp.dpo_sft_weight * chosen / pair.chosen.targets)
        margins.append(float(logits.detach()))
    return torch.stack(losses).mean(), margins


@pytest.mark.parametrize(
    "settings",
    [{}, {"dpo_beta": 0.5}, {"dpo_label_smoothing": 0.2}, {"dpo_sft_weight": 1.5}],
    ids=["plain", "beta", "label_smoothing", "sft"],
)
@pytest.mark.parametrize("budget", [16, 100, 4096])
def test_loss_margins_and_gradients_are_those_of_the_formula(
    pairs: list[Pair], settings: dict[str, float], budget: int
) -> None:
    made = objective(micro_batch_tokens=budget, **settings)
    result = made.step(pairs, saw_pass=lambda _: None)
    found = {name: p.grad.clone() for name, p in made.model.named_parameters() if p.grad is not None}
    made.model.zero_grad(set_to_none=True)
    loss, margins = textbook(made, pairs)
    loss.backward()  # type: ignore[no-untyped-call]
    assert result.loss == pytest.approx(float(loss.detach()), rel=1e-4)
    assert result.more["reward_margin"] == pytest.approx(sum(margins) / len(margins), rel=1e-3, abs=1e-5)
    assert result.more["reward_accuracy"] == sum(margin > 0 for margin in margins) / len(margins)
    assert result.more["reward_chosen"] - result.more["reward_rejected"] == pytest.approx(result.more["reward_margin"])
    assert found
    for name, parameter in made.model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad, rtol=2e-3, atol=1e-6)


def test_held_out_pairs_are_measured_by_the_same_formula_and_the_untouched_model_prefers_nothing(
    pairs: list[Pair],
) -> None:
    made = objective(micro_batch_tokens=64)
    tuned = made.heldout(pairs, adapter=True, check_stop=lambda: None)
    loss, margins = textbook(made, pairs)
    assert tuned.mean == pytest.approx(float(loss.detach()), rel=1e-4)
    assert tuned.margins == pytest.approx(margins, rel=1e-3, abs=1e-5)
    untouched = made.heldout(pairs, adapter=False, check_stop=lambda: None)
    assert untouched.mean == pytest.approx(math.log(2), abs=1e-12)
    assert untouched.margins == [0.0] * len(pairs)
    assert untouched.more["heldout_reward_accuracy"] == 0.5


def test_a_tie_counts_half() -> None:
    assert accuracy([1.0, 0.0, -1.0, 2.0]) == (1 + 0.5 + 0 + 1) / 4


def test_only_the_answers_count_and_a_prompt_that_is_too_long_loses_its_oldest_turns_on_both_sides(
    make_run: Callable[..., Run], train_here: Callable[[Run], int], tmp_path: Path
) -> None:
    turns = [{"role": role, "content": "We talked of taxes for a while. " * 4} for role in ("user", "assistant")] * 6
    rows = [
        {
            "prompt": [*turns, {"role": "user", "content": f"What now, {number}?"}],
            "chosen": [{"role": "assistant", "content": "One small step. " * 8}],
            "rejected": [{"role": "assistant", "content": "No."}],
        }
        for number in range(8)
    ]
    file = tmp_path / "long.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = make_run("run", file, method="dpo", epochs=1, max_seq_length=150)
    assert train_here(run) == 0
    problems = [json.loads(line) for line in (run.path / "problems.jsonl").read_text().splitlines()]
    assert {problem["code"] for problem in problems} == {"history_shortened"}
    assert len(problems) == len(rows)
    assert run.of("done")[0]["heldout_reward_accuracy"] is not None


def test_a_run_tells_loss_margin_and_accuracy_and_begins_at_the_loss_of_preferring_nothing(
    make_run: Callable[..., Run], preferences: Path, train_here: Callable[[Run], int]
) -> None:
    run = make_run("run", preferences, method="dpo", epochs=4, sample_prompts=1)
    assert train_here(run) == 0
    metrics = [event for event in run.of("metric") if "heldout_loss" not in event]
    assert metrics[0]["loss"] == pytest.approx(math.log(2))
    assert metrics[0]["reward_accuracy"] == 0.5
    assert metrics[-1]["loss"] < 0.6
    assert metrics[-1]["reward_margin"] > 0
    measured = [event for event in run.of("metric") if "heldout_loss" in event]
    assert measured
    assert all({"heldout_reward_margin", "heldout_reward_accuracy"} <= event.keys() for event in measured)
    (done,) = run.of("done")
    assert done["unit"] == "nats per pair"
    assert done["heldout_loss_base"] == pytest.approx(math.log(2))
    assert done["heldout_loss_adapter"] < done["heldout_loss_base"]
    assert done["heldout_perplexity_adapter"] is None
    seen = json.loads((run.path / "heartbeat.json").read_text())
    assert seen["largest_pass_tokens"] >= seen["longest_record_tokens"] > 0, "both rows of a pair go together"
    sample = run.of("sample")[0]
    assert sample["prompt"].startswith("I worry about")
    assert sample["expected"].startswith("It makes sense")


def test_early_stopping_delivers_the_pairs_best_step(
    make_run: Callable[..., Run], preferences: Path, train_here: Callable[[Run], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("run", preferences, method="dpo", epochs=4, eval_every_steps=2, early_stopping_patience=2)
    heldout = Preference.heldout
    told = iter([0.69, 0.5, 0.4, 0.45, 0.46])

    def worsening(made: Preference, items: Any, **more: Any) -> Any:
        result = heldout(made, items, **more)
        wanted = next(told, result.mean)
        result.loss_sums = [wanted] * len(result.loss_sums)
        return result

    monkeypatch.setattr(Preference, "heldout", worsening)
    assert train_here(run) == 0
    (done,) = run.of("done")
    assert (done["stopped_early"], done["selected_step"], done["best_step"]) == (True, 4, 4)
    best = {event["step"]: event["best"] for event in run.of("checkpoint")}
    assert best[2] is best[4] is True
    assert not any(is_best for step, is_best in best.items() if step not in {2, 4})
    assert run.adapter == (run.path / "checkpoints" / "step-4" / "adapter_model.safetensors").read_bytes()


def test_the_log_sigmoid_holds_where_the_sigmoid_itself_is_nought() -> None:
    from brightrun.trainer.preference import pair_losses

    policy, reference = torch.tensor([-5000.0, 0.0]), torch.zeros(2)
    losses, margins = pair_losses(policy, reference, beta=1.0, label_smoothing=0.0)
    assert float(losses) == pytest.approx(5000.0)
    assert float(margins) == -5000.0
    assert math.isinf(float(-torch.log(torch.sigmoid(margins))))
    assert float(F.logsigmoid(margins)) == -5000.0
