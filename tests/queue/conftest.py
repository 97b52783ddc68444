"""A database of its own for each test: a worker takes whatever waits in the queue."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest
from queue_support import Ledger, QueuePlatform

from brightrun.db.roles import DatabaseUrls, libpq
from brightrun.db.session import Database
from brightrun.ids import uuid7
from brightrun.settings import Settings


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def as_owner(fresh_pg_urls: DatabaseUrls) -> Iterator[Ledger]:
    """SQL as the owner, committed at once: what a test prepares and what it looks at afterwards.

    `effects` is a table that tasks write to.
    """
    worker, app = fresh_pg_urls.worker_role, fresh_pg_urls.app_role
    with psycopg.connect(libpq(fresh_pg_urls.owner), autocommit=True) as connection:
        connection.execute("create table effects (key text, attempt int, at timestamptz default clock_timestamp())")
        connection.execute(f'grant all on effects to "{worker}", "{app}"')

        def run(statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
            cursor = connection.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

        yield run


@pytest.fixture
async def app_db(fresh_pg_urls: DatabaseUrls) -> AsyncIterator[Database]:
    async with _database(fresh_pg_urls.app.render_as_string(hide_password=False)) as database:
        yield database


@pytest.fixture
async def platform(fresh_pg_urls: DatabaseUrls) -> AsyncIterator[QueuePlatform]:
    """Of the worker's role, with a short life for silent workers."""
    settings = Settings(stalled_worker_s=1.0, worker_heartbeat_s=0.2, task_attempts=3)
    async with _database(fresh_pg_urls.worker.render_as_string(hide_password=False)) as database:
        yield QueuePlatform(settings, database)


@asynccontextmanager
async def _database(url: str) -> AsyncIterator[Database]:
    database = Database(url, pool_size=5)
    try:
        yield database
    finally:
        await database.dispose()


@pytest.fixture
def workspace_id(as_owner: Ledger) -> UUID:
    identifier = uuid7()
    as_owner("insert into workspaces (id, name) values (%s, 'Test')", identifier)
    return identifier
