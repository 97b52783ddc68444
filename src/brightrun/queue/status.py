"""How the queue is doing, for `/metrics`, `/readyz` and `brightrun doctor`."""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_WORKERS = text(
    "select count(*) from procrastinate_workers where last_heartbeat >= now() - make_interval(secs => :stalled_s)"
)
_JOBS = text("select queue_name, status::text, count(*) from procrastinate_jobs group by 1, 2")


@dataclass(frozen=True)
class QueueStatus:
    """lanes_alive: lanes of workers with a fresh heartbeat. jobs: (queue, status) → count, of jobs not yet deleted."""

    lanes_alive: int
    jobs: dict[tuple[str, str], int]

    @property
    def waiting(self) -> int:
        return sum(count for (_queue, status), count in self.jobs.items() if status == "todo")

    @property
    def running(self) -> int:
        return sum(count for (_queue, status), count in self.jobs.items() if status == "doing")

    @property
    def failed(self) -> int:
        return sum(count for (_queue, status), count in self.jobs.items() if status == "failed")


async def queue_status(session: AsyncSession, *, stalled_s: float) -> QueueStatus:
    """stalled_s: the setting `stalled_worker_s`."""
    lanes = (await session.execute(_WORKERS, {"stalled_s": stalled_s})).scalar_one()
    rows = await session.execute(_JOBS)
    return QueueStatus(int(lanes), {(queue, status): count for queue, status, count in rows})
