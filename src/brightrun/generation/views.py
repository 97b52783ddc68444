"""Rows as the API and the pages show them."""

from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.generation import reading, repository, service
from brightrun.generation.schemas import (
    BatchOut,
    ConversationDetail,
    ConversationOut,
    FailureDetail,
    FailureOut,
    TurnOut,
)
from brightrun.generation.tables import BatchJob, Conversation
from brightrun.llm.calls import Outcome
from brightrun.llm.terms import refusal_words

SUGGESTIONS: dict[str, str] = {
    Outcome.REFUSAL: "The model will not write this. Read its category, change topic or template so that the task is "
    "told as what it is, or choose another provider's model; sending the same again helps seldom.",
    Outcome.TRUNCATED: "The answer was cut off. Retry: an answer that reached its limit gets half as much again; if it "
    "happens often, ask for fewer exchanges, or give `max_tokens` in the plan.",
    Outcome.CONTEXT_OVERFLOW: "Prompt and answer do not fit into the model's context: shorten the source text, or "
    "choose a model with a larger one.",
    Outcome.SCHEMA_INVALID: "The answer was not in the form that was asked for. Retry; with servers that know no JSON "
    "schema, choose a model that does.",
    Outcome.SEMANTIC_INVALID: "The answer had the form and not the sense (roles, an empty or unanswered turn). "
    "Retry; if it happens often, the template's instructions may contradict one another.",
    Outcome.TRANSPORT: "The provider did not answer, or broke off. Retry when it does.",
    Outcome.BUDGET: "The cap was reached: raise it and resume.",
    Outcome.REJECTED: "The provider refuses the request itself (see its message): model, limits or schema do not fit.",
}


def suggestion(failure_class: str, reason: str | None = None) -> str:
    """reason: of a refusal, its category."""
    if failure_class == Outcome.REFUSAL and reason is not None:
        return refusal_words(None if reason == "refusal" else reason)
    return SUGGESTIONS.get(failure_class, "")


async def batch_view(session: AsyncSession, batch: BatchJob) -> BatchOut:
    summary = await service.summarise(session, batch)
    running = await repository.is_running(session, batch.id)
    rate = await reading.rate(session, batch.id) if running else None
    return BatchOut(
        id=batch.id,
        name=batch.name,
        status=summary.status,
        stopped_reason=batch.stopped_reason,
        running=running,
        origin=batch.origin,
        priority=batch.priority,
        pack=batch.pack_key,
        provider=batch.provider,
        model=batch.model,
        via=batch.via,
        concurrency=batch.concurrency,
        max_attempts=batch.max_attempts,
        error_handling=batch.error_handling,
        planned=summary.planned,
        written=summary.written,
        pending=summary.pending,
        failed_by_class=summary.failed_by_class,
        max_cost_usd=batch.max_cost,
        cost_usd=summary.cost,
        cost_unknown_max_usd=summary.cost_unknown_max,
        quote=batch.quote,
        rate_per_s=rate,
        eta_seconds=summary.pending / rate if rate else None,
        suggestions={name: suggestion(name) for name in summary.failed_by_class},
        error_code=batch.error_code,
        error_message=batch.error_message,
        created_at=batch.created_at,
        started_at=batch.started_at,
        completed_at=batch.completed_at,
    )


def failure_view(row: Any) -> FailureOut:
    return FailureOut(**_failure(row))


def _failure(row: Any) -> dict[str, Any]:
    failure, item = row.FailedGeneration, row.BatchItem
    names = (
        "id", "batch_job_id", "batch_item_id", "attempt", "failure_class", "reason", "message", "stop_reason", "model",
        "max_tokens", "input_tokens", "output_tokens", "cost_usd", "resolved_at", "created_at",
    )  # fmt: skip
    return {name: getattr(failure, name) for name in names} | {
        "position": item.position,
        "persona_key": item.persona_key,
        "arc_key": item.arc_key,
        "topic_key": item.topic_key,
        "suggestion": suggestion(failure.failure_class, failure.reason),
    }


async def failure_detail(session: AsyncSession, failure_id: UUID) -> FailureDetail:
    """Raises NotFoundError."""
    row = await reading.failure(session, failure_id)
    item, batch, request = row.BatchItem, row.BatchJob, row.LlmRequest
    return FailureDetail(
        **_failure(row),
        template_key=item.template_key,
        system=batch.systems.get(item.system_hash),
        prompt=item.prompt,
        raw_response=request.raw if request is not None else None,
        error=request.error if request is not None else None,
    )


async def conversation_detail(session: AsyncSession, conversation: Conversation) -> ConversationDetail:
    turns = await reading.turns(session, conversation.id)
    return ConversationDetail(
        **ConversationOut.model_validate(conversation).model_dump(),
        conversation_metadata=conversation.details,
        scaffolding=conversation.scaffolding,
        source=conversation.source,
        notes=conversation.notes,
        turns=[TurnOut.model_validate(turn) for turn in turns],
    )
