"""`brightrun trainer prepare`: a run directory from a file, without server or database; or one sentence and nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from brightrun.formats.run_directory import sha256_of


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    path = tmp_path / "talk.jsonl"
    with path.open("w") as stream:
        for number in range(12):
            turns = [
                {"role": "user", "content": f"What is {number} and one?"},
                {"role": "assistant", "content": f"It is {number + 1}."},
            ]
            stream.write(json.dumps({"messages": turns}) + "\n")
    return path


def prepare(dataset: Path, out: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "brightrun", "trainer", "prepare", "--dataset", str(dataset), "--out", str(out),
         "--base-model", "tiny", "--preset", "balanced", "--seed", "7", *arguments],
        env=os.environ, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_prepare_freezes_the_data_and_every_setting_in_the_run_directory(dataset: Path, tmp_path: Path):
    out = tmp_path / "run"
    done = prepare(dataset, out, "--set", "epochs=1", "--set", "max_steps=2")
    assert done.returncode == 0, done.stderr
    assert f"python -m brightrun.trainer {out}" in done.stderr
    run = json.loads((out / "run.json").read_text())
    settings = run["hyperparameters"]
    assert (settings["epochs"], settings["max_steps"], settings["seed"]) == (1, 2, 7)
    assert run["set_by_user"] == ["epochs", "max_steps", "seed"]
    assert (run["preset"], run["base_model"]["name"], run["base_model"]["kind"]) == ("balanced", "tiny", "builtin")
    assert run["data"]["sha256"] == sha256_of(dataset) == sha256_of(out / run["data"]["file"])
    split = run["split"]
    assert split["train_records"] + split["heldout_records"] == 12
    assert split["train_conversations"] + len(split["heldout_ids"]) == 12
    assert split["heldout_ids"]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("epochs=many", ("epochs", "many")),
        ("rank=0", ("rank",)),
        ("speed=9", ("speed", "unknown hyperparameter", "learning_rate")),
        ("epochs", ("epochs", "key=value")),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(dataset: Path, tmp_path: Path, setting: str, words: tuple[str]):
    done = prepare(dataset, tmp_path / "run", "--set", setting)
    assert done.returncode == 2, done.stderr
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["talk.jsonl"], "nothing was made"


def test_all_faults_of_the_settings_are_said_at_once(dataset: Path, tmp_path: Path):
    done = prepare(dataset, tmp_path / "run", "--set", "epochs=many", "--set", "speed=9")
    assert done.returncode == 2
    assert "epochs" in done.stderr
    assert "speed" in done.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"messages": [{"role": "user", "content": "A question, and no answer"}]}\n', ("Line 1",)),
        ("not JSON\n", ("Line 1",)),
        ("", ()),
    ],
    ids=["no answers", "no JSON", "empty"],
)
@pytest.mark.parametrize("on_bad_row", ["fail", "skip"])
def test_a_file_with_nothing_to_train_on_is_refused_and_no_directory_is_left(
    tmp_path: Path, content: str, words: tuple[str, ...], on_bad_row: str
):
    dataset = tmp_path / "talk.jsonl"
    dataset.write_text(content)
    done = prepare(dataset, tmp_path / "run", "--on-bad-row", on_bad_row)
    assert done.returncode == 2, done.stderr
    for word in ("has no record to train on", str(dataset), *words):
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["talk.jsonl"]
    assert dataset.read_text() == content
