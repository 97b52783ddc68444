"""A checkpoint is whole, or it is not used."""

import json
from pathlib import Path

import pytest

from brightrun.trainer import checkpoints


def write(directory: Path) -> None:
    (directory / "state.json").write_text("{}")
    (directory / "weights").write_bytes(b"x" * 1000)


def names(run_dir: Path) -> list[str]:
    return sorted(path.name for path in (run_dir / "checkpoints").iterdir())


def test_the_newest_whole_one_is_found(tmp_path: Path) -> None:
    for step in (5, 10, 100):
        checkpoints.save(tmp_path, step, write)
    found = checkpoints.newest_whole(tmp_path, pytest.fail)
    assert found == (100, tmp_path / "checkpoints" / "step-100")


def test_nothing_there_is_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoints.newest_whole(tmp_path, pytest.fail) is None


@pytest.mark.parametrize("fault", ["changed", "missing", "no manifest", "torn manifest", "empty manifest"])
def test_a_damaged_one_is_set_aside_with_a_warning_and_the_one_before_is_used(tmp_path: Path, fault: str) -> None:
    checkpoints.save(tmp_path, 5, write)
    newest = checkpoints.save(tmp_path, 10, write)
    match fault:
        case "changed":
            (newest / "weights").write_bytes(b"y" * 1000)
        case "missing":
            (newest / "weights").unlink()
        case "no manifest":
            (newest / "manifest.json").unlink()
        case "torn manifest":
            (newest / "manifest.json").write_text('{"state.json": "')
        case "empty manifest":
            (newest / "manifest.json").write_text("{}")
    warnings: list[str] = []
    found = checkpoints.newest_whole(tmp_path, warnings.append)
    assert found is not None
    assert found[0] == 5
    assert len(warnings) == 1
    assert "step-10" in warnings[0]
    assert names(tmp_path) == ["damaged-step-10", "step-5"]


def test_a_failed_save_leaves_the_earlier_ones_and_nothing_half_made(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, 5, write)

    def full_disk(directory: Path) -> None:
        write(directory)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        checkpoints.save(tmp_path, 10, full_disk)
    assert names(tmp_path) == ["step-5"]


def test_what_a_kill_left_half_written_is_not_taken_for_a_checkpoint_and_goes_away(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, 5, write)
    half = tmp_path / "checkpoints" / ".step-10.partial"
    half.mkdir()
    write(half)
    assert checkpoints.newest_whole(tmp_path, pytest.fail) == (5, tmp_path / "checkpoints" / "step-5")
    checkpoints.save(tmp_path, 10, write)
    checkpoints.prune(tmp_path, keep=2)
    assert names(tmp_path) == ["step-10", "step-5"]


def test_the_last_few_and_the_protected_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15, 20):
        checkpoints.save(tmp_path, step, write)
    checkpoints.prune(tmp_path, keep=2, protect=[5])
    assert names(tmp_path) == ["step-15", "step-20", "step-5"]


def test_the_manifest_is_file_to_sha256(tmp_path: Path) -> None:
    path = checkpoints.save(tmp_path, 5, write)
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest.keys() == {"state.json", "weights"}
    assert all(len(digest) == 64 for digest in manifest.values())
