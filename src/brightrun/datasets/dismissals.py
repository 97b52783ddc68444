"""Warnings that somebody dismissed: with who, when and why, until they are taken back.

A dismissal is for one place, or for a code as a whole. One for a place fits a finding of the same code, line and path
in which the same was found (`fingerprint`), so it survives every later check of the file and silences nothing new.
"""

import hashlib
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts.tables import User
from brightrun.audit.service import record
from brightrun.datasets.changes import announce
from brightrun.datasets.service import get, get_for_update
from brightrun.datasets.tables import Dismissal
from brightrun.errors import ConflictError, NotFoundError
from brightrun.formats.codes import CODES
from brightrun.formats.issues import Issue
from brightrun.ids import uuid7

MOST_PLACES = 1_000
"""Of one dataset, dismissed one by one. Whoever has more means the kind as a whole."""

Place = tuple[str, int, str, str]


@dataclass(frozen=True)
class Dismissed:
    """One dismissal as people see it. by: a name or an address; None when the account is gone."""

    id: UUID
    code: str
    line: int | None
    path: str | None
    fingerprint: str | None
    reason: str
    by: str | None
    at: datetime


@dataclass
class Dismissals:
    """All of one dataset."""

    rows: Sequence[Dismissed] = ()
    codes: dict[str, Dismissed] = field(default_factory=dict)
    places: dict[Place, Dismissed] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for row in self.rows:
            if row.line is None:
                self.codes[row.code] = row
            else:
                self.places[row.code, row.line, row.path or "", row.fingerprint or ""] = row

    def of(self, issue: Issue) -> Dismissed | None:
        """What dismisses a finding."""
        if not self.rows:
            return None
        place = self.places.get((issue.code, issue.line, issue.path, fingerprint(issue))) if self.places else None
        return place or self.codes.get(issue.code)


def fingerprint(issue: Issue) -> str:
    """Of what was found: the excerpt, or where there is none the message."""
    return hashlib.blake2b((issue.excerpt or issue.message).encode("utf-8", "replace"), digest_size=16).hexdigest()


async def of_dataset(session: AsyncSession, dataset_id: UUID) -> Dismissals:
    """Newest first. Nothing for a dataset that is not there."""
    rows = await session.execute(
        select(Dismissal, User.name, User.email)
        .outerjoin(User, User.id == Dismissal.dismissed_by)
        .where(Dismissal.dataset_id == dataset_id)
        .order_by(Dismissal.dismissed_at.desc(), Dismissal.id.desc())
    )
    return Dismissals(
        [
            Dismissed(
                row.id, row.code, row.line, row.path, row.fingerprint, row.reason, name or email, row.dismissed_at
            )
            for row, name, email in rows
        ]
    )


async def take_over(session: AsyncSession, from_id: UUID, to_id: UUID) -> None:
    """What was dismissed of a dataset is dismissed of another made from it, as far as the same is found there."""
    columns = ("workspace_id", "code", "line", "path", "fingerprint", "reason", "dismissed_by", "dismissed_at")
    rows = (await session.execute(select(Dismissal).where(Dismissal.dataset_id == from_id))).scalars().all()
    for row in rows:
        session.add(Dismissal(dataset_id=to_id, **{name: getattr(row, name) for name in columns}))
    await session.flush()


_RECORD = re.compile(r"(.*?training_pairs|)\[(\d+)\]")


async def follow_removed(session: AsyncSession, dataset_id: UUID, removed: Sequence[tuple[int, str]]) -> None:
    """Move what was dismissed at single places to where these stand once some records are taken out.

    removed: (line, path) of those, in the file as it was. A dismissal in one of them goes with it.
    """
    if not removed:
        return
    lines, lists = sorted({line for line, _path in removed}), dict[str, list[int]]()
    for _line, path in removed:
        if (match := _RECORD.match(path)) is not None:
            lists.setdefault(match[1], []).append(int(match[2]))
    for numbers in lists.values():
        numbers.sort()
    places = (
        select(Dismissal)
        .where(Dismissal.dataset_id == dataset_id, Dismissal.line.is_not(None))
        .order_by(Dismissal.line, Dismissal.path)
    )
    gone = set(lines)
    for row in (await session.execute(places)).scalars().all():
        assert row.line is not None
        if row.line in gone:
            await session.delete(row)
            await session.flush()
            continue
        row.line -= bisect_left(lines, row.line)
        match = _RECORD.match(row.path or "")
        if match is not None and match[1] in lists:
            number = int(match[2]) - bisect_left(lists[match[1]], int(match[2]))
            row.path = f"{match[1]}[{number}]{(row.path or '')[match.end() :]}"
        await session.flush()  # in order: no place is given before it is free


async def dismiss(
    session: AsyncSession, dataset_id: UUID, code: str, reason: str, found: Iterable[Issue] | None, user_id: UUID
) -> list[UUID]:
    """Dismiss these findings of a code, or with None all of it; the dismissals, also those that were there before.

    Raises NotFoundError when there are none, ConflictError for errors and when there are too many single places.
    """
    dataset = await get_for_update(session, dataset_id)
    dataset = await get(session, dataset_id)
    places = None if found is None else list({(i.line, i.path, fingerprint(i)): None for i in found})
    if not (dataset.issue_counts or {}).get(code) or places == []:
        raise NotFoundError("There is no such finding in this dataset", code="no_such_finding")
    if CODES[code].severity == "error":
        raise ConflictError(
            "An error cannot be dismissed: a model cannot be trained on such a record. Mend it in the file.",
            code="errors_cannot_be_dismissed",
        )
    if places is not None:
        already = await session.scalar(
            select(func.count()).where(Dismissal.dataset_id == dataset_id, Dismissal.line.is_not(None))
        )
        if (already or 0) + len(places) > MOST_PLACES:
            raise ConflictError(
                f"At most {MOST_PLACES:,} places of a dataset are dismissed one by one. Dismiss all of a kind instead.",
                code="too_many_dismissals",
            )
    ids = []
    for line, path, print_ in places if places is not None else [(None, None, None)]:
        values: dict[str, Any] = {"dataset_id": dataset_id, "code": code, "line": line, "path": path}
        values |= {"fingerprint": print_, "workspace_id": dataset.workspace_id}
        added = await session.scalar(
            insert(Dismissal)
            .values(id=uuid7(), reason=reason, dismissed_by=user_id, **values)
            .on_conflict_do_nothing(constraint="dataset_dismissals_place_key")
            .returning(Dismissal.id)
        )
        if added is None:
            same = (getattr(Dismissal, name).is_not_distinct_from(value) for name, value in values.items())
            ids.append((await session.execute(select(Dismissal.id).where(*same))).scalar_one())
            continue
        ids.append(added)
        facts = {"code": code, "line": line, "path": path, "reason": reason, "dismissal_id": str(added)}
        await record(session, "dataset.warning_dismissed", "dataset", dataset_id, facts)
    await announce(session, dataset)
    return ids


async def take_back(session: AsyncSession, dataset_id: UUID, dismissal_id: UUID) -> Dismissed:
    """The finding counts again. What was dismissed stays in the audit log."""
    dataset = await get_for_update(session, dataset_id)
    row = next((row for row in (await of_dataset(session, dataset_id)).rows if row.id == dismissal_id), None)
    if row is None:
        raise NotFoundError("There is no such dismissal")
    await session.execute(delete(Dismissal).where(Dismissal.id == dismissal_id))
    facts = {"code": row.code, "line": row.line, "path": row.path, "reason": row.reason}
    facts |= {"dismissal_id": str(row.id), "dismissed_by": row.by, "dismissed_at": row.at.isoformat()}
    await record(session, "dataset.dismissal_taken_back", "dataset", dataset_id, facts)
    await announce(session, dataset)
    return row
