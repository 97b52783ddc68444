"""When a job will start, from what runs and what was promised."""

from uuid import UUID

from brightrun.training.forecast import Busy, Span, Waiting, starts

A, B = UUID(int=1), UUID(int=2)


def exactly(seconds: float) -> Span:
    return Span(seconds, seconds, seconds)


def job(number: int, seconds: float, workspace: UUID = A) -> Waiting:
    return Waiting(UUID(int=100 + number), workspace, exactly(seconds))


def begin(idle: int, busy: list[Busy], queue: list[Waiting], most: int | None = None) -> list[float | None]:
    found = starts(idle, busy, queue, [each.job for each in queue], lambda _workspace: most)
    return [found[each.job].value if each.job in found else None for each in queue]


def test_a_free_place_is_taken_at_once_and_the_next_waits_for_whoever_ends_first():
    busy = [Busy(A, exactly(50)), Busy(A, exactly(20))]
    assert begin(1, busy, [job(1, 100), job(2, 10), job(3, 10), job(4, 1)]) == [0, 20, 30, 40]


def test_a_workspace_at_its_limit_waits_for_its_own_and_others_pass_it():
    busy = [Busy(A, exactly(50))]
    assert begin(2, busy, [job(1, 10), job(2, 10, B), job(3, 10, B)], most=1) == [50, 0, 10]


def test_what_should_be_over_already_ends_at_any_moment_and_no_place_means_no_answer():
    assert begin(0, [Busy(A, exactly(-5))], [job(1, 10)]) == [0]
    assert begin(0, [], [job(1, 10)]) == [None]


def test_the_interval_comes_from_the_intervals_of_those_ahead():
    queue = [Waiting(UUID(int=7), A, Span(100, 80, 150)), job(2, 10)]
    found = starts(0, [Busy(B, Span(10, 5, 20))], queue, [UUID(int=102)], lambda _workspace: None)
    assert found == {UUID(int=102): Span(110, 85, 170)}
