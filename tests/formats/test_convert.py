"""Conversion: what the target can hold is there, what it cannot is named by path and number."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brightrun.formats.convert import ConversionError, Converted, convert
from brightrun.formats.names import FormatId
from brightrun.formats.reader import RecordReader
from brightrun.formats.records import Message, Record
from brightrun.formats.write import write_records
from brightrun.validation import validate

CHATS: tuple[FormatId, ...] = ("brightrun_lora_v3", "openai_messages", "sharegpt")
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), min_size=1, max_size=30).filter(str.strip)


def converted(folder: Path, data: bytes, to: FormatId) -> tuple[Converted, bytes]:
    source, target = folder / "in", folder / "out"
    source.write_bytes(data)
    return convert(source, target, to), target.read_bytes()


def read(data: bytes) -> list[Record]:
    reader = RecordReader(io.BytesIO(data))
    return [record for reading in reader.readings() for record in reading.records]


def said(records: list[Record]) -> list[Any]:
    return [
        (r.kind, r.messages, r.chosen, r.rejected, r.label, r.tools, r.conversation_id.removeprefix("record-"))
        for r in records
    ]


TOOL = {"type": "function", "function": {"name": "cool", "parameters": {"type": "object"}}}


@st.composite
def chats(draw: st.DrawFn, *, plain: bool = False) -> Record:
    """A conversation of any length, with or without a system prompt, weights, tool calls and tools."""
    messages = [Message("system", draw(TEXT))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages.append(Message("user", draw(TEXT)))
        if not plain and draw(st.booleans()):
            call = {"type": "function", "function": {"name": "cool", "arguments": draw(st.sampled_from(["{}", {}]))}}
            messages.append(Message("assistant", "", trained=True, tool_calls=[call]))
            messages.append(Message("tool", draw(TEXT)))
        messages.append(Message("assistant", draw(TEXT), trained=plain or draw(st.booleans())))
    messages[-1].trained = True
    tools = [TOOL] if not plain and draw(st.booleans()) else None
    return Record(
        conversation_id=f"c{draw(st.integers(0, 99))}", index=0, line=1, byte_offset=0, messages=messages, tools=tools
    )


FILES = st.lists(chats(), min_size=1, max_size=4, unique_by=lambda record: record.conversation_id)
PLAIN_FILES = st.lists(chats(plain=True), min_size=1, max_size=4, unique_by=lambda record: record.conversation_id)


@pytest.mark.parametrize("source", CHATS)
@pytest.mark.parametrize("to", CHATS)
@settings(deadline=None, max_examples=25)
@given(FILES)
def test_chats_survive_the_way_there_and_back(
    tmp_path_factory: pytest.TempPathFactory, source: FormatId, to: FormatId, records: list[Record]
) -> None:
    folder, first = tmp_path_factory.mktemp("convert"), io.BytesIO()
    write_records(records, first, source)  # type: ignore[arg-type]
    there, data = converted(folder, first.getvalue(), to)
    back, again = converted(folder, data, source)
    assert there.lossless, there
    assert back.lossless, back
    assert there.written == back.written == len(records)
    assert said(read(again)) == said(read(first.getvalue()))
    assert again == first.getvalue()


@pytest.mark.parametrize("to", ["alpaca", "brightrun_lora_v4", "prompt_completion"])
@settings(deadline=None, max_examples=25)
@given(PLAIN_FILES)
def test_plain_chats_are_learned_the_same_in_formats_of_exchanges(
    tmp_path_factory: pytest.TempPathFactory, to: FormatId, records: list[Record]
) -> None:
    folder, first = tmp_path_factory.mktemp("convert"), io.BytesIO()
    write_records(records, first, "openai_messages")
    there, data = converted(folder, first.getvalue(), to)
    answers = [m.content for record in records for m in record.messages if m.trained]
    learned = [m.content for record in read(data) for m in record.messages if m.trained]
    if there.lossless:
        assert learned == answers
    else:  # one answer a line: what is no longer trained is said
        assert there.dropped.keys() == {"messages[].trained"}
        assert learned == [record.messages[-1].content for record in records]


def rows(*objects: Any) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in objects)


SAID = [{"role": "user", "content": "What is slip?"}, {"role": "assistant", "content": "Clay."}]
PAIR = {
    "id": "p1",
    "conversation_id": "c1",
    "system_prompt": "You teach pottery.",
    "conversation_history": [],
    "current_user_input": "What is slip?",
    "emotional_context": {"detected_emotions": {"primary": "curious", "intensity": 0.5}},
    "target_response": "Clay and water.",
    "training_metadata": {"quality_score": 3.0, "n": 1},
}


def test_fields_that_no_record_holds_are_named_with_their_number(tmp_path: Path) -> None:
    odd = [
        {**SAID[0], "mood": "calm"},
        {"role": "assistant", "content": [{"type": "text", "text": "Clay.", "cache": 1}]},
    ]
    done, data = converted(
        tmp_path, rows({"id": "a", "messages": odd, "source": "forum"}, {"messages": SAID, "source": "x"}), "sharegpt"
    )
    assert done.dropped == {"source": 2, "messages[].mood": 1, "messages[].content[].cache": 1}
    assert not done.lossless
    assert [record.conversation_id for record in read(data)] == ["a", "record-1"]


def test_a_v4_pair_loses_what_only_v4_has(tmp_path: Path) -> None:
    user_turn = {**PAIR, "id": "p2", "target_response": None}
    done, data = converted(tmp_path, rows({"_meta": {"total_pairs": 2}}, PAIR, user_turn), "openai_messages")
    assert done.dropped == {"_meta": 1, "id": 1, "emotional_context": 1, "training_metadata": 1}
    assert [(one.line, one.reason[:11]) for one in done.unwritten] == [(3, "A user turn")]
    (record,) = read(data)
    assert [message.content for message in record.messages] == [
        "You teach pottery.",
        "What is slip?",
        "Clay and water.",
    ]


def test_the_full_file_becomes_lines_with_a_header_and_every_field(tmp_path: Path) -> None:
    pairs = [{**PAIR, "conversation_id": "c9"}, {**PAIR, "id": "p2", "conversation_id": "c9", "target_response": None}]
    whole = {
        "training_file_metadata": {"version": "4.0.0", "total_training_pairs": 2},
        "consultant_profile": {"name": "Elena"},
        "conversations": [{"conversation_metadata": {"conversation_id": "c9", "tier": "x"}, "training_pairs": pairs}],
    }
    done, data = converted(tmp_path, json.dumps(whole, indent=1).encode(), "brightrun_lora_v4")
    header, *lines = [json.loads(line) for line in data.splitlines()]
    assert header["_meta"]["total_pairs"] == 2
    assert header["_meta"]["consultant_profile"] == {"name": "Elena"}
    assert lines == pairs
    assert done.dropped == {"conversations[].conversation_metadata.tier": 1}


def test_one_format_in_another_layout_keeps_every_byte_of_its_values(tmp_path: Path) -> None:
    first, second = (
        b'{"instruction": "Name\\u0020it", "input": "",',
        b'"output": "Slip.", "n": 1.50, "big": 12345678901234567890}',
    )
    data = b"[\n " + first + b"\n  " + second + b"]"
    done, out = converted(tmp_path, data, "alpaca")
    assert done.lossless
    assert out == b'{"instruction":"Name\\u0020it","input":"","output":"Slip.","n":1.50,"big":12345678901234567890}\n'


def test_rows_with_errors_are_left_out_and_named(tmp_path: Path) -> None:
    done, data = converted(tmp_path, rows({"messages": SAID}) + b"broken\n" + rows({"messages": []}), "sharegpt")
    assert (done.written, [one.line for one in done.unwritten], done.unwritten_total) == (1, [2, 3], 2)
    assert len(read(data)) == 1


def test_what_cannot_be_converted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="read, not written"):
        converted(tmp_path, rows({"messages": SAID}), "enriched_conversation")
    with pytest.raises(ConversionError, match="no bytes"):
        converted(tmp_path, b"", "sharegpt")


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "brightrun", "convert", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_command_says_what_was_lost_and_by_its_status(tmp_path: Path) -> None:
    file, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    file.write_bytes(rows({"messages": SAID, "source": "x"}))
    lost = run(file, "--to", "ShareGPT", "--out", out, "--json")
    assert lost.returncode == 1
    answer = json.loads(lost.stdout)
    assert (answer["written"], answer["dropped_fields"]) == (1, [{"path": "source", "n": 1}])
    assert run(file, "--to", "sharegpt", "--out", out, "--allow-loss", "--json").returncode == 0
    file.write_bytes(rows({"messages": SAID}))
    assert run(file, "--to", "sharegpt", "--out", out, "--json").returncode == 0
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_out_is_never_the_input_under_any_name(tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_bytes(rows({"messages": SAID}))
    soft, hard = tmp_path / "soft", tmp_path / "hard"
    soft.symlink_to(file)
    os.link(file, hard)
    for out in (file, soft, hard, tmp_path / "sub" / ".." / "in.jsonl", tmp_path, tmp_path / "none" / "out"):
        answer = run(file, "--to", "sharegpt", "--out", out, "--json")
        assert answer.returncode == 2, out
        assert json.loads(answer.stdout)["code"] == "invalid_output"
    assert run(tmp_path / "absent", "--to", "sharegpt", "--out", tmp_path / "o").returncode == 2
    assert run(file, "--to", "nonsense", "--out", tmp_path / "o").returncode == 2
    assert file.read_bytes() == rows({"messages": SAID})


def test_chats_without_a_system_message_become_pairs_about_which_there_is_nothing_to_say(tmp_path: Path) -> None:
    source, target = tmp_path / "chats.jsonl", tmp_path / "pairs.jsonl"
    said = [{"role": "user", "content": "What is slip?"}, {"role": "assistant", "content": "Clay and water."}]
    source.write_text(json.dumps({"messages": said}) + "\n")
    assert convert(source, target, "brightrun_lora_v4").lossless
    assert json.loads(target.read_text())["system_prompt"] is None
    assert validate(target).issues == []
