"""Probes on the platform: a background task with progress and cancel that narrows the promise; the record of runs."""

import os
import signal
from decimal import Decimal
from typing import Any

import psutil
import pytest
from job_steps import QUICK, AddDataset, data, ended, sha256, wait_for

from brightrun.db.session import Database
from brightrun.training.estimates.keys import probe_key
from brightrun.training.estimates.tables import EstimateProbe
from live import Live, Member

SETTINGS = {name: value for name, value in QUICK.items() if name != "learning_rate"}


def probe_body(dataset_id: str, **more: Any) -> dict[str, Any]:
    return {"dataset_id": dataset_id, "base_model": "tiny-random", "hyperparameters": SETTINGS} | more


def start(member: Member, dataset_id: str, **more: Any) -> dict[str, Any]:
    answer = member.client.post("/api/jobs/estimate/probes", json=probe_body(dataset_id, **more))
    assert answer.status_code == 201, answer.text
    probe: dict[str, Any] = data(answer)["probe"]
    return probe


def look(member: Member, probe_id: str) -> dict[str, Any]:
    probe: dict[str, Any] = data(member.client.get(f"/api/jobs/estimate/probes/{probe_id}"))["probe"]
    return probe


def over(member: Member, probe_id: str, **options: Any) -> dict[str, Any]:
    def check() -> dict[str, Any] | None:
        probe = look(member, probe_id)
        return probe if probe["status"] in {"done", "failed", "cancelled"} else None

    found: dict[str, Any] = wait_for(check, what="the probe's end", **options)
    return found


def estimate(member: Member, dataset_id: str, **more: Any) -> dict[str, Any]:
    promise: dict[str, Any] = data(member.client.post("/api/jobs/estimate", json=probe_body(dataset_id, **more)))
    return promise


def wide(figure: dict[str, Any]) -> float:
    return float(figure["high"] - figure["low"]) / float(figure["value"])


def trainers(member_dir: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if "brightrun.trainer" in command and command[-1].startswith(member_dir) and ".probes" in command[-1]:
            found.append(process)
    return found


@pytest.fixture(scope="module")
def probed(running: Live, add_dataset: AddDataset) -> tuple[Member, str, dict[str, Any], dict[str, Any]]:
    """(owner, dataset, the promise before, the finished probe): one real probe for all that look at one."""
    member = running.new_workspace()
    dataset_id = add_dataset(running, member, total_records=12)
    before = estimate(member, dataset_id)
    probe = start(member, dataset_id)
    assert probe["status"] in {"queued", "running"}
    return member, dataset_id, before, over(member, probe["id"])


def test_a_probe_runs_real_steps_and_narrows_the_promise(probed: tuple[Member, str, dict, dict]) -> None:
    member, dataset_id, before, probe = probed
    assert probe["status"] == "done", probe["error_message"]
    assert probe["progress"] == 1.0
    measured = probe["measurement"]
    assert measured["steps"] >= 2
    assert measured["peak_bytes"] > 100 * 1024**2
    assert probe["promise"]["basis"] == "probe"
    after = estimate(member, dataset_id)
    assert after["basis"] == "probe"
    assert after["probe"] == {"id": probe["id"], "status": "done"}
    assert wide(after["memory_bytes"]) < wide(before["memory_bytes"])
    assert wide(after["seconds"]) < wide(before["seconds"])
    assert "probe" in after["sources"]["seconds"]
    for name in ("memory_bytes", "seconds"):
        assert sum(after[name]["parts"].values()) == pytest.approx(after[name]["value"], abs=1e-3)


def test_a_probe_serves_runs_that_differ_only_in_what_does_not_matter_to_it(
    probed: tuple[Member, str, dict, dict],
) -> None:
    member, dataset_id, _before, _probe = probed
    longer = estimate(member, dataset_id, hyperparameters=SETTINGS | {"epochs": 8, "learning_rate": 1e-4})
    assert longer["basis"] == "probe"
    assert longer["seconds"]["value"] > estimate(member, dataset_id)["seconds"]["value"]
    other = estimate(member, dataset_id, hyperparameters=SETTINGS | {"rank": 64})
    assert other["basis"] == "model", "a higher rank was not measured"


def test_the_launch_freezes_the_promise_that_was_on_screen(
    running: Live, add_dataset: AddDataset, probed: tuple[Member, str, dict, dict]
) -> None:
    member, dataset_id, before, _probe = probed
    shown = estimate(member, dataset_id)
    stale = {"promise_digest": before["digest"], "hyperparameters": SETTINGS, "base_model": "tiny-random"}
    refused = member.client.post("/api/jobs", json={"dataset_id": dataset_id} | stale)
    assert refused.status_code == 409
    assert refused.json()["code"] == "promise_changed"
    assert refused.json()["details"]["promise"]["digest"] == shown["digest"]
    answer = member.client.post(
        "/api/jobs", json={"dataset_id": dataset_id} | stale | {"promise_digest": shown["digest"]}
    )
    job = data(answer)["job"]
    assert job["promise"]["seconds"] == shown["seconds"]
    assert job["actual"] is None
    job = ended(member, job["id"])
    assert job["status"] == "completed", job["error_message"]
    actual = job["actual"]
    assert actual["comparable"], actual["why_not"]
    assert actual["attempts"] == 1
    assert actual["seconds"] == pytest.approx(job["attempts"][0]["seconds"])
    assert actual["memory_bytes"] > 100 * 1024**2
    assert set(actual["inside"]) == {"memory", "seconds", "cost"}
    report = data(member.client.get("/api/jobs/calibration"))
    assert report["n"] == 1
    (machine,) = report["machines"]
    assert machine["figures"]["seconds"]["all"]["n"] == 1
    assert machine["figures"]["seconds"]["by_basis"]["probe"]["inside"] == int(actual["inside"]["seconds"])
    assert report["runs"][0]["job_id"] == job["id"]
    other = add_dataset(running, member, total_records=12)
    learned = estimate(member, other, hyperparameters=SETTINGS | {"rank": 32})
    assert learned["basis"] == "record"
    assert "1 finished run" in learned["sources"]["seconds"]


def test_a_cancelled_probe_ends_its_processes_and_measures_nothing(working: Any) -> None:
    member, dataset_id = working.member, working.dataset(total_records=12)
    probe = start(member, dataset_id)
    home = str(working.live.settings.data)
    wait_for(lambda: trainers(home) or look(member, probe["id"])["status"] == "done", what="its trainer")
    stopped = member.client.post(f"/api/jobs/estimate/probes/{probe['id']}/cancel")
    assert stopped.status_code == 200, stopped.text
    assert data(stopped)["probe"]["cancelling"]
    assert over(member, probe["id"])["status"] == "cancelled"
    wait_for(lambda: not trainers(home), what="the end of its trainer")
    again = member.client.post(f"/api/jobs/estimate/probes/{probe['id']}/cancel")
    assert again.status_code == 200, "cancelling twice changes nothing"
    assert estimate(member, dataset_id)["basis"] == "model"


def test_a_probe_whose_trainer_is_killed_says_so(working: Any) -> None:
    member, dataset_id = working.member, working.dataset(total_records=12)
    probe = start(member, dataset_id)
    home = str(working.live.settings.data)
    (trainer, *_) = wait_for(lambda: trainers(home), what="its trainer")
    os.kill(trainer.pid, signal.SIGKILL)
    failed = over(member, probe["id"])
    assert failed["status"] == "failed"
    assert "killed" in failed["error_message"]
    assert failed["error_code"] == "probe_failed"


def test_two_clicks_start_one_probe_and_a_queued_one_is_cancelled_at_once(
    quiet: Live, trainer_owner: Member, dataset_id: str
) -> None:
    first = start(trainer_owner, dataset_id)
    again = trainer_owner.client.post("/api/jobs/estimate/probes", json=probe_body(dataset_id))
    assert again.status_code == 200
    assert data(again)["probe"]["id"] == first["id"]
    listed = data(trainer_owner.client.get("/api/jobs/estimate/probes", params={"dataset_id": dataset_id}))
    assert [probe["id"] for probe in listed["items"]] == [first["id"]]
    cancelled = data(trainer_owner.client.post(f"/api/jobs/estimate/probes/{first['id']}/cancel"))["probe"]
    assert cancelled["status"] == "cancelled"
    assert start(trainer_owner, dataset_id)["id"] != first["id"]


def test_a_rented_device_cannot_be_probed_from_here(trainer_owner: Member, dataset_id: str) -> None:
    body = probe_body(dataset_id, gpu_config={"type": "H100", "count": 1})
    answer = trainer_owner.client.post("/api/jobs/estimate/probes", json=body)
    assert answer.status_code == 409
    assert answer.json()["code"] == "gpu_unavailable"


def test_each_preset_on_each_device_fits_or_says_why_not(trainer_owner: Member, dataset_id: str) -> None:
    body = {"dataset_id": dataset_id, "base_model": "tiny"}
    cells = data(trainer_owner.client.post("/api/jobs/estimate/fits", json=body))["cells"]
    options = data(trainer_owner.client.get("/api/training/options"))
    assert {(cell["preset_id"], cell["gpu_type"]) for cell in cells} == {
        (preset["id"], gpu["id"]) for preset in options["presets"] for gpu in options["gpus"]
    }
    assert all(cell["fits"] is not False or cell["reasons"] for cell in cells)
    assert all(cell["fits"] for cell in cells if cell["gpu_type"] == "H100")


def test_an_estimate_of_tokens_is_replaced_when_they_are_counted(working: Any) -> None:
    member, dataset_id = working.member, working.dataset(total_records=12)
    first = estimate(member, dataset_id)
    assert not first["inputs"]["tokens_exact"]
    assert first["inputs"]["tokens_being_counted"]
    assert "being counted" in first["inputs"]["tokens_source"]

    def counted() -> dict[str, Any] | None:
        promise = estimate(member, dataset_id)
        return promise if promise["inputs"]["tokens_exact"] else None

    after = wait_for(counted, what="the exact count")
    assert after["inputs"]["tokens_source"] == "counted with the tokenizer of tiny-random"
    assert wide(after["seconds"]) < wide(first["seconds"])


def test_the_key_of_a_probe_is_made_of_what_a_pass_depends_on() -> None:
    from brightrun.formats import hyperparameters

    def key(**changes: Any) -> str:
        return probe_key(sha256(b"x"), "tiny", "local-cpu", hyperparameters.build("balanced", changes))

    assert key() == key(epochs=7, learning_rate=1e-4, seed=3)
    assert len({key(), key(rank=64), key(batch_size=2), key(micro_batch_tokens=512), key(precision="fp32")}) == 5


def test_a_measurement_of_another_machine_is_not_used(quiet: Live, trainer_owner: Member, dataset_id: str) -> None:
    probe = start(trainer_owner, dataset_id)

    async def finish(database: Database) -> None:
        from brightrun.clock import utcnow

        scope = {"user_id": trainer_owner.user_id, "workspace_id": trainer_owner.workspace_id}
        async with database.transaction(**scope) as session:
            row = await session.get_one(EstimateProbe, probe["id"])
            row.status, row.ended_at, row.progress, row.machine = "done", utcnow(), Decimal(1), "cpu: another"
            row.measurement = {"machine": "cpu: another"}

    quiet.run(finish)
    assert estimate(trainer_owner, dataset_id)["basis"] == "model"
