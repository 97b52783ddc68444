"""Two to four runs side by side: configuration, data, cost, duration, held-out losses."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.datasets.tables import Dataset
from brightrun.errors import InvalidInputError
from brightrun.training import repository, series
from brightrun.training.comparison.judge import Measured, judge
from brightrun.training.comparison.schemas import FEWEST, MOST, ComparisonOut, LineOut, RunOut
from brightrun.training.comparison.tables import HeldoutLosses
from brightrun.training.schemas import PointOut, SeriesOut
from brightrun.training.service import get
from brightrun.training.setting_words import LABELS
from brightrun.training.tables import ENDED, JobStatus, SeriesKind, TrainingJob
from brightrun.training.templates.diff import side_of_job
from brightrun.training.views import job_view

# What decides speed, memory and record keeping, and not what is learned: no reason to call two setups different.
_NOT_LEARNED = {
    "seed", "checkpoint_every_steps", "keep_checkpoints", "eval_every_steps", "micro_batch_tokens",
    "activation_checkpointing", "divergence_loss",
}  # fmt: skip


async def compare(session: AsyncSession, job_ids: Sequence[UUID], *, points: int | None = None) -> ComparisonOut:
    """In the order given; one may be given twice. points: with curves of about so many points each.

    Raises InvalidInputError for fewer than two or more than four; NotFoundError: absent or foreign.
    """
    if not FEWEST <= len(job_ids) <= MOST:
        raise InvalidInputError(
            f"Choose {FEWEST} to {MOST} runs to compare, not {len(job_ids)}",
            code="validation_error",
            details={"ids": [f"{FEWEST} to {MOST} ids"]},
        )
    jobs = [await get(session, job_id) for job_id in job_ids]
    datasets = await repository.datasets(session, {job.dataset_id for job in jobs})
    rows = await session.scalars(select(HeldoutLosses).where(HeldoutLosses.job_id.in_(job_ids)))
    losses = {row.job_id: row for row in rows}
    lines = _lines(jobs, datasets)
    return ComparisonOut(
        runs=[await _run(session, job, points) for job in jobs],
        lines=sorted(lines, key=lambda line: line.equal),
        different=sum(not line.equal for line in lines),
        pairs=judge([_measured(job, losses.get(job.id)) for job in jobs]),
    )


async def _run(session: AsyncSession, job: TrainingJob, points: int | None) -> RunOut:
    view = await job_view(session, job)
    run = RunOut(job=view, seconds=round(sum(attempt.seconds for attempt in view.attempts or ()), 3))
    if points is not None:
        run.series = {}
        for kind in SeriesKind:
            found, total = await series.series(session, job.id, kind, points=points)
            curve = [PointOut.model_validate(dict(row)) for row in found]
            run.series[kind] = SeriesOut(points=curve, total=total, downsampled=len(curve) < total)
    return run


def _lines(jobs: Sequence[TrainingJob], datasets: dict[UUID, Dataset]) -> list[LineOut]:
    sides = [side_of_job(job, datasets[job.dataset_id].name) for job in jobs]
    lines = [
        _line(field, sides[0].settings[field][0], "configuration", [side.settings[field][1] for side in sides])
        for field in sides[0].settings
        if field != "dataset"
    ]
    names = dict.fromkeys(name for side in sides for name in side.hyperparameters)
    lines += [
        _line(
            f"hyperparameters.{name}",
            LABELS.get(name, name),
            "configuration",
            [side.hyperparameters.get(name) for side in sides],
        )
        for name in names
    ]
    data: dict[str, tuple[str, list[Any]]] = {
        "dataset": ("Dataset", [datasets[job.dataset_id].name for job in jobs]),
        "dataset_sha256": ("Its content (SHA-256)", [job.dataset_sha256[:12] for job in jobs]),
        "training_pairs": ("Training pairs", [datasets[job.dataset_id].total_training_pairs for job in jobs]),
        "heldout_conversations": ("Held-out conversations", [job.heldout_conversations for job in jobs]),
        "heldout_tokens": ("Held-out tokens", [job.heldout_tokens for job in jobs]),
        "total_steps": ("Steps", [job.total_steps for job in jobs]),
    }
    return [*lines, *(_line(field, label, "data", values) for field, (label, values) in data.items())]


def _line(field: str, label: str, group: str, values: list[Any]) -> LineOut:
    return LineOut(
        field=field, label=label, group=group, values=values, equal=all(value == values[0] for value in values)
    )


def _measured(job: TrainingJob, losses: HeldoutLosses | None) -> Measured:
    setup = {name: value for name, value in job.hyperparameters.items() if name not in _NOT_LEARNED}
    known: dict[str, Any] = {
        "name": job.name,
        "setup": setup | {"base_model": job.base_model, "dataset": job.dataset_sha256},
        "seed": job.seed,
        "dataset": job.dataset_sha256,
    }
    if losses is None:
        return Measured(**known, missing=_why_not(job))
    return Measured(
        **known,
        unit=losses.unit,
        conversations={digest: (n, adapter) for _id, digest, n, _base, adapter in losses.conversations},
        on_heldout=bool((job.result or {}).get("selected_on_heldout")),
    )


def _why_not(job: TrainingJob) -> str:
    if job.status not in ENDED:
        return "it is not done yet; its held-out conversations are measured at the end."
    if job.status != JobStatus.COMPLETED and job.trained_at is None:
        return f"it is {job.status}, so its held-out conversations were not measured at the end."
    if not job.heldout_conversations:
        return "nothing was held out, so nothing was measured."
    return "what it measured on each conversation was not kept: it was trained before comparisons existed."
