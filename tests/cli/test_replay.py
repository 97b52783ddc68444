"""`brightrun replay`: the same run twice gives the same adapter, byte for byte; and a difference is told."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from brightrun.formats.run_directory import prepare_run, sha256_of

ADAPTER = Path("adapter") / "adapter_model.safetensors"


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "brightrun", "replay", *arguments],
        env=os.environ, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with dropout and a limit, that was killed once on its way."""
    place = tmp_path_factory.mktemp("replay")
    with (place / "talk.jsonl").open("w") as stream:
        for number in range(10):
            turns = [
                {"role": "user", "content": f"What is {number} and one?"},
                {"role": "assistant", "content": f"It is {number + 1}."},
            ]
            stream.write(json.dumps({"messages": turns}) + "\n")
    prepare_run(
        place / "talk.jsonl", place / "run", base_model="tiny-random", seed=7, sample_prompts=0,
        overrides={"epochs": 2, "rank": 4, "min_steps": 0, "batch_size": 2, "dropout": 0.1},
    )  # fmt: skip
    subprocess.run([sys.executable, "-m", "brightrun.trainer", str(place / "run")], check=True, timeout=240)
    return place / "run"


def test_a_replay_gives_the_same_adapter_to_the_byte_and_leaves_the_first_run_alone(
    finished: Path, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    done = run(str(finished), "--out", str(tmp_path / "new"), "--json")
    assert done.returncode == 0, done.stderr
    sha256 = sha256_of(finished / ADAPTER)
    assert json.loads(done.stdout) == {"equal": True, "sha256_old": sha256, "sha256_new": sha256}
    assert sha256_of(tmp_path / "new" / ADAPTER) == sha256
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before
    again = run(str(finished), "--out", str(tmp_path / "new"))
    assert again.returncode == 2
    assert "not an empty directory" in again.stderr


def test_another_adapter_is_told_with_both_hashes(finished: Path, tmp_path: Path) -> None:
    import shutil

    altered = tmp_path / "altered"
    shutil.copytree(finished, altered)
    text = json.loads((altered / "run.json").read_text())
    text["hyperparameters"]["seed"] = 8
    (altered / "run.json").write_text(json.dumps(text))
    done = run(str(altered), "--out", str(tmp_path / "new"), "--json")
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    assert told["equal"] is False
    assert told["sha256_old"] != told["sha256_new"]


def test_what_cannot_be_replayed_says_why_and_makes_nothing(finished: Path, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(finished, broken)
    next((broken / "data").iterdir()).write_text("other\n")
    unfinished = tmp_path / "unfinished"
    shutil.copytree(finished, unfinished)
    (unfinished / ADAPTER).unlink()
    for run_dir, words in ((broken, "trained on"), (unfinished, "finished"), (tmp_path / "absent", "run.json")):
        done = run(str(run_dir), "--out", str(tmp_path / "new"), "--json")
        assert done.returncode == 2
        assert words in done.stderr
        assert not (tmp_path / "new").exists()
