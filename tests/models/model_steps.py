"""How a job comes to a finished run, and what a user of the API does with its model, for tests."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2

from brightrun.clock import utcnow
from brightrun.datasets.tables import Dataset
from brightrun.db.session import Database
from brightrun.ids import uuid7
from brightrun.queue import enqueue
from brightrun.training.supervisor.identity import machine_id
from brightrun.training.tables import JobStage, JobStatus, MetricsPoint, SeriesKind, TrainingJob
from live import Live, Member


@dataclass
class Finished:
    """A job whose trainer is done."""

    live: Live = field(repr=False)
    owner: Member
    job_id: UUID
    dataset_id: UUID
    run_dir: Path

    @property
    def arguments(self) -> dict[str, str]:
        """Of the task `models.register`."""
        return {"workspace_id": str(self.owner.workspace_id), "job_id": str(self.job_id)}

    @property
    def job(self) -> dict[str, Any]:
        return data(self.owner.client.get(f"/api/jobs/{self.job_id}"))["job"]

    @property
    def models(self) -> list[dict[str, Any]]:
        return data(self.owner.client.get("/api/models"))["items"]

    def model(self) -> dict[str, Any]:
        return data(self.owner.client.get(f"/api/models/{self.job['model_id']}"))["model"]

    def hand_over(self) -> None:
        """Ask for the registration, as the supervisor does."""

        async def ask(database: Database) -> None:
            async with database.transaction(workspace_id=self.owner.workspace_id) as session:
                await enqueue(session, "models.register", **self.arguments)

        self.live.run(ask)

    def ended(self) -> dict[str, Any]:
        """The job when the registration is over."""

        def settled() -> dict[str, Any] | None:
            job = self.job
            return job if job["status"] != "running" else None

        return wait_for(settled, what="the registration")

    def change(self, **values: Any) -> None:
        """Change columns of the job's row."""

        async def change(database: Database) -> None:
            async with database.transaction(workspace_id=self.owner.workspace_id) as session:
                job = await session.get_one(TrainingJob, self.job_id)
                for name, value in values.items():
                    setattr(job, name, value)

        self.live.run(change)


def finish_job(live: Live, owner: Member, trained_run: Path, *, dataset_id: UUID | None = None) -> Finished:
    """Rows and run directory as the supervisor leaves them when a trainer is done."""
    job_id = uuid7()
    run_dir = live.settings.data / "runs" / str(job_id)
    shutil.copytree(trained_run, run_dir)
    run, result = (json.loads((run_dir / name).read_text()) for name in ("run.json", "result.json"))
    made_dataset = dataset_id is None
    dataset_id = dataset_id or uuid7()

    async def add(database: Database) -> None:
        async with database.transaction(user_id=owner.user_id, workspace_id=owner.workspace_id) as session:
            if made_dataset:
                session.add(_dataset(dataset_id, owner, run))
                await session.flush()
            session.add(_job(job_id, dataset_id, owner, run_dir, run, result, live))
            await session.flush()
            session.add_all(_points(job_id, owner, run_dir))

    live.run(add)
    return Finished(live, owner, job_id, dataset_id, run_dir)


def _dataset(dataset_id: UUID, owner: Member, run: dict[str, Any]) -> Dataset:
    return Dataset(
        id=dataset_id, workspace_id=owner.workspace_id, created_by=owner.user_id, name="Adviser talk",
        file_name="adviser.jsonl", file_size=run["data"]["size_bytes"], storage_bucket="lora-datasets",
        storage_path=f"{owner.workspace_id}/datasets/{dataset_id}/adviser.jsonl", status="ready", training_ready=True,
        format="brightrun_lora_v3", sha256=run["data"]["sha256"], validated_at=utcnow(), total_conversations=40,
        total_training_pairs=80, total_tokens=4000, tokens_source="estimate:words×1.3",
    )  # fmt: skip


def _job(
    job_id: UUID,
    dataset_id: UUID,
    owner: Member,
    run_dir: Path,
    run: dict[str, Any],
    result: dict[str, Any],
    live: Live,
) -> TrainingJob:
    return TrainingJob(
        id=job_id, workspace_id=owner.workspace_id, created_by=owner.user_id, dataset_id=dataset_id,
        dataset_sha256=run["data"]["sha256"], name="Adviser run", preset_id="balanced", base_model="tiny", seed=7,
        hyperparameters=run["hyperparameters"], gpu_config={"type": "local-cpu", "count": 1},
        price_per_hour=Decimal(0), estimate={}, status=JobStatus.RUNNING, stage=JobStage.FINALIZING, progress=95,
        current_epoch=2.0, total_epochs=2, current_step=result["steps"], total_steps=result["steps"],
        started_at=utcnow(), trained_at=utcnow(), host=machine_id(live.settings.data / "runs"), run_dir=str(run_dir),
        run_number=1, attempt=1, current_cost=Decimal("0.012345"), result=result,
        **{name: result[name] for name in ("heldout_loss_base", "heldout_loss_adapter", "heldout_conversations",
                                           "heldout_tokens", "train_loss_first", "train_loss_last")},
    )  # fmt: skip


def _points(job_id: UUID, owner: Member, run_dir: Path) -> list[MetricsPoint]:
    points: dict[tuple[str, int], MetricsPoint] = {}
    for event in map(json.loads, (run_dir / "events.jsonl").read_text().splitlines()):
        if event["type"] != "metric" and not (event["type"] == "stage" and "heldout_loss" in event):
            continue
        kind = SeriesKind.HELDOUT if "heldout_loss" in event else SeriesKind.TRAIN
        points[kind, event["step"]] = MetricsPoint(
            workspace_id=owner.workspace_id, job_id=job_id, kind=kind, step=event["step"],
            epoch=event.get("epoch", 0.0), training_loss=event.get("loss") if kind == SeriesKind.TRAIN else None,
            validation_loss=event.get("heldout_loss"), learning_rate=event.get("learning_rate"),
            recorded_at=utcnow(), run=1, seq=event["seq"],
        )  # fmt: skip
    return list(points.values())


def data(answer: httpx2.Response) -> Any:
    """The `data` of a success."""
    body = answer.json()
    assert body.get("success") is True, (answer.status_code, body)
    return body["data"]


def wait_for(check: Callable[[], Any], *, seconds: float = 60.0, what: str = "it") -> Any:
    """Ask until the answer is true."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.05)  # between two questions to a server; nothing is assumed about when it answers
    return found
