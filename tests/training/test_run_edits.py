"""What a supervisor does to run directories and processes, without a platform."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from job_steps import adviser_file

from brightrun.formats.run import read_run
from brightrun.formats.run_directory import prepare_run
from brightrun.training.executors.base import ProcessIdentity, StopAction
from brightrun.training.executors.local import _MARK, LocalTrainer
from brightrun.training.supervisor.run_edits import edit_run


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    file = tmp_path / "turns.jsonl"
    file.write_bytes(adviser_file())
    prepare_run(file, tmp_path / "run", base_model="tiny-random", overrides={"rank": 4})
    for step in (5, 10, 15):
        (tmp_path / "run" / "checkpoints" / f"step-{step}").mkdir(parents=True)
    return tmp_path / "run"


def test_an_edit_changes_what_may_change_and_puts_later_checkpoints_aside_once(run_dir: Path) -> None:
    for _ in range(2):
        edit_run(run_dir, changes={"micro_batch_tokens": 128}, resume_step=10)
        config = read_run(run_dir)
        assert config.hyperparameters.micro_batch_tokens == 128
        assert config.set_by_user == ["micro_batch_tokens", "rank"]
        names = sorted(path.name for path in (run_dir / "checkpoints").iterdir())
        assert names == ["set-aside-step-15", "step-10", "step-5"]
    (run_dir / "checkpoints" / "step-15").mkdir()
    edit_run(run_dir, changes={}, resume_step=5)
    names = sorted(path.name for path in (run_dir / "checkpoints").iterdir())
    assert names == ["set-aside-step-10", "set-aside-step-15", "set-aside-step-15-2", "step-5"]


def test_an_edit_refuses_what_would_make_another_run(run_dir: Path) -> None:
    before = (run_dir / "run.json").read_bytes()
    with pytest.raises(ValueError, match="learning_rate"):
        edit_run(run_dir, changes={"learning_rate": 1e-5}, resume_step=None)
    assert (run_dir / "run.json").read_bytes() == before


def test_a_child_that_moved_to_a_session_of_its_own_is_found_and_ended_too(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
        " start_new_session=True); print(child.pid, flush=True); import time; time.sleep(600)"
    )
    leader = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True,
        env=os.environ | {_MARK: str(tmp_path)},
    )  # fmt: skip
    assert leader.stdout is not None
    child = psutil.Process(int(leader.stdout.readline()))
    trainer = LocalTrainer(tmp_path, ProcessIdentity(leader.pid, psutil.Process(leader.pid).create_time()), leader)
    leader.kill()
    leader.wait(30)
    assert not trainer.is_alive()
    assert not trainer.is_gone(), "its child lives on"
    trainer.kill()
    child.wait(30)
    assert trainer.is_gone()


@pytest.mark.parametrize("action", [StopAction.STOP, StopAction.PAUSE])
def test_what_a_signal_cannot_say_goes_into_the_control_file(tmp_path: Path, action: StopAction) -> None:
    LocalTrainer(tmp_path, ProcessIdentity(1, 0.0)).stop(action)
    assert (tmp_path / "control.json").read_text() == f'{{"action": "{action.value}"}}\n'
