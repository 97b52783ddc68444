"""What happens around a trainer: memory runs out, the disk fills up, it hangs. The run completes, or says why not."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest
from job_steps import AddDataset, at_step, data, ended, events, job_that, started
from worker_processes import trainer_of

from brightrun.db.roles import DatabaseUrls
from brightrun.formats.run import read_run
from brightrun.settings import Settings
from brightrun.training.supervisor import follower
from live import Live, Member, live_server
from waiting import eventually

LONG = {"batch_size": 1, "epochs": 6, "checkpoint_every_steps": 5, "eval_every_steps": 200}
FULL = 10**18
"""More than any disk has: as if it were full."""


def is_pending(process: psutil.Process, number: signal.Signals) -> bool:
    """Whether a stopped process will get `number` when it goes on."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    pending = next(line.split()[1] for line in status.splitlines() if line.startswith("ShdPnd:"))
    return bool(int(pending, 16) >> (number - 1) & 1)


# Loaded by Python itself in every trainer: at three points the allocator refuses, each once.
INJECTED = """
import importlib.util, pathlib, sys

HERE = pathlib.Path(__file__).parent

def once(name):
    marker = HERE / name
    if not marker.exists():
        marker.touch()
        import torch
        torch.empty(1 << 60)

now = {"step": 0}

def patch_objectives(module):
    collate, token_losses = module.collate, module.token_losses
    def greedy_collate(examples, numerics):
        once("before the first step")
        return collate(examples, numerics)
    def greedy(*arguments):
        if now["step"] == 6:
            once("in a forward pass")
        losses = token_losses(*arguments)
        if now["step"] == 9 and losses.requires_grad:
            losses.register_hook(lambda _gradient: once("in a backward pass"))
        return losses
    module.collate, module.token_losses = greedy_collate, greedy

def patch_loop(module):
    step = module.Loop._step
    def taking(loop):
        now["step"] = loop.state.step + 1
        step(loop)
    module.Loop._step = taking

PATCHES = {"brightrun.trainer.objectives": patch_objectives, "brightrun.trainer.loop": patch_loop}

class Finder:
    def find_spec(self, name, path=None, target=None):
        patch = PATCHES.pop(name, None)
        if patch is None:
            return None
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        def exec_module(module):
            execute(module)
            patch(module)
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""


@pytest.fixture
def watched(
    new_database: Callable[[], AbstractContextManager[DatabaseUrls]], tmp_path: Path
) -> Iterator[tuple[Live, Member]]:
    """A whole BrightRun of this test, whose settings it may change."""
    settings = Settings(
        database_role_prefix="brtest", data=tmp_path / "data", min_free_disk_bytes=0, worker_heartbeat_s=1,
        job_stall_s=20,
    )  # fmt: skip
    with new_database() as urls, live_server(urls, settings, b"the tests' secret key") as live:
        yield live, live.new_workspace()


def curve(member: Member, job_id: str) -> list[int]:
    found = data(member.client.get(f"/api/jobs/{job_id}/metrics", params={"points": 5000}))
    return [point["step"] for point in found["series"]["train"]["points"]]


def test_memory_that_runs_out_at_three_points_is_met_with_less_of_it_and_the_same_batch(
    watched: tuple[Live, Member], add_dataset: AddDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, member = watched
    place = tmp_path / "injected"
    place.mkdir()
    (place / "sitecustomize.py").write_text(INJECTED)
    monkeypatch.setenv("PYTHONPATH", str(place))
    settings = LONG | {"batch_size": 4, "epochs": 4, "micro_batch_tokens": 4096}
    job_id = started(member, add_dataset(live, member), hyperparameters=settings)["id"]
    job = ended(member, job_id, seconds=300)
    assert job["status"] == "completed", (job["error_message"], job["error_evidence"])
    assert {"before the first step", "in a forward pass", "in a backward pass"} <= {
        path.name for path in place.iterdir()
    }
    assert [attempt["outcome"] for attempt in job["attempts"]] == ["failed", "failed", "failed", "done"]
    assert {attempt["reason"] for attempt in job["attempts"][:3]} == {"out_of_memory"}
    assert curve(member, job_id) == list(range(1, job["total_steps"] + 1)), "every step once"
    run = read_run(live.settings.data / "runs" / job_id)
    assert run.hyperparameters.batch_size == 4, "the effective batch is the same"
    assert run.hyperparameters.micro_batch_tokens < 600, "half of what the passes really took, not of the limit"
    assert run.hyperparameters.activation_checkpointing
    assert job["hyperparameters"]["micro_batch_tokens"] == run.hyperparameters.micro_batch_tokens
    assert len([rule for rule in job["rules_fired"] if "memory had run out" in rule]) >= 2, "as far as it can be cut"
    assert job["interruptions"]["count"] == 3


@pytest.mark.slow
def test_with_hardly_any_room_on_the_disk_a_job_waits_and_a_running_one_saves_and_waits(
    watched: tuple[Live, Member], add_dataset: AddDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, member = watched
    monkeypatch.setattr(follower, "_LOOK_EVERY_S", 0.1)  # on a fast machine the whole run lasts less than five seconds
    live.settings.min_free_disk_bytes = FULL
    job_id = started(member, add_dataset(live, member), hyperparameters=LONG | {"epochs": 20})["id"]
    job = job_that(member, job_id, lambda job: job["waiting_reason"], what="the reason for waiting")
    assert job["status"] == "queued"
    assert "Make room below" in job["waiting_reason"]
    live.settings.min_free_disk_bytes = 0
    at_step(member, job_id, 3)
    trainer = trainer_of(live, job_id)
    assert trainer is not None
    trainer.send_signal(signal.SIGSTOP)  # a fast machine would end the run before anybody looked at the disk
    live.settings.min_free_disk_bytes = FULL
    eventually("the request to save", lambda: is_pending(trainer, signal.SIGTERM), within=60)
    trainer.send_signal(signal.SIGCONT)
    job = job_that(member, job_id, lambda job: job["status"] == "interrupted", what="the interruption")
    assert job["checkpoint_step"] == job["step"] >= 3, "saved while there was room to"
    assert "Make room below" in job["waiting_reason"]
    live.settings.min_free_disk_bytes = 0
    job = ended(member, job_id, seconds=200)
    assert job["status"] == "completed", job["error_message"]
    assert curve(member, job_id) == list(range(1, job["total_steps"] + 1))


@pytest.mark.slow
def test_a_trainer_that_hangs_is_ended_and_its_run_goes_on(
    watched: tuple[Live, Member], add_dataset: AddDataset
) -> None:
    live, member = watched
    job_id = started(member, add_dataset(live, member), hyperparameters=LONG)["id"]
    at_step(member, job_id, 6)
    trainer = trainer_of(live, job_id)
    assert trainer is not None
    trainer.send_signal(signal.SIGSTOP)
    job = ended(member, job_id, seconds=200)
    assert job["status"] == "completed", job["error_message"]
    assert [attempt["reason"] for attempt in job["attempts"]] == ["stalled", "done"]
    assert json.dumps(events(member, job_id)).count("gave no sign of life") >= 1
    assert curve(member, job_id) == list(range(1, job["total_steps"] + 1))
