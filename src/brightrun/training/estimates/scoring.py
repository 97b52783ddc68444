"""What became of a promise: written once a run is done, read by the job's page and by the calibration report."""

from collections import defaultdict
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.training.promise.analytic import Correction
from brightrun.training.promise.calibration import Kept, Quantity, Seen, correction, score
from brightrun.training.tables import JobStatus, MetricsPoint, TrainingAttempt, TrainingJob

_FIGURES = {"memory": "memory_bytes", "seconds": "seconds", "cost": "cost_usd"}
_REMEMBERED = 200
"""Newest runs of a machine that are learned from."""


async def score_job(session: AsyncSession, job: TrainingJob) -> None:
    """Write `job.actual`: `{seconds, cost_usd, memory_bytes, inside, errors, comparable, why_not, attempts}`.

    seconds: of all attempts, from start to end of each process. inside, errors: by `memory`, `seconds`, `cost`; null
    where nothing was promised or measured. comparable: whether the run did what the promise was about; others are
    shown, and not learned from.
    """
    attempts = list((await session.execute(select(TrainingAttempt).where(TrainingAttempt.job_id == job.id))).scalars())
    seconds = float(sum((attempt.seconds or 0) for attempt in attempts))
    actual: dict[str, Any] = {
        "seconds": seconds,
        "cost_usd": float(job.current_cost),
        "memory_bytes": await _peak(session, job),
        "attempts": len(attempts),
    }
    promise = job.estimate or {}
    inside: dict[str, bool | None] = {}
    errors: dict[str, float | None] = {}
    for name, key in _FIGURES.items():
        figure, happened = promise.get(key) or {}, actual[key]
        if figure.get("low") is None or happened is None:
            inside[name] = errors[name] = None
            continue
        inside[name] = bool(figure["low"] <= happened <= figure["high"])
        errors[name] = round(figure["value"] / happened - 1, 4) if happened else None
    why_not = _why_not(job, len(attempts))
    job.actual = actual | {"inside": inside, "errors": errors, "comparable": why_not is None, "why_not": why_not}
    await session.flush()


async def _peak(session: AsyncSession, job: TrainingJob) -> int | None:
    """Of the trainer's process, or on its GPU, as the trainer says at its end; else the largest that a step told."""
    result, on_gpu = job.result or {}, job.gpu_config.get("kind") == "cuda"
    told = result.get("peak_gpu_bytes" if on_gpu else "peak_rss_bytes")
    if told:
        return int(told)
    column = MetricsPoint.gpu_memory_bytes if on_gpu else MetricsPoint.memory_bytes
    found: int | None = await session.scalar(select(func.max(column)).where(MetricsPoint.job_id == job.id))
    return found


def _why_not(job: TrainingJob, attempts: int) -> str | None:
    if attempts != 1:
        return f"it took {attempts} attempts"
    if (job.result or {}).get("stopped_early"):
        return "early stopping ended it before all steps were done"
    if job.run_changes:
        return "its configuration was changed on the way"
    if (job.estimate or {}).get("level") is None:
        return "its promise had no interval"
    return None


async def seen_on(session: AsyncSession, machine: str) -> dict[Quantity, list[Seen]]:
    """Ratios of what happened and what the model said, of the workspace's comparable runs on a machine type."""
    query = (
        select(TrainingJob.base_model, TrainingJob.estimate["model"], TrainingJob.actual)
        .where(TrainingJob.actual["comparable"].as_boolean(), TrainingJob.estimate["machine"].as_string() == machine)
        .order_by(TrainingJob.trained_at.desc())
        .limit(_REMEMBERED)
    )
    found: dict[Quantity, list[Seen]] = {"seconds": [], "memory": []}
    for base_model, model, actual in await session.execute(query):
        if model and model.get("seconds") and actual.get("seconds"):
            found["seconds"].append(Seen(base_model, actual["seconds"] / model["seconds"]))
        if model and model.get("memory_bytes") and actual.get("memory_bytes"):
            found["memory"].append(Seen(base_model, actual["memory_bytes"] / model["memory_bytes"]))
    return found


async def corrections(
    session: AsyncSession, machine: str, base_model: str
) -> tuple[Correction | None, Correction | None]:
    """(of memory, of seconds) by the record of the machine."""
    seen = await seen_on(session, machine)
    memory, seconds = (
        correction(seen[quantity], base_model=base_model, quantity=quantity, machine=machine)
        for quantity in ("memory", "seconds")
    )
    return memory, seconds


async def report(session: AsyncSession, *, most: int = 500) -> dict[str, Any]:
    """How promises were kept: `{level, n, not_comparable, overall, machines: [{machine, figures}], runs}`.

    figures: by `memory`, `seconds`, `cost`: `calibration.score`, and by basis (model, record, probe). runs: the newest
    first, comparable or not, for a plot.
    """
    query = (
        select(TrainingJob)
        .where(TrainingJob.actual.is_not(None), TrainingJob.status != JobStatus.CANCELLED)
        .order_by(TrainingJob.trained_at.desc())
        .limit(most)
    )
    jobs = list((await session.execute(query)).scalars())
    comparable = [job for job in jobs if job.actual and job.actual["comparable"]]
    by_machine: dict[str, list[TrainingJob]] = defaultdict(list)
    for job in comparable:
        by_machine[str(job.estimate.get("machine", "unknown"))].append(job)
    return {
        "level": 0.9,
        "n": len(comparable),
        "not_comparable": len(jobs) - len(comparable),
        "overall": _figures(comparable),
        "machines": [
            {"machine": machine, "n": len(of), "figures": _figures(of)} for machine, of in sorted(by_machine.items())
        ],
        "runs": [_run(job) for job in jobs],
    }


def _figures(jobs: list[TrainingJob]) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    for name, key in _FIGURES.items():
        kept = [one for job in jobs if (one := _kept(job, key)) is not None]
        bases = sorted({each.basis for each in kept})
        answer[name] = {
            "all": score(kept),
            "by_basis": {basis: score([each for each in kept if each.basis == basis]) for basis in bases},
        }
    return answer


def _kept(job: TrainingJob, key: str) -> Kept | None:
    """None where nothing was promised or measured; a cost of 0 is no promise to keep."""
    figure, actual = job.estimate.get(key) or {}, (job.actual or {}).get(key)
    if figure.get("low") is None or not actual:
        return None
    return Kept(
        machine=str(job.estimate.get("machine", "unknown")), basis=str(job.estimate.get("basis", "model")),
        value=figure["value"], low=figure["low"], high=figure["high"], actual=float(actual),
    )  # fmt: skip


def _run(job: TrainingJob) -> dict[str, Any]:
    actual = job.actual or {}
    return {
        "job_id": str(job.id),
        "name": job.name,
        "base_model": job.base_model,
        "machine": job.estimate.get("machine"),
        "basis": job.estimate.get("basis"),
        "trained_at": job.trained_at.isoformat() if job.trained_at else None,
        "promised": {
            name: {end: (job.estimate.get(key) or {}).get(end) for end in ("value", "low", "high")}
            for name, key in _FIGURES.items()
        },
        "actual": {name: actual.get(key) for name, key in _FIGURES.items()},
        "inside": actual.get("inside"),
        "errors": actual.get("errors"),
        "comparable": actual.get("comparable"),
        "why_not": actual.get("why_not"),
    }
