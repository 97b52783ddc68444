"""Which conversations would be held out of training: the split that a run would make, shown before there is one."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.datasets.conversation_list import Conversation, read_conversations
from brightrun.datasets.issues import validated
from brightrun.datasets.near_link_list import read_near_links
from brightrun.datasets.records import kept_path
from brightrun.datasets.service import get
from brightrun.errors import ConflictError
from brightrun.formats.records import Scaffold
from brightrun.formats.split import NearLinks, heldout_ids, stratum_of
from brightrun.platform import Platform
from brightrun.storage import Bucket
from brightrun.storage.errors import ObjectNotFoundError
from brightrun.web.http import Page

_MOST_NAMES = 100


class SideOut(BaseModel):
    conversations: int
    records: int


class ShareOut(BaseModel):
    """Conversations of one persona, arc or topic on each side. name: null for those that name none."""

    name: str | None
    train: int
    heldout: int


class HeldOut(BaseModel):
    """line: of the conversation's first record."""

    id: str
    line: int
    records: int
    persona: str | None
    arc: str | None
    topic: str | None


class SplitOut(BaseModel):
    """personas, arcs, topics: the most frequent first, at most 100; empty where no record names one.

    items: one page of the conversations that would be held out, in the order of the file.
    """

    fraction: float
    seed: int
    train: SideOut
    heldout: SideOut
    personas: list[ShareOut]
    arcs: list[ShareOut]
    topics: list[ShareOut]
    items: list[HeldOut]
    page: int
    limit: int


@dataclass(frozen=True)
class _Sides:
    train: list[Conversation]
    heldout: list[Conversation]


async def split_of(
    session: AsyncSession, platform: Platform, dataset_id: UUID, *, fraction: float, seed: int, page: Page
) -> SplitOut:
    """Raises ConflictError for a dataset that was not validated, or by an older version."""
    dataset = await get(session, dataset_id)
    validated(dataset)
    bucket, path = Bucket(dataset.storage_bucket), kept_path(dataset, "conversations")

    def work() -> SplitOut:
        conversations = list(read_conversations(platform.store.read_bytes(bucket, path)))
        near = read_near_links(platform.store.read_bytes(bucket, kept_path(dataset, "links")))
        return _answer(_sides(conversations, fraction, seed, near), fraction, seed, page)

    try:
        return await asyncio.to_thread(work)
    except ObjectNotFoundError as error:
        raise ConflictError(
            "This dataset was checked by an older version. Validate it again to see how it would be split.",
            code="list_outdated",
        ) from error


def _sides(conversations: Sequence[Conversation], fraction: float, seed: int, near: NearLinks) -> _Sides:
    strata = (
        (one.id, stratum_of(Scaffold(persona=one.persona, emotional_arc=one.arc, topic=one.topic)))
        for one in conversations
    )
    held = set(heldout_ids(strata, fraction=fraction, seed=seed, near=near))
    return _Sides(
        [one for one in conversations if one.id not in held], [one for one in conversations if one.id in held]
    )


def _answer(sides: _Sides, fraction: float, seed: int, page: Page) -> SplitOut:
    return SplitOut(
        fraction=fraction,
        seed=seed,
        train=_side(sides.train),
        heldout=_side(sides.heldout),
        personas=_shares(sides, "persona"),
        arcs=_shares(sides, "arc"),
        topics=_shares(sides, "topic"),
        items=[
            HeldOut(id=one.id, line=one.line, records=one.records, persona=one.persona, arc=one.arc, topic=one.topic)
            for one in sides.heldout[page.offset : page.offset + page.limit]
        ],
        page=page.page,
        limit=page.limit,
    )


def _side(conversations: list[Conversation]) -> SideOut:
    return SideOut(conversations=len(conversations), records=sum(one.records for one in conversations))


def _shares(sides: _Sides, field: str) -> list[ShareOut]:
    train, held = (Counter(getattr(one, field) for one in side) for side in (sides.train, sides.heldout))
    names = train + held
    if not any(name is not None for name in names):
        return []
    return [
        ShareOut(name=name, train=train[name], heldout=held[name]) for name, _count in names.most_common(_MOST_NAMES)
    ]
