"""From a finished run to a model: whole, once, and whatever is killed on the way."""

import csv
import hashlib
import io
import json
import shutil
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from model_steps import Finished, data, finish_job

from brightrun.clock import utcnow
from brightrun.errors import StorageFullError
from brightrun.models import tasks
from brightrun.models.run_files import RunFilesError
from brightrun.models.tasks import register
from brightrun.platform import Platform
from brightrun.queue import RunAgainError
from brightrun.queue.execution import worth_retrying
from brightrun.storage import Bucket
from live import Live, Member

pytestmark = pytest.mark.anyio

FILES = {
    "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja", "generation_config.json",
    "tokenizer.json", "tokenizer_config.json", "metrics.csv", "heldout.json", "run.json",
}  # fmt: skip


def stored(platform: Platform, finished: Finished) -> dict[str, bytes]:
    """Name → bytes of what lies in the job's folder."""
    folder = f"{finished.owner.workspace_id}/models/{finished.job_id}"
    found = platform.store.list_objects(Bucket.LORA_MODELS, folder)
    return {i.path.rpartition("/")[2]: platform.store.read_bytes(Bucket.LORA_MODELS, i.path) for i in found}


async def test_a_finished_run_becomes_a_model_and_completes_its_job(finished: Finished, worker_platform: Platform):
    finished.hand_over()
    job = finished.ended()
    assert job["status"] == "completed", job["error_message"]
    assert job["progress"] == 100
    model = finished.model()
    assert model["job_id"] == str(finished.job_id)
    assert (model["version"], model["status"], model["base_model"]) == ("1.0.0", "stored", "tiny")
    assert model["name"] == f"Adviser talk – balanced – {utcnow():%Y-%m-%d}"
    assert model["parent_model_id"] is None
    kept = stored(worker_platform, finished)
    assert set(kept) == FILES
    assert {f["name"]: (f["size"], f["sha256"]) for f in model["files"]} == {
        name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in kept.items()
    }
    for name in FILES - {"metrics.csv", "heldout.json", "run.json"}:
        assert kept[name] == (finished.run_dir / "adapter" / name).read_bytes(), name
    notes = data(finished.owner.client.get("/api/notifications"))["items"]
    assert [note["type"] for note in notes] == ["job_completed"]


def test_the_model_says_what_was_measured_with_its_n(finished: Finished):
    finished.hand_over()
    job = finished.ended()
    model = finished.model()
    quality = model["quality_metrics"]
    assert quality["heldout_loss_base"] == pytest.approx(job["heldout_loss_base"])
    assert quality["heldout_loss_adapter"] == pytest.approx(job["heldout_loss_adapter"])
    assert quality["heldout_conversations"] == 12
    assert quality["heldout_tokens"] == job["heldout_tokens"]
    low, high = quality["heldout_loss_difference_low"], quality["heldout_loss_difference_high"]
    assert low < quality["heldout_loss_difference"] < high < 0
    assert quality["verdict"] == "improved"
    assert model["training_summary"]["cost_usd"] == "0.012345"
    assert model["training_summary"]["steps"] == job["total_steps"]
    assert model["configuration"]["split"]["heldout_conversations"] == 12
    assert model["configuration"]["versions"]["peft"]


async def test_metrics_csv_has_both_curves_and_run_json_no_path_of_the_machine(
    finished: Finished, worker_platform: Platform
):
    run = json.loads((finished.run_dir / "run.json").read_text())
    run["base_model"]["folder"] = "/home/somebody/models/tiny"
    (finished.run_dir / "run.json").write_text(json.dumps(run))
    await register(worker_platform, **finished.arguments)
    kept = stored(worker_platform, finished)
    rows = list(csv.DictReader(io.StringIO(kept["metrics.csv"].decode())))
    assert [int(row["step"]) for row in rows] == list(range(len(rows)))
    assert rows[0]["training_loss"] == ""
    assert float(rows[0]["heldout_loss"]) > 0, "step 0 is the untouched base model"
    assert all(float(row["training_loss"]) > 0 for row in rows[1:])
    assert float(rows[-1]["heldout_loss"]) > 0
    assert b"somebody" not in kept["run.json"]
    assert json.loads(kept["run.json"])["split"] == run["split"]


def test_the_next_training_on_a_dataset_is_the_next_version(live: Live, owner: Member, trained_run: Path):
    first = finish_job(live, owner, trained_run)
    second = finish_job(live, owner, trained_run, dataset_id=first.dataset_id)
    elsewhere = finish_job(live, owner, trained_run)
    for job in (first, second, elsewhere):
        job.hand_over()
        assert job.ended()["status"] == "completed"
    assert second.model()["version"] == "1.1.0"
    assert second.model()["parent_model_id"] == first.model()["id"]
    assert elsewhere.model()["version"] == "1.0.0"


async def test_registering_again_changes_nothing(finished: Finished, worker_platform: Platform):
    await register(worker_platform, **finished.arguments)
    before = finished.model()
    await register(worker_platform, **finished.arguments)
    assert finished.models[0]["id"] == before["id"]
    assert len(finished.models) == 1
    assert finished.model() == before


def test_two_workers_with_the_same_job_make_one_model(finished: Finished):
    finished.hand_over()
    finished.hand_over()
    assert finished.ended()["status"] == "completed"
    assert len(finished.models) == 1


KILLED = """
import asyncio, os, signal, sys
from brightrun.db.session import Database
from brightrun.models.tasks import register
from brightrun.platform import Platform
from brightrun.rooms import import_tables
from brightrun.settings import Settings
from brightrun.storage import open_store
from brightrun.training import service

url, data, workspace, job, point = sys.argv[1:]
import_tables()
settings = Settings(data=data)
store = open_store(settings, public_url="http://127.0.0.1:1", secret=b"any")
put, done = store.put_file, []
def put_file(bucket, path, source):
    if point == f"before file {len(done)}":
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(path)
    return put(bucket, path, source)
store.put_file = put_file
complete = service.complete_job
async def complete_job(*arguments):
    if point == "before the row":
        os.kill(os.getpid(), signal.SIGKILL)
    await complete(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
service.complete_job = complete_job
platform = Platform(settings=settings, secret=b"any", db=Database(url), store=store, public_url="http://127.0.0.1:1")
asyncio.run(register(platform, workspace_id=workspace, job_id=job))
"""


@pytest.mark.parametrize("point", ["before file 0", "before file 4", "before the row", "before the commit"])
async def test_killed_on_the_way_it_is_stored_once_by_the_next_run(
    finished: Finished, worker_platform: Platform, point: str
):
    arguments = [worker_platform.db.url, str(finished.live.settings.data), *finished.arguments.values(), point]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert finished.job["status"] == "running"
    assert finished.models == []
    await register(worker_platform, **finished.arguments)
    assert finished.job["status"] == "completed"
    kept = stored(worker_platform, finished)
    assert set(kept) == FILES
    assert {f["name"]: f["sha256"] for f in finished.model()["files"]} == {
        name: hashlib.sha256(content).hexdigest() for name, content in kept.items()
    }


async def test_what_is_stored_already_is_not_sent_again(
    finished: Finished, worker_platform: Platform, monkeypatch: pytest.MonkeyPatch
):
    store = worker_platform.store
    put, sent = store.put_file, []

    def put_file(bucket, path, source):
        sent.append(path.rpartition("/")[2])
        if source.name == "tokenizer.json" and sent.count("tokenizer.json") == 1:
            raise StorageFullError("The disk is full")
        return put(bucket, path, source)

    monkeypatch.setattr(store, "put_file", put_file)
    with pytest.raises(StorageFullError) as full:
        await register(worker_platform, **finished.arguments)
    assert worth_retrying(full.value), "somebody may make room: a trained adapter is not given up for that"
    assert finished.job["status"] == "running"
    await register(worker_platform, **finished.arguments)
    assert sent.count("adapter_model.safetensors") == 1
    assert sent.count("tokenizer.json") == 2
    assert finished.job["status"] == "completed"


async def test_files_of_an_earlier_run_of_the_job_do_not_stay(finished: Finished, worker_platform: Platform):
    path = f"{finished.owner.workspace_id}/models/{finished.job_id}/vocab.json"
    worker_platform.store.put_bytes(Bucket.LORA_MODELS, path, b"of an earlier run")
    await register(worker_platform, **finished.arguments)
    assert set(stored(worker_platform, finished)) == FILES


def test_a_changed_adapter_is_not_delivered_and_the_job_says_why(finished: Finished):
    weights = finished.run_dir / "adapter" / "adapter_model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    finished.hand_over()
    job = finished.ended()
    assert (job["status"], job["error_code"]) == ("failed", "run_files_damaged")
    assert "was changed after the training" in job["error_message"]
    assert finished.models == []
    weights.write_bytes(good)
    data(finished.owner.client.post(f"/api/jobs/{finished.job_id}/retry"))
    assert finished.ended()["status"] == "completed"


@pytest.mark.parametrize("name", ["result.json", "adapter/adapter_config.json"])
def test_a_file_that_is_missing_is_named(finished: Finished, name: str):
    (finished.run_dir / name).unlink()
    finished.hand_over()
    job = finished.ended()
    assert (job["status"], job["error_code"]) == ("failed", "run_files_damaged")
    assert name in job["error_message"]


async def test_a_run_directory_that_is_gone_is_a_failure_but_one_on_another_machine_is_waited_for(
    finished: Finished, worker_platform: Platform
):
    shutil.rmtree(finished.run_dir)
    with pytest.raises(RunFilesError, match="gone from this machine"):
        await register(worker_platform, **finished.arguments)
    finished.change(host="another-machine")
    with pytest.raises(RunAgainError, match="another-machine"):
        await register(worker_platform, **finished.arguments)
    finished.change(trained_at=utcnow() - timedelta(hours=25))
    with pytest.raises(RunFilesError, match="has not answered for 24 hours"):
        await register(worker_platform, **finished.arguments)


async def test_a_worker_that_stops_hands_the_registration_back(
    finished: Finished, worker_platform: Platform, monkeypatch: pytest.MonkeyPatch
):
    import asyncio
    import threading

    store, reached, go_on = worker_platform.store, threading.Event(), threading.Event()
    put = store.put_file
    stop = asyncio.Event()
    monkeypatch.setattr(tasks, "stopping", lambda: stop)

    def put_file(bucket, path, source):
        reached.set()
        go_on.wait(30)
        return put(bucket, path, source)

    monkeypatch.setattr(store, "put_file", put_file)
    running = asyncio.create_task(register(worker_platform, **finished.arguments))
    await asyncio.to_thread(reached.wait, 30)
    stop.set()
    try:
        with pytest.raises(RunAgainError):
            await running
    finally:
        go_on.set()
    assert finished.job["status"] == "running"


def test_models_count_towards_the_storage_quota(finished: Finished):
    before = data(finished.owner.client.get("/api/datasets/stats"))["stats"]["used_bytes"]
    finished.hand_over()
    finished.ended()
    after = data(finished.owner.client.get("/api/datasets/stats"))["stats"]["used_bytes"]
    weights = (finished.run_dir / "adapter" / "adapter_model.safetensors").stat().st_size
    assert after - before == finished.model()["size_bytes"] > weights
