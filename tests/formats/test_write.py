"""Writers: what is written reads back as it was; what a format cannot hold is named."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brightrun.formats.issues import Issue
from brightrun.formats.reader import RecordReader, read_records
from brightrun.formats.records import Message, Record, Scaffold
from brightrun.formats.write import WritableFormat, WriteResult, write_records


def chat(*texts: str, system: str | None = "You teach pottery.", **more: Any) -> Record:
    messages = [Message("system", system)] if system else []
    for number, text in enumerate(texts):
        messages.append(Message("assistant", text, trained=True) if number % 2 else Message("user", text))
    fields = {"conversation_id": "c1", "index": 0, "line": 1, "byte_offset": 0, **more}
    return Record(messages=messages, **fields)


def written(record: Record, name: WritableFormat) -> tuple[WriteResult, bytes]:
    out = io.BytesIO()
    return write_records([record], out, name), out.getvalue()


def read_back(data: bytes, name: str) -> list[Record]:
    reader = RecordReader(io.BytesIO(data))
    readings = list(reader.readings())
    assert reader.detection is not None
    assert reader.detection.format == name
    assert [i for reading in readings for i in reading.issues if i.severity == "error"] == []
    return [record for reading in readings for record in reading.records]


TEXT = st.text(min_size=1, max_size=30).filter(lambda text: bool(text.strip()))


@pytest.mark.parametrize("name", ["brightrun_lora_v3", "openai_messages", "sharegpt", "alpaca"])
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3), st.none() | TEXT)
def test_a_plain_chat_survives_any_chat_format(
    name: WritableFormat, exchanges: list[tuple[str, str]], system: str | None
) -> None:
    record = chat(*(text for exchange in exchanges for text in exchange), system=system)
    result, data = written(record, name)
    assert result.lossless
    (back,) = read_back(data, name)
    assert back.messages == record.messages
    assert back.conversation_id == "c1"
    assert data.endswith(b"\n")


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3), st.none() | TEXT)
def test_a_chat_becomes_one_v4_pair_an_answer(exchanges: list[tuple[str, str]], system: str | None) -> None:
    record = chat(*(text for exchange in exchanges for text in exchange), system=system)
    result, data = written(record, "brightrun_lora_v4")
    assert (result.written, result.lossless) == (len(exchanges), True)
    back = read_back(data, "brightrun_lora_v4")
    for number, pair in enumerate(back):
        expected = chat(*(text for exchange in exchanges[: number + 1] for text in exchange), system=system)
        assert [(m.role, m.content) for m in pair.messages] == [(m.role, m.content) for m in expected.messages]
        assert [m.trained for m in pair.messages] == [False] * (len(pair.messages) - 1) + [True]
        assert pair.conversation_id == "c1"


@pytest.mark.parametrize("name", ["brightrun_lora_v3", "openai_messages", "sharegpt"])
def test_untrained_answers_stay_untrained(name: WritableFormat) -> None:
    record = chat("a", "b", "c", "d")
    record.messages[2].trained = False
    _, data = written(record, name)
    assert read_back(data, name)[0].messages == record.messages


@pytest.mark.parametrize("name", ["openai_messages", "brightrun_lora_v3", "sharegpt"])
def test_tool_calls_survive_where_there_is_a_place_for_them(name: WritableFormat) -> None:
    record = chat("a", "b", tools=[{"type": "function", "function": {"name": "f"}}])
    call = {"type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    record.messages[-1:] = [
        Message("assistant", "", trained=True, tool_calls=[call]),
        Message("tool", "2"),
        Message("assistant", "It is 2.", trained=True),
    ]
    result, data = written(record, name)
    assert result.lossless
    (back,) = read_back(data, name)
    assert (back.messages, back.tools) == (record.messages, record.tools)


@pytest.mark.parametrize("name", ["alpaca", "brightrun_lora_v4"])
def test_a_chat_with_tools_is_named_where_it_cannot_be_written(name: WritableFormat) -> None:
    record = chat("a", "b", line=7)
    record.messages[-1].tool_calls = [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]
    result, data = written(record, name)
    assert data == b""
    assert [(entry.line, "tool" in entry.reason) for entry in result.unwritten] == [(7, True)]


def test_what_is_dropped_is_counted_by_field() -> None:
    record = chat("a", "b", "c", "d", scaffold=Scaffold(persona="p", quality_score=4.0))
    record.messages[2].trained = False
    out = io.BytesIO()
    result = write_records([record, record], out, "alpaca")
    assert result.dropped == {"scaffold": 2, "messages[].trained": 2}
    assert not result.lossless


def test_the_scaffold_survives_in_v4() -> None:
    scaffold = Scaffold(persona="p", emotional_arc="a", topic="t", tier="template", quality_score=4.0)
    result, data = written(chat("a", "b", scaffold=scaffold), "brightrun_lora_v4")
    assert result.lossless
    assert read_back(data, "brightrun_lora_v4")[0].scaffold == scaffold


def preference() -> Record:
    side = {
        "chosen": [Message("assistant", "Stoneware.", trained=True)],
        "rejected": [Message("assistant", "Any.", trained=True)],
    }
    return Record("c1", 0, 1, 0, [Message("user", "Which clay?")], kind="preference", **side)


def test_preferences_and_judged_answers_survive_in_their_own_format() -> None:
    result, data = written(preference(), "preference")
    (back,) = read_back(data, "preference")
    assert result.lossless
    assert (back.messages, back.chosen, back.rejected) == (
        preference().messages,
        preference().chosen,
        preference().rejected,
    )
    judged = chat("a", "b", kind="kto", label=False)
    result, data = written(judged, "kto")
    (back,) = read_back(data, "kto")
    assert (back.messages, back.label, result.lossless) == (judged.messages, False, True)


def test_an_unwanted_answer_is_never_written_as_one_to_learn() -> None:
    result, data = written(chat("a", "b", kind="kto", label=False), "openai_messages")
    assert (data, len(result.unwritten)) == (b"", 1)


def test_a_chosen_answer_as_a_chat_names_the_rejected_one_as_lost() -> None:
    result, data = written(preference(), "openai_messages")
    assert result.dropped == {"rejected": 1}
    assert [m.content for m in read_back(data, "openai_messages")[0].messages] == ["Which clay?", "Stoneware."]


@given(st.none() | TEXT, TEXT, TEXT)
def test_prompt_and_completion_survive(system: str | None, question: str, answer: str) -> None:
    record = chat(question, answer, system=system)
    result, data = written(record, "prompt_completion")
    assert result.lossless
    assert read_back(data, "prompt_completion")[0].messages == record.messages
    assert isinstance(json.loads(data)["prompt"], str) == (system is None)


def test_made_up_ids_are_not_written() -> None:
    record = next(
        item for item in read_records(io.BytesIO(b'{"prompt": "a", "completion": "b"}')) if not isinstance(item, Issue)
    )
    assert b"record-0" not in written(record, "openai_messages")[1]
