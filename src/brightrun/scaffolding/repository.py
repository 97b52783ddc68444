"""All SQL of packs and what they hold. The workspace is the transaction's own."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts.tables import User
from brightrun.scaffolding.tables import TABLES, Kind, PackRow, Versioned


async def add_all(session: AsyncSession, kind: Kind, rows: Sequence[dict[str, Any]]) -> None:
    """New rows; what another transaction has written meanwhile is left as it is."""
    if rows:
        await session.execute(insert(TABLES[kind]).values(list(rows)).on_conflict_do_nothing())


async def current(session: AsyncSession, kind: Kind, pack_key: str) -> list[Versioned]:
    """The newest version of each thing of a pack, by key."""
    table = TABLES[kind]
    rows = await session.scalars(select(table).where(table.pack_key == pack_key, table.is_current).order_by(table.key))
    return list(rows)


async def pack_rows(session: AsyncSession) -> list[PackRow]:
    rows = await session.scalars(select(PackRow).where(PackRow.is_current).order_by(PackRow.name, PackRow.id))
    return list(rows)


async def counts(session: AsyncSession) -> dict[tuple[str, Kind], tuple[int, int]]:
    """(pack, kind) → (current things, active ones)."""
    found: dict[tuple[str, Kind], tuple[int, int]] = {}
    for kind, table in TABLES.items():
        rows = await session.execute(
            select(table.pack_key, func.count(), func.count().filter(table.is_active))
            .where(table.is_current)
            .group_by(table.pack_key)
        )
        found |= {(row[0], kind): (row[1], row[2]) for row in rows}
    return found


async def find(session: AsyncSession, kind: Kind, thing_id: UUID, version: int | None) -> Versioned | None:
    """One version, by default the newest."""
    table = TABLES[kind]
    which = table.is_current if version is None else table.version == version
    return await session.scalar(select(table).where(table.thing_id == thing_id, which))


async def by_key(session: AsyncSession, kind: Kind, pack_key: str, key: str) -> Versioned | None:
    table = TABLES[kind]
    return await session.scalar(select(table).where(table.pack_key == pack_key, table.key == key, table.is_current))


async def versions(session: AsyncSession, kind: Kind, thing_id: UUID) -> list[Versioned]:
    """Newest first."""
    table = TABLES[kind]
    rows = await session.scalars(select(table).where(table.thing_id == thing_id).order_by(table.version.desc()))
    return list(rows)


async def retire(session: AsyncSession, kind: Kind, thing_id: UUID, version: int) -> bool:
    """The version is no longer the newest one; False: it was not."""
    table = TABLES[kind]
    row = await session.execute(
        update(table)
        .where(table.thing_id == thing_id, table.version == version, table.is_current)
        .values(is_current=False)
        .returning(table.id)
        .execution_options(synchronize_session=False)
    )
    return row.first() is not None


def sorts(kind: Kind) -> dict[str, Any]:
    table = TABLES[kind]
    return {"name": func.lower(table.name), "key": table.key, "created_at": table.created_at, "version": table.version}


async def list_current(
    session: AsyncSession,
    kind: Kind,
    *,
    pack_key: str | None,
    search: str | None,
    active: bool | None,
    group: str | None,
    tier: str | None,
    arc: str | None,
    order: Any,
    offset: int,
    limit: int,
) -> tuple[list[Versioned], int]:
    """(things, total)."""
    table = TABLES[kind]
    conditions: list[ColumnElement[bool]] = [table.is_current.is_(True)]
    if pack_key is not None:
        conditions.append(table.pack_key == pack_key)
    if search:
        conditions.append(
            or_(table.name.icontains(search, autoescape=True), table.key.icontains(search, autoescape=True))
        )
    for column, value in (
        (table.is_active, active),
        (table.group_key, group),
        (table.tier, tier),
        (table.arc_key, arc),
    ):
        if value is not None:
            conditions.append(column == value)
    total = await session.scalar(select(func.count()).select_from(table).where(*conditions))
    rows = await session.scalars(
        select(table).where(*conditions).order_by(order, table.key, table.id).offset(offset).limit(limit)
    )
    return list(rows), total or 0


async def groups(session: AsyncSession, kind: Kind, pack_key: str) -> list[str]:
    table = TABLES[kind]
    rows = await session.scalars(
        select(table.group_key)
        .where(table.pack_key == pack_key, table.is_current, table.group_key.is_not(None))
        .distinct()
        .order_by(table.group_key)
    )
    return [row for row in rows if row is not None]


async def names_of(session: AsyncSession, user_ids: set[UUID]) -> dict[UUID, str]:
    if not user_ids:
        return {}
    rows = await session.execute(select(User.id, User.name).where(User.id.in_(user_ids)))
    return {row[0]: row[1] for row in rows}
