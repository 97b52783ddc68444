"""Claude's Messages: what the real endpoint checks, answers and refuses."""

import math
import re
import time
from typing import Any

import orjson

from provider_server import answers
from provider_server.billing import load_models
from provider_server.options import Options
from provider_server.state import State

MODELS = load_models()
SAMPLING = ("temperature", "top_p", "top_k")
SAMPLING_REFUSED_SINCE = "2026-10-21"
BETA = "structured-outputs-2025-11-13"
UNSUPPORTED = {"minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "maxItems",
               "multipleOf", "uniqueItems", "oneOf", "not", "patternProperties"}  # fmt: skip
KNOWN = {"model", "max_tokens", "messages", "system", "metadata", "stop_sequences", "stream", "tools", "tool_choice",
         "thinking", "output_config", "cache_control", "service_tier", "inference_geo", "container",
         "context_management", "diagnostics", "mcp_servers", "speed", *SAMPLING}  # fmt: skip
NEWEST = re.compile(r"-5-\d$")


class Refused(Exception):
    """An HTTP error of the provider's."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind, self.message = status, kind, message

    def body(self, request_id: str) -> dict[str, Any]:
        return {"type": "error", "error": {"type": self.kind, "message": self.message}, "request_id": request_id}


def invalid(message: str) -> Refused:
    return Refused(400, "invalid_request_error", message)


def tokens_of(text: str) -> int:
    return math.ceil(len(text.encode()) / 4)


def blocks(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content or [])


def prompt_of(body: dict[str, Any]) -> str:
    parts = [block.get("text", "") for block in blocks(body.get("system"))]
    for message in body["messages"]:
        parts.extend(block.get("text", "") for block in blocks(message.get("content")))
    return "\n".join(parts)


def known_models(options: Options) -> dict[str, dict[str, Any]]:
    return {**MODELS, **{name: {} for name in [*options.beta_only, *options.unstructured]}}


def check(body: Any, headers: dict[str, str], options: Options) -> dict[str, Any] | None:
    """The JSON schema asked for, or None. Raises Refused exactly where the real endpoint does."""
    if not isinstance(body, dict):
        raise invalid("Input should be a valid dictionary")
    for name in ("model", "max_tokens", "messages"):
        if name not in body:
            raise invalid(f"{name}: Field required")
    beta = BETA in headers.get("anthropic-beta", "")
    allowed = KNOWN | ({"output_format"} if beta else set())
    for name in body:
        if name not in allowed:
            raise invalid(f"{name}: Extra inputs are not permitted")
    model = body["model"]
    models = known_models(options)
    if model not in models and not options.any_model:
        raise Refused(404, "not_found_error", f"model: {model}")
    facts = models.get(model, {})
    if headers.get("anthropic-version", "") >= SAMPLING_REFUSED_SINCE or NEWEST.search(model):
        for name in SAMPLING:
            if name in body:
                raise invalid(f"{name}: Extra inputs are not permitted")
    if not isinstance(body["max_tokens"], int) or body["max_tokens"] < 1:
        raise invalid("max_tokens: Input should be greater than or equal to 1")
    if body["max_tokens"] > facts.get("max_output", 128_000):
        raise invalid(f"max_tokens: {body['max_tokens']} > {facts['max_output']}, which is the maximum allowed number")
    messages = body["messages"]
    if not messages or messages[0].get("role") != "user":
        raise invalid('messages: first message must use the "user" role')
    for message in messages:
        if message.get("role") not in ("user", "assistant"):
            raise invalid("messages: Unexpected role")
        if any(not block.get("text", "x").strip() for block in blocks(message.get("content"))):
            raise invalid("messages: text content blocks must contain non-whitespace text")
    if messages[-1]["role"] == "assistant" and NEWEST.search(model):
        raise invalid("This model does not support assistant message prefill.")
    if (body.get("tool_choice") or {}).get("type") in ("any", "tool") and NEWEST.search(model):
        raise invalid("tool_choice forces tool use is not supported by this model.")
    marks = [block for block in blocks(body.get("system")) if "cache_control" in block]
    if len(marks) > 4:
        raise invalid("A maximum of 4 blocks with cache_control may be provided.")
    schema = _schema_asked_for(body, model, beta, options)
    most = options.context_tokens or facts.get("context", 200_000)
    if (count := tokens_of(prompt_of(body))) > most:
        raise invalid(f"prompt is too long: {count} tokens > {most} maximum")
    return schema


def _schema_asked_for(body: dict[str, Any], model: str, beta: bool, options: Options) -> dict[str, Any] | None:
    today = (body.get("output_config") or {}).get("format")
    earlier = body.get("output_format")
    if today is not None and earlier is not None:
        raise invalid("output_format and output_config.format cannot both be set")
    if model in options.unstructured and (today or earlier or "output_config" in body):
        raise invalid(f"'{model}' does not support output format.")
    if "output_config" in body and model in options.beta_only:
        raise invalid("output_config: Extra inputs are not permitted")
    asked = today or earlier
    if asked is None:
        return None
    if asked.get("type") != "json_schema" or not isinstance(asked.get("schema"), dict):
        raise invalid("output_config.format: Input should be a json_schema format with a schema")
    check_schema(asked["schema"], "output_config.format.schema")
    return asked["schema"]  # type: ignore[no-any-return]


def check_schema(schema: dict[str, Any], path: str) -> None:
    if bad := sorted(UNSUPPORTED & schema.keys()):
        raise invalid(f"{path}: For '{schema.get('type')}' type, property '{bad[0]}' is not supported")
    if schema.get("type") == "object":
        if schema.get("additionalProperties") is not False:
            raise invalid(f"{path}: For 'object' type, 'additionalProperties' must be explicitly set to false")
        for name, part in schema.get("properties", {}).items():
            check_schema(part, f"{path}.properties.{name}")
    if schema.get("type") == "array":
        if schema.get("minItems", 0) not in (0, 1):
            raise invalid(f"{path}: For 'array' type, 'minItems' values other than 0 or 1 are not supported")
        if isinstance(schema.get("items"), dict):
            check_schema(schema["items"], f"{path}.items")


def cache_parts(body: dict[str, Any]) -> list[tuple[str, int, str]]:
    """(key of the prefix, its tokens, lifetime) of every cache mark in the system part, in order."""
    parts, text = [], body["model"]
    for block in blocks(body.get("system")):
        text += "\0" + block.get("text", "")
        if (mark := block.get("cache_control")) is not None:
            parts.append((text, tokens_of(text), mark.get("ttl", "5m")))
    return parts


def use_cache(body: dict[str, Any], state: State) -> tuple[dict[str, Any], list[tuple[str, float]]]:
    """(usage of the input, entries that exist once the answer begins)."""
    total = tokens_of(prompt_of(body))
    floor = MODELS.get(body["model"], {}).get("cache_floor", 1024)
    now = time.monotonic()
    read, written, fresh = 0, {"5m": 0, "1h": 0}, []
    reached = 0
    for key, count, ttl in cache_parts(body):
        if count < floor:
            continue
        life = 300.0 if ttl == "5m" else 3600.0
        if state.cached.get(key, 0.0) > now and not fresh:
            read, reached = count, count
            state.cached[key] = now + life
        else:
            written[ttl] += count - reached
            reached = count
            fresh.append((key, life))
    usage = {
        "input_tokens": max(0, total - reached),
        "cache_creation_input_tokens": sum(written.values()),
        "cache_read_input_tokens": read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": written["5m"],
            "ephemeral_1h_input_tokens": written["1h"],
        },
    }
    return usage, fresh


def message(
    body: dict[str, Any], schema: dict[str, Any] | None, seed: int, fault: str | None, options: Options
) -> tuple[dict[str, Any], int]:
    """(the message without its input usage, output tokens)."""
    stop, details = "end_turn", None
    content: list[dict[str, Any]] = []
    if fault == "refusal":
        stop = "refusal"
        details = {"type": "refusal", "category": options.refusal_category, "explanation": "The request was declined."}
        output = 5
    else:
        text = answers.write(prompt_of(body), schema, seed, fault, options)
        output = tokens_of(text)
        if output > body["max_tokens"] and fault is None:
            text, fault = text[: body["max_tokens"] * 4], "truncated"
        if fault == "truncated":
            stop, output = "max_tokens", body["max_tokens"]
        if fault == "overflow_stop":
            stop, text = "model_context_window_exceeded", text[: len(text) // 2]
        if options.thinking_block:
            content.append({"type": "thinking", "thinking": "The person wants a conversation.", "signature": "c2ln"})
            output += 10
        content.append({"type": "text", "text": text})
    return {
        "id": f"msg_{seed:016x}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "stop_details": details,
    }, output


def model_info(name: str, options: Options) -> dict[str, Any]:
    facts = known_models(options).get(name, {})
    yes, no = {"supported": True}, {"supported": False}
    structured = name not in [*options.beta_only, *options.unstructured]
    return {
        "type": "model",
        "id": name,
        "display_name": facts.get("name", name),
        "created_at": f"{facts.get('released', '2026-01-01')}T00:00:00Z",
        "lifecycle": "deprecated" if "retires" in facts else "active",
        "deprecated_at": None,
        "retires_at": f"{facts['retires']}T00:00:00Z" if "retires" in facts else None,
        "line": None,
        "max_input_tokens": options.context_tokens or facts.get("context", 200_000),
        "max_tokens": facts.get("max_output", 64_000),
        "capabilities": {
            "batch": yes,
            "citations": yes,
            "code_execution": no,
            "context_management": no,
            "effort": yes if structured else no,
            "image_input": yes,
            "pdf_input": yes,
            "server_tools": no,
            "structured_outputs": yes if structured else no,
            "thinking": yes,
        },
    }


def dumps(value: Any) -> bytes:
    return orjson.dumps(value)
