"""Jobs from their creation to their end: real trainers, supervised through a real database."""

import math
from itertools import groupby
from typing import Any

from job_steps import adviser_file, data, ended, events, get, started


def test_a_job_trains_and_its_result_is_there_with_its_n(working: Any) -> None:
    member, dataset_id = working.member, working.dataset()
    job = ended(member, started(member, dataset_id)["id"])
    assert job["status"] == "completed", job["error_message"]
    assert job["progress"] == 100
    assert job["model_id"]
    assert job["step"] == job["total_steps"]
    assert math.isfinite(job["heldout_loss_base"])
    assert job["heldout_loss_adapter"] < job["heldout_loss_base"]
    assert job["heldout_conversations"] >= 1
    assert job["train_loss_last"] < job["train_loss_first"]
    assert [attempt["outcome"] for attempt in job["attempts"]] == ["done"]
    assert job["attempts"][0]["exit_code"] == 0
    assert job["can"] == {"cancel": False, "pause": False, "resume": False, "retry": False}

    curves = data(member.client.get(f"/api/jobs/{job['id']}/metrics"))["series"]
    assert [point["step"] for point in curves["train"]["points"]] == list(range(1, job["total_steps"] + 1))
    assert curves["heldout"]["points"][0]["step"] == 0, "the untouched base model is the first point"
    assert curves["heldout"]["points"][-1]["validation_loss"] == job["heldout_loss_adapter"]
    kinds = {event["type"] for event in events(member, job["id"])}
    assert {"queued", "launched", "stage", "checkpoint", "evaluation", "sample", "done", "log", "completed"} <= kinds
    told = [item["type"] for item in data(member.client.get("/api/notifications"))["items"]]
    assert sorted(told) == ["job_completed", "job_queued", "job_started"]
    charges = data(member.client.get("/api/costs/records", params={"job_id": job["id"]}))["items"]
    assert [charge["cost_type"] for charge in charges] == ["compute"]
    assert get(member, job["id"])["final_cost_usd"] == charges[0]["amount"]


def test_bad_data_fails_with_its_class_and_the_row_and_is_not_tried_again(working: Any) -> None:
    content = adviser_file() + b'{"conversation_id": "broken", "turns": [{"role": "user"}]}\n'
    job = ended(working.member, started(working.member, working.dataset(content))["id"])
    assert (job["status"], job["error_code"]) == ("failed", "data")
    assert "row" in job["error_message"] or "line" in job["error_message"]
    assert [attempt["exit_code"] for attempt in job["attempts"]] == [65]
    assert job["attempts"][0]["outcome"] == "failed"
    told = [item["type"] for item in data(working.member.client.get("/api/notifications"))["items"]]
    assert told.count("job_failed") == 1
    charges = data(working.member.client.get("/api/costs/records", params={"job_id": job["id"]}))["items"]
    assert len(charges) == 1, "failed runs are charged too"


def test_a_file_that_changed_since_it_was_validated_is_not_trained_on(working: Any) -> None:
    dataset_id = working.dataset(sha256="0" * 64)
    job = ended(working.member, started(working.member, dataset_id)["id"])
    assert (job["status"], job["error_code"]) == ("failed", "dataset_changed")
    assert job["attempts"] == []
    assert job["final_cost_usd"] == "0.000000"


def test_divergence_fails_with_advice_and_the_log_as_evidence(working: Any) -> None:
    hyperparameters = {"divergence_loss": 0.001}
    job = ended(working.member, started(working.member, working.dataset(), hyperparameters=hyperparameters)["id"])
    assert (job["status"], job["error_code"]) == ("failed", "diverged")
    assert "learning_rate" in job["error_advice"]
    assert "diverged" in job["error_evidence"]
    assert [attempt["exit_code"] for attempt in job["attempts"]] == [78]


def test_live_pages_hear_of_every_stage(working: Any) -> None:
    """By the events themselves: a page that asks for the job after each may find it further on already."""
    from brightrun.sdk import Client

    dataset_id = working.dataset()
    heard: list[dict[str, Any]] = []
    with Client(working.live.url, working.member.token) as client, client.events("jobs") as stream:
        job_id = started(working.member, dataset_id)["id"]
        for event in stream:
            heard.append(event["data"]["payload"])
            assert heard[-1]["id"] == job_id
            if heard[-1]["status"] in {"completed", "failed", "cancelled"}:
                break
    assert heard[-1]["status"] == "completed"
    stages = [stage for stage, _ in groupby(job["stage"] for job in heard) if stage is not None]
    assert stages == ["preprocessing", "model_loading", "training", "finalizing"]
    progress = [job["progress"] for job in heard]
    assert progress == sorted(progress), "it never goes back"


def test_whoever_waits_sees_the_job_change_and_end(working: Any) -> None:
    from brightrun.sdk import Client

    job_id = started(working.member, working.dataset())["id"]
    seen: list[dict[str, Any]] = []
    with Client(working.live.url, working.member.token) as client:
        job = client.jobs.wait(job_id, seen.append)
    assert job["status"] == seen[-1]["status"] == "completed"
    progress = [shown["progress"] for shown in seen]
    assert progress == sorted(progress), "it never goes back"
