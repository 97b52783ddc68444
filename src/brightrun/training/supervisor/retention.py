"""Run directories that nothing needs any more, on the machine whose disk they are on."""

import asyncio
import shutil
import time
from datetime import timedelta
from pathlib import Path

from sqlalchemy import text

from brightrun.clock import utcnow
from brightrun.logs import get_logger
from brightrun.platform import Platform
from brightrun.training.changes import note
from brightrun.training.repository import find
from brightrun.training.supervisor.claims import Found
from brightrun.training.tables import JobStatus

log = get_logger(__name__)

EVERY_S = 3600.0
_LEFTOVER_S = 2 * 86_400.0
"""A preparation takes minutes; one that nobody has touched for two days has no process."""
_PURGEABLE = text("select workspace, job from lookup_purgeable_runs(:host, :before)")
_AT_ONCE = 100


async def keep_purging(platform: Platform, host: str) -> None:
    """Once an hour, until it is cancelled."""
    while True:
        try:
            await purge_runs(platform, host)
            await asyncio.to_thread(purge_leftovers, platform.runs_dir)
        except Exception:
            log.exception("run directories could not be purged, it is tried again in an hour")
        await asyncio.sleep(EVERY_S)


async def purge_runs(platform: Platform, host: str) -> int:
    """Delete the run directories of jobs that completed longer ago than the retention period; how many.

    Only a completed job has its model in the storage. Others keep theirs: a retry goes on from the last checkpoint.
    """
    days = platform.settings.run_retention_days
    before = utcnow() - timedelta(days=days)
    purged = 0
    while True:
        async with platform.db.transaction() as session:
            rows = await session.execute(_PURGEABLE, {"host": host, "before": before})
            found = [Found(workspace, job) for workspace, job in rows]
        failed = 0
        for one in found:
            try:
                purged += await _purge(platform, one, days)
            except Exception:
                failed += 1
                log.exception("a run directory could not be deleted, it is tried again", job=str(one.job_id))
        if failed or len(found) < _AT_ONCE:
            return purged


async def _purge(platform: Platform, found: Found, days: int) -> bool:
    async with platform.db.transaction(workspace_id=found.workspace_id) as session:
        job = await find(session, found.job_id, lock=True)
        if job is None or job.status != JobStatus.COMPLETED or job.run_dir is None:
            return False
        run_dir, job.run_dir = Path(job.run_dir), None
        await note(session, job, "run_purged", f"The run directory was deleted after {days} days; the model is stored.")
        # Before the commit: if we are killed here, the next hour repeats it.
        await asyncio.to_thread(_remove, platform.runs_dir, run_dir)
    log.info("deleted the run directory of a completed job", job=str(found.job_id))
    return True


def _remove(runs_dir: Path, run_dir: Path) -> None:
    """The directory, and those of earlier turns of its job. Never anything outside of `runs_dir`."""
    run_dir = runs_dir / run_dir
    if run_dir.parent.resolve() != runs_dir.resolve():
        raise ValueError(f"{run_dir} is not in {runs_dir}: it is left alone")
    for path in (run_dir, *runs_dir.glob(f"{run_dir.name}.old-*")):
        if path.exists():
            shutil.rmtree(path)


def purge_leftovers(runs_dir: Path) -> int:
    """Delete what preparations that were killed left: files on their way, directories half made. How many."""
    before = time.time() - _LEFTOVER_S
    staging = runs_dir / ".staging"
    # `.<job's id>.<random>`: five groups of a UUID, four dashes. The files that begin with a dot are ours to keep.
    half_made = (path for path in runs_dir.glob(".*-*-*-*-*.*") if path.is_dir())
    purged = 0
    for path in (*(staging.iterdir() if staging.is_dir() else ()), *half_made):
        try:
            newest = max(entry.stat().st_mtime for entry in (path, *path.rglob("*")))
        except FileNotFoundError:
            continue  # Its own process removes it.
        if newest < before:
            shutil.rmtree(path, ignore_errors=True)
            log.info("deleted what a preparation left", path=str(path))
            purged += 1
    return purged
