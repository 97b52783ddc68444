"""The rules of packs in a workspace: loading, editing in versions, and never an active template that nothing fills."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.errors import ConflictError, InvalidInputError, NotFoundError
from brightrun.ids import uuid7
from brightrun.scaffolding import repository
from brightrun.scaffolding.kinds import SPECS, columns_of, content_from, document_of
from brightrun.scaffolding.pack import Pack, PackHead, Template
from brightrun.scaffolding.pack_checks import faults_of, template_faults
from brightrun.scaffolding.pack_files import builtin_keys, builtin_pack
from brightrun.scaffolding.tables import Kind, PackRow, Versioned
from brightrun.web.http import Page, pick_sort

PARTS = {Kind.PERSONA: "personas", Kind.ARC: "arcs", Kind.TOPIC: "topics", Kind.TEMPLATE: "templates"}
"""Where the things of a kind stand in a Pack."""


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What taking a pack in has changed."""

    added: int
    changed: int
    unchanged: int


async def ensure_builtin(session: AsyncSession, workspace_id: UUID) -> None:
    """The built-in packs, in a workspace that has no pack yet: the first that looks at them loads them."""
    if not await repository.pack_rows(session):
        for key in builtin_keys():
            await take_in(session, workspace_id, builtin_pack(key), user_id=None, note="came with BrightRun")


async def take_in(
    session: AsyncSession, workspace_id: UUID, pack: Pack, *, user_id: UUID | None, note: str | None
) -> Loaded:
    """Load `pack`: what is new is added, what differs becomes a new version, the rest stays.

    What the workspace has beyond the pack is kept and switched off, so that the pack then is what was taken in.
    """
    added = changed = unchanged = 0
    parts: dict[Kind, tuple[Any, ...]] = {Kind.PACK: (pack.head,)}
    parts |= {kind: getattr(pack, part) for kind, part in PARTS.items()}
    for kind, contents in parts.items():
        there = {row.key: row for row in await repository.current(session, kind, pack.key)}
        fresh = []
        for content in contents:
            row = there.pop(content.key, None)
            if row is None:
                fresh.append(_first(kind, workspace_id, pack.key, content, user_id, note))
            elif row.content != document_of(kind, content):
                await _next_version(session, kind, row, content, user_id, note)
                changed += 1
            else:
                unchanged += 1
        await repository.add_all(session, kind, fresh)
        added += len(fresh)
        for row in there.values():
            if row.is_active and kind is not Kind.PACK:
                content = dataclasses.replace(content_from(kind, row.content), active=False)
                await _next_version(session, kind, row, content, user_id, "not in the pack that was taken in")
                changed += 1
    return Loaded(added, changed, unchanged)


async def packs(session: AsyncSession, workspace_id: UUID) -> list[PackRow]:
    await ensure_builtin(session, workspace_id)
    return await repository.pack_rows(session)


async def load_pack(session: AsyncSession, workspace_id: UUID, key: str) -> Pack:
    """The newest version of everything in the pack, inactive things included. Raises NotFoundError."""
    rows = {row.key: row for row in await packs(session, workspace_id)}
    if key not in rows:
        raise NotFoundError(f"There is no pack {key!r} here; there are {', '.join(sorted(rows))}.")
    parts = {
        part: tuple(content_from(kind, row.content) for row in await repository.current(session, kind, key))
        for kind, part in PARTS.items()
    }
    return Pack(head=content_from(Kind.PACK, rows[key].content), **parts)


async def get(session: AsyncSession, kind: Kind, thing_id: UUID, version: int | None = None) -> Versioned:
    """Raises NotFoundError."""
    row = await repository.find(session, kind, thing_id, version)
    if row is None:
        raise NotFoundError(f"There is no such {SPECS[kind].word}")
    return row


async def history(session: AsyncSession, kind: Kind, thing_id: UUID) -> list[Versioned]:
    """Newest first. Raises NotFoundError."""
    rows = await repository.versions(session, kind, thing_id)
    if not rows:
        raise NotFoundError(f"There is no such {SPECS[kind].word}")
    return rows


async def list_things(
    session: AsyncSession,
    workspace_id: UUID,
    kind: Kind,
    page: Page,
    *,
    sort: str = "name",
    pack_key: str | None = None,
    search: str | None = None,
    active: bool | None = None,
    group: str | None = None,
    tier: str | None = None,
    arc: str | None = None,
) -> tuple[list[Versioned], int]:
    await ensure_builtin(session, workspace_id)
    return await repository.list_current(
        session,
        kind,
        pack_key=pack_key,
        search=search,
        active=active,
        group=group,
        tier=tier,
        arc=arc,
        order=pick_sort(sort, repository.sorts(kind)),
        offset=page.offset,
        limit=page.limit,
    )


async def create(
    session: AsyncSession,
    workspace_id: UUID,
    kind: Kind,
    pack_key: str,
    document: Mapping[str, Any],
    *,
    user_id: UUID | None,
    note: str | None = None,
) -> Versioned:
    """A new thing in a pack. Raises InvalidInputError, ConflictError (key taken), NotFoundError (no such pack)."""
    content = content_from(kind, document)
    pack = await load_pack(session, workspace_id, pack_key)
    taken = ConflictError(
        f"The pack has a {SPECS[kind].word} {content.key!r} already: choose another key",
        code="key_taken",
        details={"key": ["is taken"]},
    )
    if await repository.by_key(session, kind, pack_key, content.key) is not None:
        raise taken
    _refuse_what_breaks(pack, kind, content)
    row = _first(kind, workspace_id, pack_key, content, user_id, note)
    await repository.add_all(session, kind, [row])
    made = await repository.find(session, kind, row["thing_id"], None)
    if made is None:  # another request has taken the key between the two
        raise taken
    return made


async def edit(
    session: AsyncSession,
    kind: Kind,
    thing_id: UUID,
    document: Mapping[str, Any],
    *,
    base_version: int,
    user_id: UUID | None,
    note: str | None = None,
) -> Versioned:
    """A new version. base_version: the one that was edited.

    Raises ConflictError when somebody else has changed it since, InvalidInputError when it would break the pack.
    """
    row = await get(session, kind, thing_id)
    content = content_from(kind, document)
    if content.key != row.key:
        raise InvalidInputError(
            "The key stays: conversations name it. Duplicate this one to have it under another key.",
            code="validation_error",
            details={"key": [f"must stay {row.key!r}"]},
        )
    if row.version != base_version:
        raise ConflictError(
            f"Somebody has changed this {SPECS[kind].word} meanwhile: version {row.version} is there, yours began from "
            f"{base_version}. Reload it and put your change in again.",
            code="version_conflict",
            details={"current_version": row.version},
        )
    if row.content == document_of(kind, content):
        return row
    pack = await load_pack(session, row.workspace_id, row.pack_key)
    _refuse_what_breaks(pack, kind, content)
    await _next_version(session, kind, row, content, user_id, note)
    session.expunge(row)  # it says that it is the newest, which it was
    return await get(session, kind, thing_id)


async def set_active(
    session: AsyncSession, kind: Kind, thing_id: UUID, active: bool, *, user_id: UUID | None
) -> Versioned:
    row = await get(session, kind, thing_id)
    if kind is Kind.PACK:
        raise InvalidInputError("A pack is not switched off; switch off what it holds", code="validation_error")
    content = dataclasses.replace(content_from(kind, row.content), active=active)
    return await edit(
        session,
        kind,
        thing_id,
        document_of(kind, content),
        base_version=row.version,
        user_id=user_id,
        note="switched on" if active else "switched off",
    )


async def duplicate(
    session: AsyncSession, kind: Kind, thing_id: UUID, *, key: str, name: str, user_id: UUID | None
) -> Versioned:
    """The same under another key, inactive until somebody has looked at it."""
    if kind is Kind.PACK:
        raise InvalidInputError("Export the pack, change its key, and import it", code="pack_not_duplicated")
    row = await get(session, kind, thing_id)
    document = row.content | {"key": key, "name": name, "active": False}
    note = f"duplicate of {row.key}, version {row.version}"
    return await create(session, row.workspace_id, kind, row.pack_key, document, user_id=user_id, note=note)


async def groups(session: AsyncSession, kind: Kind, pack_key: str) -> list[str]:
    """The categories that a kind's things have, in order."""
    return await repository.groups(session, kind, pack_key)


async def names_of(session: AsyncSession, user_ids: Iterable[UUID | None]) -> dict[UUID, str]:
    """Names of people, for the history."""
    return await repository.names_of(session, {user_id for user_id in user_ids if user_id is not None})


def problems_of(pack: Pack, template: Template) -> list[str]:
    """Why the template cannot be active, in sentences; empty when it can."""
    return [f"{place}: {reason}" for place, reason in template_faults(pack, template)]


def _refuse_what_breaks(pack: Pack, kind: Kind, content: Any) -> None:
    """Raises InvalidInputError when the pack with `content` in it would not be whole.

    An inactive template may be unfinished: it is saved, and nothing is written with it.
    """
    if kind is Kind.TEMPLATE:
        if content.active:
            faults = template_faults(pack, content)
            if faults:
                details: dict[str, list[str]] = {}
                for place, reason in faults:
                    details.setdefault(place, []).append(reason)
                raise InvalidInputError(
                    f"The template cannot be active: {faults[0][1]}. Correct it, or save it inactive.",
                    code="template_unfilled",
                    details=details,
                )
        return
    before = {str(fault) for fault in faults_of(_active_part(pack))}
    after = [fault for fault in faults_of(_active_part(replaced(pack, kind, content))) if str(fault) not in before]
    if after:
        raise InvalidInputError(
            f"This would break the pack: {after[0]}",
            code="pack_invalid",
            details={fault.path or fault.file: [f"{fault.file}: {fault.message}"] for fault in after},
        )


def _active_part(pack: Pack) -> Pack:
    """Without unfinished templates: they may be wrong, and nothing uses them."""
    return dataclasses.replace(pack, templates=tuple(template for template in pack.templates if template.active))


def replaced(pack: Pack, kind: Kind, content: Any) -> Pack:
    """The pack with `content` in the place of what has its key, or added."""
    if isinstance(content, PackHead):
        return dataclasses.replace(pack, head=content)
    part = PARTS[kind]
    others = [thing for thing in getattr(pack, part) if thing.key != content.key]
    changed: Any = {part: tuple(sorted([*others, content], key=lambda thing: thing.key))}
    return dataclasses.replace(pack, **changed)


def _first(
    kind: Kind, workspace_id: UUID, pack_key: str, content: Any, user_id: UUID | None, note: str | None
) -> dict[str, Any]:
    return {
        "id": uuid7(),
        "thing_id": uuid7(),
        "workspace_id": workspace_id,
        "pack_key": pack_key,
        "version": 1,
        "is_current": True,
        "created_by": user_id,
        "note": note,
    } | columns_of(kind, content)


async def _next_version(
    session: AsyncSession, kind: Kind, row: Versioned, content: Any, user_id: UUID | None, note: str | None
) -> None:
    """Guarded: of two who edit at once, one is told."""
    first = _first(kind, row.workspace_id, row.pack_key, content, user_id, note)
    if not await repository.retire(session, kind, row.thing_id, row.version):
        raise ConflictError(
            f"Somebody has changed this {SPECS[kind].word} just now: reload it", code="version_conflict"
        )
    await repository.add_all(session, kind, [first | {"thing_id": row.thing_id, "version": row.version + 1}])
