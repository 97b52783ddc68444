"""What finished runs teach the estimate, and how a promise is scored: pure arithmetic."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brightrun.training.promise.calibration import SPREADS, Kept, Seen, correction, score

MACHINE = "cpu: test, 2 cores"


def learned(seen: list[Seen], base_model: str = "a"):
    found = correction(seen, base_model=base_model, quantity="seconds", machine=MACHINE)
    assert found is not None
    return found


def test_without_a_record_nothing_is_corrected() -> None:
    assert correction([], base_model="a", quantity="seconds", machine=MACHINE) is None


def test_one_run_moves_the_factor_only_part_of_the_way() -> None:
    one = learned([Seen("a", 2.0)])
    assert 1.0 < one.factor < 2.0
    many = learned([Seen("a", 2.0)] * 30)
    assert many.factor == pytest.approx(2.0, rel=0.02)
    assert "30 finished runs" in many.source


def test_one_run_against_the_formula_done_by_hand() -> None:
    spread = SPREADS["seconds"]
    prior = spread.machine**2 + spread.base_model**2
    weight = prior / (prior + spread.chance**2)
    one = learned([Seen("a", 2.0)])
    assert math.log(one.factor) == pytest.approx(weight * math.log(2.0))
    variance = 1 / (1 / prior + 1 / spread.chance**2)
    assert one.sigma == pytest.approx(math.sqrt(variance + spread.chance**2))


@given(st.lists(st.floats(0.2, 5.0), min_size=1, max_size=20))
def test_every_run_narrows_the_interval_and_never_below_chance(ratios: list[float]) -> None:
    seen = [Seen("a", ratio) for ratio in ratios]
    sigmas = [learned(seen[: n + 1]).sigma for n in range(len(seen))]
    assert sigmas == sorted(sigmas, reverse=True)
    assert sigmas[0] < SPREADS["seconds"].alone
    assert sigmas[-1] > SPREADS["seconds"].chance


def test_runs_of_another_base_model_teach_about_the_machine_and_less() -> None:
    own, other = learned([Seen("a", 1.5)] * 5), learned([Seen("b", 1.5)] * 5)
    assert 1.0 < other.factor < own.factor
    assert own.sigma < other.sigma < SPREADS["seconds"].alone
    assert "none with a" in other.source


def kept(value: float, low: float, high: float, actual: float) -> Kept:
    return Kept(machine=MACHINE, basis="model", value=value, low=low, high=high, actual=actual)


def test_coverage_width_error_and_bias_of_promises() -> None:
    four = [kept(100, 80, 120, 100), kept(100, 80, 120, 119), kept(100, 80, 120, 125), kept(100, 90, 110, 80)]
    told = score(four)
    assert told is not None
    assert (told["n"], told["inside"], told["coverage"]) == (4, 2, 0.5)
    assert told["median_width"] == pytest.approx(0.4)
    errors = sorted(abs(100 / actual - 1) for actual in (100, 119, 125, 80))
    assert told["median_error"] == pytest.approx((errors[1] + errors[2]) / 2, abs=1e-4)
    assert told["bias"] < 0, "most took longer than promised"
    assert score([]) is None
