"""A finished run, made once by the real trainer, and models registered from it."""

import fcntl
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from model_steps import Finished, finish_job

from brightrun.db.session import Database
from brightrun.formats.run_directory import prepare_run
from brightrun.platform import Platform
from brightrun.storage import open_store
from live import Live, Member

TOPICS = ["retirement", "a mortgage", "insurance", "taxes", "saving", "debt", "college", "an inheritance"]


@pytest.fixture(scope="session")
def trained_run(shared_directory: Path) -> Path:
    """A run directory of the tiny model with 12 held-out conversations, as the trainer left it, one for all test
    processes. Copy it, do not use it."""
    folder = shared_directory / "models-trained-run"
    with (shared_directory / "models-trained-run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            _train(folder)
            (folder / "done").touch()
    return folder / "run"


def _train(folder: Path) -> None:
    folder.mkdir()
    chance = random.Random(0)
    with (folder / "adviser.jsonl").open("w") as stream:
        for number in range(40):
            turns = []
            for turn in range(chance.randint(1, 3)):
                topic = chance.choice(TOPICS)
                turns.append({"role": "user", "content": f"I worry about {topic}, {number}.{turn}. What first?"})
                turns.append({"role": "assistant", "content": f"It makes sense that {topic} feels heavy. One step."})
            stream.write(json.dumps({"conversation_id": f"c{number}", "turns": turns}) + "\n")
    overrides = {
        "learning_rate": 1e-3,
        "batch_size": 8,
        "epochs": 2,
        "rank": 4,
        "min_steps": 0,
        "heldout_fraction": 0.3,
    }
    prepare_run(folder / "adviser.jsonl", folder / "run", base_model="tiny", seed=7, overrides=overrides)
    done = subprocess.run(
        [sys.executable, "-m", "brightrun.trainer", folder / "run"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def finished(live: Live, owner: Member, trained_run: Path) -> Finished:
    """A job of a new workspace whose trainer is done; nothing is stored yet."""
    return finish_job(live, owner, trained_run)


@pytest.fixture
async def worker_platform(live: Live, worker_db: Database) -> Platform:
    """As a worker on the live server's machine has it."""
    store = open_store(live.settings, public_url=live.url, secret=live.secret)
    return Platform(settings=live.settings, secret=live.secret, db=worker_db, store=store, public_url=live.url)
