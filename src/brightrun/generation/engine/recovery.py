"""Who is at work on a batch, and what the dead have left: answers that are safe, requests nobody knows the end of."""

import asyncio
import contextlib
import os
import secrets
import socket
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg

from brightrun.generation.engine.line import Connection
from brightrun.llm.calls import Provider
from brightrun.llm.raw import read_raw

_RUNS = """
select id, lock_key from batch_runs where batch_job_id = %s and ended_at is null and id <> %s for update skip locked
"""
_FREE = "select pg_try_advisory_xact_lock(%s)"


@dataclass
class Found:
    """answered: (item's row, raw answer, cost, duration) of answers that were settled and never read."""

    answered: list[tuple[Any, ...]] = field(default_factory=list)
    unknown: int = 0
    runs: int = 0


class Presence:
    """The advisory lock that says that a run lives. The server lets it go when the process or its machine dies."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.key = secrets.randbits(62)
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def hold(self) -> None:
        """Take the lock, on a connection of its own; again after the connection broke."""
        if self._connection is not None and not self._connection.closed:
            try:
                await self._connection.execute("select 1")
            except psycopg.OperationalError:
                await self._connection.close()
            else:
                return
        self._connection = await psycopg.AsyncConnection.connect(
            self.url, autocommit=True, application_name="brightrun batch", connect_timeout=10
        )
        await self._connection.execute("select pg_advisory_lock(%s)", [self.key])

    async def hold_alone(self, batch_id: UUID, stop: asyncio.Event) -> None:
        """Wait until no other run is at `batch_id`, then be the only one for as long as this run lives."""
        await self.hold()
        assert self._connection is not None
        key = batch_id.int & (2**62 - 1)
        while not stop.is_set():
            row = await (await self._connection.execute("select pg_try_advisory_lock(%s)", [key])).fetchone()
            if row is not None and row[0]:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await stop.wait()

    async def let_go(self) -> None:
        if self._connection is not None:
            await self._connection.close()


async def register(connection: Connection, workspace_id: UUID, batch_id: UUID, run_id: UUID, lock_key: int) -> None:
    await connection.execute(
        "insert into batch_runs (id, workspace_id, batch_job_id, lock_key, host, pid) values (%s, %s, %s, %s, %s, %s)"
        " on conflict do nothing",
        [run_id, workspace_id, batch_id, lock_key, socket.gethostname(), os.getpid()],
    )


_ABANDONED = """
select item.id, item.position, item.persona_key, item.arc_key, item.topic_key, item.template_key, item.tier,
  item.work_key, item.system_hash, item.prompt, item.max_tokens, item.turns_min, item.turns_max, item.attempts,
  item.bound, item.replicate, item.source - 'text', item.request_id, request.raw, request.cost, request.duration_ms
from batch_items item join llm_requests request on request.id = item.request_id
where item.batch_job_id = %(batch)s and item.run_id = any(%(dead)s) and item.status = 'processing'
  and request.status = 'answered'
for update of item
"""
_ADOPT = "update batch_items set run_id = %(run)s where id = any(%(items)s)"
_UNKNOWN = """
update llm_requests request set status = 'unknown', settled_at = now()
from batch_items item
where item.batch_job_id = %(batch)s and item.run_id = any(%(dead)s) and item.status = 'processing'
  and item.message_batch_id is null and request.id = item.request_id and request.status = 'sent'
"""
_RELEASE = """
update batch_items item set status = 'pending', run_id = null, updated_at = now()
where item.batch_job_id = %(batch)s and item.run_id = any(%(dead)s) and item.status = 'processing'
  and item.message_batch_id is null
"""
_TAKE_OVER = """
update batch_items set run_id = %(run)s where batch_job_id = %(batch)s and run_id = any(%(dead)s)
  and status = 'processing' and message_batch_id is not null
"""


async def bury(connection: Connection, batch_id: UUID, run_id: UUID) -> Found:
    """End the runs that died, and take what they held. Done under the batch's row lock."""
    found = Found()
    await connection.execute("select 1 from batch_jobs where id = %s for update", [batch_id])
    dead: list[UUID] = []
    for other, key in await (await connection.execute(_RUNS, [batch_id, run_id])).fetchall():
        row = await (await connection.execute(_FREE, [key])).fetchone()
        if row is not None and row[0]:
            dead.append(other)
    if not dead:
        return found
    found.runs = len(dead)
    named = {"batch": batch_id, "dead": dead, "run": run_id}
    found.answered = await (await connection.execute(_ABANDONED, named)).fetchall()
    if found.answered:
        await connection.execute(_ADOPT, {"run": run_id, "items": [row[0] for row in found.answered]})
    found.unknown = (await connection.execute(_UNKNOWN, named)).rowcount
    await connection.execute(_TAKE_OVER, named)
    await connection.execute(_RELEASE, named)
    await connection.execute(
        "update batch_runs set ended_at = now(), stopped_reason = 'error' where id = any(%s)", [dead]
    )
    return found


_SPENT = """
update batch_jobs set reserved = (
  select coalesce(sum(case when request.status in ('sent', 'unknown') then coalesce(request.bound, 0)
    else coalesce(request.cost, 0) end), 0)
  from (select distinct work_key from batch_items where batch_job_id = %(batch)s) work
  join llm_requests request on request.work_key = work.work_key and request.workspace_id = %(workspace)s)
where id = %(batch)s
"""


async def count_reserved(connection: Connection, workspace_id: UUID, batch_id: UUID) -> None:
    """What is spent on the plan's work or may be, from the ledger."""
    await connection.execute(_SPENT, {"batch": batch_id, "workspace": workspace_id})


def answer_from(provider: str, raw: str, duration_ms: int | None) -> Any:
    """The answer in a raw body that the ledger kept."""
    return read_raw(Provider(provider), raw, duration_s=(duration_ms or 0) / 1000)
