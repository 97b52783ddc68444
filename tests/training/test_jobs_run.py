"""Jobs from their creation to their end: real trainers, supervised through a real database."""

import math
from typing import Any

from job_steps import data, ended, events, get, started


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
    assert job["can"] == {"cancel": False, "retry": False}

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
