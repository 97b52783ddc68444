"""The clients over real HTTP: what is sent, what is read, and every failure by its class."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import orjson
import pytest

from brightrun.llm.calls import (
    Answer,
    CallError,
    ChatClient,
    ConnectionBroken,
    ContextOverflowError,
    Message,
    Outcome,
    ProviderUnusable,
    RejectedError,
    Request,
    StopReason,
    System,
    Throttled,
    TransportError,
    request_hash,
)
from brightrun.llm.claude import Claude
from brightrun.llm.openai_compatible import OpenAICompatible
from brightrun.llm.wire import retry_after, seconds_left, without_fence
from provider_server import KEY, Provider

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["turns"],
    "properties": {
        "turns": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["turn_number", "role", "content"],
                "properties": {
                    "turn_number": {"type": "integer", "minimum": 1},
                    "role": {"type": "string", "enum": ["user", "assistant"]},
                    "content": {"type": "string"},
                },
            },
        }
    },
}


def ask(model: str = "claude-sonnet-5-5", text: str = "Write 4 turns about a pension.", **more: Any) -> Request:
    values: dict[str, Any] = {"system": [System("You write conversations. " * 200, "1h")], "schema": SCHEMA, **more}
    return Request(model, values.pop("max_tokens", 4000), [Message("user", text)], **values)


def run(client: ChatClient, work: Any) -> Any:
    async def main() -> Any:
        try:
            return await work(client)
        finally:
            await client.aclose()

    return asyncio.run(main())


def claude(provider: Provider, work: Any, key: str = KEY) -> Any:
    return run(Claude(key, base_url=provider.url), work)


def other(provider: Provider, work: Any) -> Any:
    return run(OpenAICompatible(f"{provider.url}/v1", KEY), work)


def sent(request: Request) -> Any:
    def work(client: ChatClient) -> Coroutine[Any, Any, Answer]:
        return client.send(request)

    return work


def test_todays_form_carries_the_schema_and_the_marked_system_part(provider: Provider) -> None:
    answer: Answer = claude(provider, sent(ask()))
    assert (answer.outcome, answer.stop_said) == (Outcome.OK, "end_turn")
    assert len(orjson.loads(answer.text)["turns"]) == 4
    assert orjson.loads(answer.raw)["id"] == answer.message_id
    assert answer.usage.cache_write_1h_tokens > 1000
    assert answer.request_id
    [asked] = provider.requests()
    body = orjson.loads(asked["body"])
    assert body["output_config"]["format"]["type"] == "json_schema"
    assert "output_format" not in body
    assert "temperature" not in body
    assert body["system"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    # What the provider's grammar cannot hold is told in words.
    number = body["output_config"]["format"]["schema"]["properties"]["turns"]["items"]["properties"]["turn_number"]
    assert "minimum" not in number
    assert "minimum" in number["description"]


@pytest.mark.parametrize("endpoint", [True, False])
def test_an_older_model_gets_the_earlier_form_told_by_the_models_endpoint_or_by_a_refusal(
    provider: Provider, endpoint: bool
) -> None:
    provider.reset(models_endpoint=endpoint)

    async def twice(client: ChatClient) -> Answer:
        await client.send(ask("claude-older-beta"))
        return await client.send(ask("claude-older-beta", "Another one, 4 turns."))

    assert orjson.loads(claude(provider, twice).text)["turns"]
    bodies = [orjson.loads(asked["body"]) for asked in provider.requests()]
    assert all("output_format" in body and "output_config" not in body for body in bodies)
    assert all(asked["headers"]["anthropic-beta"] == "structured-outputs-2025-11-13" for asked in provider.requests())
    assert provider.stats()["rejected"] == (0 if endpoint else 2)  # The endpoint's own 404, and one refused form.
    assert provider.stats()["counts"]["models"] == 1


def test_a_model_without_structured_outputs_is_told_the_schema_in_words(provider: Provider) -> None:
    assert orjson.loads(claude(provider, sent(ask("claude-older-plain"))).text)["turns"]
    body = orjson.loads(provider.requests()[-1]["body"])
    assert "output_format" not in body
    assert '"turn_number"' in body["system"][-1]["text"]


def test_thinking_may_stand_before_the_text(provider: Provider) -> None:
    provider.reset(thinking_block=True)
    assert orjson.loads(claude(provider, sent(ask())).text)["turns"]


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [("refusal", Outcome.REFUSAL), ("truncated", Outcome.TRUNCATED), ("overflow_stop", Outcome.CONTEXT_OVERFLOW)],
)
def test_a_stop_reason_is_a_class(provider: Provider, fault: str, outcome: Outcome) -> None:
    provider.reset(faults=[{"kind": fault}], refusal_category="frontier_llm")
    answer: Answer = claude(provider, sent(ask()))
    assert answer.outcome is outcome
    if fault == "refusal":
        assert (answer.refusal_category, answer.text) == ("frontier_llm", "")


@pytest.mark.parametrize(
    ("fault", "error", "outcome", "charged"),
    [
        ("429", Throttled, Outcome.TRANSPORT, "no"),
        ("529", Throttled, Outcome.TRANSPORT, "no"),
        ("500", TransportError, Outcome.TRANSPORT, "no"),
        ("reset", ConnectionBroken, Outcome.TRANSPORT, "unknown"),
        ("malformed", ConnectionBroken, Outcome.TRANSPORT, "unknown"),
        ("overflow", ContextOverflowError, Outcome.CONTEXT_OVERFLOW, "no"),
        ("rejected", RejectedError, Outcome.REJECTED, "no"),
    ],
)
@pytest.mark.parametrize("api", ["claude", "other"])
def test_a_failure_is_a_class(
    provider: Provider, api: str, fault: str, error: type[CallError], outcome: Outcome, charged: str
) -> None:
    provider.reset(faults=[{"kind": fault, "times": 1}])
    through, model = (claude, "claude-sonnet-5-5") if api == "claude" else (other, "local-model")
    with pytest.raises(error) as raised:
        through(provider, sent(ask(model)))
    assert (raised.value.outcome, raised.value.charged) == (outcome, charged)
    assert provider.stats()["requests"] == 1, "a client sends once"
    if isinstance(raised.value, Throttled) and fault == "429":
        assert raised.value.retry_after_s == 1


def test_a_provider_that_is_not_there_charges_nothing() -> None:
    with pytest.raises(TransportError) as raised:
        run(Claude(KEY, base_url="http://127.0.0.1:9"), sent(ask()))
    assert raised.value.charged == "no"


@pytest.mark.parametrize(("key", "model"), [("sk-invalid", "claude-sonnet-5-5"), (KEY, "claude-of-tomorrow")])
def test_a_bad_key_or_model_is_not_the_items_fault_and_is_never_repeated_in_the_message(
    provider: Provider, key: str, model: str
) -> None:
    with pytest.raises(ProviderUnusable) as raised:
        claude(provider, sent(ask(model)), key=key)
    assert key not in str(raised.value)


def test_tokens_are_counted_and_models_told(provider: Provider) -> None:
    async def work(client: ChatClient) -> tuple[int | None, Any, int]:
        return await client.count_tokens(ask()), await client.model("claude-haiku-4-5"), len(await client.models())

    count, facts, models = claude(provider, work)
    assert count > 1000
    assert (facts.structured_outputs, facts.max_output_tokens, facts.batch) == (True, 64_000, True)
    assert models > 10


@pytest.mark.parametrize(
    ("schema", "as_object", "form"),
    [(True, True, "json_schema"), (False, True, "json_object"), (False, False, None)],
)
def test_an_openai_compatible_server_is_asked_in_the_strictest_form_it_knows(
    provider: Provider, schema: bool, as_object: bool, form: str | None
) -> None:
    provider.reset(openai_json_schema=schema, openai_json_object=as_object)

    async def twice(client: ChatClient) -> Answer:
        await client.send(ask("local-model"))
        return await client.send(ask("local-model", "Another one, 4 turns."))

    answer: Answer = other(provider, twice)
    assert orjson.loads(answer.text)["turns"]
    assert (answer.stop_reason, answer.outcome) == (StopReason.END, Outcome.OK)
    body = orjson.loads(provider.requests()[-1]["body"])
    assert body.get("response_format", {}).get("type") == form
    assert provider.stats()["rejected"] == 2 - schema - (as_object or schema)


def test_the_same_question_has_the_same_name_whatever_its_cache_marks() -> None:
    assert request_hash(ask()) == request_hash(ask(system=[System("You write conversations. " * 200)]))
    assert request_hash(ask()) != request_hash(ask(text="Write 4 turns about a pension!"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("120ms", 0.12), ("7.66s", 7.66), ("2m59.56s", 179.56), ("12", 12), ("soon", None), ("1h", 3600)],
)
def test_durations_as_providers_write_them(text: str, seconds: float | None) -> None:
    assert seconds_left(text) == (None if seconds is None else pytest.approx(seconds))


def test_retry_after_in_every_spelling() -> None:
    assert retry_after({"retry-after": "3"}) == 3
    assert retry_after({"retry-after-ms": "1500", "retry-after": "9"}) == 1.5
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert retry_after({}) is None


def test_json_is_found_behind_a_fence_and_prose_is_left_alone() -> None:
    assert without_fence('Sure:\n```json\n{"a": 1}\n```') == '{"a": 1}'
    assert without_fence("no {json} here") == "no {json} here"
