"""One training run through every kill: trainer, worker, server, `up` itself, and a polite stop. It completes, and the
adapter is the one that an undisturbed run makes.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from test_up import eventually

from brightrun.sdk import Client
from up_process import Up, processes_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SAMPLE = Path(__file__).resolve().parents[2] / "src" / "brightrun" / "cli" / "samples" / "bike-shop.jsonl"
# Long enough to be killed four times; checkpoints often, so that little is done twice.
LONG = {"epochs": 8, "batch_size": 4, "checkpoint_every_steps": 5, "max_seq_length": 256, "seed": 7}


@pytest.fixture
def data() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="brightrun-kills-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def job_of(up: Up, job_id: str) -> dict[str, Any]:
    return up.client.get(f"/api/jobs/{job_id}").json()["data"]["job"]


def trainer_of(data: Path) -> psutil.Process | None:
    """The process that trains, not the launcher it may have been started by."""
    found = [process for process in processes_of(data) if "brightrun.trainer" in process.cmdline()]
    return max(found, key=lambda process: process.create_time(), default=None)


def past_step(up: Up, job_id: str, step: int) -> None:
    def passed() -> bool:
        job = job_of(up, job_id)
        assert job["status"] not in {"failed", "cancelled", "completed"}, job
        return job["status"] == "running" and (job["step"] or 0) > step

    eventually(f"training past step {step}", passed, within=300)


def test_a_run_survives_every_kill_and_ends_with_the_same_adapter(data: Path):
    up = Up(data)
    try:
        with Client(up.url, up.ready["api_token"]) as client:
            dataset = client.datasets.wait(client.datasets.upload(SAMPLE)["id"])
            job_id = client.jobs.create(
                dataset_id=dataset["id"], preset_id="balanced", base_model="tiny", hyperparameters=LONG
            )["id"]
        past_step(up, job_id, 10)

        trainer = trainer_of(data)
        assert trainer is not None
        trainer.kill()
        eventually("another trainer", lambda: (now := trainer_of(data)) is not None and now.pid != trainer.pid)
        past_step(up, job_id, job_of(up, job_id)["step"] + 5)

        worker, trainer = up.child("worker"), trainer_of(data)
        worker.kill()
        past_step(up, job_id, job_of(up, job_id)["step"] + 10)
        assert trainer is not None
        assert trainer.is_running(), "the trainer does not notice that a worker died"

        step = job_of(up, job_id)["step"]
        up.child("server").kill()
        past_step(up, job_id, step + 5)

        step = job_of(up, job_id)["step"]
        up.kill()
        assert trainer.is_running(), "the trainer does not notice that `up` died"
        up = Up(data)
        past_step(up, job_id, step + 5)

        step = job_of(up, job_id)["step"]
        assert up.stop(signal.SIGTERM) == 0
        eventually("no process is left", lambda: processes_of(data) == [])
        up = Up(data)
        past_step(up, job_id, step)
        eventually("completed", lambda: job_of(up, job_id)["status"] == "completed", within=600)

        job = job_of(up, job_id)
        assert float(job["progress"]) == 100
        assert len(job["attempts"]) >= 3
        adapter = download(up, job["model_id"], data)
        run = next((data / "runs").glob("*/run.json")).parent
        assert adapter == undisturbed(run, data / "undisturbed")
    finally:
        up.stop()


def download(up: Up, model_id: str, data: Path) -> bytes:
    import zipfile

    with Client(up.url, up.ready["api_token"]) as client:
        archive = client.models.download(model_id, data / "model.zip")
    with zipfile.ZipFile(archive) as file:
        name = next(name for name in file.namelist() if name.endswith("adapter_model.safetensors"))
        return file.read(name)


def undisturbed(run: Path, copy: Path) -> bytes:
    """The adapter of the same run.json and data, trained without a kill."""
    copy.mkdir()
    shutil.copy(run / "run.json", copy)
    shutil.copytree(run / "data", copy / "data")
    done = subprocess.run(
        [sys.executable, "-m", "brightrun.trainer", str(copy)], capture_output=True, env=os.environ, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert json.loads((copy / "result.json").read_text())["steps"] > 0
    return (copy / "adapter" / "adapter_model.safetensors").read_bytes()
