"""Run directories go after their time, and never one that somebody may still need."""

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from job_steps import ended, events, get, started
from sqlalchemy import update

from brightrun.clock import utcnow
from brightrun.db.session import Database
from brightrun.ids import uuid7
from brightrun.platform import Platform
from brightrun.storage import open_store
from brightrun.training.supervisor.identity import machine_id
from brightrun.training.supervisor.retention import purge_leftovers, purge_runs
from brightrun.training.tables import TrainingJob

pytestmark = pytest.mark.anyio


def aged(working: Any, job_id: str, days: int) -> None:
    async def change(database: Database) -> None:
        async with database.transaction(workspace_id=working.member.workspace_id) as session:
            moment = utcnow() - timedelta(days=days)
            await session.execute(update(TrainingJob).where(TrainingJob.id == job_id).values(completed_at=moment))

    working.live.run(change)


async def purge(working: Any, host: str | None = None) -> int:
    live = working.live
    database = Database(live.urls.worker.render_as_string(hide_password=False), pool_size=1)
    store = open_store(live.settings, public_url=live.url, secret=live.secret)
    platform = Platform(settings=live.settings, secret=live.secret, db=database, store=store, public_url=live.url)
    try:
        return await purge_runs(platform, host or machine_id(platform.runs_dir))
    finally:
        await database.dispose()


async def test_only_the_run_directory_of_a_job_that_completed_long_ago_goes_and_its_model_stays(working: Any):
    member, runs = working.member, working.live.settings.data / "runs"
    dataset = working.dataset()
    done = ended(member, started(member, dataset)["id"])
    failed = ended(member, started(member, dataset, hyperparameters={"divergence_loss": 0.001})["id"])
    assert (done["status"], failed["status"]) == ("completed", "failed")
    earlier = runs / f"{done['id']}.old-1"
    earlier.mkdir()
    aged(working, done["id"], 29)
    aged(working, failed["id"], 400)
    assert await purge(working) == 0
    assert (runs / done["id"] / "run.json").is_file()

    aged(working, done["id"], 31)
    assert await purge(working, "elsewhere-12345678") == 0, "of another machine's disk"
    assert await purge(working) == 1
    assert not (runs / done["id"]).exists()
    assert not earlier.exists()
    assert (runs / failed["id"] / "run.json").is_file(), "a retry goes on from it"
    assert await purge(working) == 0
    job = get(member, done["id"])
    assert job["status"] == "completed"
    assert member.client.get(f"/api/models/{job['model_id']}/download").status_code == 200
    assert events(member, done["id"], type="run_purged")[0]["message"].endswith("the model is stored.")


def test_what_killed_preparations_left_goes_after_two_days(tmp_path: Path):
    old, new = str(uuid7()), str(uuid7())
    for name in (f".staging/{old}", f".staging/{new}", f".{old}.x1", f".{new}.x2", old):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").touch()
    (tmp_path / ".machine").touch()
    three_days_ago = time.time() - 3 * 86_400
    for path in (*tmp_path.rglob(f"*{old}*"), *tmp_path.rglob(f"*{old}*/file"), tmp_path / ".machine"):
        os.utime(path, (three_days_ago, three_days_ago))
    assert purge_leftovers(tmp_path) == 2
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.name != "file"}
    assert left == {".staging", f".staging/{new}", f".{new}.x2", old, ".machine"}
    assert purge_leftovers(tmp_path / "none") == 0
