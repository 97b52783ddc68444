"""Which records make a step, and how a step is cut."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from brightrun.trainer.batches import Order, micro_batches

LENGTHS = st.lists(st.integers(1, 2000), min_size=1, max_size=64)


@given(LENGTHS, st.integers(1, 8000))
def test_micro_batches_hold_every_record_once_and_keep_the_budget(lengths: list[int], budget: int) -> None:
    groups = micro_batches(lengths, budget=budget)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        padded = max(lengths[index] for index in group) * len(group)
        assert padded <= budget or len(group) == 1


@given(LENGTHS)
def test_micro_batches_never_cost_more_than_one_or_all_alone(lengths: list[int]) -> None:
    def cost(groups: list[list[int]]) -> int:
        return sum(max(lengths[index] for index in group) * len(group) + 64 for group in groups)

    chosen = cost(micro_batches(lengths, budget=10**9, call_cost=64))
    assert chosen <= cost([list(range(len(lengths)))])
    assert chosen <= cost([[index] for index in range(len(lengths))])


def test_equal_lengths_share_a_pass_and_very_different_ones_do_not() -> None:
    assert micro_batches([10, 10, 10], budget=1000) == [[0, 1, 2]]
    assert micro_batches([1000, 10, 10], budget=4000) == [[0], [1, 2]]


@given(st.integers(1, 200), st.integers(1, 64), st.integers(0, 2**32 - 1))
def test_an_epoch_sees_every_record_once(records: int, batch_size: int, seed: int) -> None:
    order = Order(records, batch_size, seed)
    for epoch in range(2):
        start = epoch * order.steps_per_epoch
        steps = [order.step(start + number) for number in range(order.steps_per_epoch)]
        assert Counter(index for step in steps for index in step) == Counter(range(records))
        assert all(len(step) == batch_size for step in steps[:-1])


def test_the_order_depends_on_seed_and_epoch_and_nothing_else() -> None:
    assert Order(50, 4, 1).step(3) == Order(50, 4, 1).step(3)
    assert Order(50, 4, 1).epoch(0) != Order(50, 4, 1).epoch(1)
    assert Order(50, 4, 1).epoch(0) != Order(50, 4, 2).epoch(0)
    assert Order(50, 8, 1).epoch(0) == Order(50, 4, 1).epoch(0)


def test_the_shuffle_is_the_same_in_every_release() -> None:
    """A resumed run must see the order that it began with, whatever Python or version of ours resumes it."""
    assert Order(10, 4, 7).epoch(0) == [6, 2, 9, 4, 0, 3, 7, 5, 1, 8]
