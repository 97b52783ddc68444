"""The fault corpus: each fault is found at its exact place, with its code, and nothing else is called wrong."""

import io
import json
from typing import Any

import pytest

from brightrun.formats.issues import EXCERPT_CHARACTERS, Issue
from brightrun.formats.reader import RecordReader

U = {"role": "user", "content": "Which clay?"}
A = {"role": "assistant", "content": "Stoneware."}
H, G = {"from": "human", "value": "Which clay?"}, {"from": "gpt", "value": "Stoneware."}
CHAT = json.dumps({"messages": [U, A]})
PAIR: dict[str, Any] = {
    "id": "p1",
    "conversation_id": "c1",
    "turn_number": 2,
    "system_prompt": "You teach pottery.",
    "conversation_history": [],
    "current_user_input": "Which clay?",
    "target_response": "Stoneware.",
}


def lines(*records: Any) -> bytes:
    return "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records).encode()


def chat(*messages: Any, **more: Any) -> bytes:
    """The record under test on line 2, after a good one."""
    return lines(CHAT, {"messages": list(messages), **more})


def v3(obj: Any) -> bytes:
    return lines({"conversation_id": "c0", "turns": [U, A]}, obj)


def sharegpt(*turns: Any, **more: Any) -> bytes:
    return lines({"conversations": [H, G]}, {"conversations": list(turns), **more})


def v4(**changes: Any) -> bytes:
    changed = {key: value for key, value in {**PAIR, "id": "p2", **changes}.items() if value is not ...}
    return lines(PAIR, changed)


def alpaca(obj: Any) -> bytes:
    return lines({"instruction": "a", "output": "b"}, obj)


def completion(obj: Any) -> bytes:
    return lines({"prompt": "a", "completion": "b"}, obj)


def preference(obj: Any) -> bytes:
    return lines({"prompt": "a", "chosen": "b", "rejected": "c"}, obj)


def kto(obj: Any) -> bytes:
    return lines({"prompt": "a", "completion": "b", "label": True}, obj)


def call(arguments: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}


# name: (file, expected issues (line, path, code) that are errors or warnings)
CORPUS: dict[str, tuple[bytes, list[tuple[int, str, str]]]] = {
    # the file as a whole
    "no bytes": (b"", [(1, "", "empty_file")]),
    "only blank lines": (b"\n \r\n\t\n", [(1, "", "empty_file")]),
    "a zip archive": (b"PK\x03\x04" + bytes(50), [(1, "", "binary_file")]),
    "a PDF": (b"%PDF-1.7\n%\xe2\xe3", [(1, "", "binary_file")]),
    "a gzip": (b"\x1f\x8b\x08\x00abc", [(1, "", "binary_file")]),
    "an image": (b"\x89PNG\r\n\x1a\n123", [(1, "", "binary_file")]),
    "a parquet table": (b"PAR1\x15\x04", [(1, "", "binary_file")]),
    "noise": (bytes(range(256)), [(1, "", "binary_file")]),
    "UTF-16": (b"\xff\xfe" + CHAT.encode("utf-16-le"), [(1, "", "wrong_encoding")]),
    "UTF-16 without its mark": (CHAT.encode("utf-16-be"), [(1, "", "wrong_encoding")]),
    "prose": (b"Dear all,\nplease find", [(1, "", "unknown_format"), (1, "", "broken_json")]),
    "fields of no format": (lines({"foo": 1}), [(1, "", "unknown_format")]),
    "an empty list": (b" [ ] ".replace(b" ", b""), [(1, "", "no_records")]),
    "only a header": (lines({"_meta": {"version": "4.0.0"}}), [(1, "", "no_records")]),
    "only null targets": (lines({**PAIR, "target_response": None, "turn_number": 1}), [(1, "", "nothing_to_train")]),
    # text and JSON
    "not JSON": (lines(CHAT, "hello"), [(2, "", "broken_json")]),
    "single quotes": (lines(CHAT, "{'messages': []}"), [(2, "", "broken_json")]),
    "a trailing comma": (lines(CHAT, CHAT[:-1] + ",}"), [(2, "", "broken_json")]),
    "NaN": (lines(CHAT, CHAT[:-1] + ', "x": NaN}'), [(2, "", "broken_json")]),
    "a raw tab": (lines(CHAT, CHAT.replace("Which ", "Which\t")), [(2, "", "broken_json")]),
    "a raw NUL": (lines(CHAT, CHAT.replace("Which ", "Which\0")), [(2, "", "broken_json")]),
    "two records on a line": (lines(CHAT, CHAT + CHAT), [(2, "", "broken_json")]),
    "cut off at the end": (lines(CHAT) + CHAT.encode()[:30], [(2, "", "broken_json")]),
    "Latin-1": (lines(CHAT) + CHAT.replace("Which", "Wäh").encode("latin-1"), [(2, "", "invalid_utf8")]),
    "half an emoji": (lines(CHAT, CHAT.replace("Which", "\\ud83d")), [(2, "", "lone_surrogate")]),
    "half an emoji in bytes": (
        lines(CHAT) + CHAT.encode().replace(b"Which", b"\xed\xa0\xbd"),
        [(2, "", "lone_surrogate")],
    ),
    "10,000 brackets": (lines(CHAT, '{"messages":' + "[" * 10_000 + "]" * 10_000 + "}"), [(2, "", "nesting_too_deep")]),
    "too long": (lines(CHAT, CHAT.replace("Which", "W" * 5_000)), [(2, "", "record_too_long")]),
    "a list as a record": (lines(CHAT, "[1]"), [(2, "", "not_an_object")]),
    "null as a record": (lines(CHAT, "null"), [(2, "", "not_an_object")]),
    "blank lines still count": (lines(CHAT, "", " ", "nope"), [(4, "", "broken_json")]),
    "a record of another format": (lines(CHAT, {"prompt": "a", "completion": "b"}), [(2, "", "mixed_formats")]),
    # messages
    "no messages": (lines(CHAT, {"id": "x"}), [(2, "messages", "missing_field")]),
    "null messages": (lines(CHAT, {"messages": None}), [(2, "messages", "null_value")]),
    "messages as text": (lines(CHAT, {"messages": "hi"}), [(2, "messages", "wrong_type")]),
    "no message at all": (chat(), [(2, "messages", "empty_list")]),
    "a message as text": (chat("hi", A), [(2, "messages[0]", "wrong_type")]),
    "no role": (chat({"content": "x"}, A), [(2, "messages[0].role", "missing_field")]),
    "null role": (chat({"role": None, "content": "x"}, A), [(2, "messages[0].role", "null_value")]),
    "unknown role": (chat({"role": "narrator", "content": "x"}, A), [(2, "messages[0].role", "unknown_role")]),
    "no content": (chat(U, {"role": "assistant"}), [(2, "messages[1].content", "missing_field")]),
    "null content": (chat(U, {"role": "assistant", "content": None}), [(2, "messages[1].content", "null_value")]),
    "content as number": (chat(U, {"role": "assistant", "content": 5}), [(2, "messages[1].content", "wrong_type")]),
    "blank answer": (chat(U, {"role": "assistant", "content": " \n"}), [(2, "messages[1].content", "blank_content")]),
    "blank question": (chat({"role": "user", "content": ""}, A), [(2, "messages[0].content", "blank_content")]),
    "blank system": (chat({"role": "system", "content": ""}, U, A), [(2, "messages[0].content", "blank_context")]),
    "an image part": (
        chat({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, A),
        [(2, "messages[0].content[0]", "unsupported_content")],
    ),
    "a part without text": (
        chat({"role": "user", "content": [{"type": "text"}]}, A),
        [(2, "messages[0].content[0].text", "missing_field")],
    ),
    "no assistant": (chat(U), [(2, "messages", "no_assistant_turn")]),
    "all weights zero": (chat(U, {**A, "weight": 0}), [(2, "messages", "all_weights_zero")]),
    "weight 2": (chat(U, {**A, "weight": 2}), [(2, "messages[1].weight", "invalid_weight")]),
    "weight as list": (chat(U, {**A, "weight": [1]}), [(2, "messages[1].weight", "invalid_weight")]),
    "weight on the user": (chat({**U, "weight": 1}, A), [(2, "messages[0].weight", "weight_ignored")]),
    "ends with the user": (chat(U, A, U), [(2, "messages[2]", "last_turn_not_assistant")]),
    "two users in a row": (chat(U, U, A), [(2, "messages[1]", "role_order")]),
    "begins with the assistant": (chat(A, U, A), [(2, "messages[0]", "role_order")]),
    "system in the middle": (
        chat(U, A, {"role": "system", "content": "x"}, U, A),
        [(2, "messages[2]", "system_not_first")],
    ),
    "two systems": (
        chat({"role": "system", "content": "x"}, {"role": "system", "content": "y"}, U, A),
        [(2, "messages[1]", "system_not_first")],
    ),
    "tool arguments not JSON": (
        chat(U, call("{a: 1}"), A),
        [(2, "messages[1].tool_calls[0].function.arguments", "tool_arguments_not_json")],
    ),
    "tool arguments a list": (
        chat(U, call("[1]"), A),
        [(2, "messages[1].tool_calls[0].function.arguments", "tool_arguments_not_json")],
    ),
    "tool call without function": (
        chat(U, {"role": "assistant", "content": None, "tool_calls": [5]}, A),
        [(2, "messages[1].tool_calls[0]", "wrong_type"), (2, "messages[1].content", "null_value")],
    ),
    "tools as text": (chat(U, A, tools="nope"), [(2, "tools", "invalid_tools")]),
    # sharegpt
    "sharegpt without value": (sharegpt(H, {"from": "gpt"}), [(2, "conversations[1].value", "missing_field")]),
    "sharegpt unknown speaker": (
        sharegpt(H, {"from": "narrator", "value": "x"}),
        [(2, "conversations[1].from", "unknown_role")],
    ),
    "sharegpt call not JSON": (
        sharegpt(H, {"from": "function_call", "value": "search(rice)"}, G),
        [(2, "conversations[1].value", "tool_arguments_not_json")],
    ),
    "sharegpt system as number": (sharegpt(H, G, system=5), [(2, "system", "wrong_type")]),
    # v3
    "v3 without an id": (v3({"turns": [U, A]}), [(2, "conversation_id", "missing_field")]),
    "v3 with a blank id": (v3({"conversation_id": " ", "turns": [U, A]}), [(2, "conversation_id", "blank_content")]),
    "v3 without turns": (v3({"conversation_id": "c"}), [(2, "turns", "missing_field")]),
    "v3 without anything": (v3({"x": 1}), [(2, "conversation_id", "missing_field")]),
    "v3 empty turns": (v3({"conversation_id": "c", "turns": []}), [(2, "turns", "empty_list")]),
    "v3 turns as object": (v3({"conversation_id": "c", "turns": {}}), [(2, "turns", "wrong_type")]),
    # v4
    "v4 without an id": (v4(conversation_id=...), [(2, "conversation_id", "missing_field")]),
    "v4 without input": (v4(current_user_input=...), [(2, "current_user_input", "missing_field")]),
    "v4 without target": (v4(target_response=...), [(2, "target_response", "missing_field")]),
    "v4 blank target": (v4(target_response=""), [(2, "target_response", "blank_content")]),
    "v4 target as list": (v4(target_response=["x"]), [(2, "target_response", "wrong_type")]),
    "v4 blank input": (v4(current_user_input=" "), [(2, "current_user_input", "blank_content")]),
    "v4 null input": (v4(current_user_input=None), [(2, "current_user_input", "null_value")]),
    "v4 with a blank system prompt": (v4(system_prompt=" "), [(2, "system_prompt", "blank_context")]),
    "v4 history as text": (v4(conversation_history="x"), [(2, "conversation_history", "wrong_type")]),
    "v4 history role": (
        v4(conversation_history=[{"role": "x", "content": "y"}]),
        [(2, "conversation_history[0].role", "unknown_role")],
    ),
    "v4 history ends with another question": (
        v4(conversation_history=[{"role": "user", "content": "y"}], turn_number=3),
        [(2, "conversation_history[0]", "history_input_differs")],
    ),
    "v4 turn number": (v4(turn_number=6), [(2, "turn_number", "turn_number_gap")]),
    "v4 header counts wrong": (
        lines({"_meta": {"total_pairs": 3}}, PAIR),
        [(1, "_meta.total_pairs", "meta_count_mismatch")],
    ),
    "v4 header in the middle": (lines(PAIR, {"_meta": {"total_pairs": 3}}), [(2, "_meta", "misplaced_meta")]),
    # alpaca
    "alpaca without output": (alpaca({"instruction": "a"}), [(2, "output", "missing_field")]),
    "alpaca blank output": (alpaca({"instruction": "a", "output": " "}), [(2, "output", "blank_content")]),
    "alpaca nothing asked": (
        alpaca({"instruction": "", "input": "", "output": "b"}),
        [(2, "instruction", "blank_content")],
    ),
    "alpaca history": (
        alpaca({"instruction": "a", "output": "b", "history": [["x"]]}),
        [(2, "history[0]", "wrong_type")],
    ),
    "alpaca output number": (alpaca({"instruction": "a", "output": 5}), [(2, "output", "wrong_type")]),
    # prompt and completion
    "no completion": (completion({"prompt": "a"}), [(2, "completion", "missing_field")]),
    "null prompt": (completion({"prompt": None, "completion": "b"}), [(2, "prompt", "null_value")]),
    "blank completion": (completion({"prompt": "a", "completion": ""}), [(2, "completion", "blank_content")]),
    "blank prompt": (completion({"prompt": "", "completion": "b"}), [(2, "prompt", "blank_context")]),
    # preference
    "no rejected": (preference({"prompt": "a", "chosen": "b"}), [(2, "rejected", "missing_field")]),
    "no prompt": (preference({"chosen": "b", "rejected": "c"}), [(2, "prompt", "missing_field")]),
    "blank chosen": (preference({"prompt": "a", "chosen": "", "rejected": "c"}), [(2, "chosen", "blank_content")]),
    "chosen as number": (preference({"prompt": "a", "chosen": 1, "rejected": "c"}), [(2, "chosen", "wrong_type")]),
    "same answers": (
        preference({"prompt": "a", "chosen": "b", "rejected": "b"}),
        [(2, "chosen", "identical_preference")],
    ),
    "chosen is a question": (
        preference({"prompt": [U], "chosen": [U], "rejected": [A]}),
        [(2, "chosen", "no_assistant_turn")],
    ),
    # kto
    "no label": (kto({"prompt": "a", "completion": "b"}), [(2, "label", "missing_field")]),
    "label as text": (kto({"prompt": "a", "completion": "b", "label": "good"}), [(2, "label", "invalid_label")]),
    "label as number": (kto({"prompt": "a", "completion": "b", "label": 1}), [(2, "label", "invalid_label")]),
    # what the texts hold
    "a placeholder": (
        chat(U, {**A, "content": "Dear {{name}},"}),
        [(2, "messages[1].content", "unfilled_placeholder")],
    ),
    "[object Object]": (
        chat(U, {**A, "content": "I see [object Object]."}),
        [(2, "messages[1].content", "unfilled_placeholder")],
    ),
    "a control character": (chat({**U, "content": "a\x07b"}, A), [(2, "messages[0].content", "control_character")]),
    "a lost character": (
        chat({**U, "content": "na\ufffdve"}, A),
        [(2, "messages[0].content", "replacement_character")],
    ),
    "a doubled line break": (
        chat(U, {**A, "content": "First.\\n\\nSecond."}),
        [(2, "messages[1].content", "doubled_escape")],
    ),
    "a chat marker": (
        chat(U, {**A, "content": "Yes.<|im_end|>"}),
        [(2, "messages[1].content", "special_token_in_text")],
    ),
    "a lone backslash": (chat(U, {**A, "content": "She said \\"}), [(2, "messages[1].content", "text_cut_off")]),
    "a dangling sentence": (
        v4(target_response="Stoneware is a good choice here. It keeps its shape on the wheel, and it forgives the"),
        [(2, "target_response", "text_cut_off")],
    ),
}


def found(data: bytes) -> list[Issue]:
    reader = RecordReader(io.BytesIO(data), texts=True, max_record_bytes=30_000 if b"[" * 9_000 in data else 4_000)
    return [issue for reading in reader.readings() for issue in reading.issues]


@pytest.mark.parametrize("name", CORPUS)
def test_each_fault_is_found_at_its_place_and_nothing_else(name: str) -> None:
    data, expected = CORPUS[name]
    issues = [issue for issue in found(data) if issue.severity != "info"]
    assert [(issue.line, issue.path, issue.code) for issue in issues] == expected
    for issue in issues:
        assert 0 <= issue.byte_offset <= len(data)
        assert data.count(b"\n", 0, issue.byte_offset) + 1 == issue.line or issue.byte_offset == len(data)
        assert issue.message.endswith((".", "?", "!", ")"))
        assert issue.suggestion
        assert len(issue.excerpt) <= EXCERPT_CHARACTERS
        assert issue.excerpt.isprintable()


@pytest.mark.parametrize("name", CORPUS)
def test_a_record_with_an_error_yields_no_record(name: str) -> None:
    data, _ = CORPUS[name]
    reader = RecordReader(io.BytesIO(data), max_record_bytes=30_000)
    for reading in reader.readings():
        if any(issue.severity == "error" for issue in reading.issues):
            assert reading.records == []


def test_broken_json_names_the_byte() -> None:
    data, _ = CORPUS["Latin-1"]
    (issue,) = found(data)
    assert data[issue.byte_offset : issue.byte_offset + 1] == "ä".encode("latin-1")
    assert "'ä' in Windows-1252" in issue.message
    assert issue.fixable


def test_a_declared_format_that_contradicts_the_content_says_both() -> None:
    reader = RecordReader(io.BytesIO(lines(CHAT)), "brightrun-lora-v3")
    issues = [issue for reading in reader.readings() for issue in reading.issues]
    assert [issue.code for issue in issues] == ["format_mismatch"]
    assert "brightrun_lora_v3" in issues[0].message
    assert "openai_messages" in issues[0].message


def test_a_declared_format_holds_where_the_content_has_its_fields_too() -> None:
    labelled = lines({"messages": [U, A], "label": True})
    for declared in ("kto", "openai_messages"):
        reader = RecordReader(io.BytesIO(labelled), declared)
        assert [issue for reading in reader.readings() for issue in reading.issues] == []
        assert reader.detection is not None
        assert reader.detection.format == declared


def test_byte_order_mark_and_windows_line_ends_are_told_and_read() -> None:
    data = b"\xef\xbb\xbf" + lines(CHAT, CHAT).replace(b"\n", b"\r\n")
    reader = RecordReader(io.BytesIO(data))
    readings = list(reader.readings())
    assert [i.code for r in readings for i in r.issues] == ["byte_order_mark", "crlf_lines"]
    records = [record for reading in readings for record in reading.records]
    assert [(record.line, record.byte_offset) for record in records] == [(1, 3), (2, 3 + len(CHAT) + 2)]


def array(*records: str) -> bytes:
    return ("[\n" + ",\n".join(records) + "\n]").encode()


def test_a_broken_record_of_an_array_does_not_hide_the_others() -> None:
    data = array(CHAT, '{"messages": oops}', CHAT, "5", '{"messages": []}')
    issues = found(data)
    assert [(issue.line, issue.path, issue.code) for issue in issues] == [
        (2, "[1]", "broken_json"),
        (4, "[3]", "not_an_object"),
        (5, "[4].messages", "empty_list"),
    ]
    assert "Physical line 3" in issues[0].message
    assert data[issues[0].byte_offset :].startswith(b"oops")


def test_a_forgotten_comma_between_records_is_one_error() -> None:
    data = array(CHAT, CHAT).replace(b"},\n", b"}\n")
    reader = RecordReader(io.BytesIO(data))
    readings = list(reader.readings())
    assert [i.code for r in readings for i in r.issues] == ["broken_structure"]
    assert sum(len(reading.records) for reading in readings) == 2


def test_an_array_that_ends_early_is_one_error_at_the_end() -> None:
    data = array(CHAT, CHAT)
    for cut in (data[:-2], data[:-12]):
        reader = RecordReader(io.BytesIO(cut))
        issues = [issue for reading in reader.readings() for issue in reading.issues]
        assert len(issues) == 1
        assert issues[0].byte_offset == len(cut)


def test_faults_of_the_full_v4_file_have_paths_into_it() -> None:
    document = {
        "training_file_metadata": {"total_training_pairs": 9, "total_conversations": 4},
        "conversations": [
            {"conversation_metadata": {"conversation_id": "a"}},
            {"conversation_metadata": {"conversation_id": "b"}, "training_pairs": []},
            5,
            {"conversation_metadata": 5, "training_pairs": [5, {**PAIR, "target_response": ""}, PAIR]},
            {"conversation_metadata": {"conversation_id": "e"}, "training_pairs": {"x": 1}},
        ],
    }
    issues = found(json.dumps(document, indent=1).encode())
    assert [(issue.path, issue.code) for issue in issues] == [
        ("conversations[0].training_pairs", "missing_field"),
        ("conversations[1].training_pairs", "empty_list"),
        ("conversations[2]", "wrong_type"),
        ("conversations[3].conversation_metadata", "wrong_type"),
        ("conversations[3].training_pairs[0]", "not_an_object"),
        ("conversations[3].training_pairs[1].target_response", "blank_content"),
        ("conversations[4].training_pairs", "wrong_type"),
        ("training_file_metadata.total_training_pairs", "meta_count_mismatch"),
        ("training_file_metadata.total_conversations", "meta_count_mismatch"),
    ]


def test_the_wrong_meta_count_gives_both_numbers() -> None:
    data, _ = CORPUS["v4 header counts wrong"]
    (issue,) = found(data)
    assert "3" in issue.message
    assert "1" in issue.message
    assert issue.severity == "warning"


@pytest.mark.parametrize(
    "text",
    [
        "Use \\nabla and \\theta in LaTeX.",
        'print("Hello\\n")',
        "Open C:\\new\\folder.",
        "```python\nprint('a\\n\\nb')\n```",
        "`{{ name }}` is a Jinja variable.",
        "Costs ${total} dollars.",
        "a < b and c > d",
    ],
)
def test_code_and_formulas_are_not_called_damaged(text: str) -> None:
    assert found(chat(U, {**A, "content": text})) == []


def test_one_odd_record_at_the_beginning_does_not_decide_the_format() -> None:
    odd, good = {"prompt": "a", "completion": "b"}, {"messages": [U, A]}
    for data in (lines(odd, *[good] * 5), json.dumps([odd, *[good] * 5]).encode()):
        reader = RecordReader(io.BytesIO(data))
        issues = [issue for reading in reader.readings() for issue in reading.issues]
        assert [(issue.line, issue.code) for issue in issues] == [(1, "mixed_formats")]
        assert reader.detection is not None
        assert "as have 5 of the first 6 records" in reader.detection.reason


def test_a_number_of_turns_beside_the_messages_is_no_conversation() -> None:
    assert found(lines({"messages": [U, A], "turns": 2}, CHAT)) == []


@pytest.mark.parametrize(
    ("data", "advice"),
    [
        (lines(CHAT).replace(b"\n", b"\r") * 3, "carriage returns"),
        (lines(CHAT) + b"\xef\xbb\xbf" + lines(CHAT), "invisible"),
        (lines(CHAT, CHAT.replace("{", "\u00a0{", 1)), "space"),
        (lines(CHAT, CHAT.replace('"', "\u201c", 1)), "plain double quote"),
        (lines(CHAT, {"massages": [U, A]}), "call it `messages`"),
        (chat({"role": "asistant", "content": "x"}, A), "Did you mean `assistant`?"),
        (chat({"role": "user", "text": "x"}, A), "call it `content`"),
        (alpaca({"instruction": "a", "answer": "b"}), "call it `output`"),
    ],
)
def test_the_advice_names_what_a_person_should_change(data: bytes, advice: str) -> None:
    (issue,) = [issue for issue in found(data) if issue.severity == "error"]
    assert advice in issue.suggestion


def test_a_second_header_is_named() -> None:
    issues = found(lines({"_meta": {"total_pairs": 1}}, {"_meta": {"total_pairs": 5}}, PAIR))
    assert [(issue.line, issue.code) for issue in issues] == [(2, "misplaced_meta")]
