"""What makes an answer a conversation, and by what name everything else is told."""

import json
from typing import Any

import pytest

from brightrun.formats.texts import how_cut_off
from brightrun.generation.answers import SCHEMA, Conversation, Failure, read_answer, read_text
from brightrun.llm.calls import Answer, Outcome, StopReason, Usage

METADATA = {
    "client_persona": "Marcus Chen",
    "session_context": "He has read about conversions all weekend.",
    "conversation_phase": "first session",
    "expected_outcome": "He knows the next step.",
}
SAID = [
    ("user", "I have read about Roth conversions all weekend and I am more confused than before."),
    ("assistant", "That is a very common place to be, Marcus. Let us take one question at a time."),
    ("user", "Then: does it make sense at all, in my bracket?"),
    ("assistant", "It may. What matters is your bracket now against your bracket later."),
]


def text(said: list[tuple[str, str]] = SAID, **changes: Any) -> str:
    turns = [
        {
            "turn_number": number,
            "role": role,
            "content": content,
            "emotional_context": {"primary_emotion": "confusion", "secondary_emotion": "", "intensity": 0.6},
        }
        for number, (role, content) in enumerate(said, start=1)
    ]
    return json.dumps({"conversation_metadata": METADATA, "turns": turns} | changes)


def failure(raw: str) -> Failure:
    result = read_text(raw)
    assert isinstance(result, Failure), result
    return result


def test_a_whole_answer_becomes_a_conversation() -> None:
    result = read_text(text())
    assert isinstance(result, Conversation)
    assert [role for role, _content, _context in result.turns] == ["user", "assistant"] * 2
    assert (result.emotions, result.intensities, result.notes) == (("confusion",) * 2, (0.6, 0.6), [])


def test_further_fields_are_kept() -> None:
    changed = json.loads(text())
    changed["conversation_metadata"]["client_background"] = "Teacher, 37"
    changed["turns"][0]["emotional_context"]["trigger"] = "taxes"
    result = read_text(json.dumps(changed | {"summary": "…"}))
    assert isinstance(result, Conversation)
    assert result.metadata["client_background"] == "Teacher, 37"
    assert result.turns[0][2]["trigger"] == "taxes"


def test_a_code_fence_is_taken_off_and_told() -> None:
    result = read_text(f"```json\n{text()}\n```")
    assert isinstance(result, Conversation)
    assert result.notes == ["the JSON stood in a code fence"]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ([("user", "Hello there."), ("user", "Are you there?")], "roles"),
        ([("assistant", "Hello there."), ("user", "Hello.")], "roles"),
        ([("user", "Hello there.")], "turn_count"),
        ([], "turn_count"),
        ([*SAID, ("user", "And what then?")], "last_turn"),
        ([*SAID[:3], ("assistant", "  \n ")], "empty_turn"),
        ([*SAID[:3], ("assistant", "First this.\\n\\nThen that.")], "literal_escapes"),
        ([*SAID[:3], ("assistant", 'She said \\"not now\\" and left.')], "literal_escapes"),
    ],
)
def test_meaning_that_is_wrong_is_told_by_its_reason(said: list[tuple[str, str]], reason: str) -> None:
    found = failure(text(said))
    assert (found.outcome, found.reason) == (Outcome.SEMANTIC_INVALID, reason)


@pytest.mark.parametrize(
    "end",
    [
        "The word for that is \\",  # a lone backslash, where a quote should have begun
        "It may. What matters most in your situation is your brack",
        "It may. What matters most in your situation, as far as I can see from here,",
        "You can open the account on Monday, and after that we will look together at how much of the balance to con",
    ],
)
def test_a_reply_cut_off_in_its_text_is_truncated_though_the_json_is_whole(end: str) -> None:
    found = failure(text([*SAID[:3], ("assistant", end)]))
    assert (found.outcome, found.reason) == (Outcome.TRUNCATED, "text_cut_off")


@pytest.mark.parametrize(
    "end",
    [
        "Here is what I would do:\n- open the account\n- move half of the balance",
        "That is all for today.\n\nWarmly,\nElena",
        "You are not alone in this 💛",
        "The rate is 22%",
        "それは一つの方法です",
    ],
)
def test_replies_that_end_without_a_full_stop_and_are_whole_pass(end: str) -> None:
    assert isinstance(read_text(text([*SAID[:3], ("assistant", end)])), Conversation)


def test_a_model_that_never_writes_full_stops_is_not_called_cut_off() -> None:
    said = [
        ("user", "question one"),
        ("assistant", "answer one"),
        ("user", "question two"),
        ("assistant", "answer two"),
    ]
    assert isinstance(read_text(text(said)), Conversation)


@pytest.mark.parametrize("at", [0.3, 0.5, 0.9, 0.99])
def test_json_that_stops_in_the_middle_is_truncated(at: float) -> None:
    whole = text()
    assert failure(whole[: int(len(whole) * at)]).outcome is Outcome.TRUNCATED


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("", "empty_answer"),
        ("I am sorry, but here is a poem.", "no_json"),
        ("[1, 2]", "fields"),
        ('{"conversation_metadata": {}, "turns": []}', "fields"),
        (text(turns=[{"turn_number": 1, "role": "user", "emotional_context": {}}]), "fields"),
        (text(turns="none"), "fields"),
        (text([("user", "Hello there."), ("system", "Be kind.")]), "role"),
    ],
)
def test_what_does_not_fit_the_schema_is_schema_invalid(raw: str, reason: str) -> None:
    found = failure(raw)
    assert (found.outcome, found.reason) == (Outcome.SCHEMA_INVALID, reason)


@pytest.mark.parametrize(
    ("stopped", "outcome"),
    [
        (StopReason.MAX_TOKENS, Outcome.TRUNCATED),
        (StopReason.REFUSAL, Outcome.REFUSAL),
        (StopReason.CONTEXT, Outcome.CONTEXT_OVERFLOW),
        (StopReason.OTHER, Outcome.SEMANTIC_INVALID),
    ],
)
def test_the_stop_reason_is_looked_at_before_the_text(stopped: StopReason, outcome: Outcome) -> None:
    answer = Answer(
        raw="{}", text=text(), stop_reason=stopped, stop_said=stopped.value, usage=Usage(1, 1), model="m",
        refusal_category="frontier_llm" if stopped is StopReason.REFUSAL else None,
    )  # fmt: skip
    result = read_answer(answer)
    assert isinstance(result, Failure)
    assert result.outcome is outcome
    if outcome is Outcome.REFUSAL:
        assert result.reason == "frontier_llm"


def test_missing_turns_and_turns_from_zero() -> None:
    changed = json.loads(text())
    changed["turns"][2]["turn_number"] = 4
    assert failure(json.dumps(changed)).reason == "turn_numbers"
    changed = json.loads(text())
    for number, turn in enumerate(changed["turns"]):
        turn["turn_number"] = number
    result = read_text(json.dumps(changed))
    assert isinstance(result, Conversation)
    assert result.notes == ["turns were numbered from 0; they are kept from 1"]


def test_fewer_turns_than_asked_for_are_a_note() -> None:
    result = read_text(text(), turns=(6, 8))
    assert isinstance(result, Conversation)
    assert result.notes == ["4 turns, where 6 to 8 were asked for"]


def test_the_schema_asks_for_everything_and_allows_nothing_else() -> None:
    def objects(node: Any) -> Any:
        if isinstance(node, dict):
            if node.get("type") == "object":
                yield node
            for value in node.values():
                yield from objects(value)

    found = list(objects(SCHEMA))
    assert len(found) == 4
    assert all(node["required"] == list(node["properties"]) and not node["additionalProperties"] for node in found)


def test_a_text_without_an_end_is_not_cut_off() -> None:
    assert how_cut_off("") is None
