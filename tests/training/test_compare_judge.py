"""When a difference between two runs counts as proven."""

import random
from typing import Any

import pytest

from brightrun.training.comparison.judge import Measured, judge
from brightrun.training.comparison.schemas import PairVerdict

SETUP = {"rank": 8, "learning_rate": 1e-3, "base_model": "tiny", "dataset": "d", "max_seq_length": 512}


def run(
    shift: float = 0.0, *, spread: float = 0.02, conversations: int = 60, seed: int = 7, draw: int = 0,
    change: dict[str, Any] | None = None, name: str = "a", **options: Any,
) -> Measured:  # fmt: skip
    """A run whose loss per token is 2 + shift, give or take `spread` by conversation."""
    chance = random.Random(f"{name}{draw}")
    easy = random.Random(0)
    losses = {
        f"c{n}": (100, 100 * (2 + easy.gauss(0, 0.5) + shift + chance.gauss(0, spread))) for n in range(conversations)
    }
    values = {"unit": "nats", "conversations": losses} | options
    return Measured(name=name, setup=SETUP | (change or {}), seed=seed, dataset="d", **values)


def verdict(first: Measured, second: Measured) -> PairVerdict:
    [pair] = judge([first, second])
    return pair.verdict


def test_a_clear_difference_is_proven_either_way_round():
    worse, better = run(0.2, change={"rank": 4}), run(name="b")
    [pair] = judge([worse, better])
    assert pair.verdict is PairVerdict.SECOND
    assert pair.difference == pytest.approx(-0.2, abs=0.02)
    assert pair.low is not None
    assert pair.high is not None
    assert pair.low < pair.difference < pair.high < 0
    assert pair.conversations == 60
    assert "b has the lower loss" in pair.reason
    assert verdict(better, worse) is PairVerdict.FIRST


def test_the_same_run_twice_is_not_different():
    [pair] = judge([run(), run()])
    assert (pair.verdict, pair.difference) == (PairVerdict.NO_DIFFERENCE_PROVEN, 0)
    assert "differ in nothing" in pair.reason


def test_two_seeds_are_not_different_however_far_apart_they_came_out():
    [pair] = judge([run(0.3), run(name="b", seed=8)])
    assert pair.verdict is PairVerdict.NO_DIFFERENCE_PROVEN
    assert "seed" in pair.reason
    other = run(name="b", seed=8)
    elsewhere = Measured(
        name="b", setup=other.setup, seed=8, dataset="d", unit="nats",
        conversations={f"other {key}": value for key, value in (other.conversations or {}).items()},
    )  # fmt: skip
    assert verdict(run(), elsewhere) is PairVerdict.NO_DIFFERENCE_PROVEN


def test_a_difference_that_chance_can_make_is_not_proven():
    """Forty pairs without any difference: far fewer than the 5 % that an interval alone would let through."""
    wrong = 0
    for draw in range(40):
        pair = verdict(run(spread=0.3, draw=draw), run(spread=0.3, draw=draw, name="b", change={"rank": 4}))
        wrong += pair is not PairVerdict.NO_DIFFERENCE_PROVEN
    assert wrong <= 4


def test_a_difference_below_what_another_seed_gives_is_not_proven_though_its_interval_excludes_0():
    [pair] = judge([run(0.01, spread=0.001, change={"rank": 4}), run(spread=0.001, name="b")])
    assert pair.high is not None
    assert pair.high < 0
    assert pair.verdict is PairVerdict.NO_DIFFERENCE_PROVEN
    assert "another seed" in pair.reason


def test_few_conversations_prove_nothing_and_weights_picked_on_them_do_not_win():
    few = [run(0.5, conversations=9, change={"rank": 4}), run(conversations=9, name="b")]
    assert "Only 9" in judge(few)[0].reason
    assert judge(few)[0].verdict is PairVerdict.NO_DIFFERENCE_PROVEN
    picked = judge([run(0.2, change={"rank": 4}), run(name="b", on_heldout=True)])[0]
    assert picked.verdict is PairVerdict.NO_DIFFERENCE_PROVEN
    assert "flatters" in picked.reason


def test_what_was_not_measured_alike_cannot_be_compared_and_says_why():
    missing = Measured(name="b", setup=SETUP, seed=7, dataset="d", missing="it is not done yet.")
    [pair] = judge([run(), missing])
    assert (pair.verdict, pair.reason) == (PairVerdict.CANNOT_BE_COMPARED, "b: it is not done yet.")
    assert verdict(run(), run(name="b", unit="nats, of a pair", change={"rank": 4})) is PairVerdict.CANNOT_BE_COMPARED
    other = {"x": (100, 200.0)}
    unlike = run(name="b", conversations=1, change={"max_seq_length": 256, "base_model": "other"}, seed=8)
    unlike = Measured(name="b", setup=unlike.setup, seed=8, dataset="e", unit="nats", conversations=other)
    [pair] = judge([run(), unlike])
    assert pair.verdict is PairVerdict.CANNOT_BE_COMPARED
    for why in ("datasets differ", "seeds held out", "base models", "different lengths"):
        assert why in pair.reason


def test_the_more_pairs_the_surer_each_must_be():
    pairs = judge([run(name=name, change={"rank": rank}) for name, rank in (("a", 4), ("b", 8), ("c", 16), ("d", 32))])
    assert len(pairs) == 6
    assert all(pair.confidence == pytest.approx(1 - 0.05 / 6) for pair in pairs)
