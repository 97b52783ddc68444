"""A run directory appears whole, holds its data, and freezes what decides the run."""

import hashlib
import json
from pathlib import Path

import pytest

from brightrun.formats.hyperparameters import HyperparameterError
from brightrun.formats.run import Budgets, RunConfigError, read_run
from brightrun.formats.run_directory import RunDirectoryError, prepare_run


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    path = tmp_path / "my data (1).jsonl"
    turns = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hello."}]
    rows = [json.dumps({"conversation_id": f"c{number}", "turns": turns}) for number in range(10)]
    path.write_text("\n".join(rows) + "\n")
    return path


def test_what_is_written_is_what_is_returned_and_read(dataset: Path, tmp_path: Path) -> None:
    config = prepare_run(dataset, tmp_path / "run", seed=7, overrides={"rank": "8"})
    assert read_run(tmp_path / "run") == config
    assert config.hyperparameters.rank == 8
    assert config.hyperparameters.seed == config.split.seed == 7
    assert config.set_by_user == ["rank", "seed"]
    assert config.rules_fired  # ten records make too few steps for the preset
    assert config.base_model.name == "tiny"
    assert config.base_model.folder is None  # found by name, wherever the package is installed


def test_the_data_is_inside_and_hashed_and_survives_the_original(dataset: Path, tmp_path: Path) -> None:
    original = dataset.read_bytes()
    config = prepare_run(dataset, tmp_path / "run")
    dataset.unlink()
    inside = tmp_path / "run" / config.data.file
    assert inside.read_bytes() == original
    assert config.data.sha256 == hashlib.sha256(original).hexdigest()
    assert config.data.size_bytes == len(original)


def test_the_split_counts_conversations_and_records(dataset: Path, tmp_path: Path) -> None:
    split = prepare_run(dataset, tmp_path / "run", overrides={"heldout_fraction": 0.2}).split
    assert len(split.heldout_ids) == split.heldout_records >= 1
    assert split.train_conversations == split.train_records == 10 - split.heldout_records


def test_preparing_twice_differs_only_in_name_and_time(dataset: Path, tmp_path: Path) -> None:
    first, second = (json.loads(prepare_and_read(dataset, tmp_path / name)) for name in ("a", "b"))
    for text in (first, second):
        del text["run_id"], text["created_at"]
    assert first == second


def prepare_and_read(dataset: Path, out: Path) -> str:
    prepare_run(dataset, out, seed=3)
    return (out / "run.json").read_text()


def test_a_directory_in_use_is_left_alone_and_an_empty_one_is_filled(dataset: Path, tmp_path: Path) -> None:
    used = tmp_path / "used"
    used.mkdir()
    (used / "mine").write_text("keep")
    with pytest.raises(RunDirectoryError, match="not an empty directory"):
        prepare_run(dataset, used)
    assert [path.name for path in used.iterdir()] == ["mine"]
    empty = tmp_path / "empty"
    empty.mkdir()
    prepare_run(dataset, empty)
    assert (empty / "run.json").is_file()


def test_a_refusal_leaves_nothing_behind(dataset: Path, tmp_path: Path) -> None:
    target = tmp_path / "runs" / "run"
    with pytest.raises(HyperparameterError):
        prepare_run(dataset, target, overrides={"rank": 1})
    with pytest.raises(RunDirectoryError, match="no such model"):
        prepare_run(dataset, target, base_model="no such model")
    with pytest.raises(RunDirectoryError, match="not a file"):
        prepare_run(tmp_path / "absent.jsonl", target)
    assert not target.parent.exists() or list(target.parent.iterdir()) == []


def test_bad_rows_do_not_stop_the_preparation(dataset: Path, tmp_path: Path) -> None:
    dataset.write_text(dataset.read_text() + "not json\n")
    assert prepare_run(dataset, tmp_path / "run").split.train_records > 0


@pytest.mark.parametrize(
    ("budgets", "word"),
    [
        ({"max_cost_usd": "1"}, "price_per_hour_usd"),
        ({"max_cost_usd": "a lot", "price_per_hour_usd": "1"}, "a lot"),
        ({"max_cost_usd": "nan", "price_per_hour_usd": "1"}, "nan"),
        ({"max_seconds": 0}, "max_seconds"),
    ],
)
def test_budgets_that_make_no_sense_are_refused(
    dataset: Path, tmp_path: Path, budgets: dict[str, object], word: str
) -> None:
    prepare_run(dataset, tmp_path / "run", budgets=Budgets())
    edit(tmp_path / "run", {"budgets": budgets})
    with pytest.raises(RunConfigError, match=word):
        read_run(tmp_path / "run")


@pytest.mark.parametrize("file", ["/etc/passwd", "../outside.jsonl", ""])
def test_a_data_path_outside_of_the_run_directory_is_refused(dataset: Path, tmp_path: Path, file: str) -> None:
    config = prepare_run(dataset, tmp_path / "run")
    edit(tmp_path / "run", {"data": {"file": file, "sha256": config.data.sha256, "size_bytes": 1}})
    with pytest.raises(RunConfigError, match="inside the run directory"):
        read_run(tmp_path / "run")


def edit(run_dir: Path, change: dict[str, object]) -> None:
    text = json.loads((run_dir / "run.json").read_text())
    (run_dir / "run.json").write_text(json.dumps(text | change))
