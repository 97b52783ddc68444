"""Where the money of a period went: by job, by dataset, by preset. Each of the three adds up to the same ledger."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.costs import repository


@dataclass(frozen=True)
class JobFacts:
    """What a job is, as far as costs care."""

    name: str
    dataset_id: UUID
    dataset_name: str
    preset: str


FactsOf = Callable[[AsyncSession, set[UUID]], Awaitable[dict[UUID, JobFacts]]]
job_facts: list[FactsOf] = []
"""Ask what jobs are; the training room, one floor up, adds its own when it is imported."""


@dataclass(frozen=True)
class Share:
    """USD and number of charges of one job, dataset or preset; key: None for what belongs to none."""

    key: UUID | str | None
    name: str
    amount: Decimal
    charges: int


@dataclass(frozen=True)
class Breakdown:
    """Each list: the dearest first, nothing left out; every list's sum is that of the period's charges."""

    jobs: list[Share]
    datasets: list[Share]
    presets: list[Share]


async def facts_of(session: AsyncSession, ids: set[UUID]) -> dict[UUID, JobFacts]:
    """Of the jobs that somebody knows."""
    facts: dict[UUID, JobFacts] = {}
    if ids:
        for ask in job_facts:
            facts |= await ask(session, ids)
    return facts


async def break_down(session: AsyncSession, first: date, last: date) -> Breakdown:
    """Charges recorded from `first` to `last`, both included, UTC."""
    sums = await repository.sums_by_job(session, first, last)
    facts = await facts_of(session, {job_id for job_id, _amount, _count in sums if job_id is not None})
    jobs, datasets, presets = [], [], []
    for job_id, amount, count in sums:
        known = facts.get(job_id) if job_id is not None else None
        unknown = "no job" if job_id is None else f"Job {str(job_id)[-8:]}"
        jobs.append(Share(job_id, known.name if known else unknown, amount, count))
        datasets.append(
            Share(known.dataset_id if known else None, known.dataset_name if known else "none", amount, count)
        )
        presets.append(Share(known.preset if known else None, known.preset if known else "none", amount, count))
    return Breakdown(jobs, _added(datasets), _added(presets))


def _added(shares: Iterable[Share]) -> list[Share]:
    """Those of one key as one, the dearest first."""
    found: dict[UUID | str | None, Share] = {}
    for share in shares:
        before = found.get(share.key)
        amount, charges = (before.amount, before.charges) if before is not None else (Decimal(0), 0)
        found[share.key] = Share(share.key, share.name, amount + share.amount, charges + share.charges)
    return sorted(found.values(), key=lambda share: (-share.amount, share.name))
