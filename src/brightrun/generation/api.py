"""JSON routes of generation: quote, start, watch and steer batches; what failed; conversations."""

import hashlib
import json
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response

from brightrun.accounts.context import Ctx, needs
from brightrun.accounts.roles import Permission
from brightrun.errors import NotFoundError
from brightrun.generation import actions, reading, repository, service, spending, views
from brightrun.generation.plan import read_plan
from brightrun.generation.preparing import Prepared, check_cap, prepare
from brightrun.generation.schemas import (
    BatchCreate,
    BatchData,
    BatchOut,
    BatchResume,
    ConversationData,
    ConversationOut,
    FailureData,
    FailureOut,
    ItemOut,
    LogOut,
    QuoteData,
    QuoteIn,
    RetryData,
    RetryIn,
)
from brightrun.generation.tables import BatchJob, BatchStatus, ConversationStatus, ItemStatus
from brightrun.llm import terms
from brightrun.llm.calls import Outcome
from brightrun.llm.prices import catalogue
from brightrun.scaffolding.service import load_pack
from brightrun.web.http import Items, PageParams, Success, many, one

router = APIRouter(tags=["generation"])

_READ = needs(Permission.CONVERSATIONS_READ)
_WRITE = needs(Permission.CONVERSATIONS_WRITE)
_CREATE: dict[str, Any] = _WRITE | {
    "responses": _WRITE["responses"]
    | {200: {"model": Success[BatchData], "description": "The batch that this Idempotency-Key has made before"}}
}
_TEXT: dict[str, Any] = _READ | {"response_class": Response}


async def _one(ctx: Ctx, batch: BatchJob) -> Success[BatchData]:
    return one(BatchData(batch=await views.batch_view(ctx.session, batch)))


async def _prepared(ctx: Ctx, body: QuoteIn) -> Prepared:
    plan = read_plan(body.plan)
    pack = await load_pack(ctx.session, ctx.principal.workspace_id, plan.pack)
    openai = ctx.settings.openai_base_url is not None
    return prepare(plan, pack, catalogue(), via=body.via, openai_address=openai)


@router.post("/api/batch-jobs/quote", **_READ)
async def quote_batch(ctx: Ctx, body: QuoteIn) -> Success[QuoteData]:
    """What a plan will cost, now or by the provider's batches, before anything is sent."""
    prepared = await _prepared(ctx, body)
    known = await repository.known_work(ctx.session, prepared.keys)
    return one(QuoteData(quote=prepared.quote([n for n, key in enumerate(prepared.keys) if key not in known])))


@router.post("/api/batch-jobs", status_code=201, **_CREATE)
async def create_batch(
    ctx: Ctx,
    body: BatchCreate,
    response: Response,
    idempotency_key: Annotated[
        str | None, Header(alias="Idempotency-Key", description="Repeating a request with it starts nothing twice")
    ] = None,
) -> Success[BatchData]:
    """Carry a plan out. A repeated Idempotency-Key answers 200 with the first batch."""
    # Not orjson: a plan that is no plan may hold any number, and is to be refused by name.
    asked = hashlib.sha256(json.dumps(body.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()
    if idempotency_key is not None:
        batch = await service.made_before(ctx.session, idempotency_key, asked)
        if batch is not None:
            response.status_code = 200
            return await _one(ctx, batch)
    prepared = await _prepared(ctx, body)
    check_cap(prepared, body.max_cost_usd)
    await terms.require(ctx.session, prepared.provider)
    options = service.Options(
        concurrency=body.concurrency,
        max_cost=body.max_cost_usd,
        max_attempts=body.max_attempts,
        error_handling=body.error_handling,
        priority=body.priority,
        name=body.name,
    )
    batch = await service.make(
        ctx.session, prepared, options, user_id=ctx.principal.user_id, idempotency_key=idempotency_key,
        request_hash=asked,
    )  # fmt: skip
    await spending.check(ctx.session, batch)
    await actions.start(ctx.session, batch)
    await actions.log(ctx.session, batch, "created", batch.quote["sentence"])
    return await _one(ctx, batch)


@router.get("/api/batch-jobs", **_READ)
async def list_batches(
    ctx: Ctx,
    page: PageParams,
    status: Annotated[list[BatchStatus] | None, Query(description="May be repeated")] = None,
    search: Annotated[str | None, Query(max_length=255, description="Part of the name")] = None,
    sort: Annotated[str, Query(description="created_at, name, status, planned; `-`: descending")] = "-created_at",
) -> Success[Items[BatchOut]]:
    rows, total = await reading.batches(ctx.session, page, sort=sort, status=status, search=search)
    return many([await views.batch_view(ctx.session, batch) for batch in rows], total, page)


@router.get("/api/batch-jobs/{batch_id}", **_READ)
async def get_batch(ctx: Ctx, batch_id: UUID) -> Success[BatchData]:
    return await _one(ctx, await actions.get(ctx.session, batch_id))


@router.get("/api/batch-jobs/{batch_id}/items", **_READ)
async def list_batch_items(
    ctx: Ctx,
    batch_id: UUID,
    page: PageParams,
    status: ItemStatus | None = None,
    failure_class: Outcome | None = None,
) -> Success[Items[ItemOut]]:
    await actions.get(ctx.session, batch_id)
    rows, total = await reading.items(ctx.session, batch_id, page, status=status, failure_class=failure_class)
    return many([ItemOut.model_validate(row) for row in rows], total, page)


@router.get("/api/batch-jobs/{batch_id}/log", **_READ)
async def list_batch_log(
    ctx: Ctx,
    batch_id: UUID,
    page: PageParams,
    level: Literal["info", "warning", "error"] | None = None,
    position: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="Of one item")] = None,
    sort: Annotated[str, Query(description="created_at; `-`: newest first")] = "-created_at",
) -> Success[Items[LogOut]]:
    await actions.get(ctx.session, batch_id)
    rows, total = await reading.log(ctx.session, batch_id, page, level=level, position=position, sort=sort)
    return many([LogOut.model_validate(row) for row in rows], total, page)


@router.post("/api/batch-jobs/{batch_id}/pause", **_WRITE)
async def pause_batch(ctx: Ctx, batch_id: UUID) -> Success[BatchData]:
    """Nothing more leaves; what is on its way comes in."""
    return await _one(ctx, await actions.pause(ctx.session, batch_id))


@router.post("/api/batch-jobs/{batch_id}/resume", **_WRITE)
async def resume_batch(ctx: Ctx, batch_id: UUID, body: BatchResume | None = None) -> Success[BatchData]:
    """Go on with what is left, with another cap or concurrency if need be."""
    body = body or BatchResume()
    batch = await actions.resume(ctx.session, batch_id, max_cost=body.max_cost_usd, concurrency=body.concurrency)
    return await _one(ctx, batch)


@router.post("/api/batch-jobs/{batch_id}/cancel", **_WRITE)
async def cancel_batch(ctx: Ctx, batch_id: UUID) -> Success[BatchData]:
    """What is on its way comes in and is kept; the rest is not sent."""
    return await _one(ctx, await actions.cancel(ctx.session, batch_id))


@router.post("/api/batch-jobs/{batch_id}/retry", **_WRITE)
async def retry_batch(ctx: Ctx, batch_id: UUID, body: RetryIn | None = None) -> Success[RetryData]:
    """Send failed items again: of some classes, or all."""
    batch, count = await actions.retry(ctx.session, batch_id, body.classes if body is not None else None)
    return one(RetryData(batch=await views.batch_view(ctx.session, batch), retried=count))


@router.get("/api/failed-generations", **_READ)
async def list_failed_generations(
    ctx: Ctx,
    page: PageParams,
    failure_class: Annotated[list[Outcome] | None, Query(description="May be repeated")] = None,
    batch_id: UUID | None = None,
    stop_reason: Annotated[str | None, Query(max_length=100)] = None,
    resolved: Annotated[bool | None, Query(description="Whether the conversation was written after all")] = None,
    search: Annotated[str | None, Query(max_length=255, description="Part of the message or the reason")] = None,
) -> Success[Items[FailureOut]]:
    """Every request that gave no conversation, newest first, with what to do about it."""
    rows, total = await reading.failures(
        ctx.session, page, failure_class=failure_class, batch_id=batch_id, stop_reason=stop_reason,
        resolved=resolved, search=search,
    )  # fmt: skip
    return many([views.failure_view(row) for row in rows], total, page)


@router.get("/api/failed-generations/{failure_id}", **_READ)
async def get_failed_generation(ctx: Ctx, failure_id: UUID) -> Success[FailureData]:
    """With the prompt as it was sent and the raw answer as it was received."""
    return one(FailureData(failure=await views.failure_detail(ctx.session, failure_id)))


@router.get("/api/failed-generations/{failure_id}/download", **_TEXT)
async def download_failed_generation(ctx: Ctx, failure_id: UUID) -> Response:
    """All that is known of it, as one JSON file."""
    failure = await views.failure_detail(ctx.session, failure_id)
    return _file(failure.model_dump_json(indent=2), f"failed-generation-{failure_id}.json")


@router.post("/api/failed-generations/{failure_id}/retry", **_WRITE)
async def retry_failed_generation(ctx: Ctx, failure_id: UUID) -> Success[BatchData]:
    """Send this one conversation's request again."""
    return await _one(ctx, await actions.retry_one(ctx.session, failure_id))


@router.get("/api/conversations", **_READ)
async def list_conversations(
    ctx: Ctx,
    page: PageParams,
    status: Annotated[list[ConversationStatus] | None, Query(description="May be repeated")] = None,
    batch_id: UUID | None = None,
    pack: Annotated[str | None, Query(max_length=64)] = None,
    persona: Annotated[str | None, Query(max_length=64)] = None,
    arc: Annotated[str | None, Query(max_length=64)] = None,
    topic: Annotated[str | None, Query(max_length=64)] = None,
    tier: Annotated[str | None, Query(max_length=20)] = None,
    search: Annotated[str | None, Query(max_length=255, description="Part of the title")] = None,
    sort: Annotated[
        str, Query(description="created_at, title, turn_count, total_tokens, cost_usd; `-`: descending")
    ] = "-created_at",
) -> Success[Items[ConversationOut]]:
    rows, total = await reading.conversations(
        ctx.session, page, sort=sort, status=status, batch_id=batch_id, pack=pack, persona=persona, arc=arc,
        topic=topic, tier=tier, search=search,
    )  # fmt: skip
    return many([ConversationOut.model_validate(row) for row in rows], total, page)


@router.get("/api/conversations/{conversation_id}", **_READ)
async def get_conversation(ctx: Ctx, conversation_id: UUID) -> Success[ConversationData]:
    found = await reading.conversation(ctx.session, conversation_id)
    return one(ConversationData(conversation=await views.conversation_detail(ctx.session, found)))


@router.get("/api/conversations/{conversation_id}/raw", **_TEXT)
async def download_raw_answer(ctx: Ctx, conversation_id: UUID) -> Response:
    """The provider's answer exactly as it was received."""
    found = await reading.conversation(ctx.session, conversation_id)
    raw = await reading.raw_answer(ctx.session, found.request_id)
    if raw is None:
        raise NotFoundError("The ledger does not hold this answer any more")
    return _file(raw, f"conversation-{conversation_id}-raw.json")


def _file(content: str, name: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type="application/json", headers=headers)
