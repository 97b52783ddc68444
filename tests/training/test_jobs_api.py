"""Jobs over real HTTP, without a worker: what is created, refused, listed, cancelled."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from job_steps import AddDataset, data, events, get, start, started

from brightrun.accounts.roles import Role
from brightrun.settings import Settings
from live import Live, Member


def test_a_new_job_waits_with_everything_frozen_into_it(trainer_owner: Member, dataset_id: str) -> None:
    job = started(trainer_owner, dataset_id, preset_id="fast", hyperparameters={"rank": 8})
    assert job["status"] == "queued"
    assert job["preset_id"] == "conservative"
    assert (job["progress"], job["step"], job["attempts"], job["position"] > 0) == (0, 0, [], True)
    assert job["hyperparameters"]["rank"] == 8
    assert job["hyperparameters"]["alpha"] == 16
    assert job["seed"] == job["hyperparameters"]["seed"] == 7
    assert job["gpu_config"]["type"] == "local-cpu"
    assert job["gpu_config"]["price_per_gpu_hour_usd"] == "0"
    assert job["promise"]["method"] == "analytic"
    assert job["total_steps"] > 0
    assert job["can"] == {"cancel": True, "pause": True, "resume": False, "retry": False}
    assert [event["type"] for event in events(trainer_owner, job["id"])] == ["queued"]


def test_the_same_key_starts_nothing_twice_even_at_the_same_moment(trainer_owner: Member, dataset_id: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: start(trainer_owner, dataset_id, key="once"), range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
    assert len({data(answer)["job"]["id"] for answer in answers}) == 1
    assert data(trainer_owner.client.get("/api/jobs"))["total"] == 1
    other = start(trainer_owner, dataset_id, key="once", name="Another")
    assert other.status_code == 409
    assert other.json()["code"] == "idempotency_key_reused"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"status": "uploading", "training_ready": False}, "upload"),
        ({"status": "ready", "training_ready": False, "total_training_pairs": 0}, "nothing to train on"),
        (
            {"status": "error", "training_ready": False, "error_code": "broken", "error_message": "Line 3 is broken."},
            "Line 3",
        ),
    ],
)
def test_a_dataset_that_is_not_ready_is_refused_with_the_reason(
    add_dataset: AddDataset, quiet: Live, trainer_owner: Member, fields: dict[str, Any], words: str
) -> None:
    answer = start(trainer_owner, add_dataset(quiet, trainer_owner, **fields))
    assert answer.status_code == 409
    assert answer.json()["code"] == "dataset_not_ready"
    assert words in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"base_model": "/etc"}, 400, "base_model"),
        ({"base_model": "../tiny"}, 400, "base_model"),
        ({"base_model": "no such model"}, 400, "base_model"),
        ({"hyperparameters": {"epochs": 21}}, 400, "hyperparameters.epochs"),
        ({"gpu_config": {"type": "H100", "count": 1}}, 409, "gpu_config.type"),
        ({"seed": -1}, 400, "seed"),
        ({"unknown": 1}, 400, "unknown"),
    ],
)
def test_what_cannot_run_is_refused_before_it_is_queued(
    trainer_owner: Member, dataset_id: str, body: dict[str, Any], status: int, field: str
) -> None:
    answer = start(trainer_owner, dataset_id, **body)
    assert answer.status_code == status, answer.text
    assert field in answer.json()["details"]
    assert data(trainer_owner.client.get("/api/jobs"))["total"] == 0


def test_pickled_weights_are_refused_until_the_setting_names_their_model(
    quiet: Live, trainer_owner: Member, dataset_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    monkeypatch.setattr(quiet.settings, "base_model_dir", tmp_path)

    def offered() -> dict[str, Any]:
        models = data(trainer_owner.client.get("/api/training/options"))["base_models"]
        found: dict[str, Any] = next(model for model in models if model["name"] == "pickled")
        return found

    monkeypatch.setattr(quiet.settings, "pickled_models", ["another"])
    refused = start(trainer_owner, dataset_id, base_model="pickled")
    assert refused.status_code == 400
    (reason,) = refused.json()["details"]["base_model"]
    assert "pytorch_model.bin" in reason
    assert "BRIGHTRUN_PICKLED_MODELS" in reason
    assert (offered()["usable"], offered()["reason"]) == (False, reason)
    assert data(trainer_owner.client.get("/api/jobs"))["total"] == 0

    monkeypatch.setattr(quiet.settings, "pickled_models", ["another", "pickled"])
    assert offered()["usable"]
    job_id = started(trainer_owner, dataset_id, base_model="pickled")["id"]
    assert data(trainer_owner.client.post(f"/api/jobs/{job_id}/cancel"))["job"]["status"] == "cancelled"


def test_models_with_pickled_weights_are_listed_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().pickled_models == []
    monkeypatch.setenv("BRIGHTRUN_PICKLED_MODELS", "own/one, org/two@v1,")
    assert Settings().pickled_models == ["own/one", "org/two@v1"]


def test_a_waiting_job_is_cancelled_at_once_and_again_without_harm(trainer_owner: Member, dataset_id: str) -> None:
    job_id = started(trainer_owner, dataset_id)["id"]
    for _ in range(2):
        answer = trainer_owner.client.post(
            f"/api/jobs/{job_id}/cancel", json={"reason": "testing", "note": "Only to see"}
        )
        assert answer.status_code == 200
        job = data(answer)["job"]
        assert (job["status"], job["cancel_reason"], job["cancel_note"]) == ("cancelled", "testing", "Only to see")
    assert job["cost_usd"] == job["final_cost_usd"] == "0.000000"
    told = data(trainer_owner.client.get("/api/notifications"))["items"]
    assert [item["type"] for item in told].count("job_cancelled") == 1


def test_a_cancelled_job_can_be_retried_and_a_waiting_one_cannot(trainer_owner: Member, dataset_id: str) -> None:
    job_id = started(trainer_owner, dataset_id)["id"]
    refused = trainer_owner.client.post(f"/api/jobs/{job_id}/retry")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_retryable")
    trainer_owner.client.post(f"/api/jobs/{job_id}/cancel")
    job = data(trainer_owner.client.post(f"/api/jobs/{job_id}/retry"))["job"]
    assert job["status"] == "queued"
    assert job["cancel_reason"] is None
    assert job["completed_at"] is None


def test_a_dataset_in_use_cannot_be_deleted_until_its_job_has_ended(trainer_owner: Member, dataset_id: str) -> None:
    job_id = started(trainer_owner, dataset_id, name="Needs it")["id"]
    refused = trainer_owner.client.delete(f"/api/datasets/{dataset_id}")
    assert refused.status_code == 409
    assert "Needs it" in refused.json()["error"]
    trainer_owner.client.post(f"/api/jobs/{job_id}/cancel")
    assert trainer_owner.client.delete(f"/api/datasets/{dataset_id}").status_code == 200
    assert get(trainer_owner, job_id)["dataset"]["deleted"]
    assert start(trainer_owner, dataset_id).status_code == 404


def test_the_list_filters_sorts_and_pages(trainer_owner: Member, dataset_id: str) -> None:
    names = ["Clay", "Glaze", "Kiln"]
    ids = {name: started(trainer_owner, dataset_id, name=name)["id"] for name in names}
    trainer_owner.client.post(f"/api/jobs/{ids['Kiln']}/cancel")

    def listed(**filters: Any) -> list[str]:
        return [job["name"] for job in data(trainer_owner.client.get("/api/jobs", params=filters))["items"]]

    assert listed() == ["Kiln", "Glaze", "Clay"]
    assert listed(sort="name") == names
    assert listed(status="cancelled") == ["Kiln"]
    assert listed(status=["cancelled", "queued"], sort="-name") == ["Kiln", "Glaze", "Clay"]
    assert listed(search="laz") == ["Glaze"]
    assert listed(search="advis", limit=1, page=2) == ["Glaze"]
    assert listed(preset_id="aggressive") == []
    assert trainer_owner.client.get("/api/jobs", params={"sort": "secret"}).status_code == 400
    stats = data(trainer_owner.client.get("/api/jobs/stats"))["stats"]
    assert (stats["total"], stats["active"], stats["by_status"]["cancelled"]) == (3, 2, 1)


def test_nobody_sees_or_touches_another_workspaces_job(quiet: Live, trainer_owner: Member, dataset_id: str) -> None:
    job_id = started(trainer_owner, dataset_id)["id"]
    stranger = quiet.new_workspace()
    for path in ("", "/metrics", "/events"):
        assert stranger.client.get(f"/api/jobs/{job_id}{path}").status_code == 404
    for action in ("cancel", "retry"):
        assert stranger.client.post(f"/api/jobs/{job_id}/{action}").status_code == 404
    assert start(stranger, dataset_id).status_code == 404
    assert get(trainer_owner, job_id)["status"] == "queued"


def test_a_viewer_watches_and_may_not_spend(quiet: Live, trainer_owner: Member, dataset_id: str) -> None:
    job_id = started(trainer_owner, dataset_id)["id"]
    viewer = quiet.new_member(UUID(str(trainer_owner.workspace_id)), Role.VIEWER)
    assert get(viewer, job_id)["status"] == "queued"
    assert start(viewer, dataset_id).status_code == 403
    assert viewer.client.post(f"/api/jobs/{job_id}/cancel").status_code == 403
