"""What there is of a pack: how much it holds, and which cells of persona × arc have conversations."""

from collections import Counter
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.scaffolding import repository, service
from brightrun.scaffolding.pack import Pack
from brightrun.scaffolding.planning import CellKey, PairQuota
from brightrun.scaffolding.schemas import CellOut, CoverageOut, PackOut
from brightrun.scaffolding.tables import Kind
from brightrun.scaffolding.usage import uses


async def pack_list(session: AsyncSession, workspace_id: UUID) -> list[PackOut]:
    rows = await service.packs(session, workspace_id)
    counted = await repository.counts(session)
    kinds = [kind for kind in Kind if kind is not Kind.PACK]
    return [
        PackOut(
            id=row.thing_id,
            key=row.key,
            name=row.name,
            description=row.content["description"],
            pack_version=row.content["version"],
            version=row.version,
            language=row.content["language"],
            consultant=row.content["profile"]["name"],
            things={kind.value: counted.get((row.key, kind), (0, 0))[0] for kind in kinds},
            active={kind.value: counted.get((row.key, kind), (0, 0))[1] for kind in kinds},
        )
        for row in rows
    ]


async def existing_cells(session: AsyncSession, pack_key: str) -> dict[CellKey, int]:
    """How many conversations of each cell were written."""
    counted: Counter[CellKey] = Counter()
    for use in await uses(session, pack_key):
        counted[use.cell] += use.written
    return dict(counted)


async def grid(session: AsyncSession, workspace_id: UUID, pack_key: str) -> CoverageOut:
    """Every active persona × arc, in the pack's order."""
    pack = await service.load_pack(session, workspace_id, pack_key)
    written: Counter[tuple[str, str]] = Counter()
    accepted: Counter[tuple[str, str]] = Counter()
    topics: dict[tuple[str, str], set[str]] = {}
    for use in await uses(session, pack_key):
        cell = (use.persona, use.arc)
        written[cell] += use.written
        accepted[cell] += use.accepted
        if use.written:
            topics.setdefault(cell, set()).add(use.topic)
    return CoverageOut(
        pack=pack_key,
        cells=[
            CellOut(
                persona=persona,
                arc=arc,
                topics=len(topics.get((persona, arc), ())),
                written=written[persona, arc],
                accepted=accepted[persona, arc],
            )
            for persona, arc in cells_of(pack)
        ],
    )


def cells_of(pack: Pack) -> list[tuple[str, str]]:
    return [(persona.key, arc.key) for persona in pack.personas if persona.active for arc in pack.arcs if arc.active]


def gaps(cells: list[CellOut], target: int, *, accepted_only: bool = False) -> tuple[PairQuota, ...]:
    """What is missing until every cell has `target` conversations."""
    missing = ((cell, max(0, target - (cell.accepted if accepted_only else cell.written))) for cell in cells)
    return tuple(PairQuota(persona=cell.persona, arc=cell.arc, count=n) for cell, n in missing if n)
