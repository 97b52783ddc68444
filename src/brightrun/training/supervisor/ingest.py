"""From a trainer's events to rows: curves, log, what the job shows. Reading the same events twice changes nothing."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.clock import utcnow
from brightrun.ids import uuid7
from brightrun.logs import get_logger
from brightrun.training.changes import announce
from brightrun.training.supervisor.progress import Pace, overall
from brightrun.training.supervisor.tail import readable
from brightrun.training.tables import EventSource, JobEvent, JobStage, MetricsPoint, SeriesKind, TrainingJob

log = get_logger(__name__)

_BATCH = 500
_SHOWN = {"seq", "time", "type"}
_LONGEST_TEXT = 4000


async def ingest(session: AsyncSession, job: TrainingJob, events: list[dict[str, Any]], pace: Pace) -> bool:
    """Write events into their tables and onto the job's row, which is locked. True when the stage changed.

    Each stage is announced as it begins, also when the next one follows in the same events: a stage may well be shorter
    than the time between two readings, and a live page hears of every one.
    """
    before = known = job.stage
    points: dict[tuple[str, int], dict[str, Any]] = {}
    lines: list[dict[str, Any]] = []
    for event in events:
        at = event_time(event)
        job.last_event_seq = int(event["seq"])
        match event.get("type"):
            case "metric":
                _metric(job, event, at, points)
                pace.saw(int(event["step"]), at)
                if event.get("heldout_loss") is not None:
                    message = f"Held-out loss {event['heldout_loss']:.4f} after step {event['step']}"
                    if (won := event.get("heldout_reward_accuracy")) is not None:
                        message += f"; the chosen answer is ahead in {won:.0%} of the pairs"
                    message += "."
                    lines.append(_line(job, event, at, "evaluation", message))
            case "stage":
                _stage(job, event, at, points)
                if (line := _stage_line(job, event, at)) is not None:
                    lines.append(line)
            case "checkpoint":
                job.checkpoint_step = int(event["step"])
                job.checkpoints = event.get("kept") or [int(event["step"])]
                best = ", the best so far on held-out records" if event.get("best") else ""
                lines.append(_line(job, event, at, "checkpoint", f"Checkpoint after step {event['step']}{best}."))
            case "warning":
                lines.append(_line(job, event, at, "warning", str(event.get("message", "")), level="warning"))
            case "sample":
                lines.append(_line(job, event, at, "sample", f"{_when(event)}: {event.get('answer', '')}"))
            case "done":
                _done(job, event)
                lines.append(_line(job, event, at, "done", f"Training is done after {event.get('steps')} steps."))
            case "failed":
                lines.append(_line(job, event, at, "failed", str(event.get("message", "")), level="error"))
            case other:
                log.warning("an event of a kind that this version does not know", job=str(job.id), type=other)
        if job.stage != known:
            known = job.stage
            await announce(session, job)
    if pace.seconds_per_step is not None and job.total_steps:
        job.estimated_completion_at = pace.end(job.total_steps)
    await _write_points(session, list(points.values()))
    await _write_lines(session, lines)
    return job.stage != before


async def ingest_log(session: AsyncSession, job: TrainingJob, lines: Iterable[tuple[int, bytes]]) -> None:
    """Lines of trainer.log; where a line begins is its number."""
    now = utcnow()
    rows = [
        _row(job, EventSource.LOG, offset, now, "log", text)
        for offset, line in lines
        if (text := readable(line).strip())
    ]
    await _write_lines(session, rows)


def event_time(event: dict[str, Any]) -> datetime:
    """When it says that it happened; now, when it does not say so."""
    try:
        return datetime.fromisoformat(str(event["time"]))
    except (KeyError, ValueError):
        return utcnow()


def _metric(
    job: TrainingJob, event: dict[str, Any], at: datetime, points: dict[tuple[str, int], dict[str, Any]]
) -> None:
    step = int(event["step"])
    heldout = event.get("heldout_loss")
    shown = dict(job.current_metrics or {})
    if heldout is None:
        points[SeriesKind.TRAIN, step] = _point(job, event, at, SeriesKind.TRAIN, step)
        shown |= {key: value for key, value in event.items() if key not in _SHOWN}
        shown["time"] = at.isoformat()
    else:
        points[SeriesKind.HELDOUT, step] = _point(job, event, at, SeriesKind.HELDOUT, step)
        shown |= {"heldout_loss": heldout, "heldout_step": step}
        shown |= {key: value for key, value in event.items() if key.startswith("heldout_reward_")}
    job.current_metrics = shown
    job.current_step = step
    job.current_epoch = float(event.get("epoch") or 0.0)
    if event.get("total_steps"):
        job.total_steps = int(event["total_steps"])
        job.stage = JobStage.TRAINING
        job.progress = max(job.progress, overall(JobStage.TRAINING, step / job.total_steps))


def _point(job: TrainingJob, event: dict[str, Any], at: datetime, kind: SeriesKind, step: int) -> dict[str, Any]:
    training = kind is SeriesKind.TRAIN
    return {
        "job_id": job.id,
        "workspace_id": job.workspace_id,
        "kind": kind.value,
        "step": step,
        "epoch": float(event.get("epoch") or 0.0),
        "training_loss": event.get("loss") if training else None,
        "validation_loss": event.get("heldout_loss"),
        "learning_rate": event.get("learning_rate") if training else None,
        "gradient_norm": event.get("grad_norm") if training else None,
        "trained_tokens": event.get("trained_tokens") if training else None,
        "throughput": event.get("tokens_per_s") if training else None,
        "memory_bytes": event.get("rss_bytes") if training else None,
        "gpu_memory_bytes": event.get("gpu_bytes") if training else None,
        "gpu_utilization": event.get("gpu_percent") if training else None,
        "cpu_percent": event.get("cpu_percent") if training else None,
        "reward_margin": event.get("reward_margin" if training else "heldout_reward_margin"),
        "reward_accuracy": event.get("reward_accuracy" if training else "heldout_reward_accuracy"),
        "recorded_at": at,
        "run": job.run_number,
        "seq": int(event["seq"]),
    }


def _stage(
    job: TrainingJob, event: dict[str, Any], at: datetime, points: dict[tuple[str, int], dict[str, Any]]
) -> None:
    stage = JobStage(event["stage"])
    job.stage = stage
    job.progress = max(job.progress, overall(stage, float(event.get("fraction") or 0.0)))
    if event.get("total_steps"):
        job.total_steps = int(event["total_steps"])
    if event.get("resumed_from_step") is not None:
        # What it really goes on from: a checkpoint that did not verify was set aside.
        job.checkpoint_step = int(event["resumed_from_step"])
        job.checkpoints = [step for step in job.checkpoints if step <= job.checkpoint_step]
    if event.get("heldout_loss") is not None:  # of the untouched base model, before the first step
        job.heldout_loss_base = event["heldout_loss"]
        step = int(event.get("step") or 0)
        points[SeriesKind.HELDOUT, step] = _point(job, event, at, SeriesKind.HELDOUT, step)


def _when(sample: dict[str, Any]) -> str:
    match sample.get("when"):
        case "before":
            return "Before training"
        case "during":
            return f"After step {sample.get('step')}"
    return "After training"


def _stage_line(job: TrainingJob, event: dict[str, Any], at: datetime) -> dict[str, Any] | None:
    """Where a stage begins and what it tells; not each percent of it."""
    fraction, name = float(event.get("fraction") or 0.0), str(event["stage"]).replace("_", " ")
    if event.get("resumed_from_step"):
        return _line(job, event, at, "stage", f"Resumes after step {event['resumed_from_step']}.")
    if event.get("heldout_loss") is not None:
        return _line(job, event, at, "evaluation", f"Held-out loss of the base model {event['heldout_loss']:.4f}.")
    if isinstance(startup := event.get("startup"), dict):
        parts = ", ".join(f"{part.replace('_', ' ')} {spent:.1f} s" for part, spent in startup.items())
        return _line(job, event, at, "stage", f"First step. The time until then: {parts}.")
    if event.get("train_records") is not None:
        records = f"{event['train_records']:,} training and {event.get('heldout_records', 0):,} held-out records"
        return _line(job, event, at, "stage", f"{records}, {event.get('trained_tokens', 0):,} trained tokens an epoch.")
    return _line(job, event, at, "stage", f"Stage: {name}.") if fraction == 0 else None


def _done(job: TrainingJob, event: dict[str, Any]) -> None:
    result = {key: value for key, value in event.items() if key not in _SHOWN}
    job.result = result
    job.heldout_loss_base = result.get("heldout_loss_base")
    job.heldout_loss_adapter = result.get("heldout_loss_adapter")
    job.heldout_conversations = result.get("heldout_conversations")
    job.heldout_tokens = result.get("heldout_tokens")
    job.train_loss_first = result.get("train_loss_first")
    job.train_loss_last = result.get("train_loss_last")


def _line(
    job: TrainingJob, event: dict[str, Any], at: datetime, kind: str, message: str, *, level: str = "info"
) -> dict[str, Any]:
    details = {key: value for key, value in event.items() if key not in _SHOWN}
    return _row(job, EventSource.TRAINER, int(event["seq"]), at, kind, message, level=level, details=details)


def _row(
    job: TrainingJob, source: EventSource, seq: int, at: datetime, kind: str, message: str,
    *, level: str = "info", details: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    return {
        "id": uuid7(),
        "workspace_id": job.workspace_id,
        "job_id": job.id,
        "source": source.value,
        "run": job.run_number,
        "seq": seq,
        "attempt": job.attempt,
        "type": kind,
        "level": level,
        "message": _storable(message)[:_LONGEST_TEXT],
        "details": _storable(details or {}),
        "recorded_at": at,
    }


def _storable(value: Any) -> Any:
    """PostgreSQL keeps no NUL; a model may well say one, and half of a surrogate pair too."""
    if isinstance(value, str):
        return value.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {str(key): _storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    return value


async def _write_points(session: AsyncSession, points: list[dict[str, Any]]) -> None:
    """A step that came again replaces the earlier point; an event read again does not."""
    for start in range(0, len(points), _BATCH):
        statement = insert(MetricsPoint).values(points[start : start + _BATCH])
        new = statement.excluded
        keys = {"job_id", "kind", "step", "workspace_id"}
        await session.execute(
            statement.on_conflict_do_update(
                index_elements=["job_id", "kind", "step"],
                set_={column.name: column for column in new if column.name not in keys},
                where=tuple_(new.run, new.seq) > tuple_(MetricsPoint.run, MetricsPoint.seq),
            )
        )


async def _write_lines(session: AsyncSession, rows: list[dict[str, Any]]) -> None:
    for start in range(0, len(rows), _BATCH):
        statement = insert(JobEvent).values(rows[start : start + _BATCH])
        await session.execute(statement.on_conflict_do_nothing(index_elements=["job_id", "source", "run", "seq"]))
