"""Random kill -9s of trainer, worker and server over one run: it ends unattended, as if nothing had happened.

`BRIGHTRUN_TEST_KILLS` says how many; CI runs the short form.
"""

import os
import random
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path

import psutil
import pytest
from test_up import eventually
from test_up_training import SAMPLE, data, download, job_of, past_step, trainer_of, undisturbed  # noqa: F401 (fixture)

from brightrun.sdk import Client
from brightrun.training.catalogue import SHIPPED
from up_process import Up

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

KILLS = int(os.environ.get("BRIGHTRUN_TEST_KILLS", "6"))
CHECKPOINT_EVERY = 4
# A run goes on while a server starts again, which is many steps of so small a model.
STEPS = 60 + 80 * KILLS
LONG = {
    "epochs": 20, "batch_size": 2, "checkpoint_every_steps": CHECKPOINT_EVERY, "max_seq_length": 256,
    "min_steps": STEPS, "max_steps": STEPS,
}  # fmt: skip


@pytest.fixture
def priced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The shipped catalogue, in which this machine costs something: $36 an hour, a cent a second."""
    path = tmp_path_factory.mktemp("catalogue") / "gpus.toml"
    text = SHIPPED.read_text(encoding="utf-8")
    head, mark, rest = text.partition('id = "local-cpu"')
    assert mark, "the catalogue has no entry for this machine's processor"
    path.write_text(head + mark + rest.replace('price_per_gpu_hour_usd = "0', 'price_per_gpu_hour_usd = "36', 1))
    return path


def went_on(up: Up, job_id: str, step: int) -> bool:
    job = job_of(up, job_id)
    assert job["status"] not in {"failed", "cancelled"}, job
    return job["status"] == "completed" or (job["status"] == "running" and (job["step"] or 0) > step)


def victim(up: Up, data: Path, job_id: str, name: str) -> psutil.Process | None:  # noqa: F811
    """None for the trainer of a run that is over."""
    if name != "trainer":
        return eventually(f"a {name}", lambda: up.child(name), within=120)
    over = "over"
    found = eventually(
        "a trainer",
        lambda: trainer_of(data) or (over if job_of(up, job_id)["status"] == "completed" else None),
        within=300,
    )
    return None if isinstance(found, str) else found


def test_random_kills_lose_at_most_a_checkpoint_interval_each_and_nothing_else(data: Path, priced: Path) -> None:  # noqa: F811
    rng = random.Random(20)
    up = Up(data, BRIGHTRUN_GPU_CATALOGUE=str(priced))
    try:
        with Client(up.url, up.ready["api_token"]) as client:
            dataset = client.datasets.wait(client.datasets.upload(SAMPLE)["id"])
            job_id = client.jobs.create(
                dataset_id=dataset["id"], preset_id="balanced", base_model="tiny", hyperparameters=LONG, seed=7
            )["id"]
        past_step(up, job_id, CHECKPOINT_EVERY)
        killed = 0
        while killed < KILLS and job_of(up, job_id)["status"] != "completed":
            name = rng.choice(["trainer", "trainer", "worker", "server"])
            doomed, step = victim(up, data, job_id, name), job_of(up, job_id)["step"]  # a dying server answers nobody
            if doomed is None:
                break
            doomed.kill()
            killed += 1
            # Each time the run gets past a checkpoint again: that is what it may be interrupted for without end.
            eventually(
                "it goes on", partial(went_on, up, job_id, step + CHECKPOINT_EVERY + rng.randint(0, 3)), within=300
            )
        assert killed > KILLS // 2, "the run was over before it could be killed often"
        eventually("completed", lambda: job_of(up, job_id)["status"] == "completed", within=900)

        job = job_of(up, job_id)
        attempts = job["attempts"]
        assert job["step"] == job["total_steps"] == STEPS
        for attempt in attempts:
            assert attempt["steps_lost"] <= CHECKPOINT_EVERY, attempt
        spent = sum(Decimal(str(attempt["cost_usd"])) for attempt in attempts)
        assert spent > 0
        assert abs(spent - Decimal(str(job["final_cost_usd"]))) < Decimal("0.01")
        costs = up.client.get("/api/costs/records", params={"job_id": job_id}).json()["data"]
        recorded = sum(Decimal(str(record["amount"])) for record in costs["items"])
        assert recorded == Decimal(str(job["final_cost_usd"])), "the ledger has it once"
        points = up.client.get(f"/api/jobs/{job_id}/metrics", params={"points": 5000}).json()["data"]["series"]["train"]
        assert [point["step"] for point in points["points"]] == list(range(1, job["total_steps"] + 1))
        run = next((data / "runs").glob("*/run.json")).parent
        assert download(up, job["model_id"], data) == undisturbed(run, data / "undisturbed")
    finally:
        up.stop()
