"""Curves with more points than a page can draw."""

from typing import Any

import psycopg
import pytest
from job_steps import data, started

from brightrun.db.roles import DatabaseUrls, libpq
from live import Member

STEPS = 100_000


def fill(urls: DatabaseUrls, job: dict[str, Any], member: Member, steps: int, *, spike: int) -> None:
    with psycopg.connect(libpq(urls.owner)) as connection:
        connection.execute(
            "insert into metrics_points (job_id, workspace_id, kind, step, epoch, training_loss, recorded_at, run, seq)"
            " select %(job)s, %(workspace)s, 'train', step, step / 1000.0,"
            " case when step = %(spike)s then 99 else 5.0 / (1 + step / 1000.0) + 0.1 * sin(step) end,"
            " now(), 1, step from generate_series(1, %(steps)s) step",
            {"job": job["id"], "workspace": member.workspace_id, "steps": steps, "spike": spike},
        )


@pytest.fixture
def long_job(trainer_owner: Member, dataset_id: str, training_urls: DatabaseUrls) -> dict[str, Any]:
    job = started(trainer_owner, dataset_id)
    fill(training_urls, job, trainer_owner, STEPS, spike=54_321)
    return job


def curve(member: Member, job: dict[str, Any], points: int) -> dict[str, Any]:
    answer = member.client.get(f"/api/jobs/{job['id']}/metrics", params={"points": points})
    found: dict[str, Any] = data(answer)["series"]["train"]
    return found


def test_a_long_curve_is_thinned_and_keeps_its_ends_and_a_spike_of_one_step(
    trainer_owner: Member, long_job: dict[str, Any]
) -> None:
    found = curve(trainer_owner, long_job, 500)
    steps = [point["step"] for point in found["points"]]
    assert found["total"] == STEPS
    assert found["downsampled"]
    assert 300 <= len(steps) <= 500
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (1, STEPS)
    assert {"step": 54_321, "training_loss": 99.0}.items() <= next(
        point for point in found["points"] if point["step"] == 54_321
    ).items()


def test_a_short_curve_is_given_whole(trainer_owner: Member, dataset_id: str, training_urls: DatabaseUrls) -> None:
    job = started(trainer_owner, dataset_id)
    fill(training_urls, job, trainer_owner, 100, spike=50)
    found = curve(trainer_owner, job, 500)
    assert [point["step"] for point in found["points"]] == list(range(1, 101))
    assert not found["downsampled"]
    assert curve(trainer_owner, job, 10)["points"][0]["step"] == 1
