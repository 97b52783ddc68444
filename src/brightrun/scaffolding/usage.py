"""What was written with what. The rooms above know conversations and register how to count them here."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.scaffolding.planning import CellKey


@dataclass(frozen=True, slots=True)
class Use:
    """Conversations of one cell and template. accepted: approved by a reviewer. failed: requests without one."""

    persona: str
    arc: str
    topic: str
    template: str
    written: int
    accepted: int
    failed: int
    last_used_at: datetime | None

    @property
    def cell(self) -> CellKey:
        return (self.persona, self.arc, self.topic)


UsageSource = Callable[[AsyncSession, str], Awaitable[list[Use]]]

usage_sources: list[UsageSource] = []
"""Each answers for the pack of that key in the session's workspace."""


async def uses(session: AsyncSession, pack_key: str) -> list[Use]:
    """Of all sources."""
    return [use for source in usage_sources for use in await source(session, pack_key)]
