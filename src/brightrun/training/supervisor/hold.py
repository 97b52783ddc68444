"""A job that one supervisor holds: its transactions, and the lease that makes them count."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.logs import get_logger
from brightrun.platform import Platform
from brightrun.training.supervisor import claims
from brightrun.training.supervisor.claims import Found
from brightrun.training.tables import TrainingJob

log = get_logger(__name__)

_DATABASE_PAUSE_S = 1.0
_LONGEST_AT_STOP_S = 30.0

T = TypeVar("T")


class Hold:
    """stopping: set when the worker stops. leave: then, trainers live on for the next supervisor."""

    def __init__(self, platform: Platform, found: Found, *, host: str, owner: str) -> None:
        self.platform = platform
        self.found = found
        self.host = host
        self.owner = owner
        self.lease_s = platform.settings.job_lease_s
        self.stopping = asyncio.Event()
        self.leave = False

    async def job(self, session: AsyncSession) -> TrainingJob:
        """The row, locked. Raises LostLeaseError when it is no longer ours."""
        return await claims.held(session, self.found.job_id, self.owner)

    def renew(self, job: TrainingJob) -> None:
        claims.renew(job, self.lease_s)

    async def transaction(self, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
        """One transaction; again while the database is away: a trainer runs on meanwhile, and its words are on disk."""
        away_since: float | None = None
        while True:
            try:
                async with self.platform.db.transaction(workspace_id=self.found.workspace_id) as session:
                    return await work(session)
            except (DBAPIError, OSError, TimeoutError) as error:
                now = time.monotonic()
                away_since = away_since if away_since is not None else now
                gives_up = self.stopping.is_set() and now - away_since > _LONGEST_AT_STOP_S
                if gives_up or not is_away(error):
                    raise
                log.warning("the database does not answer; trying again", job=str(self.found.job_id), error=str(error))
                await asyncio.sleep(_DATABASE_PAUSE_S)


def is_away(error: BaseException) -> bool:
    """A connection that broke, or could not be had, as against a statement that is wrong."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
    return isinstance(error, OSError | TimeoutError)


def run_dir_of(job: TrainingJob) -> Path:
    assert job.run_dir is not None, "a job that was launched has a run directory"
    return Path(job.run_dir)
