"""What a machine says of itself: how many jobs it runs at once, and when its places are expected to be free."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, text
from sqlalchemy.dialects.postgresql import insert

from brightrun.clock import utcnow
from brightrun.platform import Platform
from brightrun.training import scheduling
from brightrun.training.repository import find
from brightrun.training.supervisor.claims import Found
from brightrun.training.tables import TrainingJob, TrainingMachine

_FORGOTTEN_AFTER = timedelta(days=7)


async def report(platform: Platform, here: Sequence[Found], *, host: str) -> None:
    """Write this machine's row; forget machines that were not seen for a week."""
    busy = []
    for found in here:
        async with platform.db.transaction(workspace_id=found.workspace_id) as session:
            job = await find(session, found.job_id)
            if job is not None:
                busy.append({"workspace": str(found.workspace_id)} | expected_end(job))
    values = {"places": platform.settings.max_running_jobs, "busy": busy, "seen_at": text("now()")}
    async with platform.db.transaction() as session:
        await session.execute(
            insert(TrainingMachine)
            .values(host=host, **values)
            .on_conflict_do_update(index_elements=["host"], set_=values)
        )
        await session.execute(delete(TrainingMachine).where(TrainingMachine.seen_at < utcnow() - _FORGOTTEN_AFTER))


async def leave(platform: Platform, *, host: str) -> None:
    """This machine starts nothing any more. Another worker of it says within seconds that it is still here."""
    async with platform.db.transaction() as session:
        await session.execute(delete(TrainingMachine).where(TrainingMachine.host == host))


def expected_end(job: TrainingJob) -> dict[str, Any]:
    """When it will give its place back: by its measured rate, else by its promise from when it started."""
    if job.estimated_completion_at is not None:
        at = job.estimated_completion_at.isoformat()
        return {"at": at, "low": at, "high": at, "measured": True}
    takes = scheduling.promised(job.estimate)
    # Of a resumed one, what is left, from now on.
    began, left = (utcnow(), 1 - float(job.progress) / 100) if job.attempt > 1 else (job.started_at or utcnow(), 1.0)
    ends = {"at": takes.value, "low": takes.low, "high": takes.high}
    return {key: (began + timedelta(seconds=left * of)).isoformat() for key, of in ends.items()} | {"measured": False}
