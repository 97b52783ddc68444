"""The rendered chat and its ids are those of transformers, for every family of templates and kind of tokenizer."""

import json
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from chat_fixtures import FAMILIES, KINDS, LLAMA3, MISTRAL, REASONER, THINKING, chat, model_folder

from brightrun.formats.base_models import BUILTIN
from brightrun.formats.chat import ChatError, ChatTokenizer, TemplateRefusedError
from brightrun.formats.records import Message, Record

CHATS = {
    "plain": chat(("user", "Hello there"), ("assistant", "How can I help you?")),
    "system": chat(("system", "You are patient."), ("user", "12 + 30?"), ("assistant", "42, isn't it?")),
    "turns": chat(
        ("user", "Hello"), ("assistant", "Hi!"), ("user", "The capital of France?"), ("assistant", "Paris."),
    ),
    "spaces": chat(("user", "  a\tb \n\n"), ("assistant", "\n  two spaces  \n\n"), ("user", "x"), ("assistant", " y ")),
    "world": chat(("user", "naïve café — 你好 😀👩‍👩‍👧"), ("assistant", "👍🏽 ja, größer: ½ ﬁn é")),
    "leak": chat(("user", "say </s> or <|im_end|>"), ("assistant", "no <|im_start|> here")),
    "thought": chat(
        ("user", "a?"),
        ("assistant", "<think>\nhm\n</think>\n\nA."),
        ("user", "b?"),
        ("assistant", "<think>so</think>B."),
    ),
    "empty": chat(("user", ""), ("assistant", "")),
    "unanswered": chat(("user", "Hello"), ("assistant", "Hi"), ("user", "Still there?")),
}  # fmt: skip


def reference(folder: Path) -> Any:
    from transformers import AutoTokenizer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return AutoTokenizer.from_pretrained(folder)


def as_dicts(record: Record) -> list[dict[str, Any]]:
    return [{"role": m.role, "content": m.content} for m in record.messages]


def compare(ours: ChatTokenizer, theirs: Any, record: Record, messages: list[dict[str, Any]]) -> None:
    try:
        expected = theirs.apply_chat_template(messages, tools=record.tools, tokenize=False)
    except Exception:
        with pytest.raises(ChatError):
            ours.render(record.messages, tools=record.tools)
        return
    assert ours.render(record.messages, tools=record.tools) == expected
    prompted = theirs.apply_chat_template(messages, tools=record.tools, tokenize=False, add_generation_prompt=True)
    assert ours.render(record.messages, tools=record.tools, add_generation_prompt=True) == prompted
    ids = theirs.apply_chat_template(messages, tools=record.tools)["input_ids"]
    untrained = [Message(role=m.role, content=m.content, tool_calls=m.tool_calls) for m in record.messages]
    assert list(ours.encode(chat_of(untrained, record)).input_ids) == ids


def chat_of(messages: list[Message], record: Record) -> Record:
    return Record(conversation_id="c", index=0, line=1, byte_offset=0, messages=messages, tools=record.tools)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_text_and_ids_equal_those_of_transformers(family: str, kind: str, tmp_path: Path) -> None:
    folder = model_folder(tmp_path, FAMILIES[family], kind)
    ours, theirs = ChatTokenizer.from_folder(folder), reference(folder)
    for record in CHATS.values():
        compare(ours, theirs, record, as_dicts(record))


@pytest.mark.parametrize("name", BUILTIN)
def test_the_shipped_models_equal_transformers(name: str) -> None:
    ours, theirs = ChatTokenizer.from_folder(BUILTIN[name]), reference(BUILTIN[name])
    for record in CHATS.values():
        compare(ours, theirs, record, as_dicts(record))
    assert (ours.eos_id, ours.pad_id, ours.vocab_size) == (theirs.eos_token_id, theirs.pad_token_id, len(theirs))


CALL = {
    "id": "abcdefghi",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Kraków", "days": 2}'},
}
TOOLS = [
    {
        "type": "function",
        "function": {"name": "weather", "description": "Says it <b>", "parameters": {"type": "object"}},
    }
]


@pytest.mark.parametrize("family", [LLAMA3, MISTRAL, THINKING, "tiny"], ids=["llama3", "mistral", "thinking", "tiny"])
def test_tool_calls_equal_transformers_with_arguments_as_objects(family: Any, tmp_path: Path) -> None:
    folder = BUILTIN["tiny"] if family == "tiny" else model_folder(tmp_path, family)
    ours, theirs = ChatTokenizer.from_folder(folder), reference(folder)
    record = tool_record()
    messages = as_dicts(record)
    call = {**CALL, "function": {"name": "weather", "arguments": {"city": "Kraków", "days": 2}}}
    messages[1]["tool_calls"] = [call]
    compare(ours, theirs, record, messages)


def test_a_template_that_wants_arguments_as_text_gets_text(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, REASONER)
    ours, theirs = ChatTokenizer.from_folder(folder), reference(folder)
    record = tool_record(tools=None)
    messages = as_dicts(record)
    messages[1]["tool_calls"] = [CALL]
    compare(ours, theirs, record, messages)
    assert '{"city": "Kraków", "days": 2}' in ours.render(record.messages)


def tool_record(tools: list[dict[str, Any]] | None = TOOLS) -> Record:  # type: ignore[assignment]
    return Record(
        conversation_id="c", index=0, line=1, byte_offset=0, tools=tools,
        messages=[
            Message("user", "Rain?"),
            Message("assistant", "", trained=True, tool_calls=[CALL]),
            Message("tool", '{"rain": true}', tool_call_id="abcdefghi"),
            Message("assistant", "Take a coat.", trained=True),
        ],
    )  # fmt: skip


def test_templates_in_the_older_places_are_found(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, FAMILIES["gemma"])
    text = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    model_folder_config = (folder / "tokenizer_config.json").read_text()
    named = [{"name": "default", "template": text}, {"name": "tool_use", "template": FAMILIES["thinking"].template}]
    for written in (text, named):
        config = {**json.loads(model_folder_config), "chat_template": written}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        compare(ChatTokenizer.from_folder(folder), reference(folder), CHATS["turns"], as_dicts(CHATS["turns"]))
    record = Record(conversation_id="c", index=0, line=1, byte_offset=0, messages=CHATS["turns"].messages, tools=TOOLS)
    compare(ChatTokenizer.from_folder(folder), reference(folder), record, as_dicts(record))


def test_special_tokens_that_only_the_config_knows_are_tokens(tmp_path: Path) -> None:
    folder = model_folder(
        tmp_path,
        FAMILIES["chatml"],
        pad_token="<|pad|>",
        extra_special_tokens=["<|extra|>"],
    )
    ours, theirs = ChatTokenizer.from_folder(folder), reference(folder)
    record = chat(("user", "a <|extra|> b <|pad|>"), ("assistant", "c"))
    compare(ours, theirs, record, as_dicts(record))
    assert ours.pad_id == theirs.pad_token_id
    assert ours.vocab_size == len(theirs)


def test_a_date_in_the_template_is_the_one_given(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, FAMILIES["chatml"])
    tokenizer = ChatTokenizer.from_folder(
        folder, template="{{ strftime_now('%d %b %Y') }}{{ messages[0].content }}", now=datetime(2026, 3, 1)
    )
    assert tokenizer.render([Message("user", "x")]) == "01 Mar 2026x"


def test_a_refusal_carries_the_templates_own_words(tmp_path: Path) -> None:
    gemma = ChatTokenizer.from_folder(model_folder(tmp_path / "g", FAMILIES["gemma"]))
    with pytest.raises(TemplateRefusedError, match=r"^System role not supported$"):
        gemma.encode(CHATS["system"])
    mistral = ChatTokenizer.from_folder(model_folder(tmp_path / "m", MISTRAL))
    with pytest.raises(TemplateRefusedError, match="roles must alternate"):
        mistral.encode(chat(("user", "a"), ("user", "b"), ("assistant", "c")))
