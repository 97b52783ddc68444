"""Any server that speaks OpenAI's chat completions: vLLM, Ollama, llama.cpp, or OpenAI itself."""

import time
from collections.abc import Mapping
from enum import Enum
from typing import Any

import httpx2
import orjson

from brightrun.llm.calls import (
    Answer,
    Limits,
    ModelFacts,
    Provider,
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

_KEY_HINT = "Put one that works under Settings › Providers, or into OPENAI_API_KEY."
_STOPS = {"stop": StopReason.END, "length": StopReason.MAX_TOKENS, "content_filter": StopReason.REFUSAL}


class AnswerForm(Enum):
    """How the server is told the schema, the strictest first."""

    SCHEMA = "json_schema"
    OBJECT = "json_object"
    PROMPT = "prompt"


class OpenAICompatible:
    """One address, with its `/v1`, and a key where it wants one. The forms a server knows are learnt from what it
    refuses: there is no endpoint that tells."""

    provider = Provider.OPENAI

    def __init__(
        self, base_url: str, api_key: str | None, *, connections_most: int = 128, timeout_s: float = 600.0
    ) -> None:
        self.address = base_url.rstrip("/")
        headers = {"content-type": "application/json"}
        if api_key:
            headers["authorization"] = f"Bearer {api_key}"
        self._http = httpx2.AsyncClient(
            headers=headers,
            limits=connections(connections_most),
            timeout=httpx2.Timeout(timeout_s, connect=10.0, pool=None),
            transport=transport_for(connections_most),
        )
        self._forms: dict[str, AnswerForm] = {}
        self._new_limit_name: set[str] = set()
        self._models: list[ModelFacts] | None = None

    def body(self, request: Request, form: AnswerForm) -> dict[str, Any]:
        system = "\n\n".join(block.text for block in request.system)
        if request.schema is not None and form is not AnswerForm.SCHEMA:
            system += SCHEMA_WORDS + orjson.dumps(dict(request.schema)).decode()
        messages = [{"role": "system", "content": system.strip()}] if system else []
        messages.extend({"role": message.role, "content": message.content} for message in request.messages)
        limit = "max_completion_tokens" if request.model in self._new_limit_name else "max_tokens"
        body: dict[str, Any] = {"model": request.model, "messages": messages, limit: request.max_tokens}
        if request.schema is not None:
            match form:
                case AnswerForm.SCHEMA:
                    asked = {"name": request.schema_name, "schema": dict(request.schema), "strict": True}
                    body["response_format"] = {"type": "json_schema", "json_schema": asked}
                case AnswerForm.OBJECT:
                    body["response_format"] = {"type": "json_object"}
                case AnswerForm.PROMPT:
                    pass
        if request.effort is not None:
            body["reasoning_effort"] = request.effort
        return body | dict(request.extra)

    async def send(self, request: Request) -> Answer:
        while True:
            form = self._forms.get(request.model, AnswerForm.SCHEMA)
            try:
                return await self._send(request, form)
            except RejectedError as error:
                if not self._learn(request, form, error):
                    raise

    def _learn(self, request: Request, form: AnswerForm, error: RejectedError) -> bool:
        """Whether the refusal says how to ask otherwise."""
        said = f"{error.message} {error.raw or ''}".lower()
        if "max_completion_tokens" in said and request.model not in self._new_limit_name:
            self._new_limit_name.add(request.model)
            return True
        if request.schema is None or form is AnswerForm.PROMPT:
            return False
        if not any(words in said for words in ("response_format", "json_schema", "json_object", "grammar")):
            return False
        weaker = AnswerForm.OBJECT if form is AnswerForm.SCHEMA else AnswerForm.PROMPT
        if self._forms.get(request.model, AnswerForm.SCHEMA) is form:  # Others may have learnt it meanwhile.
            self._forms[request.model] = weaker
        return True

    async def _send(self, request: Request, form: AnswerForm) -> Answer:
        started = time.perf_counter()
        response = await self._call("POST", "/chat/completions", orjson.dumps(self.body(request, form)))
        limits, request_id = told_limits(response.headers), response.headers.get("x-request-id")
        raw = response.text
        try:
            completion = orjson.loads(response.content)
        except orjson.JSONDecodeError as error:
            raise broken_answer(raw, f"no JSON: {error}", request_id, limits) from None
        duration = time.perf_counter() - started
        unfence = request.schema is not None and form is not AnswerForm.SCHEMA
        return read_completion(completion, raw, request_id, limits, duration, unfence=unfence)

    async def _call(self, method: str, path: str, content: bytes | None = None) -> httpx2.Response:
        try:
            response = await self._http.request(method, self.address + path, content=content)
        except httpx2.HTTPError as error:
            raise network_error(error, self.address) from error
        if response.status_code >= 400:
            raise status_error(response, told_limits(response.headers), key_hint=_KEY_HINT)
        return response

    async def count_tokens(self, request: Request) -> int | None:
        return None

    async def model(self, model: str) -> ModelFacts | None:
        return next((facts for facts in await self.models() if facts.id == model), None)

    async def models(self) -> list[ModelFacts]:
        if self._models is None:
            listed = orjson.loads((await self._call("GET", "/models")).content)
            self._models = [
                ModelFacts(id=str(entry["id"]), max_input_tokens=entry.get("max_model_len"))
                for entry in listed.get("data", ())
            ]
        return self._models

    async def aclose(self) -> None:
        await self._http.aclose()


def told_limits(headers: Mapping[str, str]) -> Limits | None:
    def one(name: str) -> Any:
        return bucket(
            headers, f"x-ratelimit-limit-{name}", f"x-ratelimit-remaining-{name}", f"x-ratelimit-reset-{name}"
        )

    limits = Limits(requests=one("requests"), input_tokens=one("tokens"))
    return None if limits == Limits() else limits


def read_completion(
    completion: Any,
    raw: str,
    request_id: str | None = None,
    limits: Limits | None = None,
    duration_s: float = 0.0,
    *,
    unfence: bool = False,
) -> Answer:
    """Raises ConnectionBroken for JSON that is no completion."""
    try:
        choice = completion["choices"][0]
        message = choice["message"]
        usage = completion.get("usage") or {}
        cached = int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
        refusal = message.get("refusal")
        text = message.get("content") or ""
        said = choice.get("finish_reason")
        counted = Usage(int(usage["prompt_tokens"]) - cached, int(usage["completion_tokens"]), cache_read_tokens=cached)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise broken_answer(raw, f"no completion: {error!r}", request_id, limits) from None
    return Answer(
        raw=raw,
        text=without_fence(text) if unfence else text,
        stop_reason=StopReason.REFUSAL if refusal else _STOPS.get(said, StopReason.OTHER),
        stop_said=said,
        usage=counted,
        model=str(completion.get("model", "")),
        refusal_explanation=refusal,
        message_id=completion.get("id"),
        request_id=request_id,
        limits=limits,
        duration_s=duration_s,
    )
