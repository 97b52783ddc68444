"""The ledger's rows as the engine writes them: in groups, on the engine's own connection."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from uuid import UUID

from brightrun.generation.engine.line import Connection
from brightrun.llm.calls import Answer, CallError

_MICRO = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Intent:
    """A request that is about to leave. bound: USD it can cost at most; None when the price is unknown."""

    id: UUID
    workspace_id: UUID
    work_key: str
    provider: str
    model: str
    via: str
    bound: Decimal | None
    item_id: UUID
    batch_id: UUID


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of a request. status: `answered`, `failed` (surely not charged) or `unknown` (perhaps charged)."""

    id: UUID
    status: str
    bound: Decimal | None
    cost: Decimal | None
    answer: Answer | None = None
    error: CallError | None = None

    @property
    def reservation_change(self) -> Decimal:
        """USD by which what is reserved for the batch changes: the bound goes, the cost comes."""
        if self.bound is None or self.status == "unknown":
            return Decimal(0)
        cost = self.cost.quantize(_MICRO, ROUND_CEILING) if self.cost is not None else Decimal(0)
        return cost - self.bound.quantize(_MICRO, ROUND_CEILING)


_INTEND = """
insert into llm_requests (id, workspace_id, work_key, provider, model, via, status, bound, item_id, batch_id)
select id, workspace_id, work_key, provider, model, via, 'sent', bound, item_id, batch_id
from unnest(%s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[], %s::numeric[], %s::uuid[],
  %s::uuid[]) as given (id, workspace_id, work_key, provider, model, via, bound, item_id, batch_id)
on conflict (id) do nothing
"""
_SETTLE = """
update llm_requests request set status = given.status, cost = given.cost, raw = nullif(given.raw, ''),
  stop_reason = given.stop, input_tokens = given.input, output_tokens = given.output,
  cache_read_tokens = given.cache_read, cache_write_tokens = given.cache_write, error = given.error,
  duration_ms = given.duration, settled_at = now()
from unnest(%s::uuid[], %s::text[], %s::numeric[], %b::text[], %s::text[], %s::int[], %s::int[], %s::int[], %s::int[],
  %s::text[], %s::int[])
  as given (id, status, cost, raw, stop, input, output, cache_read, cache_write, error, duration)
where request.id = given.id and request.status in ('sent', 'unknown')
"""


async def intend(connection: Connection, intents: Sequence[Intent]) -> None:
    await connection.execute(
        _INTEND,
        [
            [one.id for one in intents],
            [one.workspace_id for one in intents],
            [one.work_key for one in intents],
            [one.provider for one in intents],
            [one.model for one in intents],
            [one.via for one in intents],
            [one.bound for one in intents],
            [one.item_id for one in intents],
            [one.batch_id for one in intents],
        ],
    )


async def settle(connection: Connection, settled: Sequence[Settled]) -> None:
    answers = [one.answer for one in settled]
    usages = [answer.usage if answer is not None else None for answer in answers]
    await connection.execute(
        _SETTLE,
        [
            [one.id for one in settled],
            [one.status for one in settled],
            [one.cost for one in settled],
            [_raw(one) for one in settled],
            [answer.stop_said if answer is not None else None for answer in answers],
            [usage.prompt_tokens if usage is not None else None for usage in usages],
            [usage.output_tokens if usage is not None else None for usage in usages],
            [usage.cache_read_tokens if usage is not None else None for usage in usages],
            [
                usage.cache_write_5m_tokens + usage.cache_write_1h_tokens if usage is not None else None
                for usage in usages
            ],
            [one.error.message if one.error is not None else None for one in settled],
            [round(1000 * answer.duration_s) if answer is not None else None for answer in answers],
        ],
    )


def _raw(one: Settled) -> str:
    """Never None: a list of nothing has no type in the binary form, which needs no escaping of so much text."""
    raw = one.answer.raw if one.answer is not None else one.error.raw if one.error is not None else None
    return raw.replace("\x00", "\ufffd") if raw else ""
