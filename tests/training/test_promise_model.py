"""The model behind the promise, by its properties: parts add up, intervals hold their value, more work takes more."""

import time
from dataclasses import replace
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brightrun.formats import base_models, hyperparameters
from brightrun.formats.base_models import ModelFolderError
from brightrun.formats.hyperparameters import Hyperparameters
from brightrun.training.promise import analytic, lengths
from brightrun.training.promise.analytic import Price, Question
from brightrun.training.promise.lengths import Lengths
from brightrun.training.promise.machine import GIB, Machine, this_cpu
from brightrun.training.promise.plan import plan_run
from brightrun.training.promise.shape import Shape, shape_of

GPU = Machine(
    id="cuda: test", kind="cuda", here=False, cores=1, bf16=True, flops=1e14, bytes_per_s=1e12, call_s=1e-3,
    memory_bytes=80 * GIB, rented_start_s=600.0, source="test",
)  # fmt: skip
CPU = this_cpu()


def shape(name: str = "tiny") -> Shape:
    return shape_of(name, base_models.BUILTIN.get(name))


def some_lengths(records: int = 200, tokens: float = 60_000) -> Lengths:
    return lengths.assumed(records=records, tokens=tokens, conversations=records, source="test")


def asked(
    values: Hyperparameters | None = None, *, machine: Machine = GPU, known: Lengths | None = None, model: str = "tiny",
    price: str = "3.5",
) -> dict:  # fmt: skip
    return analytic.answer(
        Question(
            shape(model), values or hyperparameters.build(), machine, known or some_lengths(),
            Price(Decimal(price), Decimal("0.5")),
        )
    )  # fmt: skip


figures = ("memory_bytes", "seconds", "cost_usd")


@settings(max_examples=40, deadline=None)
@given(
    records=st.integers(1, 3000),
    mean=st.integers(5, 3000),
    batch=st.integers(1, 64),
    epochs=st.integers(1, 20),
    rank=st.integers(4, 128),
    budget=st.integers(64, 16_000),
    heldout=st.floats(0, 0.5),
    checkpointed=st.booleans(),
    machine=st.sampled_from([GPU, CPU]),
)
def test_parts_add_up_and_every_interval_holds_its_value(
    records: int, mean: int, batch: int, epochs: int, rank: int, budget: int, heldout: float, checkpointed: bool,
    machine: Machine,
) -> None:  # fmt: skip
    values = msgspec.structs.replace(
        hyperparameters.build(), batch_size=batch, epochs=epochs, rank=rank, micro_batch_tokens=budget,
        heldout_fraction=heldout, activation_checkpointing=checkpointed,
    )  # fmt: skip
    answer = asked(values, machine=machine, known=some_lengths(records, records * mean))
    assert answer["level"] == 0.9
    for name in figures:
        figure = answer[name]
        assert sum(figure["parts"].values()) == pytest.approx(figure["value"], abs=1e-5)
        assert 0 <= figure["low"] <= figure["value"] <= figure["high"]
        assert all(part >= 0 for part in figure["parts"].values())


def bigger(**changes: object) -> tuple[dict, dict]:
    values = hyperparameters.build("balanced", {"min_steps": 0})
    return asked(values), asked(msgspec.structs.replace(values, **changes))


@pytest.mark.parametrize("changes", [{"epochs": 6}, {"rank": 64}, {"activation_checkpointing": True}])
def test_more_epochs_rank_or_recomputation_take_longer(changes: dict) -> None:
    before, after = bigger(**changes)
    assert after["seconds"]["value"] > before["seconds"]["value"]
    assert after["cost_usd"]["value"] > before["cost_usd"]["value"]


@pytest.mark.parametrize("changes", [{"rank": 64}, {"micro_batch_tokens": 16_000, "batch_size": 64}])
def test_higher_rank_and_wider_passes_need_more_memory(changes: dict) -> None:
    before, after = bigger(**changes)
    assert after["memory_bytes"]["value"] > before["memory_bytes"]["value"]


def test_recomputing_activations_needs_less_memory() -> None:
    before, after = bigger(activation_checkpointing=True)
    assert after["memory_bytes"]["value"] < before["memory_bytes"]["value"]


@given(tokens=st.integers(2_000, 200_000))
@settings(max_examples=25, deadline=None)
def test_more_tokens_never_take_less(tokens: int) -> None:
    less, more = (asked(known=some_lengths(200, count)) for count in (tokens, tokens * 2))
    assert less["seconds"]["value"] < more["seconds"]["value"]
    assert less["memory_bytes"]["value"] <= more["memory_bytes"]["value"]


def test_the_same_question_has_the_same_answer() -> None:
    assert asked() == asked()


def test_a_large_dataset_and_model_are_answered_in_half_a_second() -> None:
    many = lengths.counted(((n % 1900 + 20, n % 300) for n in range(100_000)), source="test", conversations=100_000)
    values = hyperparameters.build("aggressive")
    started = time.perf_counter()
    asked(values, known=many, model="org/Model-70B")
    assert time.perf_counter() - started < 0.5


def test_what_does_not_fit_says_so_with_numbers_and_a_way_out() -> None:
    answer = asked(machine=replace(GPU, memory_bytes=20 * GIB), model="org/Model-8B")
    assert answer["fits"] is False
    assert "20.0 GiB" in answer["reasons"][0]
    roomy = asked(machine=GPU, model="org/Model-1B")
    assert roomy["fits"] is True
    assert asked(machine=replace(GPU, memory_bytes=None))["fits"] is None


def test_lengths_are_kept_in_sum_and_longest() -> None:
    report = {
        "histogram": [{"from": 0, "to": 50, "records": 3}, {"from": 50, "to": 100, "records": 7}],
        "max": 99, "total": 700,
    }  # fmt: skip
    known = lengths.from_histogram(report, records=10, conversations=10, exact=True, source="test")
    assert known.records == 10
    assert known.longest == 99
    assert known.tokens == pytest.approx(700, rel=0.02)


def test_many_distinct_lengths_are_merged_without_losing_tokens_or_the_longest() -> None:
    every = [(n, n // 3) for n in range(1, 5000)]
    known = lengths.counted(every, source="test", conversations=100)
    assert len(known.rows) <= 400
    assert known.records == len(every)
    assert known.longest == 4999
    assert known.tokens == pytest.approx(sum(n for n, _ in every))


def test_rows_beyond_the_maximum_length_are_cut() -> None:
    values = hyperparameters.build("balanced", {"max_seq_length": 128, "min_steps": 0})
    plan = plan_run(lengths.counted([(1000, 500)] * 20, source="test", conversations=20), values)
    assert plan.training.tokens == pytest.approx(plan.train_records * values.epochs * 128)


def test_a_model_is_measured_by_its_files_or_by_its_name() -> None:
    tiny = shape("tiny")
    assert (tiny.hidden, tiny.layers, tiny.vocabulary) == (192, 4, 4096)
    assert tiny.adapter_parameters(8, ["q_proj"]) == 4 * 8 * (192 + 192)
    assert tiny.adapter_parameters(8, "q_proj,v_proj") == 4 * 8 * (192 + 192 + 192 + 64)
    random_weights = shape("tiny-random")
    assert len(random_weights.linears) == 2 * 7
    guessed = shape_of("someone/Model-7B-Instruct", None)
    assert guessed.parameters == 7_000_000_000
    assert "guessed" in guessed.source
    with pytest.raises(ModelFolderError):
        shape_of("someone/a-model", None)


def test_precision_and_threads_are_those_that_the_trainer_takes() -> None:
    """The estimate must not load torch, so it repeats two short rules of the trainer's; here they are compared."""
    import torch

    from brightrun.trainer import model as trainer
    from brightrun.training.promise.memory import precision_of

    cpu = torch.device("cpu")
    for name, hidden in (("tiny", 192), ("tiny-random", 64), ("org/Model-1B", None)):
        of = shape(name)
        for wanted in ("auto", "fp32", "bf16"):
            values = hyperparameters.build("balanced", {"precision": wanted})
            assert precision_of(values, CPU, of) == trainer.choose_precision(wanted, cpu, hidden or of.hidden)
    assert CPU.cores == trainer.choose_threads(torch.get_num_threads(), 4096)


def test_a_preference_pair_sends_both_answers_and_the_untouched_model() -> None:
    plain = hyperparameters.build("balanced", {"min_steps": 0, "epochs": 1})
    dpo = msgspec.structs.replace(plain, method="dpo")
    assert asked(dpo, machine=CPU)["seconds"]["value"] > 2 * asked(plain, machine=CPU)["seconds"]["parts"]["training"]


def test_four_bit_needs_a_gpu_and_less_memory() -> None:
    plain = hyperparameters.build("balanced")
    four_bit = msgspec.structs.replace(plain, method="qlora")
    large, small = (asked(values, model="org/Model-8B") for values in (plain, four_bit))
    assert small["memory_bytes"]["parts"]["weights"] < large["memory_bytes"]["parts"]["weights"] / 2
    refused = asked(four_bit, machine=CPU)
    assert refused["fits"] is False
    assert "GPU" in refused["reasons"][0]
