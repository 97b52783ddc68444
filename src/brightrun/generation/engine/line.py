"""A connection of the engine's own: transactions of one workspace that outlive the database's restart."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from psycopg.rows import tuple_row
from sqlalchemy import make_url

from brightrun.db.roles import libpq
from brightrun.logs import get_logger

log = get_logger(__name__)

T = TypeVar("T")
Connection = psycopg.AsyncConnection[tuple[Any, ...]]
_PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_GIVE_UP_S = 300.0


class Line:
    """One connection, opened on first use and opened anew when it breaks. Used by one task at a time."""

    def __init__(self, url: str, workspace_id: UUID, user_id: UUID | None, name: str) -> None:
        self._url = libpq(make_url(url))
        self._identity = (str(user_id or ""), str(workspace_id))
        self._name = name
        self._connection: Connection | None = None
        self.on_reconnect: Callable[[Connection], Awaitable[None]] | None = None
        """Called in a transaction of its own on each connection but the first."""

    async def _open(self) -> Connection:
        if self._connection is None or self._connection.closed:
            again = self._connection is not None
            self._connection = await psycopg.AsyncConnection.connect(
                self._url, autocommit=True, row_factory=tuple_row, application_name=self._name, connect_timeout=10
            )
            if again and self.on_reconnect is not None:
                async with self._connection.transaction():
                    await self._identify(self._connection)
                    await self.on_reconnect(self._connection)
        return self._connection

    async def _identify(self, connection: Connection) -> None:
        await connection.execute(
            "select set_config('app.user_id', %s, true), set_config('app.workspace_id', %s, true)", self._identity
        )

    async def transaction(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """`work` in one transaction. While the database is away it waits and tries again, so `work` must bear being
        done twice when a commit's answer was lost.
        """
        deadline = asyncio.get_running_loop().time() + _GIVE_UP_S
        tries = 0
        while True:
            try:
                connection = await self._open()
                async with connection.transaction():
                    await self._identify(connection)
                    return await work(connection)
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                if isinstance(error, psycopg.errors.QueryCanceled | psycopg.errors.LockNotAvailable):
                    raise
                if asyncio.get_running_loop().time() > deadline:
                    raise
                if self._connection is not None:
                    await self._connection.close()
                pause = _PAUSES_S[min(tries, len(_PAUSES_S) - 1)]
                tries += 1
                log.warning("the database is away; what was answered is kept and written later", pause_s=pause)
                await asyncio.sleep(pause)

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
