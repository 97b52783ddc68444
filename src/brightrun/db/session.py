"""Transactions that know whose they are.

Every transaction of the application and of the worker carries a user and a workspace as settings of that transaction
alone; the row-level security policies read them. A transaction without them sees nothing.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, event, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

_SET_IDENTITY = text(
    "select set_config('app.user_id', :user_id, true), set_config('app.workspace_id', :workspace_id, true)"
)


def _parameters(info: dict[Any, Any]) -> dict[str, str]:
    return {key: str(info.get(key) or "") for key in ("user_id", "workspace_id")}


class _IdentifiedSession(Session):
    """A session whose every transaction, also one begun after a commit, starts with its identity set."""


@event.listens_for(_IdentifiedSession, "after_begin")
def _set_identity(session: Session, _transaction: Any, connection: Connection) -> None:
    if session.info.get("user_id") or session.info.get("workspace_id"):
        connection.execute(_SET_IDENTITY, _parameters(session.info))


async def assume(session: AsyncSession, *, user_id: UUID | None = None, workspace_id: UUID | None = None) -> None:
    """Set whose transaction this is, from here on: replaces both settings."""
    session.info.update(user_id=user_id, workspace_id=workspace_id)
    await session.execute(_SET_IDENTITY, _parameters(session.info))


class Database:
    """A pool of connections as one role, and transactions on it.

    url: SQLAlchemy URL (`postgresql+psycopg://…`).
    """

    def __init__(self, url: str, *, pool_size: int = 10, application_name: str = "brightrun") -> None:
        self.url = url
        self.engine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_pre_ping=True,
            pool_recycle=1800,
            # An error's text goes to the log; what people wrote, and hashes of secrets, do not.
            hide_parameters=True,
            connect_args={"application_name": application_name, "connect_timeout": 10},
        )
        self._sessions = async_sessionmaker(self.engine, sync_session_class=_IdentifiedSession, expire_on_commit=False)

    @asynccontextmanager
    async def transaction(
        self, *, user_id: UUID | None = None, workspace_id: UUID | None = None
    ) -> AsyncIterator[AsyncSession]:
        """One transaction: committed when the block ends, rolled back when it raises. The only place that commits."""
        info = {"user_id": user_id, "workspace_id": workspace_id}
        async with self._sessions(info=info) as session, session.begin():
            yield session

    async def dispose(self) -> None:
        await self.engine.dispose()
