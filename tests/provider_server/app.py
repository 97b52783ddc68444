"""Routes, faults and counting: one object, one event loop, no locks."""

import asyncio
import random
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import orjson

from provider_server import answers, batches, chat_completions, messages
from provider_server.billing import charge
from provider_server.http1 import Asked
from provider_server.limits import Buckets
from provider_server.messages import Refused, invalid
from provider_server.options import FAULTS, Options
from provider_server.state import State, digest

JSON = {"content-type": "application/json"}


class App:
    def __init__(self, options: Options) -> None:
        self.options = options
        self.state = State()
        self.buckets = Buckets(options)
        self.rng = random.Random(options.seed)
        self.batches: dict[str, batches.Batch] = {}
        self.base_url = ""
        self.number = 0

    # --- the door ----------------------------------------------------------------------------------------------------

    def handle(self, asked: Asked) -> None:
        self.number += 1
        request_id = f"req_{self.number:012d}"
        try:
            if asked.path.startswith("/_control/"):
                self._control(asked)
            else:
                self._check_key(asked)
                self._route(asked, request_id)
        except Refused as refusal:
            self.state.counts["rejected"] += 1
            self._refuse(asked, refusal, request_id)

    def _refuse(self, asked: Asked, refusal: Refused, request_id: str, headers: dict[str, str] | None = None) -> None:
        body = orjson.dumps(refusal.body(request_id))
        asked.reply(refusal.status, {**JSON, "request-id": request_id, **(headers or {})}, body)

    def _check_key(self, asked: Asked) -> None:
        key = asked.headers.get("x-api-key") or asked.headers.get("authorization", "").removeprefix("Bearer ")
        if asked.path.startswith("/v1/messages") and not asked.headers.get("anthropic-version"):
            raise invalid("anthropic-version: header is required")
        if "invalid" in key or (not key and not asked.path.startswith("/v1/chat")):
            if asked.path.startswith("/v1/chat"):
                raise chat_completions.refused(401, "Incorrect API key provided", "invalid_api_key")
            raise Refused(401, "authentication_error", "invalid x-api-key")

    def _route(self, asked: Asked, request_id: str) -> None:
        match asked.method, asked.path.strip("/").split("/"):
            case "POST", ["v1", "messages"]:
                self._message(asked, request_id)
            case "POST", ["v1", "messages", "count_tokens"]:
                body = self._json(asked)
                self.state.counts["count_tokens"] += 1
                self._send(asked, {"input_tokens": messages.tokens_of(messages.prompt_of(body))}, request_id)
            case "POST", ["v1", "chat", "completions"]:
                self._completion(asked, request_id)
            case "GET", ["v1", "models", *rest]:
                self._models(asked, rest, request_id)
            case method, ["v1", "messages", "batches", *rest]:
                self._batch(method, rest, asked, request_id)
            case _:
                raise Refused(404, "not_found_error", f"Not found: {asked.path}")

    def _json(self, asked: Asked) -> Any:
        try:
            return orjson.loads(asked.body)
        except orjson.JSONDecodeError as error:
            raise invalid(f"The request body is not valid JSON: {error}") from None

    def _send(self, asked: Asked, value: Any, request_id: str) -> None:
        asked.reply(200, {**JSON, "request-id": request_id}, orjson.dumps(value))

    # --- messages and completions ------------------------------------------------------------------------------------

    def _fault(self, body: bytes) -> str | None:
        for fault in self.options.faults:
            if fault.get("times", 1 << 60) > 0 and fault.get("contains", "").encode() in body:
                fault["times"] = fault.get("times", 1 << 60) - 1
                return str(fault["kind"])
        number = self.state.counts["requests"]
        return next((kind for kind, every in self.options.every.items() if number % every == 0), None)

    def _message(self, asked: Asked, request_id: str) -> None:
        body = self._json(asked)

        def make(fault: str | None, seed: int) -> tuple[dict[str, Any], int, int, Decimal | None]:
            told, output = messages.message(body, schema, seed, fault, self.options)
            usage, fresh = messages.use_cache(body, self.state)
            usage |= {"output_tokens": output, "service_tier": "standard", "server_tool_use": None}
            facts = messages.known_models(self.options).get(body["model"])
            self._when_begun(fresh)
            price = charge(facts, usage, batch=False) if facts and "prices" in facts else None
            return {**told, "usage": usage}, usage["input_tokens"], output, price

        schema: dict[str, Any] | None = None

        def checked() -> int:
            nonlocal schema
            schema = messages.check(body, asked.headers, self.options)
            if schema is None:
                schema = answers.schema_in(messages.prompt_of(body))
            return messages.tokens_of(messages.prompt_of(body))

        self._answer(
            asked, request_id, checked, make, self.buckets.anthropic_headers, "prompt is too long: 1 > 0 maximum"
        )

    def _when_begun(self, fresh: list[tuple[str, float]]) -> None:
        """An entry of the prompt cache exists once the first answer begins, not before."""
        loop, now = asyncio.get_running_loop(), time.monotonic()
        for key, life in fresh:
            loop.call_later(self.options.latency_s, self.state.cached.__setitem__, key, now + life)

    def _completion(self, asked: Asked, request_id: str) -> None:
        body = self._json(asked)
        schema: dict[str, Any] | None = None

        def checked() -> int:
            nonlocal schema
            schema, as_json = chat_completions.check(body, self.options)
            if schema is None and (found := answers.schema_in(chat_completions.prompt_of(body))):
                schema = found
            elif schema is None and as_json:
                schema = {"type": "object", "properties": {"answer": {"type": "string"}}}
            return messages.tokens_of(chat_completions.prompt_of(body))

        def make(fault: str | None, seed: int) -> tuple[dict[str, Any], int, int, Decimal | None]:
            told = chat_completions.completion(body, schema, seed, fault, self.options)
            return told, told["usage"]["prompt_tokens"], told["usage"]["completion_tokens"], None

        self._answer(
            asked, request_id, checked, make, self.buckets.openai_headers, "This model's maximum context length is 1"
        )

    def _answer(
        self,
        asked: Asked,
        request_id: str,
        checked: Callable[[], int],
        make: Callable[[str | None, int], tuple[dict[str, Any], int, int, Decimal | None]],
        headers: Callable[[], dict[str, str]],
        too_long: str,
    ) -> None:
        state, options = self.state, self.options
        state.counts["requests"] += 1
        now = time.time()
        state.first_at = state.first_at or now
        state.last_at = now
        input_tokens = checked()
        fault = self._fault(asked.body)
        if fault in ("429", "529", "500", "overflow", "rejected"):
            state.counts[f"fault {fault}"] += 1
            self._fail(asked, request_id, fault, headers(), too_long)
            return
        if (empty := self.buckets.admit(input_tokens)) is not None:
            state.counts[f"empty {empty}"] += 1
            self._fail(asked, request_id, "429", headers(), too_long)
            return
        told_headers = headers()
        name = digest(asked.body)
        state.note(name, {"sha256": name, "path": asked.path, "body": asked.body, "headers": asked.headers, "at": now},
                   options.keep_bodies)  # fmt: skip
        # The same body asked again is answered differently: so a retry of a bad answer can succeed.
        seed = int(name[:15], 16) + state.bodies[name] - 1
        value, _, output, price = make(fault, seed)
        self.buckets.spend_output(output)
        if price is None:
            state.unpriced += 1
        else:
            state.usd += price
        if fault is not None:
            state.counts[f"fault {fault}"] += 1
        state.counts["output_tokens"] += output
        state.in_flight += 1
        state.peak_in_flight = max(state.peak_in_flight, state.in_flight)
        body = orjson.dumps(value)
        latency = options.tail_s if options.tail_share and self.rng.random() < options.tail_share else options.latency_s

        def leave() -> None:
            state.in_flight -= 1
            state.last_at = time.time()
            if fault == "reset":
                asked.reset()
                return
            state.counts["answered"] += 1
            again = headers() if options.remaining_told == "reply" else told_headers
            sent = body[: len(body) // 2] if fault == "malformed" else body
            asked.reply(200, {**JSON, "request-id": request_id, **again}, sent)

        if fault == "hang":
            return
        asyncio.get_running_loop().call_later(latency, leave)

    def _fail(self, asked: Asked, request_id: str, fault: str, headers: dict[str, str], too_long: str) -> None:
        chat = asked.path.startswith("/v1/chat")
        refuse = chat_completions.refused if chat else Refused
        match fault:
            case "429":
                self.state.counts["throttled"] += 1
                refusal = Refused(429, "rate_limit_error", "This request would exceed your rate limit.")
                if self.options.retry_after_s is not None:
                    headers["retry-after"] = f"{self.options.retry_after_s:g}"
            case "529":
                self.state.counts["overloaded"] += 1
                refusal = Refused(529, "overloaded_error", "Overloaded")
            case "500":
                refusal = Refused(500, "api_error", "Internal server error")
            case "overflow":
                code = "context_length_exceeded" if chat else "invalid_request_error"
                refusal = refuse(400, code, too_long)
            case _:
                refusal = refuse(400, "invalid_request_error", "This request is not acceptable.")
        if chat:
            refusal = chat_completions.OpenAIRefused(refusal.status, refusal.kind, refusal.message)
        self._refuse(asked, refusal, request_id, headers)

    # --- models ------------------------------------------------------------------------------------------------------

    def _models(self, asked: Asked, rest: list[str], request_id: str) -> None:
        self.state.counts["models"] += 1
        if not self.options.models_endpoint:
            raise Refused(404, "not_found_error", "Not found: /v1/models")
        if "anthropic-version" not in asked.headers:
            listed = [{"id": name, "object": "model", "owned_by": "local"} for name in self.options.openai_models]
            self._send(asked, {"object": "list", "data": listed}, request_id)
            return
        known = messages.known_models(self.options)
        if rest:
            if rest[0] not in known:
                raise Refused(404, "not_found_error", f"model: {rest[0]}")
            self._send(asked, messages.model_info(rest[0], self.options), request_id)
            return
        data = [messages.model_info(name, self.options) for name in known]
        told = {"data": data, "has_more": False, "first_id": data[0]["id"], "last_id": data[-1]["id"]}
        self._send(asked, told, request_id)

    # --- batches -----------------------------------------------------------------------------------------------------

    def _batch(self, method: str, rest: list[str], asked: Asked, request_id: str) -> None:
        match method, rest:
            case "POST", []:
                made = batches.Batch(f"msgbatch_{len(self.batches) + 1:08d}", batches.check(self._json(asked)))
                self.batches[made.id] = made
                self.state.counts["batches"] += 1
                asyncio.get_running_loop().call_later(self.options.batch_s, self._end, made)
                if self.options.batch_create_lost > 0:
                    self.options.batch_create_lost -= 1
                    asked.reset()
                    return
                self._send(asked, made.told(self.base_url), request_id)
            case "GET", []:
                self._send(asked, batches.page(list(self.batches.values()), asked.query, self.base_url), request_id)
            case _, [name, *_] if name not in self.batches or batches.gone_missing(self.batches[name], self.options):
                raise Refused(404, "not_found_error", f"Message batch {name} not found")
            case "GET", [name]:
                self._send(asked, self.batches[name].told(self.base_url), request_id)
            case "POST", [name, "cancel"]:
                self.batches[name].cancelled = self.batches[name].ended_at is None
                self._send(asked, self.batches[name].told(self.base_url), request_id)
            case "GET", [name, "results"]:
                batch = self.batches[name]
                if batch.ended_at is None:
                    raise Refused(404, "not_found_error", f"Message batch {name} has no results yet")
                lines = b"".join(line + b"\n" for line in batch.results)
                asked.reply(200, {"content-type": "application/x-jsonl", "request-id": request_id}, lines)
            case "DELETE", [name]:
                del self.batches[name]
                self._send(asked, {"id": name, "type": "message_batch_deleted"}, request_id)
            case _:
                raise Refused(405, "invalid_request_error", "Method not allowed")

    def _end(self, batch: batches.Batch) -> None:
        if self.batches.get(batch.id) is not batch:
            return  # Deleted, or the server was reset: it counts for nobody any more.
        batch.end(self._batch_answer, self.rng)

    def _batch_answer(self, params: dict[str, Any]) -> tuple[str, Any]:
        self.state.counts["batch_requests"] += 1
        self.state.counts["requests"] += 1
        body = orjson.dumps(params)
        # The beta form's header travels with the batch, not with its items.
        headers = {"anthropic-version": "2026-10-21", "anthropic-beta": messages.BETA}
        try:
            schema = messages.check(params, headers, self.options) or answers.schema_in(messages.prompt_of(params))
        except Refused as refusal:
            return "errored", refusal.body("")
        fault = self._fault(body)
        if fault == "expired":
            return "expired", None
        if fault in ("errored", "500", "529", "429", "overflow", "rejected"):
            kind = "invalid_request_error" if fault in ("errored", "overflow", "rejected") else "api_error"
            text = "prompt is too long: 1 > 0 maximum" if fault == "overflow" else "It could not be processed."
            return "errored", Refused(400, kind, text).body("")
        name = digest(body)
        self.state.note(name, {"sha256": name, "path": "batch", "body": body, "headers": {}, "at": time.time()},
                        self.options.keep_bodies)  # fmt: skip
        seed = int(name[:15], 16) + self.state.bodies[name] - 1
        told, output = messages.message(params, schema, seed, fault, self.options)
        usage, _ = messages.use_cache(params, self.state)
        usage |= {"output_tokens": output, "service_tier": "batch", "server_tool_use": None}
        facts = messages.known_models(self.options).get(params["model"])
        self.state.usd += charge(facts, usage, batch=True)
        self.state.counts["answered"] += 1
        return "succeeded", {**told, "usage": usage}

    # --- control -----------------------------------------------------------------------------------------------------

    def _control(self, asked: Asked) -> None:
        match asked.path.removeprefix("/_control/"):
            case "stats":
                asked.reply(200, JSON, orjson.dumps(self.state.told()))
            case "requests":
                kept = list(self.state.recent)[-int(asked.query.get("limit", ["10000"])[0]) :]
                told = [{**entry, "body": entry["body"].decode()} for entry in kept]
                asked.reply(200, JSON, orjson.dumps(told))
            case "options":
                try:
                    self.options.update(orjson.loads(asked.body))
                except KeyError as error:
                    asked.reply(400, JSON, orjson.dumps({"error": str(error)}))
                    return
                self.buckets.rebuild()
                asked.reply(200, JSON, b"{}")
            case "reset":
                self.state = State()
                self.batches.clear()
                self.options.__init__()  # type: ignore[misc]
                self.options.update(orjson.loads(asked.body or b"{}"))
                self.buckets.rebuild()
                self.rng = random.Random(self.options.seed)
                asked.reply(200, JSON, b"{}")
            case "faults":
                asked.reply(200, JSON, orjson.dumps(FAULTS))
            case _:
                asked.reply(404, JSON, b"{}")
