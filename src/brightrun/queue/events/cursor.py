"""Where a reader of the event table stands, so that it misses nothing and sees nothing twice.

Numbers that grow, such as the row's id, do not serve: transactions commit out of order, and a reader who has seen row
10 would never learn of row 9, committed later. PostgreSQL itself knows exactly what a reader could see: a snapshot
(`pg_current_snapshot()`). A cursor is such a snapshot as text, and "what is new" is every event whose transaction was
not visible in it. The seconds before the dot tell whether the retention may already have deleted some of it.
"""

import re
import time
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, literal_column, text
from sqlalchemy.ext.asyncio import AsyncSession

_SHAPE = re.compile(r"(\d{1,12})\.(\d{1,20}):(\d{1,20}):(\d{1,20}(?:,\d{1,20})*)?")
_LONGEST = 2000

MOST_AT_ONCE = 1000
"""Events read in one go; a reader further behind is told to reload instead."""

# One statement, hence one snapshot for the events and for the new cursor. A row from before a restore may carry a
# transaction id from the future of this cluster; the last condition leaves it out.
_READ = text(
    """
    with here as (select pg_current_snapshot() as now)
    select here.now::text as snapshot, event.id, event.topic, event.kind, event.payload, event.created_at
    from here left join lateral (
      select * from events
      where workspace_id = :workspace_id
        and xid >= pg_snapshot_xmin(cast(:since as pg_snapshot))
        and not pg_visible_in_snapshot(xid, cast(:since as pg_snapshot))
        and xid < pg_snapshot_xmax(here.now)
        and (cast(:topics as text[]) is null or topic = any(cast(:topics as text[])))
        and (cast(:until as text) is null or pg_visible_in_snapshot(xid, cast(cast(:until as text) as pg_snapshot)))
      order by id limit :limit
    ) event on true
    order by event.id
    """
)
_ASK_NOW = text("select pg_current_snapshot()::text")


@dataclass(frozen=True)
class Cursor:
    """taken_at: Unix seconds. snapshot: PostgreSQL's text form, `xmin:xmax:running,…`."""

    taken_at: int
    snapshot: str

    def __str__(self) -> str:
        if len(self.snapshot) > _LONGEST:  # Hundreds of open transactions: rather repeat some events than miss one.
            return f"{self.taken_at}.{self.xmin}:{self.xmin}:"
        return f"{self.taken_at}.{self.snapshot}"

    @property
    def xmin(self) -> int:
        """The oldest transaction that was still open."""
        return int(self.snapshot.split(":")[0])

    @property
    def xmax(self) -> int:
        """The first transaction that had not begun."""
        return int(self.snapshot.split(":")[1])

    @property
    def age_s(self) -> float:
        return time.time() - self.taken_at


def parse_cursor(value: str) -> Cursor | None:
    """The cursor in a `Last-Event-ID`; None for anything that we did not write."""
    match = _SHAPE.fullmatch(value)
    if match is None:
        return None
    xmin, xmax = int(match[2]), int(match[3])
    running = [int(xid) for xid in match[4].split(",")] if match[4] else []
    in_order = running == sorted(set(running)) and all(xmin <= xid < xmax for xid in running)
    if not 0 < xmin <= xmax < 2**63 or not in_order:
        return None
    return Cursor(int(match[1]), value.split(".", 1)[1])


@dataclass(frozen=True)
class EventRow:
    id: int
    topic: str
    kind: str
    payload: dict[str, object]
    created_at: str
    """ISO 8601, UTC."""


NOW: ColumnElement[str] = literal_column("pg_current_snapshot()::text")
"""Where a transaction stands, to be asked together with what a page shows; see `cursor_at`."""


def cursor_at(snapshot: str) -> Cursor:
    """The cursor of a query that asked for `NOW`: what happens after that query is replayed."""
    return Cursor(int(time.time()), snapshot)


async def current_cursor(session: AsyncSession) -> Cursor:
    """Where the session's transaction stands: a page that embeds it and passes it on misses nothing that follows."""
    return Cursor(int(time.time()), (await session.execute(_ASK_NOW)).scalar_one())


async def read_since(
    session: AsyncSession,
    workspace_id: UUID,
    since: Cursor,
    *,
    until: Cursor | None = None,
    topics: frozenset[str] | None = None,
) -> tuple[list[EventRow], Cursor]:
    """Events of the workspace that `since` could not see (and `until` could), oldest first, and the cursor after them.

    topics: only these; None for all. At most MOST_AT_ONCE + 1 rows: one too many says that there are more.
    """
    taken_at = int(time.time())
    rows = (
        await session.execute(
            _READ,
            {
                "workspace_id": workspace_id,
                "since": since.snapshot,
                "until": until.snapshot if until is not None else None,
                "topics": sorted(topics) if topics is not None else None,
                "limit": MOST_AT_ONCE + 1,
            },
        )
    ).all()
    events = [
        EventRow(row.id, row.topic, row.kind, row.payload, row.created_at.isoformat())
        for row in rows
        if row.id is not None
    ]
    return events, Cursor(taken_at, rows[0].snapshot)
