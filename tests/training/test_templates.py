"""Configurations that are kept: saved, used, renamed, deleted and brought back, and compared with one another."""

from typing import Any
from uuid import uuid4

import pytest
from job_steps import QUICK, data, get, started

from live import Live, Member

SETTINGS = {"preset_id": "aggressive", "hyperparameters": {"rank": "64", "epochs": 2}, "base_model": "tiny-random"}


def save(member: Member, **body: Any) -> dict[str, Any]:
    answer = member.client.post("/api/training/templates", json=body)
    assert answer.status_code == 201, answer.text
    template: dict[str, Any] = data(answer)["template"]
    return template


def listed(member: Member, **query: Any) -> list[str]:
    found = data(member.client.get("/api/training/templates", params=query))["items"]
    return [row["name"] for row in found]


def test_a_configuration_is_saved_checked_and_shown_with_all_its_values(trainer_owner: Member):
    template = save(trainer_owner, name="Deep", description="For large sets.", **SETTINGS)
    assert template["overrides"] == {"rank": 64, "epochs": 2}, "typed, as a job has them"
    assert template["hyperparameters"]["alpha"] == 128, "what follows from the rank"
    assert (template["jobs"], template["problem"]) == (0, None)
    again = data(trainer_owner.client.get(f"/api/training/templates/{template['id']}"))["template"]
    assert again == template
    wrong = trainer_owner.client.post(
        "/api/training/templates", json={"name": "Wrong", "hyperparameters": {"rank": 900, "speed": 1}}
    )
    assert wrong.status_code == 400
    assert wrong.json()["details"].keys() == {"hyperparameters.rank", "hyperparameters.speed"}


def test_a_job_is_started_with_a_template_and_what_is_given_besides_goes_first(trainer_owner: Member, dataset_id: str):
    template = save(trainer_owner, name="Deep", max_cost_usd="3", **SETTINGS)
    body = {"dataset_id": dataset_id, "template_id": template["id"], "hyperparameters": {"epochs": 5}}
    job = data(trainer_owner.client.post("/api/jobs", json=body))["job"]
    assert (job["preset_id"], job["base_model"], job["max_cost_usd"]) == ("aggressive", "tiny-random", "3.000000")
    assert job["overrides"] == {"rank": 64, "epochs": 5}
    assert job["template_id"] == template["id"]
    used = data(trainer_owner.client.get(f"/api/training/templates/{template['id']}"))["template"]
    assert (used["jobs"], used["completed"]) == (1, 0)
    assert used["last_used_at"] is not None


def test_a_template_that_is_gone_starts_nothing(trainer_owner: Member, dataset_id: str):
    body = {"dataset_id": dataset_id, "template_id": str(uuid4())}
    answer = trainer_owner.client.post("/api/jobs", json=body)
    assert answer.status_code == 404
    assert "template" in answer.json()["error"]


def test_the_configuration_of_a_job_becomes_a_template(trainer_owner: Member, dataset_id: str):
    job = started(trainer_owner, dataset_id)
    template = save(trainer_owner, name="As that one", job_id=job["id"])
    assert template["overrides"] == QUICK | {"seed": 7}
    assert template["source_job_id"] == job["id"]
    both = trainer_owner.client.post(
        "/api/training/templates", json={"name": "Both", "job_id": job["id"], "preset_id": "balanced"}
    )
    assert both.status_code == 400
    assert both.json()["details"].keys() == {"preset_id"}
    absent = trainer_owner.client.post("/api/training/templates", json={"name": "x", "job_id": str(uuid4())})
    assert absent.status_code == 404


def test_a_name_is_used_once_and_is_free_again_after_a_deletion(trainer_owner: Member):
    first = save(trainer_owner, name="Gentle")
    path = f"/api/training/templates/{first['id']}"
    taken = trainer_owner.client.post("/api/training/templates", json={"name": "gentle"})
    assert (taken.status_code, taken.json()["code"]) == (409, "template_name_taken")
    assert trainer_owner.client.patch(path, json={"name": "GENTLE"}).status_code == 200, "its own name"
    assert trainer_owner.client.delete(path).status_code == 200
    assert trainer_owner.client.get(path).status_code == 404
    second = save(trainer_owner, name="Gentle")
    assert trainer_owner.client.post(f"{path}/restore").status_code == 409
    trainer_owner.client.patch(f"/api/training/templates/{second['id']}", json={"name": "Other"})
    assert trainer_owner.client.post(f"{path}/restore").status_code == 200
    assert listed(trainer_owner) == ["GENTLE", "Other"]
    assert listed(trainer_owner, search="oth") == ["Other"]
    assert listed(trainer_owner, sort="-name") == ["Other", "GENTLE"]


def test_what_a_template_was_used_for_stays_when_it_is_deleted(trainer_owner: Member, dataset_id: str):
    template = save(trainer_owner, name="Once")
    body = {"dataset_id": dataset_id, "template_id": template["id"]}
    job = data(trainer_owner.client.post("/api/jobs", json=body))["job"]
    trainer_owner.client.delete(f"/api/training/templates/{template['id']}")
    assert get(trainer_owner, job["id"])["preset_id"] == "balanced"


# --- two side by side -----------------------------------------------------------------------------------------------


def compared(member: Member, left: str, right: str) -> dict[str, Any]:
    found: dict[str, Any] = data(member.client.get("/api/training/diff", params={"left": left, "right": right}))["diff"]
    return found


def test_two_jobs_differ_in_exactly_what_was_set_differently(trainer_owner: Member, dataset_id: str):
    one = started(trainer_owner, dataset_id, name="One")
    two = started(trainer_owner, dataset_id, name="Two", hyperparameters={"rank": 8}, max_cost_usd="2.50")
    diff = compared(trainer_owner, f"job:{one['id']}", f"job:{two['id']}")
    differing = {line["field"]: (line["left"], line["right"]) for line in diff["lines"] if not line["equal"]}
    assert differing == {
        "max_cost_usd": (None, "2.50"), "hyperparameters.rank": (4, 8), "hyperparameters.alpha": (8.0, 16.0),
    }  # fmt: skip
    assert diff["different"] == 3
    assert [line["equal"] for line in diff["lines"][:4]] == [False, False, False, True], "differences first"
    rank = next(line for line in diff["lines"] if line["field"] == "hyperparameters.rank")
    assert rank["set_left"]
    assert rank["set_right"]
    assert compared(trainer_owner, f"job:{one['id']}", f"job:{one['id']}")["different"] == 0


def test_a_job_is_compared_with_a_template_without_its_dataset(trainer_owner: Member, dataset_id: str):
    job = started(trainer_owner, dataset_id)
    template = save(trainer_owner, name="Same", job_id=job["id"])
    diff = compared(trainer_owner, f"template:{template['id']}", f"job:{job['id']}")
    assert diff["different"] == 0
    assert "dataset" not in {line["field"] for line in diff["lines"]}


@pytest.mark.parametrize("side", ["", "job", "job:x", "model:0", "template:"])
def test_what_names_neither_is_refused_with_its_field(trainer_owner: Member, side: str):
    answer = trainer_owner.client.get("/api/training/diff", params={"left": f"job:{uuid4()}", "right": side})
    assert answer.status_code == 400
    assert answer.json()["details"].keys() == {"right"}


def test_another_workspaces_configuration_is_not_there(quiet: Live, trainer_owner: Member, dataset_id: str):
    job = started(trainer_owner, dataset_id)
    other = quiet.new_workspace()
    template = save(other, name="Theirs")
    sides = {"left": f"template:{template['id']}", "right": f"job:{job['id']}"}
    assert other.client.get("/api/training/diff", params=sides).status_code == 404
