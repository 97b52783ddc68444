"""Every format, in every spelling people use, comes out as the same chat messages."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from brightrun.formats.errors import UnknownFormatError
from brightrun.formats.issues import Issue
from brightrun.formats.names import FORMAT_IDS, format_id
from brightrun.formats.reader import RecordReader, read_records
from brightrun.formats.records import Message, Record

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def read(*objects: Any, declared: str = "auto") -> list[Record | Issue]:
    text = "".join(json.dumps(obj) + "\n" for obj in objects)
    return list(read_records(io.BytesIO(text.encode()), declared))


def only(*objects: Any) -> Record:
    items = read(*objects)
    problems = [item for item in items if isinstance(item, Issue) and item.severity == "error"]
    assert not problems
    records = [item for item in items if isinstance(item, Record)]
    assert len(records) == 1
    return records[0]


def chat(messages: list[Message]) -> list[tuple[str, str, bool]]:
    return [(message.role, message.content, message.trained) for message in messages]


ASKED = [("user", "Which clay?", False), ("assistant", "Stoneware.", True)]


@pytest.mark.parametrize(
    ("obj", "name"),
    [
        (
            {
                "conversation_id": "c1",
                "turns": [{"role": "user", "content": "Which clay?"}, {"role": "assistant", "content": "Stoneware."}],
            },
            "brightrun_lora_v3",
        ),
        (
            {"messages": [{"role": "user", "content": "Which clay?"}, {"role": "assistant", "content": "Stoneware."}]},
            "openai_messages",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "text", "text": "Which "}, {"type": "text", "text": "clay?"}],
                    },
                    {"role": "assistant", "content": "Stoneware.", "weight": 1},
                ]
            },
            "openai_messages",
        ),
        (
            {"conversations": [{"from": "human", "value": "Which clay?"}, {"from": "gpt", "value": "Stoneware."}]},
            "sharegpt",
        ),
        (
            {"conversations": [{"role": "User", "content": "Which clay?"}, {"role": "bot", "content": "Stoneware."}]},
            "sharegpt",
        ),
        ({"instruction": "Which clay?", "input": "", "output": "Stoneware."}, "alpaca"),
        ({"instruction": "Which clay?", "output": "Stoneware."}, "alpaca"),
        ({"prompt": "Which clay?", "completion": "Stoneware."}, "prompt_completion"),
        (
            {
                "prompt": [{"role": "user", "content": "Which clay?"}],
                "completion": [{"role": "assistant", "content": "Stoneware."}],
            },
            "prompt_completion",
        ),
        (
            {
                "conversation_id": "c1",
                "system_prompt": None,
                "conversation_history": [],
                "current_user_input": "Which clay?",
                "target_response": "Stoneware.",
            },
            "brightrun_lora_v4",
        ),
    ],
)
def test_every_chat_format_comes_out_as_the_same_messages(obj: dict[str, Any], name: str) -> None:
    reader = RecordReader(io.BytesIO(json.dumps(obj).encode()))
    records = [record for reading in reader.readings() for record in reading.records]
    assert reader.detection is not None
    assert reader.detection.format == name
    assert [chat(record.messages) for record in records] == [ASKED]
    assert records[0].training_pairs == 1


def pair(history: list[tuple[str, str]], current: str, target: str | None, **more: Any) -> dict[str, Any]:
    turns = [{"turn": n, "role": role, "content": text} for n, (role, text) in enumerate(history, start=1)]
    return {
        "conversation_id": "c1",
        "system_prompt": "You teach pottery.",
        "conversation_history": turns,
        "current_user_input": current,
        "target_response": target,
        **more,
    }


def test_v4_history_that_ends_with_the_current_input_does_not_repeat_the_user_turn() -> None:
    history = [("user", "Hello"), ("assistant", "Hi"), ("user", "Which clay?")]
    with_input, without = (
        only(pair(history, "Which clay?", "Stoneware.")),
        only(pair(history[:-1], "Which clay?", "Stoneware.")),
    )
    assert chat(with_input.messages) == chat(without.messages)
    assert chat(with_input.messages) == [
        ("system", "You teach pottery.", False),
        ("user", "Hello", False),
        ("assistant", "Hi", False),
        ("user", "Which clay?", False),
        ("assistant", "Stoneware.", True),
    ]


def test_v4_null_target_is_an_info_and_no_record() -> None:
    items = read(pair([], "Hello", None))
    assert [item.code for item in items if isinstance(item, Issue) and item.severity == "info"] == ["null_target"]
    assert not any(isinstance(item, Record) for item in items)


def test_v4_scaffolding_comes_from_the_pair() -> None:
    record = only(
        pair(
            [],
            "Hello",
            "Hi",
            conversation_metadata={"persona_archetype": "anxious", "emotional_arc": "A → B", "training_topic_key": "t"},
            training_metadata={"quality_score": 4},
        )
    )
    assert record.scaffold is not None
    assert (record.scaffold.persona, record.scaffold.emotional_arc, record.scaffold.topic) == ("anxious", "A → B", "t")
    assert record.scaffold.quality_score == 4.0


def full_file(*conversations: dict[str, Any], **metadata: Any) -> bytes:
    document = {"training_file_metadata": {"version": "4.0.0", **metadata}, "conversations": list(conversations)}
    return json.dumps(document, indent=2).encode()


def test_full_v4_file_is_read_pair_by_pair_under_the_conversations_id() -> None:
    conversation = {
        "conversation_metadata": {"conversation_id": "real-id", "scaffolding": {"persona_key": "p"}},
        "training_pairs": [
            {**pair([], "Hello", None), "conversation_id": "educational"},
            {**pair([("user", "Hello")], "Hello", "Hi"), "conversation_id": "educational"},
        ],
    }
    items = list(read_records(io.BytesIO(full_file(conversation, conversation))))
    records = [item for item in items if isinstance(item, Record)]
    assert [record.conversation_id for record in records] == ["real-id", "real-id"]
    assert [record.line for record in records] == [2, 4]
    assert [record.path for record in records] == [
        "conversations[0].training_pairs[1]",
        "conversations[1].training_pairs[1]",
    ]
    assert records[0].scaffold is not None
    assert records[0].scaffold.persona == "p"


def test_full_v4_file_on_one_line_is_the_same() -> None:
    conversation = {"conversation_metadata": {"conversation_id": "x"}, "training_pairs": [pair([], "Hello", "Hi")]}
    pretty = full_file(conversation)
    compact = json.dumps(json.loads(pretty)).encode()
    without_place = [
        [(r.conversation_id, chat(r.messages)) for r in read_records(io.BytesIO(text)) if isinstance(r, Record)]
        for text in (pretty, compact)
    ]
    assert without_place[0] == without_place[1] != []


def test_what_is_said_about_a_conversation_after_its_pairs_counts_all_the_same() -> None:
    """A database that stores JSON sorts the keys by their length: `training_pairs` comes first."""
    pairs = [pair([], "Hello", None), pair([("user", "Hello")], "Hello", "Hi")]
    about = {"conversation_id": "real-id", "scaffolding": {"persona_key": "p"}}
    conversations = [
        {"training_pairs": pairs, "conversation_metadata": {**about, "conversation_id": name}} for name in "ab"
    ]
    enriched = {"training_pairs": pairs, "consultant_profile": {}, "dataset_metadata": {"dataset_name": "x"}}
    for document, ids in (({"conversations": conversations}, ["a", "b"]), (enriched, ["x"])):
        records = [
            item
            for item in read_records(io.BytesIO(json.dumps(document, indent=1).encode()))
            if isinstance(item, Record)
        ]
        assert [record.conversation_id for record in records] == ids
        if len(ids) > 1:
            assert [record.line for record in records] == [2, 4]
            assert all(record.scaffold is not None and record.scaffold.persona == "p" for record in records)


def test_enriched_file_takes_its_id_from_the_data_sets_name() -> None:
    document = {
        "dataset_metadata": {"dataset_name": "fp_conversation_abc", "total_turns": 2},
        "consultant_profile": {"name": "E"},
        "training_pairs": [
            {**pair([], "Hello", None), "conversation_id": "educational"},
            pair([("user", "Hello")], "Hello", "Hi"),
        ],
    }
    for text in (
        json.dumps(document),
        json.dumps(document, indent=2),
        json.dumps(document) + "\n" + json.dumps(document),
    ):
        records = [item for item in read_records(io.BytesIO(text.encode())) if isinstance(item, Record)]
        assert {record.conversation_id for record in records} == {"abc"}


def test_openai_weight_zero_is_context() -> None:
    record = only(
        {
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b", "weight": 0},
                {"role": "user", "content": "c"},
                {"role": "assistant", "content": "d"},
            ]
        }
    )
    assert [message.trained for message in record.messages] == [False, False, False, False, True]
    assert record.messages[0].role == "system"


def test_openai_tool_calls_keep_their_arguments_as_written() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    record = only(
        {
            "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "1", "content": ""},
                {"role": "assistant", "content": "done"},
            ],
            "tools": [{"type": "function", "function": {"name": "f"}}],
        }
    )
    assert record.messages[1].tool_calls == [call]
    assert record.messages[2].tool_call_id == "1"
    assert record.tools == [{"type": "function", "function": {"name": "f"}}]


def test_sharegpt_function_call_is_an_assistants_tool_call() -> None:
    record = only(
        {
            "conversations": [
                {"from": "human", "value": "Cook"},
                {"from": "function_call", "value": '{"name": "search", "arguments": {"q": "rice"}}'},
                {"from": "observation", "value": "[]"},
                {"from": "gpt", "value": "Nothing found."},
            ],
            "tools": '[{"name": "search"}]',
            "system": "You cook.",
        }
    )
    assert [message.role for message in record.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert record.messages[2].tool_calls == [
        {"type": "function", "function": {"name": "search", "arguments": {"q": "rice"}}}
    ]
    assert record.tools == [{"name": "search"}]


def test_alpaca_history_and_input_are_read() -> None:
    record = only(
        {"instruction": "Sum up", "input": "A text.", "output": "Short.", "history": [["a", "b"]], "system": "Brief."}
    )
    assert chat(record.messages) == [
        ("system", "Brief.", False),
        ("user", "a", False),
        ("assistant", "b", True),
        ("user", "Sum up\nA text.", False),
        ("assistant", "Short.", True),
    ]


USER = {"role": "user", "content": "Which clay?"}
GOOD, BAD = {"role": "assistant", "content": "Stoneware."}, {"role": "assistant", "content": "Any."}


@pytest.mark.parametrize(
    "obj",
    [
        {"prompt": "Which clay?", "chosen": "Stoneware.", "rejected": "Any."},
        {"question": "Which clay?", "chosen": "Stoneware.", "rejected": "Any."},
        {"instruction": "Which clay?", "input": "", "chosen": "Stoneware.", "rejected": "Any."},
        {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": "Which clay?", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"messages": [USER], "chosen": GOOD, "rejected": BAD},
        {
            "conversations": [{"from": "human", "value": "Which clay?"}],
            "chosen": {"from": "gpt", "value": "Stoneware."},
            "rejected": {"from": "gpt", "value": "Any."},
        },
        {"input": {"messages": [USER]}, "preferred_output": [GOOD], "non_preferred_output": [BAD]},
        {
            "chosen": "\n\nHuman: Which clay?\n\nAssistant: Stoneware.",
            "rejected": "\n\nHuman: Which clay?\n\nAssistant: Any.",
        },
        {"prompt": "\n\nHuman: Which clay?\n\nAssistant:", "chosen": "Stoneware.", "rejected": "Any."},
    ],
)
def test_every_spelling_of_a_preference_is_the_same_pair(obj: dict[str, Any]) -> None:
    record = only(obj)
    assert record.kind == "preference"
    assert chat(record.messages) == [("user", "Which clay?", False)]
    assert record.chosen is not None
    assert record.rejected is not None
    assert chat(record.chosen) == [("assistant", "Stoneware.", True)]
    assert chat(record.rejected) == [("assistant", "Any.", True)]
    assert record.training_pairs == 1


@pytest.mark.parametrize(
    "obj",
    [
        {"prompt": "Which clay?", "completion": "Stoneware.", "label": True},
        {"messages": [USER, GOOD], "label": True},
        {
            "conversations": [{"from": "human", "value": "Which clay?"}, {"from": "gpt", "value": "Stoneware."}],
            "kto_tag": True,
        },
        {"instruction": "Which clay?", "output": "Stoneware.", "kto_tag": True},
        {"prompt": [USER], "completion": [GOOD], "label": True},
    ],
)
def test_every_spelling_of_kto_is_the_same_judged_answer(obj: dict[str, Any]) -> None:
    record = only(obj)
    assert (record.kind, record.label, chat(record.messages)) == ("kto", True, ASKED)


def test_records_without_an_id_are_conversations_of_their_own() -> None:
    one = {"prompt": "a", "completion": "b"}
    records = [item for item in read(one, {"prompt": 5}, one) if isinstance(item, Record)]
    assert [record.conversation_id for record in records] == ["record-0", "record-2"]


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("brightrun-lora-v4", "brightrun_lora_v4"),
        ("BRIGHTRUN_LORA_V4", "brightrun_lora_v4"),
        ("BrightRun LoRA v3", "brightrun_lora_v3"),
        ("4.0.0", "brightrun_lora_v4"),
        ("ShareGPT", "sharegpt"),
        ("OpenAI-Messages", "openai_messages"),
        ("dpo", "preference"),
        ("AUTO", "auto"),
        *((name, name) for name in FORMAT_IDS),
    ],
)
def test_a_formats_name_is_read_in_any_spelling(spelling: str, name: str) -> None:
    assert format_id(spelling) == name


def test_an_unknown_format_is_refused_at_once_with_the_known_ones() -> None:
    with pytest.raises(UnknownFormatError, match="sharegpt"):
        read_records(io.BytesIO(b""), "csv")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the project's sample files are not beside the checkout")
@pytest.mark.parametrize(
    ("name", "format_name", "records", "null_targets"),
    [
        ("alpaca_en_demo.json", "alpaca", 999, 0),
        ("dpo_en_demo.json", "preference", 300, 0),
        ("enriched-one-conversation.json", "enriched_conversation", 4, 4),
        ("glaive_toolcall_en_demo.json", "sharegpt", 300, 0),
        ("identity.json", "alpaca", 91, 0),
        ("kto_en_demo.json", "kto", 300, 0),
        ("turns-valid.jsonl", "brightrun_lora_v3", 5, 0),
        ("v4-full-18-conversations.json", "brightrun_lora_v4", 62, 66),
        ("v4-pairs-12-conversations.jsonl", "brightrun_lora_v4", 44, 0),
    ],
)
def test_real_files_are_read_whole_without_an_error(
    name: str, format_name: str, records: int, null_targets: int
) -> None:
    reader = RecordReader(SHARED / name)
    readings = list(reader.readings())
    assert reader.detection is not None
    assert reader.detection.format == format_name
    assert sum(len(reading.records) for reading in readings) == records
    assert reader.null_targets == null_targets
    assert [i for reading in readings for i in reading.issues if i.severity == "error"] == []
