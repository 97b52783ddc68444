"""What a job leaves behind: curves for the chart and as CSV, the log filtered, found in, and as files."""

import csv
import io
import json
from typing import Any

import psycopg
import pytest
from job_steps import started
from test_jobs_curves import fill

from brightrun.db.roles import DatabaseUrls, libpq
from brightrun.ids import uuid7
from live import Live, Member

STEPS = 5_000


def say(urls: DatabaseUrls, job: dict[str, Any], member: Member, *lines: tuple[str, str, str, dict[str, Any]]) -> None:
    """(type, level, message, details) of each."""
    with psycopg.connect(libpq(urls.owner)) as connection:
        for number, (kind, level, message, details) in enumerate(lines):
            connection.execute(
                "insert into job_events (id, job_id, workspace_id, source, type, level, message, details, recorded_at,"
                " attempt, run, seq) values (%s, %s, %s, 'trainer', %s, %s, %s, %s, now(), 1, 1, %s)",
                [uuid7(), job["id"], member.workspace_id, kind, level, message, json.dumps(details), 900 + number],
            )


@pytest.fixture
def job(trainer_owner: Member, dataset_id: str, training_urls: DatabaseUrls) -> dict[str, Any]:
    made = started(trainer_owner, dataset_id)
    trainer_owner.client.post(f"/api/jobs/{made['id']}/cancel", json={})
    fill(training_urls, made, trainer_owner, STEPS, spike=77)
    say(
        training_urls,
        made,
        trainer_owner,
        (
            "checkpoint",
            "info",
            "Checkpoint after step 40, the best so far on held-out records.",
            {"step": 40, "best": True},
        ),
        ("checkpoint", "info", "Checkpoint after step 80.", {"step": 80, "best": False}),
        ("warning", "warning", "The learning rate is far out.", {}),
        ("log", "info", "=1+1 is no formula", {}),
    )
    return made


def test_the_chart_gets_the_losses_what_else_was_measured_and_the_best_checkpoint(
    trainer_owner: Member, job: dict[str, Any], training_urls: DatabaseUrls
) -> None:
    with psycopg.connect(libpq(training_urls.owner)) as connection:
        connection.execute(
            "update metrics_points set learning_rate = 1e-4, throughput = step where job_id = %s and step < 4000",
            [job["id"]],
        )
    found = trainer_owner.client.get(f"/training/{job['id']}/curve").json()["data"]
    assert found["best"] == 40
    assert [77, 99.0] in found["train"]
    assert found["throughput"][0] == [1, 1.0]
    assert {value for _step, value in found["learning_rate"]} == {1e-4}
    assert found["gradient_norm"] == []
    later = trainer_owner.client.get(f"/training/{job['id']}/curve", params={"after": 4999}).json()["data"]
    assert [step for step, _loss in later["train"]] == [5000]


def test_every_point_is_in_the_csv(trainer_owner: Member, job: dict[str, Any]) -> None:
    answer = trainer_owner.client.get(f"/training/{job['id']}/metrics.csv")
    assert "attachment" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [int(row["step"]) for row in rows] == list(range(1, STEPS + 1))
    assert (rows[76]["series"], rows[76]["training_loss"]) == ("train", "99.0")


def test_the_log_is_found_in_filtered_and_taken_away(trainer_owner: Member, job: dict[str, Any]) -> None:
    url = f"/training/{job['id']}"

    def lines(**query: str) -> str:
        page = trainer_owner.client.get(url, params=query)
        assert page.status_code == 200
        return page.text

    assert "=1+1" not in lines()
    assert "=1+1" in lines(find="no formula")
    warnings = lines(level="warning")
    assert "far out" in warnings
    assert "Checkpoint after" not in warnings
    assert "No line of the log is like that" in lines(find="never said")
    rows = list(csv.DictReader(io.StringIO(trainer_owner.client.get(f"{url}/log.csv").text)))
    assert "'=1+1 is no formula" in {row["message"] for row in rows}
    told = [json.loads(line) for line in trainer_owner.client.get(f"{url}/log.jsonl").text.splitlines()]
    assert {"step": 40, "best": True} in [line["details"] for line in told]
    assert len(told) == len(rows)
    assert [line["recorded_at"] for line in told] == sorted(line["recorded_at"] for line in told)


def test_another_workspace_gets_none_of_it(quiet: Live, job: dict[str, Any]) -> None:
    stranger = quiet.new_workspace()
    for name in ("curve", "metrics.csv", "log.csv", "log.jsonl"):
        assert stranger.client.get(f"/training/{job['id']}/{name}").status_code == 404
