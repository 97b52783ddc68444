"""From answers to rows: conversations with their turns, failures with their reasons, and what becomes of the items."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson

from brightrun.clock import utcnow
from brightrun.generation.answers import Conversation, Failure
from brightrun.generation.engine.line import Connection
from brightrun.ids import uuid7
from brightrun.llm.calls import RESENDABLE, Outcome

_BACKOFF_S = (1.0, 4.0, 15.0, 60.0)


@dataclass(slots=True)
class Leased:
    """An item that this run holds, and the request that was written down for it."""

    id: UUID
    position: int
    persona_key: str
    arc_key: str
    topic_key: str
    template_key: str
    tier: str
    work_key: str
    system_hash: str
    prompt: str
    max_tokens: int
    turns: tuple[int, int]
    attempts: int
    bound: Decimal | None
    replicate: int
    source: dict[str, Any] | None
    request_id: UUID


@dataclass(slots=True)
class Done:
    """An item with what came of its request, settled in the ledger. result: None goes back, no attempt counted."""

    item: Leased
    result: Conversation | Failure | None
    model: str
    stop_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: Decimal | None = None
    duration_s: float = 0.0


@dataclass(frozen=True)
class Context:
    """What rows of one run have in common. scaffolding: names of keys, and the pack's version."""

    workspace_id: UUID
    batch_id: UUID
    run_id: UUID
    user_id: UUID | None
    pack_key: str
    max_attempts: int
    names: dict[str, str]
    pack_version: str
    client_word: str = "client"

    def name(self, kind: str, key: str) -> str:
        return self.names.get(f"{kind}:{key}", key)


@dataclass(slots=True)
class Counts:
    written: int = 0
    failed: int = 0
    again: int = 0


async def write_rows(connection: Connection, context: Context, group: Sequence[Done]) -> Counts:
    """Every answer of `group` in a few statements; safe to repeat."""
    written = [(done, done.result) for done in group if isinstance(done.result, Conversation)]
    failed = [(done, done.result) for done in group if isinstance(done.result, Failure)]
    back = [done.item.id for done in group if done.result is None]
    if written:
        await _write_conversations(connection, context, written)
    counts = Counts(written=len(written))
    if failed:
        counts.failed, counts.again = await _write_failures(connection, context, failed)
    if back:
        await connection.execute(
            "update batch_items set status = 'pending', run_id = null, message_batch_id = null, updated_at = now()"
            " where id = any(%s) and run_id = %s and status = 'processing'",
            [back, context.run_id],
        )
    return counts


_CONVERSATIONS = """
insert into conversations (id, workspace_id, created_by, batch_job_id, request_id, work_key, title, pack_key,
  persona_key, arc_key, topic_key, template_key, tier, scaffolding, details, notes, source, turn_count,
  starting_emotion, ending_emotion, emotional_intensity_start, emotional_intensity_end, model, total_tokens,
  cost_usd, generation_duration_ms)
select id, %(workspace)s, %(user)s, %(batch)s, request_id, work_key, title, %(pack)s, persona_key, arc_key,
  topic_key, template_key, tier, scaffolding::jsonb, details::jsonb, notes::jsonb, source::jsonb, turn_count,
  starting_emotion, ending_emotion, intensity_start, intensity_end, model, total_tokens, cost_usd, duration_ms
from unnest(%(ids)s::uuid[], %(requests)s::uuid[], %(work_keys)s::text[], %(titles)b::text[], %(personas)s::text[],
  %(arcs)s::text[], %(topics)s::text[], %(templates)s::text[], %(tiers)s::text[], %(scaffoldings)b::text[],
  %(details)b::text[], %(notes)s::text[], %(sources)s::text[], %(turn_counts)s::int[], %(emotions_start)s::text[],
  %(emotions_end)s::text[], %(intensities_start)s::float8[], %(intensities_end)s::float8[], %(models)s::text[],
  %(tokens)s::int[], %(costs)s::numeric[], %(durations)s::int[])
  as given (id, request_id, work_key, title, persona_key, arc_key, topic_key, template_key, tier, scaffolding, details,
  notes, source, turn_count, starting_emotion, ending_emotion, intensity_start, intensity_end, model, total_tokens,
  cost_usd, duration_ms)
on conflict do nothing
"""
_TURNS = """
insert into conversation_turns (conversation_id, turn_number, role, content, emotional_context, workspace_id)
select given.conversation_id, turn_number, role, content, context::jsonb, %(workspace)s
from unnest(%(ids)s::uuid[], %(numbers)s::int[], %(roles)s::text[], %(contents)b::text[], %(contexts)b::text[])
  as given (conversation_id, turn_number, role, content, context)
where exists (select 1 from conversations where conversations.id = given.conversation_id)
on conflict do nothing
"""
_ITEMS_WRITTEN = """
update batch_items item set status = 'written', conversation_id = conversation.id, run_id = null, failure_class = null,
  failure_message = null, message_batch_id = null, attempts = item.attempts + 1, updated_at = now()
from conversations conversation
where item.id = any(%(items)s) and item.run_id = %(run)s and item.status = 'processing'
  and conversation.workspace_id = item.workspace_id and conversation.work_key = item.work_key
"""
_RESOLVED = """
update failed_generations set resolved_at = now() where batch_item_id = any(%(items)s) and resolved_at is null
"""
_LOG = """
insert into generation_logs (id, workspace_id, batch_job_id, position, event, level, message)
select id, %(workspace)s, %(batch)s, position, event, level, message
from unnest(%(ids)s::uuid[], %(positions)s::int[], %(events)s::text[], %(levels)s::text[], %(messages)b::text[])
  as given (id, position, event, level, message)
on conflict do nothing
"""


def _json(value: Any) -> str:
    # PostgreSQL holds no U+0000 and no half surrogate pair in text; a model that writes one means nothing by it.
    return orjson.dumps(value).decode().replace("\\u0000", "\\ufffd")


def storable(text: str) -> str:
    return text.replace("\x00", "\ufffd") if "\x00" in text else text


async def _write_conversations(
    connection: Connection, context: Context, written: Sequence[tuple[Done, Conversation]]
) -> None:
    ids = [uuid7() for _ in written]
    items = [done.item for done, _ in written]
    turns = [
        (ids[index], number, role, storable(content), _json(emotions))
        for index, (_, conversation) in enumerate(written)
        for number, (role, content, emotions) in enumerate(conversation.turns, start=1)
    ]
    await connection.execute(
        _CONVERSATIONS,
        {
            "workspace": context.workspace_id,
            "user": context.user_id,
            "batch": context.batch_id,
            "pack": context.pack_key,
            "ids": ids,
            "requests": [item.request_id for item in items],
            "work_keys": [item.work_key for item in items],
            "titles": [_title(context, item) for item in items],
            "personas": [item.persona_key for item in items],
            "arcs": [item.arc_key for item in items],
            "topics": [item.topic_key for item in items],
            "templates": [item.template_key for item in items],
            "tiers": [item.tier for item in items],
            "scaffoldings": [_json(_scaffolding(context, item)) for item in items],
            "details": [_json(_metadata(context, done.item, said)) for done, said in written],
            "notes": [_json(said.notes) for _, said in written],
            "sources": [None if item.source is None else _json(_origin(item.source)) for item in items],
            "turn_counts": [len(said.turns) for _, said in written],
            "emotions_start": [_text(said.emotions[0]) for _, said in written],
            "emotions_end": [_text(said.emotions[1]) for _, said in written],
            "intensities_start": [said.intensities[0] for _, said in written],
            "intensities_end": [said.intensities[1] for _, said in written],
            "models": [done.model for done, _ in written],
            "tokens": [(done.input_tokens or 0) + (done.output_tokens or 0) for done, _ in written],
            "costs": [done.cost for done, _ in written],
            "durations": [round(1000 * done.duration_s) for done, _ in written],
        },
    )
    await connection.execute(
        _TURNS,
        {
            "workspace": context.workspace_id,
            "ids": [turn[0] for turn in turns],
            "numbers": [turn[1] for turn in turns],
            "roles": [turn[2] for turn in turns],
            "contents": [turn[3] for turn in turns],
            "contexts": [turn[4] for turn in turns],
        },
    )
    named = [item.id for item in items]
    await connection.execute(_ITEMS_WRITTEN, {"items": named, "run": context.run_id})
    await connection.execute(_RESOLVED, {"items": named})
    lines = [
        (item.position, "written", "info", f"{len(said.turns)} turns")
        for item, (_, said) in zip(items, written, strict=True)
    ]
    await note(connection, context, lines)


def _text(value: str | None) -> str | None:
    return None if value is None else storable(value)


def _title(context: Context, item: Leased) -> str:
    return f"{context.name('persona', item.persona_key)}: {context.name('topic', item.topic_key)}"


def _scaffolding(context: Context, item: Leased) -> dict[str, Any]:
    parts = {
        kind: {"key": key, "name": context.name(kind, key)}
        for kind, key in (
            ("persona", item.persona_key),
            ("arc", item.arc_key),
            ("topic", item.topic_key),
            ("template", item.template_key),
        )
    }
    return parts | {
        "tier": item.tier,
        "replicate": item.replicate,
        "pack": {"key": context.pack_key, "version": context.pack_version},
    }


def _metadata(context: Context, item: Leased, said: Conversation) -> dict[str, Any]:
    """The model's own, with the client's name as it was asked for: it is the row's fact, not the model's."""
    return said.metadata | {"client_persona": context.name("persona", item.persona_key)}


def _origin(source: dict[str, Any]) -> dict[str, Any]:
    return {key: source.get(key) for key in ("title", "ref", "sha256")}


_FAILURES = """
insert into failed_generations (id, workspace_id, batch_job_id, batch_item_id, request_id, attempt, failure_class,
  reason, message, stop_reason, model, max_tokens, input_tokens, output_tokens, cost_usd)
select id, %(workspace)s, %(batch)s, item, request, attempt, class, reason, message, stop, model, max_tokens, input,
  output, cost
from unnest(%(ids)s::uuid[], %(items)s::uuid[], %(requests)s::uuid[], %(attempts)s::int[], %(classes)s::text[],
  %(reasons)s::text[], %(messages)b::text[], %(stops)s::text[], %(models)s::text[], %(max_tokens)s::int[],
  %(inputs)s::int[], %(outputs)s::int[], %(costs)s::numeric[])
  as given (id, item, request, attempt, class, reason, message, stop, model, max_tokens, input, output, cost)
where exists (select 1 from batch_items where id = item and run_id = %(run)s and status = 'processing')
"""
_ITEMS_FAILED = """
update batch_items item set status = given.status, run_id = null, message_batch_id = null,
  attempts = item.attempts + 1, updated_at = now(), retry_at = given.retry_at,
  failure_class = case when given.status = 'failed' then given.class end,
  failure_message = case when given.status = 'failed' then given.message end, max_tokens = given.max_tokens
from unnest(%(items)s::uuid[], %(statuses)s::text[], %(classes)s::text[], %(messages)b::text[],
  %(retries)s::timestamptz[], %(limits)s::int[]) as given (id, status, class, message, retry_at, max_tokens)
where item.id = given.id and item.run_id = %(run)s and item.status = 'processing'
"""


async def _write_failures(
    connection: Connection, context: Context, failed: Sequence[tuple[Done, Failure]]
) -> tuple[int, int]:
    again = [
        failure.outcome in RESENDABLE and done.item.attempts + 1 < context.max_attempts for done, failure in failed
    ]
    await connection.execute(
        _FAILURES,
        {
            "workspace": context.workspace_id,
            "batch": context.batch_id,
            "run": context.run_id,
            "ids": [uuid7() for _ in failed],
            "items": [done.item.id for done, _ in failed],
            "requests": [done.item.request_id for done, _ in failed],
            "attempts": [done.item.attempts + 1 for done, _ in failed],
            "classes": [failure.outcome.value for _, failure in failed],
            "reasons": [storable(failure.reason) for _, failure in failed],
            "messages": [storable(failure.message) for _, failure in failed],
            "stops": [done.stop_reason for done, _ in failed],
            "models": [done.model for done, _ in failed],
            "max_tokens": [done.item.max_tokens for done, _ in failed],
            "inputs": [done.input_tokens for done, _ in failed],
            "outputs": [done.output_tokens for done, _ in failed],
            "costs": [done.cost for done, _ in failed],
        },
    )
    now = utcnow()
    await connection.execute(
        _ITEMS_FAILED,
        {
            "run": context.run_id,
            "items": [done.item.id for done, _ in failed],
            "statuses": ["pending" if once_more else "failed" for once_more in again],
            "classes": [failure.outcome.value for _, failure in failed],
            "messages": [storable(failure.message) for _, failure in failed],
            "retries": [_retry_at(now, done.item.attempts, failure) for done, failure in failed],
            "limits": [_next_limit(done.item, failure) for done, failure in failed],
        },
    )
    await note(
        connection, context,
        [
            (done.item.position, "again" if once_more else "failed", "warning" if once_more else "error",
             f"{failure.outcome.value} ({failure.reason}): {failure.message}")
            for (done, failure), once_more in zip(failed, again, strict=True)
        ],
    )  # fmt: skip
    return sum(not once_more for once_more in again), sum(again)


def _retry_at(now: datetime, attempts: int, failure: Failure) -> datetime | None:
    """Only the network needs time; a model may write better at once."""
    if failure.outcome is not Outcome.TRANSPORT:
        return None
    return now + timedelta(seconds=_BACKOFF_S[min(attempts, len(_BACKOFF_S) - 1)])


def _next_limit(item: Leased, failure: Failure) -> int:
    """An answer that reached its limit of tokens gets half as much again; any other failure changes nothing."""
    return item.max_tokens * 3 // 2 if failure.reason == "max_tokens" else item.max_tokens


async def note(connection: Connection, context: Context, lines: Sequence[tuple[int | None, str, str, str]]) -> None:
    """Lines of the batch's log: (position or None, event, level, message)."""
    await connection.execute(
        _LOG,
        {
            "workspace": context.workspace_id,
            "batch": context.batch_id,
            "ids": [uuid7() for _ in lines],
            "positions": [line[0] for line in lines],
            "events": [line[1] for line in lines],
            "levels": [line[2] for line in lines],
            "messages": [storable(line[3]) for line in lines],
        },
    )
