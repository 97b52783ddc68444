"""OpenAI's chat completions, as vLLM, Ollama or llama.cpp serve them."""

from typing import Any

from provider_server import answers
from provider_server.messages import Refused, blocks, tokens_of
from provider_server.options import Options


def refused(status: int, message: str, code: str | None = None) -> Refused:
    return OpenAIRefused(status, code or "invalid_request_error", message)


class OpenAIRefused(Refused):
    def body(self, request_id: str) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": "invalid_request_error", "param": None, "code": self.kind}}


def prompt_of(body: dict[str, Any]) -> str:
    return "\n".join(block.get("text", "") for message in body["messages"] for block in blocks(message["content"]))


def check(body: Any, options: Options) -> tuple[dict[str, Any] | None, bool]:
    """(schema, JSON wanted)."""
    if not isinstance(body, dict) or "model" not in body or not body.get("messages"):
        raise refused(400, "you must provide model and messages")
    if body["model"] not in options.openai_models and not options.any_model:
        raise refused(404, f"The model `{body['model']}` does not exist", "model_not_found")
    most = options.context_tokens or 128_000
    if (count := tokens_of(prompt_of(body))) > most:
        raise refused(
            400,
            f"This model's maximum context length is {most} tokens. However, your messages resulted in {count} tokens.",
            "context_length_exceeded",
        )
    form = body.get("response_format") or {}
    match form.get("type"):
        case None | "text":
            return None, False
        case "json_object" if options.openai_json_object:
            return None, True
        case "json_schema" if options.openai_json_schema:
            return form["json_schema"]["schema"], True
        case other:
            raise refused(400, f"Invalid value: '{other}' for response_format.type", "unsupported_value")


def completion(
    body: dict[str, Any], schema: dict[str, Any] | None, seed: int, fault: str | None, options: Options
) -> dict[str, Any]:
    text = answers.write(prompt_of(body), schema, seed, fault, options)
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    if limit is not None and tokens_of(text) > limit and fault is None:
        text, fault = text[: limit * 4], "truncated"
    finish = {"truncated": "length", "refusal": "content_filter"}.get(fault or "", "stop")
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if fault == "refusal":
        message |= {"content": None, "refusal": "I cannot help with that."}
    prompt, output = tokens_of(prompt_of(body)), tokens_of(text)
    return {
        "id": f"chatcmpl-{seed:016x}",
        "object": "chat.completion",
        "created": 1_795_000_000,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": output,
            "total_tokens": prompt + output,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }
