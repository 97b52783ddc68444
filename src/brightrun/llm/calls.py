"""The nouns of calling a model: what is asked, what comes back, what can go wrong. No network, no database."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol

import orjson

from brightrun.errors import BrightRunError


class Outcome(StrEnum):
    """What became of a request. `ok` is the only one that gives a row; all others are failures with a class.

    The first four that follow from the answer alone are set by the clients (`Answer.outcome`); whoever asked decides
    on schema and meaning. `rejected`: the provider said that the request itself is wrong (400); sending it again
    changes nothing.
    """

    OK = "ok"
    REFUSAL = "refusal"
    TRUNCATED = "truncated"
    CONTEXT_OVERFLOW = "context_overflow"
    SCHEMA_INVALID = "schema_invalid"
    SEMANTIC_INVALID = "semantic_invalid"
    TRANSPORT = "transport"
    BUDGET = "budget"
    REJECTED = "rejected"


RESENDABLE = frozenset({Outcome.TRUNCATED, Outcome.SCHEMA_INVALID, Outcome.SEMANTIC_INVALID, Outcome.TRANSPORT})
"""Classes where the same request may well succeed the next time; up to a limit of attempts."""


class Provider(StrEnum):
    ANTHROPIC = "anthropic"
    OPENAI = "openai"  # Any server that speaks OpenAI's chat completions.


class Via(StrEnum):
    """The route: one request at a time, or the provider's batches at half the price."""

    SYNC = "sync"
    BATCH = "batch"


class StopReason(StrEnum):
    """Why a model stopped, in one spelling for all providers."""

    END = "end_turn"
    MAX_TOKENS = "max_tokens"
    REFUSAL = "refusal"
    CONTEXT = "model_context_window_exceeded"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class System:
    """A block of the system part. cache: everything up to here is the same in many requests; the provider may keep it
    (`5m` or `1h`)."""

    text: str
    cache: Literal["5m", "1h"] | None = None


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a model.

    model: the provider's id. max_tokens: of the answer. schema: JSON schema of the answer (`schema_name` names it),
    None for free text. extra: further fields of the provider's own body, sent as they are (`{"thinking": …}`,
    `{"temperature": 0.7}` for old models).
    """

    model: str
    max_tokens: int
    messages: Sequence[Message]
    system: Sequence[System] = ()
    schema: Mapping[str, Any] | None = None
    schema_name: str = "answer"
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def canonical(request: Request, provider: Provider) -> bytes:
    """The request as bytes that are equal exactly when the same thing is asked.

    Marks for the provider's cache, the server's address and the route (one by one, batch) are left out: they change
    the price, not the answer.
    """
    return orjson.dumps(
        {
            "provider": provider.value,
            "model": request.model,
            "max_tokens": request.max_tokens,
            "system": [block.text for block in request.system],
            "messages": [[message.role, message.content] for message in request.messages],
            "schema": request.schema,
            "effort": request.effort,
            "extra": dict(request.extra),
        },
        option=orjson.OPT_SORT_KEYS,
    )


def request_hash(request: Request, provider: Provider = Provider.ANTHROPIC) -> str:
    """SHA-256, hexadecimal, of what is asked: the ledger's key. With a replicate index beside it, asking the same
    thing twice on purpose stays possible."""
    return hashlib.sha256(canonical(request, provider)).hexdigest()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counts them. input_tokens: neither read from nor written to its cache."""

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    service_tier: str | None = None
    inference_geo: str | None = None

    @property
    def prompt_tokens(self) -> int:
        """Everything that went in: what a long-prompt price band goes by."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_5m_tokens + self.cache_write_1h_tokens


@dataclass(frozen=True, slots=True)
class Bucket:
    """One limit as the provider's headers tell it. reset_s: seconds until it is full again."""

    limit: int | None
    remaining: int | None
    reset_s: float | None


@dataclass(frozen=True, slots=True)
class Limits:
    """What an answer (or a refusal to answer now) said about the limits."""

    requests: Bucket | None = None
    input_tokens: Bucket | None = None
    output_tokens: Bucket | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it came.

    raw: the body exactly as received (of a batch: the line's message). text: of the first text block. stop_reason: in
    our spelling; stop_said: in the provider's. refusal_category: `frontier_llm` and the like. request_id: of the
    provider, for its support. duration_s: from the last byte sent to the last received.
    """

    raw: str
    text: str
    stop_reason: StopReason
    stop_said: str | None
    usage: Usage
    model: str
    refusal_category: str | None = None
    refusal_explanation: str | None = None
    message_id: str | None = None
    request_id: str | None = None
    limits: Limits | None = None
    duration_s: float = 0.0

    @property
    def outcome(self) -> Outcome:
        """What the stop reason alone says; `ok` still has to be parsed and checked by whoever asked."""
        match self.stop_reason:
            case StopReason.END:
                return Outcome.OK
            case StopReason.MAX_TOKENS:
                return Outcome.TRUNCATED
            case StopReason.REFUSAL:
                return Outcome.REFUSAL
            case StopReason.CONTEXT:
                return Outcome.CONTEXT_OVERFLOW
            case StopReason.OTHER:
                return Outcome.SEMANTIC_INVALID


class CallError(BrightRunError):
    """A request that got no answer.

    outcome: its class. charged: "no" when the provider surely charges nothing, "unknown" when it may have (the
    connection broke after the request had left). raw: what came instead, if anything. http_status, request_id: the
    provider's.
    """

    status = 502
    code = "provider_error"
    outcome = Outcome.TRANSPORT
    charged: Literal["no", "unknown"] = "no"

    def __init__(
        self,
        message: str,
        *,
        http_status: int | None = None,
        request_id: str | None = None,
        raw: str | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.request_id = request_id
        self.raw = raw
        self.limits = limits


class Throttled(CallError):
    """429 or 529: not now. Not a failure: wait and send again. retry_after_s: None when the provider did not say."""

    code = "provider_throttled"

    def __init__(self, message: str, *, retry_after_s: float | None = None, **more: Any) -> None:
        super().__init__(message, **more)
        self.retry_after_s = retry_after_s


class TransportError(CallError):
    """The network, a 5xx, or an answer that is no answer (broken JSON)."""

    code = "provider_unreachable"


class ConnectionBroken(TransportError):
    """No whole answer came back after the request had left: nobody knows whether it is charged."""

    charged = "unknown"


class ContextOverflowError(CallError):
    """The prompt is longer than the model takes."""

    code = "context_overflow"
    outcome = Outcome.CONTEXT_OVERFLOW


class RejectedError(CallError):
    """400: the provider will not take this request however often it is sent."""

    code = "provider_rejected"
    outcome = Outcome.REJECTED


class ProviderUnusable(CallError):
    """No request to this provider can work until somebody changes something: key, payment, permission, model name.
    A batch stops here rather than failing item by item."""

    status = 409
    code = "provider_unusable"
    outcome = Outcome.REJECTED


class NoKeyError(ProviderUnusable):
    """There is no key for the provider; the message says where to put one."""

    code = "no_provider_key"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the provider says about a model; None where it does not say."""

    id: str
    display_name: str | None = None
    lifecycle: str | None = None
    retires_at: str | None = None
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    structured_outputs: bool | None = None
    batch: bool | None = None


class ChatClient(Protocol):
    """One provider, one key, one address. `send` sends once: no retries, no waiting; that is the caller's business."""

    provider: Provider

    async def send(self, request: Request) -> Answer:
        """Raises CallError (one of its subclasses above)."""
        ...

    async def count_tokens(self, request: Request) -> int | None:
        """Input tokens, exactly as the provider counts; None where it cannot say. Raises CallError."""
        ...

    async def model(self, model: str) -> ModelFacts | None:
        """From the models endpoint, cached; None where the provider does not know it or has no such endpoint."""
        ...

    async def models(self) -> list[ModelFacts]:
        """All models the key may use. Raises CallError."""
        ...

    async def aclose(self) -> None: ...
