"""Nothing is lost, whoever is killed: trainer, worker, both; and an orderly stop saves first."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from job_steps import AddDataset, at_step, data, ended, events, get, job_that, started, wait_for
from worker_processes import WorkerProcess, trainer_of

from brightrun.db.roles import DatabaseUrls
from brightrun.settings import Settings
from live import Live, Member, live_server

LONG = {"batch_size": 1, "epochs": 10, "checkpoint_every_steps": 10, "eval_every_steps": 200}
PRICED = """
[[gpu]]
id = "shed"
title = "A machine in the shed"
kind = "cpu"
executor = "local"
price_per_gpu_hour_usd = "36"
tokens_per_s = 1000
"""


class Bench:
    """A server without a worker of its own, and as many worker processes as a test starts."""

    def __init__(self, live: Live, urls: DatabaseUrls, log: Path, add: AddDataset) -> None:
        self.live, self.urls, self.log = live, urls, log
        self.member: Member = live.new_workspace()
        self._add = add
        self.workers: list[WorkerProcess] = []

    def worker(self, *, parent_fd: int | None = None) -> WorkerProcess:
        made = WorkerProcess(self.live, self.urls, self.log, parent_fd=parent_fd)
        self.workers.append(made)
        return made

    def job(self, **body: Any) -> str:
        hyperparameters = LONG | body.pop("hyperparameters", {})
        body = {"gpu_config": {"type": "shed"}, "hyperparameters": hyperparameters} | body
        return str(started(self.member, self._add(self.live, self.member), **body)["id"])

    def trainer(self, job_id: str) -> Any:
        found = trainer_of(self.live, job_id)
        assert found is not None, "no trainer is running"
        return found

    def charges(self, job_id: str) -> list[Decimal]:
        records = data(self.member.client.get("/api/costs/records", params={"job_id": job_id}))["items"]
        return [Decimal(record["amount"]) for record in records]

    def completed(self, job_id: str) -> dict[str, Any]:
        """The job, after what holds for every completed one."""
        job = ended(self.member, job_id, seconds=200)
        assert job["status"] == "completed", (job["error_message"], job["error_evidence"])
        curve = data(self.member.client.get(f"/api/jobs/{job_id}/metrics", params={"points": 5000}))
        steps = [point["step"] for point in curve["series"]["train"]["points"]]
        assert steps == list(range(1, job["total_steps"] + 1)), "every step once"
        charges = self.charges(job_id)
        assert len(charges) == len(job["attempts"]), "every attempt is charged once"
        assert sum(charges) == Decimal(job["final_cost_usd"]) > 0
        assert trainer_of(self.live, job_id) is None
        return job

    def told(self) -> list[str]:
        return [item["type"] for item in data(self.member.client.get("/api/notifications"))["items"]]


@pytest.fixture
def bench(
    new_database: Callable[[], AbstractContextManager[DatabaseUrls]], tmp_path: Path, add_dataset: AddDataset
) -> Iterator[Bench]:
    catalogue = tmp_path / "gpus.toml"
    catalogue.write_text(PRICED)
    settings = Settings(
        database_role_prefix="brtest", data=tmp_path / "data", min_free_disk_bytes=0, gpu_catalogue=catalogue,
        job_lease_s=10,
    )  # fmt: skip
    with new_database() as urls, live_server(urls, settings, b"the tests' secret key", worker=False) as live:
        bench = Bench(live, urls, tmp_path / "worker.log", add_dataset)
        try:
            yield bench
        finally:
            for worker in bench.workers:
                if worker.process.poll() is None:
                    worker.stop()


def test_a_killed_trainer_resumes_from_its_checkpoint_and_completes(bench: Bench) -> None:
    bench.worker()
    job_id = bench.job()
    at_step(bench.member, job_id, 30)
    bench.trainer(job_id).kill()
    job = bench.completed(job_id)
    assert [attempt["outcome"] for attempt in job["attempts"]] == ["interrupted", "done"]
    first, second = job["attempts"]
    assert first["exit_code"] == -9
    assert first["reason"] == "killed"
    assert first["checkpoint_after"] == second["checkpoint_before"] >= 20, "at most one interval was lost"
    assert sorted(bench.told()) == ["job_completed", "job_interrupted", "job_queued", "job_started"]


def test_a_killed_worker_leaves_its_trainer_and_the_next_one_adopts_it_at_once(bench: Bench) -> None:
    first = bench.worker()
    job_id = bench.job()
    at_step(bench.member, job_id, 10)
    trainer = bench.trainer(job_id)
    first.kill()
    assert trainer.is_running()
    bench.worker()
    job = bench.completed(job_id)
    assert len(job["attempts"]) == 1, "the same trainer went on"
    assert "adopted" in {event["type"] for event in events(bench.member, job_id, type="adopted")}


@pytest.mark.slow
def test_worker_and_trainer_killed_together_lose_one_interval_at_most(bench: Bench) -> None:
    first = bench.worker()
    job_id = bench.job()
    at_step(bench.member, job_id, 30)
    trainer = bench.trainer(job_id)
    first.kill()
    trainer.kill()
    trainer.wait(30)
    bench.worker()
    job = bench.completed(job_id)
    assert [attempt["outcome"] for attempt in job["attempts"]] == ["interrupted", "done"]
    assert job["attempts"][0]["exit_code"] is None, "nobody saw how it ended"
    assert job["attempts"][1]["checkpoint_before"] >= 20
    assert float(job["attempts"][0]["seconds"]) < 60, "the time in which nobody looked is not charged"


@pytest.mark.slow
def test_a_run_that_ended_while_no_worker_lived_is_completed_by_the_next(bench: Bench) -> None:
    first = bench.worker()
    job_id = bench.job(hyperparameters={"epochs": 5})
    at_step(bench.member, job_id, 5)
    first.kill()
    wait_for(lambda: trainer_of(bench.live, job_id) is None, what="the end of the trainer")
    bench.worker()
    assert [attempt["outcome"] for attempt in bench.completed(job_id)["attempts"]] == ["done"]


def test_a_stopped_worker_saves_first_and_the_next_one_resumes(bench: Bench) -> None:
    first = bench.worker()
    job_id = bench.job()
    at_step(bench.member, job_id, 13)
    first.stop()
    job = get(bench.member, job_id)
    assert job["status"] == "interrupted"
    assert job["attempts"][0]["exit_code"] == 75
    assert job["checkpoint_step"] == job["step"] >= 13, "saved where it stood"
    assert trainer_of(bench.live, job_id) is None
    bench.worker()
    assert bench.completed(job_id)["attempts"][1]["checkpoint_before"] == job["checkpoint_step"]


@pytest.mark.slow
def test_when_up_is_killed_the_worker_leaves_the_trainer_alone(bench: Bench) -> None:
    read_end, write_end = os.pipe()
    first = bench.worker(parent_fd=read_end)
    os.close(read_end)
    job_id = bench.job()
    at_step(bench.member, job_id, 10)
    trainer = bench.trainer(job_id)
    os.close(write_end)
    assert first.process.wait(60) == 0
    assert trainer.is_running()
    bench.worker()
    assert len(bench.completed(job_id)["attempts"]) == 1


def test_a_running_job_is_cancelled_its_trainer_is_gone_and_its_cost_is_booked(bench: Bench) -> None:
    bench.worker()
    job_id = bench.job()
    at_step(bench.member, job_id, 5)
    job = data(bench.member.client.post(f"/api/jobs/{job_id}/cancel", json={"reason": "cost_too_high"}))["job"]
    assert job["cancelling"]
    job = ended(bench.member, job_id)
    assert job["status"] == "cancelled"
    assert trainer_of(bench.live, job_id) is None
    assert [attempt["outcome"] for attempt in job["attempts"]] == ["cancelled"]
    assert sum(bench.charges(job_id)) == Decimal(job["final_cost_usd"]) > 0
    assert bench.told().count("job_cancelled") == 1
    bench.member.client.post(f"/api/jobs/{job_id}/retry")
    again = bench.completed(job_id)
    assert again["attempts"][1]["checkpoint_before"] >= 5, "a change of mind goes on from where it was stopped"


def test_a_paused_job_gives_the_machine_back_and_goes_on_from_any_checkpoint_with_less_memory(bench: Bench) -> None:
    bench.worker()
    job_id = bench.job()
    at_step(bench.member, job_id, 13)
    assert data(bench.member.client.post(f"/api/jobs/{job_id}/pause"))["job"]["pausing"]
    job = job_that(bench.member, job_id, lambda job: job["status"] == "paused", what="the pause")
    assert trainer_of(bench.live, job_id) is None
    assert [(attempt["outcome"], attempt["reason"]) for attempt in job["attempts"]] == [("interrupted", "paused")]
    older, newest = job["checkpoints"]
    assert newest == job["checkpoint_step"] == job["step"] >= 13, "saved where it stood"
    assert job["attempts"][0]["steps_lost"] == 0
    assert sum(bench.charges(job_id)) == Decimal(job["cost_usd"]) > 0
    (gone,) = events(bench.member, job_id, type="processes_gone")
    assert gone["details"]["seconds"] < 60
    assert "job_interrupted" not in bench.told(), "nobody needs to be told of what somebody asked for"
    body = {"checkpoint_step": older, "hyperparameters": {"micro_batch_tokens": 64}}
    assert bench.member.client.post(f"/api/jobs/{job_id}/resume", json=body).status_code == 200
    job = bench.completed(job_id)
    assert job["attempts"][1]["checkpoint_before"] == older
    run_dir = bench.live.settings.data / "runs" / job_id
    assert (run_dir / "checkpoints" / f"set-aside-step-{newest}").is_dir()
    assert '"micro_batch_tokens": 64' in (run_dir / "run.json").read_text()


def test_a_job_that_is_cancelled_at_once_stops_without_another_checkpoint(bench: Bench) -> None:
    bench.worker()
    job_id = bench.job()
    at_step(bench.member, job_id, 12)
    body = {"reason": "testing", "checkpoint": False}
    bench.member.client.post(f"/api/jobs/{job_id}/cancel", json=body)
    job = ended(bench.member, job_id)
    assert job["status"] == "cancelled"
    assert job["checkpoint_step"] % 10 == 0, "only those of the interval"
    assert trainer_of(bench.live, job_id) is None


@pytest.mark.slow
def test_a_trainer_that_gets_nowhere_is_given_up_with_a_reason(bench: Bench) -> None:
    bench.worker()
    job_id = bench.job(hyperparameters={"checkpoint_every_steps": 1000})
    for number in range(1, 5):
        job_that(
            bench.member,
            job_id,
            lambda job, number=number: len(job["attempts"]) == number and trainer_of(bench.live, job_id) is not None,
            what=f"attempt {number}",
        )
        bench.trainer(job_id).kill()
    job = ended(bench.member, job_id)
    assert (job["status"], job["error_code"]) == ("failed", "interrupted_too_often")
    assert "4 times in a row" in job["error_message"]
    assert job["error_advice"]
    assert len(job["attempts"]) == 4
    assert job["can"]["retry"]
