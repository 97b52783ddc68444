"""Claude, through Anthropic's own library: one send is one request, without its retries."""

import asyncio
import time
from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import httpx2
import orjson
from anthropic import APIConnectionError, APIStatusError, AsyncAnthropic, DefaultAsyncHttpxClient, transform_schema

from brightrun.llm.calls import (
    Answer,
    CallError,
    Limits,
    ModelFacts,
    Provider,
    ProviderUnusable,
    RejectedError,
    Request,
    StopReason,
    Usage,
)
from brightrun.llm.transport import transport_for
from brightrun.llm.wire import (
    SCHEMA_WORDS,
    broken_answer,
    bucket,
    connections,
    network_error,
    status_error,
    without_fence,
)

BETA = "structured-outputs-2025-11-13"
_KEY_HINT = "Put one that works under Settings › Providers, or into ANTHROPIC_API_KEY."
_STOPS = {
    "end_turn": StopReason.END,
    "stop_sequence": StopReason.END,
    "max_tokens": StopReason.MAX_TOKENS,
    "refusal": StopReason.REFUSAL,
    "model_context_window_exceeded": StopReason.CONTEXT,
}


class SchemaForm(Enum):
    """How a model is told the schema of its answer."""

    TODAY = "output_config"
    BETA = "output_format"
    PROMPT = "prompt"


class Claude:
    """One key, one address. What a model can is asked of the models endpoint and kept; where the endpoint is silent,
    a refusal of one form teaches the next (a refused request is not charged)."""

    provider = Provider.ANTHROPIC

    def __init__(
        self, api_key: str, *, base_url: str | None = None, connections_most: int = 128, timeout_s: float = 600.0
    ) -> None:
        timeout = httpx2.Timeout(timeout_s, connect=10.0, pool=None)
        self.sdk = AsyncAnthropic(
            api_key=api_key,
            base_url=(base_url or "https://api.anthropic.com").rstrip("/"),
            max_retries=0,
            timeout=timeout,
            http_client=DefaultAsyncHttpxClient(
                limits=connections(connections_most), timeout=timeout, transport=transport_for(connections_most)
            ),
            open_telemetry=False,
        )
        self.address = str(self.sdk.base_url).rstrip("/")
        self._facts: dict[str, ModelFacts | None] = {}
        self._forms: dict[str, SchemaForm] = {}
        self._asking = asyncio.Lock()

    # --- bodies ------------------------------------------------------------------------------------------------------

    async def form(self, model: str) -> SchemaForm:
        if model not in self._forms:
            facts = await self.model(model)
            known = facts.structured_outputs if facts is not None else None
            self._forms.setdefault(model, SchemaForm.BETA if known is False else SchemaForm.TODAY)
        return self._forms[model]

    def body(self, request: Request, form: SchemaForm) -> dict[str, Any]:
        """What is sent: the stable system part first and marked for the cache, the variable part last."""
        body: dict[str, Any] = {"model": request.model, "max_tokens": request.max_tokens}
        system: list[dict[str, Any]] = []
        for block in request.system:
            part: dict[str, Any] = {"type": "text", "text": block.text}
            if block.cache is not None:
                part["cache_control"] = {"type": "ephemeral", "ttl": block.cache}
            system.append(part)
        output: dict[str, Any] = {}
        if request.schema is not None:
            match form:
                case SchemaForm.TODAY:
                    output["format"] = {"type": "json_schema", "schema": _narrowed(_dumped(request.schema))}
                case SchemaForm.BETA:
                    body["output_format"] = {"type": "json_schema", "schema": _narrowed(_dumped(request.schema))}
                case SchemaForm.PROMPT:
                    system.append({"type": "text", "text": (SCHEMA_WORDS + _dumped(request.schema).decode()).strip()})
        if request.effort is not None:
            output["effort"] = request.effort
        if system:
            body["system"] = system
        body["messages"] = [{"role": message.role, "content": message.content} for message in request.messages]
        if output:
            body["output_config"] = output
        return body | dict(request.extra)

    # --- calls -------------------------------------------------------------------------------------------------------

    async def send(self, request: Request) -> Answer:
        form = await self.form(request.model) if request.schema is not None else SchemaForm.TODAY
        while True:
            try:
                return await self._send(request, form)
            except RejectedError as error:
                if (next_form := _after(form, request, error)) is None:
                    raise
                self._forms[request.model] = form = next_form

    async def _send(self, request: Request, form: SchemaForm) -> Answer:
        headers = {"anthropic-beta": BETA} if request.schema is not None and form is SchemaForm.BETA else {}
        started = time.perf_counter()
        response = await self.post("/v1/messages", orjson.dumps(self.body(request, form)), headers)
        limits = told_limits(response.headers)
        request_id = response.headers.get("request-id")
        raw = response.text
        try:
            message = orjson.loads(response.content)
        except orjson.JSONDecodeError as error:
            raise broken_answer(raw, f"no JSON: {error}", request_id, limits) from None
        duration = time.perf_counter() - started
        unfence = request.schema is not None and form is SchemaForm.PROMPT
        return read_message(message, raw, request_id=request_id, limits=limits, duration_s=duration, unfence=unfence)

    async def post(self, path: str, content: bytes, headers: Mapping[str, str] | None = None) -> httpx2.Response:
        sent = {"content-type": "application/json", **(headers or {})}
        return await self._call(
            self.sdk.post(path, cast_to=httpx2.Response, content=content, options={"headers": sent})
        )

    async def get(self, path: str) -> httpx2.Response:
        return await self._call(self.sdk.get(path, cast_to=httpx2.Response))

    async def _call(self, call: Any) -> httpx2.Response:
        try:
            response: httpx2.Response = await call
            return response
        except APIStatusError as error:
            raise self.translated(error.response) from None
        except APIConnectionError as error:
            cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
            raise network_error(cause, self.address) from error
        except httpx2.HTTPError as error:  # While the body is read.
            raise network_error(error, self.address) from error

    def translated(self, response: httpx2.Response) -> CallError:
        return status_error(response, told_limits(response.headers), key_hint=_KEY_HINT)

    async def count_tokens(self, request: Request) -> int | None:
        form = await self.form(request.model) if request.schema is not None else SchemaForm.TODAY
        body = self.body(request, form)
        for name in ("max_tokens", *request.extra):
            body.pop(name, None)
        headers = {"anthropic-beta": BETA} if "output_format" in body else {}
        response = await self.post("/v1/messages/count_tokens", orjson.dumps(body), headers)
        return int(orjson.loads(response.content)["input_tokens"])

    async def model(self, model: str) -> ModelFacts | None:
        if model in self._facts:
            return self._facts[model]
        async with self._asking:
            if model in self._facts:
                return self._facts[model]
            try:
                response = await self.get(f"/v1/models/{quote(model, safe='')}")
                self._facts[model] = read_model(orjson.loads(response.content))
            except ProviderUnusable as error:
                if error.http_status != 404:
                    raise
                self._facts[model] = None
            except (CallError, orjson.JSONDecodeError):
                return None  # Not known now; asked again the next time.
        return self._facts[model]

    async def models(self) -> list[ModelFacts]:
        found: list[ModelFacts] = []
        after = ""
        while True:
            page = orjson.loads((await self.get(f"/v1/models?limit=1000{after}")).content)
            found.extend(read_model(entry) for entry in page.get("data", ()))
            if not page.get("has_more") or not page.get("last_id"):
                return found
            after = f"&after_id={quote(page['last_id'], safe='')}"

    async def aclose(self) -> None:
        await self.sdk.close()


def _dumped(schema: Mapping[str, Any]) -> bytes:
    return orjson.dumps(dict(schema))


@lru_cache(maxsize=64)
def _narrowed(schema: bytes) -> dict[str, Any]:
    """The schema in the subset that the provider compiles; what it cannot hold goes into descriptions."""
    return transform_schema(orjson.loads(schema))


def _after(form: SchemaForm, request: Request, error: RejectedError) -> SchemaForm | None:
    """The form to try next when the provider says that it does not know this one; None when it says something else."""
    if request.schema is None:
        return None
    said = error.message.lower()
    unknown = "not permitted" in said or "not support" in said or "unexpected" in said or "unknown" in said
    names = "output_config" in said or "output_format" in said or "output format" in said or "structured" in said
    if not (unknown and names):
        return None
    return {SchemaForm.TODAY: SchemaForm.BETA, SchemaForm.BETA: SchemaForm.PROMPT}.get(form)


def told_limits(headers: Mapping[str, str]) -> Limits | None:
    def one(name: str) -> Any:
        prefix = f"anthropic-ratelimit-{name}-"
        return bucket(headers, prefix + "limit", prefix + "remaining", prefix + "reset")

    limits = Limits(one("requests"), one("input-tokens"), one("output-tokens"))
    return None if limits == Limits() else limits


def read_usage(usage: Mapping[str, Any]) -> Usage:
    created = usage.get("cache_creation") or {}
    hour = int(created.get("ephemeral_1h_input_tokens") or 0)
    five = int(created.get("ephemeral_5m_input_tokens") or 0)
    written = int(usage.get("cache_creation_input_tokens") or 0)
    return Usage(
        input_tokens=int(usage["input_tokens"]),
        output_tokens=int(usage["output_tokens"]),
        cache_read_tokens=int(usage.get("cache_read_input_tokens") or 0),
        # Without the breakdown, all of it is the five-minute kind, which is the default.
        cache_write_5m_tokens=five if five or hour else written,
        cache_write_1h_tokens=hour,
        service_tier=usage.get("service_tier"),
        inference_geo=usage.get("inference_geo"),
    )


def read_message(
    message: Any,
    raw: str,
    *,
    request_id: str | None = None,
    limits: Limits | None = None,
    duration_s: float = 0.0,
    unfence: bool = False,
) -> Answer:
    """An Answer from a message's JSON. The text is that of the first text block: thinking may stand before it.

    Raises ConnectionBroken for JSON that is no message.
    """
    try:
        blocks = [block for block in message["content"] if block["type"] == "text"]
        text = blocks[0]["text"] if blocks else ""
        usage = read_usage(message["usage"])
        said = message.get("stop_reason")
        details = message.get("stop_details") or {}
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise broken_answer(raw, f"no message: {error!r}", request_id, limits) from None
    return Answer(
        raw=raw,
        text=without_fence(text) if unfence else text,
        stop_reason=_STOPS.get(said, StopReason.OTHER),
        stop_said=said,
        usage=usage,
        model=str(message.get("model", "")),
        refusal_category=details.get("category"),
        refusal_explanation=details.get("explanation"),
        message_id=message.get("id"),
        request_id=request_id,
        limits=limits,
        duration_s=duration_s,
    )


def read_model(entry: Mapping[str, Any]) -> ModelFacts:
    capabilities = entry.get("capabilities") or {}

    def supported(name: str) -> bool | None:
        told = capabilities.get(name)
        return told.get("supported") if isinstance(told, Mapping) else None

    return ModelFacts(
        id=str(entry["id"]),
        display_name=entry.get("display_name"),
        lifecycle=entry.get("lifecycle"),
        retires_at=entry.get("retires_at"),
        max_input_tokens=entry.get("max_input_tokens"),
        max_output_tokens=entry.get("max_tokens"),
        structured_outputs=supported("structured_outputs"),
        batch=supported("batch"),
    )
