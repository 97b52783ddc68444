"""From a finished run to a model: its files into the object store, then the row, and with it the job is completed.

The files of a job always go to the same place, `<workspace>/models/<job id>/`, and the row is written in the same
transaction that completes the job. So it may be killed anywhere and run again: what is stored is recognised by its
hash and not sent twice, and there is no model without its files.
"""

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.audit.service import record
from brightrun.datasets.tables import Dataset
from brightrun.errors import UnavailableError
from brightrun.ids import uuid7
from brightrun.models import repository
from brightrun.models.changes import announce
from brightrun.models.run_files import RunFacts, RunFile
from brightrun.models.tables import ModelArtifact, version_text
from brightrun.storage import Bucket, ObjectStore, object_path
from brightrun.storage.errors import ObjectNotFoundError
from brightrun.training import service as training
from brightrun.training.tables import TrainingJob

BUCKET = Bucket.LORA_MODELS
KIND = "models"
_LONGEST_NAME = 255


def folder_of(workspace_id: UUID, job_id: UUID) -> str:
    """Where a job's model is stored, without a slash at the end."""
    return f"{workspace_id}/{KIND}/{job_id}"


def store_files(
    store: ObjectStore, workspace_id: UUID, job_id: UUID, files: list[RunFile], given_up: threading.Event
) -> None:
    """Blocking. Every file in its place, checked against its hash; what else lies there is of an earlier run and goes.

    given_up: set by whoever waits no longer; then it ends at the next file. Raises UnavailableError for a file that
    did not arrive as it was.
    """
    for file in files:
        if given_up.is_set():
            return
        path = object_path(workspace_id, KIND, job_id, file.name)
        if _is_stored(store, path, file):
            continue
        if file.path is not None:
            info = store.put_file(BUCKET, path, file.path)
        else:
            assert file.content is not None
            info = store.put_bytes(BUCKET, path, file.content)
        if info.size != file.size or info.sha256 not in {None, file.sha256}:
            raise UnavailableError(
                f"{file.name} was stored with {info.size:,} bytes and SHA-256 {info.sha256}; it has {file.size:,} "
                f"bytes and {file.sha256}."
            )
    wanted = {object_path(workspace_id, KIND, job_id, file.name) for file in files}
    for info in list(store.list_objects(BUCKET, folder_of(workspace_id, job_id))):
        if info.path not in wanted:
            store.delete(BUCKET, info.path)


def _is_stored(store: ObjectStore, path: str, file: RunFile) -> bool:
    try:
        info = store.head(BUCKET, path)
    except ObjectNotFoundError:
        return False
    return info.size == file.size and info.sha256 == file.sha256


async def write_model(
    session: AsyncSession,
    job: TrainingJob,
    dataset: Dataset,
    facts: RunFacts,
    files: list[RunFile],
    quality: dict[str, Any],
) -> ModelArtifact:
    """The row, its job completed, everyone told. Raises ConflictError for a job that is not waiting for its model."""
    number, parent = await repository.next_version(session, dataset.id)
    model = ModelArtifact(
        id=uuid7(),
        workspace_id=job.workspace_id,
        job_id=job.id,
        dataset_id=dataset.id,
        parent_model_id=parent,
        name=default_name(dataset.name, job.preset_id, job.trained_at or datetime.now(UTC)),
        version=version_text(number),
        version_number=number,
        storage_bucket=BUCKET.value,
        storage_path=folder_of(job.workspace_id, job.id),
        files=[file.as_row() for file in files],
        size_bytes=sum(file.size for file in files),
        base_model=_base_model(job, facts),
        quality_metrics=quality,
        training_summary=_summary(job, facts, await repository.attempts(session, job.id)),
        configuration=_configuration(job, dataset, facts),
    )
    session.add(model)
    await session.flush()
    await session.refresh(model)
    await training.complete_job(session, job.id, model.id)
    await record(session, "model.created", "model", model.id, {"name": model.name, "job_id": str(job.id)})
    await announce(session, model, "model.created")
    return model


def default_name(dataset_name: str, preset_id: str, trained_at: datetime) -> str:
    """`<dataset> – balanced – 2026-03-01`, the dataset's name cut where it would not fit."""
    tail = f" – {preset_id} – {trained_at:%Y-%m-%d}"
    return dataset_name[: _LONGEST_NAME - len(tail)].rstrip() + tail


def _base_model(job: TrainingJob, facts: RunFacts) -> dict[str, Any]:
    ref = facts.run["base_model"]
    return {
        "name": ref.get("name") or job.base_model,
        "kind": ref.get("kind"),
        "revision": ref.get("revision"),
        "sha256": ref.get("sha256"),
    }


def _summary(job: TrainingJob, facts: RunFacts, attempts: int) -> dict[str, Any]:
    result, trainer = facts.result, facts.trainer
    cost = job.final_cost if job.final_cost is not None else job.current_cost
    return {
        "steps": result.get("steps"),
        "total_steps": result.get("total_steps"),
        "selected_step": result.get("selected_step"),
        "stopped_early": result.get("stopped_early"),
        "epochs": job.current_epoch,
        "total_epochs": job.total_epochs,
        "train_conversations": result.get("train_conversations"),
        "train_records": result.get("train_records"),
        "trained_tokens": result.get("trained_tokens_total"),
        "train_loss_first": result.get("train_loss_first"),
        "train_loss_last": result.get("train_loss_last"),
        "seconds": result.get("seconds"),
        "cost_usd": f"{cost:.6f}",
        "attempts": attempts,
        "started_at": _moment(job.started_at),
        "trained_at": _moment(job.trained_at),
        "device": trainer.get("device_name") or trainer.get("device"),
        "precision": trainer.get("precision"),
    }


def _configuration(job: TrainingJob, dataset: Dataset, facts: RunFacts) -> dict[str, Any]:
    run = facts.run
    split = run["split"]
    return {
        "preset_id": job.preset_id,
        "seed": job.seed,
        "hyperparameters": run["hyperparameters"],
        "set_by_user": run.get("set_by_user", []),
        "rules_fired": run.get("rules_fired", []),
        "gpu_config": job.gpu_config,
        "dataset": {
            "name": dataset.name,
            "file_name": dataset.file_name,
            "format": dataset.format,
            "sha256": job.dataset_sha256,
            "total_conversations": dataset.total_conversations,
            "total_training_pairs": dataset.total_training_pairs,
        },
        "split": {
            "seed": split["seed"],
            "fraction": split["fraction"],
            "train_conversations": split["train_conversations"],
            "heldout_conversations": len(split["heldout_ids"]),
            "train_records": split["train_records"],
            "heldout_records": split["heldout_records"],
        },
        "versions": facts.trainer.get("versions") or run.get("versions", {}),
    }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="seconds")


def run_directory(runs_dir: Path, job: TrainingJob) -> Path | None:
    """The job's run directory, if it is on this machine's disk."""
    if job.run_dir is None:
        return None
    path = runs_dir / job.run_dir
    return path if path.is_dir() else None
