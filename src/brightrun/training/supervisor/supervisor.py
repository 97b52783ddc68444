"""The supervisor of a machine: finds jobs to start and jobs to adopt, and has a follower for each."""

import asyncio
import time
from collections.abc import Callable, Sequence
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from brightrun.logs import get_logger
from brightrun.platform import Platform
from brightrun.training.executors.base import Executor
from brightrun.training.executors.local import LocalExecutor
from brightrun.training.supervisor import claims, machines
from brightrun.training.supervisor.claims import Found
from brightrun.training.supervisor.follower import Follower
from brightrun.training.supervisor.hold import Hold, is_away
from brightrun.training.supervisor.identity import machine_id, new_owner
from brightrun.training.supervisor.retention import keep_purging

log = get_logger(__name__)

POLL_S = 0.5
_AFTER_A_BUG_S = 10.0
_REPORT_EVERY_S = 10.0


class Supervisor:
    """One per worker. Several on one machine share its places; a lease decides who follows a job."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._executor: Executor = LocalExecutor(platform.runs_dir)
        self._owner = new_owner()
        self._host = ""
        self._followers: dict[UUID, tuple[Follower, asyncio.Task[None]]] = {}
        self._not_before: dict[UUID, float] = {}
        self._changed = asyncio.Event()
        self._reported: set[UUID] | None = None
        self._reported_at = 0.0

    async def run(self, stop: asyncio.Event, *, leave_trainers: Callable[[], bool]) -> None:
        """Until `stop`. Then trainers write a checkpoint and end, and their jobs are `interrupted` (the next worker
        resumes them); with `leave_trainers()` they live on, and the next worker on this machine adopts them."""
        self._host = await asyncio.to_thread(machine_id, self._platform.runs_dir)
        log.info("supervisor started", machine=self._host, jobs_at_once=self._platform.settings.max_running_jobs)
        stopped = asyncio.create_task(stop.wait())
        purging = asyncio.create_task(keep_purging(self._platform, self._host))
        try:
            while not stop.is_set():
                self._changed.clear()
                try:
                    await self._look()
                except Exception as error:
                    if not is_away(error):
                        log.exception("the supervisor could not look for jobs")
                    else:
                        log.warning("the database does not answer; the supervisor tries again", error=str(error))
                changed = asyncio.create_task(self._changed.wait())
                await asyncio.wait({stopped, changed}, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
        finally:
            stopped.cancel()
            purging.cancel()
            await self._end(leave=leave_trainers())
            await self._say_goodbye()
        log.info("supervisor stopped")

    async def _look(self) -> None:
        """Adopt what nobody follows; start what waits, as far as there are places."""
        limit = self._platform.settings.max_running_jobs
        async with self._platform.db.transaction() as session:
            here = await claims.of_this_machine(session, self._host)
            settings = self._platform.settings
            waiting = await claims.startable(session, settings, self._host) if len(here) < limit else []
        await self._report(here)
        for found in here:
            if self._is_free(found) and await claims.adopt(self._platform, found, owner=self._owner):
                self._follow(found)
        for found in waiting:
            if self._is_free(found) and await claims.claim_waiting(
                self._platform, found, host=self._host, owner=self._owner, limit=limit
            ):
                self._follow(found)

    async def _report(self, here: Sequence[Found]) -> None:
        """What this machine is doing, for whoever wants to know when their job will start."""
        now, taken = time.monotonic(), {found.job_id for found in here}
        if taken != self._reported or now - self._reported_at > _REPORT_EVERY_S:
            await machines.report(self._platform, here, host=self._host)
            self._reported, self._reported_at = taken, now

    async def _say_goodbye(self) -> None:
        try:
            await machines.leave(self._platform, host=self._host)
        except (DBAPIError, OSError, TimeoutError) as error:
            # Nobody waits for it: a machine that is not seen for a minute counts as gone.
            log.warning("the machine could not be signed off", error=str(error))

    def _is_free(self, found: Found) -> bool:
        return found.job_id not in self._followers and self._not_before.get(found.job_id, 0.0) <= time.monotonic()

    def _follow(self, found: Found) -> None:
        hold = Hold(self._platform, found, host=self._host, owner=self._owner)
        follower = Follower(hold, self._executor)
        task = asyncio.create_task(follower.run(), name=f"job {found.job_id}")
        self._followers[found.job_id] = (follower, task)
        task.add_done_callback(lambda done: self._ended(found, done))

    def _ended(self, found: Found, task: asyncio.Task[None]) -> None:
        del self._followers[found.job_id]
        self._not_before.pop(found.job_id, None)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # Its trainer lives on; the job is adopted again in a while, by us or by another.
            self._not_before[found.job_id] = time.monotonic() + _AFTER_A_BUG_S
            log.error("following a job failed", job=str(found.job_id), exc_info=error)
        self._changed.set()

    async def _end(self, *, leave: bool) -> None:
        tasks = []
        for follower, task in list(self._followers.values()):
            follower.hold.leave = leave
            follower.hold.stopping.set()
            tasks.append(task)
        if tasks:
            log.info("stopping", jobs=len(tasks), trainers="left alone" if leave else "asked to save and end")
            await asyncio.wait(tasks)
