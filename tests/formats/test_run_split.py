"""The held-out split: by conversation, stratified, deterministic, and stable under appended rows."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brightrun.formats.records import Scaffold
from brightrun.formats.split import Stratum, heldout_ids, shares_of, stratum_of

PLAIN = (None, None, None)
FRACTIONS = st.floats(0.01, 0.5)


def conversations(count: int, strata: int = 1) -> list[tuple[str, Stratum]]:
    return [(f"c{number}", PLAIN if strata == 1 else (f"p{number % strata}", None, None)) for number in range(count)]


@given(st.integers(2, 300), FRACTIONS, st.integers(0, 1000), st.integers(1, 5))
def test_both_sides_get_at_least_one_conversation(count: int, fraction: float, seed: int, strata: int) -> None:
    held = heldout_ids(conversations(count, strata), fraction=fraction, seed=seed)
    assert 1 <= len(held) < count
    assert len(set(held)) == len(held)


@given(st.integers(1, 200), st.integers(1, 50), FRACTIONS, st.integers(0, 100), st.integers(1, 4))
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
    scaffold = Scaffold(persona="anxious", emotional_arc="fear to trust", topic="glazes")
    assert stratum_of(scaffold) == ("anxious", "fear to trust", "glazes")
    assert stratum_of(None) == PLAIN


@pytest.mark.parametrize("seed", range(3))
def test_persona_arc_and_topic_each_get_their_share(seed: int) -> None:
    pairs: list[tuple[str, Stratum]] = [(f"c{n}", (f"p{n % 3}", f"a{n * 7 % 4}", f"t{n * 11 % 5}")) for n in range(600)]
    held = heldout_ids(pairs, fraction=0.1, seed=seed)
    for share in shares_of(pairs, held):
        assert abs(share.heldout - 0.1 * (share.train + share.heldout)) <= 5, share


# --- near-duplicates ------------------------------------------------------------------------------------------------

GROUPED = st.lists(st.integers(0, 12), min_size=1, max_size=60)


def linked(groups: list[int]) -> dict[str, list[str]]:
    """Each conversation to the last earlier one of its group, as the check for near-duplicates links them."""
    last: dict[int, str] = {}
    links = {}
    for number, group in enumerate(groups):
        if group in last:
            links[f"c{number}"] = [last[group]]
        last[group] = f"c{number}"
    return links


@given(GROUPED, FRACTIONS, st.integers(0, 100))
def test_near_duplicates_are_on_one_side(groups: list[int], fraction: float, seed: int) -> None:
    held = set(heldout_ids(conversations(len(groups)), fraction=fraction, seed=seed, near=linked(groups)))
    for group in set(groups):
        members = {f"c{number}" for number, other in enumerate(groups) if other == group}
        assert members <= held or not members & held
    if len(set(groups)) > 1:
        assert 1 <= len(held) < len(groups)
    else:
        assert not held


@given(GROUPED, st.lists(st.integers(0, 12), max_size=20), FRACTIONS, st.integers(0, 100))
def test_appended_rows_move_nothing_with_near_duplicates_either(
    groups: list[int], more: list[int], fraction: float, seed: int
) -> None:
    before = heldout_ids(conversations(len(groups)), fraction=fraction, seed=seed, near=linked(groups))
    both = [*groups, *more]
    after = heldout_ids(conversations(len(both)), fraction=fraction, seed=seed, near=linked(both))
    assert [id_ for id_ in after if int(id_[1:]) < len(groups)] == before


def test_a_conversation_like_two_on_both_sides_follows_the_first_and_moves_neither() -> None:
    before = heldout_ids(conversations(2), fraction=0.2, seed=0)
    assert before == ["c1"]
    assert heldout_ids(conversations(3), fraction=0.2, seed=0, near={"c2": ["c1", "c0"]}) == before
