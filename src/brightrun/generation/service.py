"""What pages, API and command line do with batches: make one of a plan, or find the one it made before."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.errors import ConflictError, InvalidInputError
from brightrun.generation import repository
from brightrun.generation.engine.rows import storable
from brightrun.generation.engine.run import BatchFacts
from brightrun.generation.plan import Source, read_price
from brightrun.generation.preparing import Prepared, names_of
from brightrun.generation.tables import BatchJob, BatchPriority, BatchStatus, ErrorHandling, ItemStatus
from brightrun.ids import uuid7
from brightrun.llm.calls import Provider, Via
from brightrun.llm.prices import Catalogue
from brightrun.scaffolding.pack import Pack


@dataclass(frozen=True)
class Options:
    """How a batch is carried out. None of it changes what is bought."""

    concurrency: int = 3
    max_cost: Decimal | None = None
    max_attempts: int = 3
    error_handling: ErrorHandling = ErrorHandling.CONTINUE
    priority: BatchPriority = BatchPriority.NORMAL
    name: str | None = None
    origin: str = "api"


async def make_or_find(
    session: AsyncSession, prepared: Prepared, options: Options, *, user_id: UUID | None
) -> tuple[BatchJob, bool]:
    """The batch of this plan, and whether it is new. One that is there goes on with the new options."""
    # Two who start one plan at once must not make two batches of it.
    await session.execute(
        text("select pg_advisory_xact_lock(hashtextextended(:key, 0))"),
        {"key": f"plan {session.info['workspace_id']} {prepared.plan_hash}"},
    )
    batch = await repository.find_batch(session, prepared.plan_hash, prepared.via.value)
    if batch is not None:
        batch.concurrency = options.concurrency
        batch.max_cost = options.max_cost
        batch.max_attempts = options.max_attempts
        batch.error_handling = options.error_handling
        batch.prices = prepared.plan.prices
        await session.flush()
        return batch, False
    return await make(session, prepared, options, user_id=user_id), True


async def make(
    session: AsyncSession,
    prepared: Prepared,
    options: Options,
    *,
    user_id: UUID | None,
    idempotency_key: str | None = None,
    request_hash: str | None = None,
) -> BatchJob:
    """A new batch. What the workspace has already, written or failed, is taken over and not sent again."""
    workspace_id = session.info["workspace_id"]
    known = await repository.known_work(session, prepared.keys)
    to_send = [place for place, key in enumerate(prepared.keys) if key not in known]
    pack = prepared.pack
    batch = BatchJob(
        id=uuid7(),
        workspace_id=workspace_id,
        created_by=user_id,
        name=options.name or prepared.plan.name or f"{pack.name}: {len(prepared.keys):,} conversations",
        origin=options.origin,
        priority=options.priority,
        plan=dict(prepared.plan.document) | {"effort": prepared.plan.effort},
        plan_hash=prepared.plan_hash,
        pack_key=pack.key,
        pack_version=pack.head.version,
        systems={prompt.system_hash: prompt.system for prompt in prepared.prompts},
        provider=prepared.provider,
        model=prepared.model,
        via=prepared.via,
        concurrency=options.concurrency,
        error_handling=options.error_handling,
        max_attempts=options.max_attempts,
        max_cost=options.max_cost,
        quote=prepared.quote(to_send),
        prices=prepared.plan.prices,
        total_items=len(prepared.keys),
        idempotency_key=idempotency_key,
        request_hash=request_hash,
    )
    session.add(batch)
    await session.flush()
    rows = [known.get(key) for key in prepared.keys]
    chosen, prompts = prepared.chosen, prepared.prompts
    await repository.add_items(
        session,
        {
            "workspace": workspace_id,
            "batch": batch.id,
            "ids": [uuid7() for _ in prepared.keys],
            "positions": list(range(1, len(prepared.keys) + 1)),
            "personas": [one.persona.key for one in chosen],
            "arcs": [one.arc.key for one in chosen],
            "topics": [one.topic.key for one in chosen],
            "templates": [one.template.key for one in chosen],
            "tiers": [one.tier.value for one in chosen],
            "replicates": [one.replicate for one in chosen],
            "sources": [None if one.source is None else repository.as_json(_source(one.source)) for one in chosen],
            "work_keys": prepared.keys,
            "system_hashes": [prompt.system_hash for prompt in prompts],
            "prompts": [storable(prompt.user) for prompt in prompts],
            "max_tokens": [prompt.max_tokens for prompt in prompts],
            "turns_min": [prompt.turns[0] for prompt in prompts],
            "turns_max": [prompt.turns[1] for prompt in prompts],
            "bounds": prepared.bounds,
            "statuses": [ItemStatus.PENDING.value if row is None else row.status for row in rows],
            "attempts": [0 if row is None else row.attempts for row in rows],
            "failure_classes": [None if row is None else row.failure_class for row in rows],
            "failure_messages": [None if row is None else row.failure_message for row in rows],
            "conversations": [None if row is None else row.conversation_id for row in rows],
        },
    )
    return batch


def _source(source: Source) -> dict[str, Any]:
    return {"title": source.title, "ref": source.ref, "sha256": source.sha256, "text": source.text}


async def retry_failed(session: AsyncSession, batch: BatchJob, classes: Sequence[str] | None) -> int:
    """Failed items of `classes` (None: all) may be sent again. How many."""
    return await repository.requeue_failed(session, batch.id, classes)


def facts_of(batch: BatchJob, prepared_pack: Pack, catalogue: Catalogue, *, user_id: UUID | None) -> BatchFacts:
    """What a run has to know, from the row."""
    known = catalogue.find(batch.model)
    price = read_price(batch.prices, batch.model) or (known.price if known is not None else None)
    return BatchFacts(
        id=batch.id,
        workspace_id=batch.workspace_id,
        user_id=user_id,
        name=batch.name,
        provider=Provider(batch.provider),
        model=batch.model,
        via=Via(batch.via),
        systems=batch.systems,
        concurrency=batch.concurrency,
        max_attempts=batch.max_attempts,
        stop_on_error=batch.error_handling == ErrorHandling.STOP,
        capped=batch.max_cost is not None,
        price=price,
        effort=batch.plan.get("effort"),
        max_output=known.max_output if known is not None else None,
        pack_key=batch.pack_key,
        pack_version=batch.pack_version,
        names=dict(names_of(prepared_pack)),
        total=batch.total_items,
    )


@dataclass(frozen=True)
class Summary:
    """Of the whole plan, over all its runs. cost: None when an answer's price is unknown."""

    planned: int
    written: int
    pending: int
    failed_by_class: dict[str, int]
    cost: Decimal | None
    cost_unknown_max: Decimal
    unknown: int
    quoted: str | None
    status: BatchStatus


async def summarise(session: AsyncSession, batch: BatchJob) -> Summary:
    written = pending = 0
    failed: dict[str, int] = {}
    for status, failure_class, count in await repository.counts(session, batch.id):
        if status == ItemStatus.WRITTEN:
            written += count
        elif status == ItemStatus.FAILED:
            failed[failure_class] = failed.get(failure_class, 0) + count
        else:
            pending += count
    settled, bound, unknown, unpriced = await repository.money(session, batch.id)
    return Summary(
        planned=batch.total_items,
        written=written,
        pending=pending,
        failed_by_class=failed,
        cost=None if unpriced else settled,
        cost_unknown_max=bound,
        unknown=unknown,
        quoted=batch.quote["batch" if batch.via == Via.BATCH else "now"]["usd"],
        status=BatchStatus(batch.status),
    )


def check_priced(batch: BatchJob) -> None:
    """Raises InvalidInputError: no cap can be kept where the price is unknown."""
    if batch.quote["now"]["usd"] is None:
        raise InvalidInputError(
            f"The price of {batch.model} is unknown, so no cap can be kept",
            code="price_unknown",
            details={"max_cost_usd": ["the model's price is unknown"]},
        )


async def made_before(session: AsyncSession, idempotency_key: str, request_hash: str) -> BatchJob | None:
    """The batch that this very request has made already. Raises ConflictError where another request had the key."""
    batch = await repository.batch_of_key(session, idempotency_key)
    if batch is not None and batch.request_hash != request_hash:
        raise ConflictError("This Idempotency-Key was used for another request", code="idempotency_key_reused")
    return batch
