"""The held-out split: by conversation, stratified, deterministic, and stable under appended rows."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brightrun.formats.records import Scaffold
from brightrun.formats.split import heldout_ids, stratum_of

PLAIN = (None, None)
FRACTIONS = st.floats(0.01, 0.5)


def conversations(count: int, strata: int = 1) -> list[tuple[str, tuple[str | None, str | None]]]:
    return [(f"c{number}", PLAIN if strata == 1 else (f"p{number % strata}", None)) for number in range(count)]


@given(st.integers(2, 300), FRACTIONS, st.integers(0, 1000), st.integers(1, 5))
def test_both_sides_get_at_least_one_conversation(count: int, fraction: float, seed: int, strata: int) -> None:
    held = heldout_ids(conversations(count, strata), fraction=fraction, seed=seed)
    assert 1 <= len(held) < count
    assert len(set(held)) == len(held)


@given(st.integers(2, 200), st.integers(1, 50), FRACTIONS, st.integers(0, 100), st.integers(1, 4))
def test_appended_conversations_never_move_an_earlier_one(
    count: int, more: int, fraction: float, seed: int, strata: int
) -> None:
    pairs = conversations(count + more, strata)
    before = heldout_ids(pairs[:count], fraction=fraction, seed=seed)
    after = heldout_ids(pairs, fraction=fraction, seed=seed)
    assert after[: len(before)] == before
    assert not set(after[len(before) :]) & {id_ for id_, _ in pairs[:count]}


@pytest.mark.parametrize("count", [40, 100, 1000])
@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("seed", range(5))
def test_the_share_stays_near_the_fraction(count: int, fraction: float, seed: int) -> None:
    held = heldout_ids(conversations(count), fraction=fraction, seed=seed)
    assert abs(len(held) - fraction * count) <= 2


@pytest.mark.parametrize("seed", range(5))
def test_every_stratum_gets_its_share(seed: int) -> None:
    pairs = conversations(300, strata=3)
    stratum = dict(pairs)
    counts = Counter(stratum[id_] for id_ in heldout_ids(pairs, fraction=0.1, seed=seed))
    assert all(7 <= counts[key] <= 13 for key in set(stratum.values()))


def test_the_same_file_and_seed_give_the_same_split_and_another_seed_another() -> None:
    pairs = conversations(100)
    assert heldout_ids(pairs, fraction=0.1, seed=1) == heldout_ids(pairs, fraction=0.1, seed=1)
    assert heldout_ids(pairs, fraction=0.1, seed=1) != heldout_ids(pairs, fraction=0.1, seed=2)


def test_none_are_held_out_of_a_single_conversation_or_for_fraction_zero() -> None:
    assert heldout_ids(conversations(1), fraction=0.5, seed=0) == []
    assert heldout_ids(conversations(10), fraction=0, seed=0) == []


def test_strata_come_from_the_scaffolding() -> None:
    assert stratum_of(Scaffold(persona="anxious", emotional_arc="fear to trust")) == ("anxious", "fear to trust")
    assert stratum_of(None) == PLAIN
