"""Writes records in any format that people train from. One spelling each; what the target cannot hold is named."""

from collections.abc import Iterable
from typing import Any, BinaryIO, Literal

import msgspec
import orjson

from brightrun.formats.errors import UnwritableRecordError
from brightrun.formats.names import FormatId
from brightrun.formats.records import Message, Record

WritableFormat = Literal[
    "brightrun_lora_v4",
    "brightrun_lora_v3",
    "openai_messages",
    "sharegpt",
    "alpaca",
    "prompt_completion",
    "preference",
    "kto",
]
_SHAREGPT_ROLES = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}


class Unwritten(msgspec.Struct, frozen=True):
    """A record that the target format has no shape for."""

    line: int
    reason: str


class WriteResult(msgspec.Struct):
    """written: objects. dropped: fields that the target cannot hold, each with how often. unwritten: whole records."""

    written: int = 0
    dropped: dict[str, int] = {}
    unwritten: list[Unwritten] = []

    @property
    def lossless(self) -> bool:
        """Whether everything that was read stands in the output."""
        return not self.dropped and not self.unwritten


def write_records(records: Iterable[Record], out: BinaryIO, format: WritableFormat) -> WriteResult:  # noqa: A002
    """Write records as JSON Lines in UTF-8, each line ended by a line feed. A chat becomes one v4 pair an answer."""
    result = WriteResult()
    for record in records:
        try:
            objects, dropped = encode_record(record, format)
        except UnwritableRecordError as error:
            result.unwritten.append(Unwritten(record.line, str(error)))
            continue
        for obj in objects:
            out.write(orjson.dumps(obj))
            out.write(b"\n")
        result.written += len(objects)
        for field in dropped:
            result.dropped[field] = result.dropped.get(field, 0) + 1
    return result


def encode_record(record: Record, format: FormatId) -> tuple[list[dict[str, Any]], list[str]]:  # noqa: A002
    """The objects of one record, and the paths of what the format cannot hold.

    Raises UnwritableRecordError when the format has no shape for the record, or BrightRun does not write the format.
    """
    match format:
        case "preference":
            return _preference(record)
        case "kto":
            return _kto(record)
    record, dropped = _as_chat(record)
    match format:
        case "brightrun_lora_v3":
            return _v3(record, dropped)
        case "openai_messages":
            return _openai(record, dropped)
        case "sharegpt":
            return _sharegpt(record, dropped)
        case "alpaca":
            return _alpaca(record, dropped)
        case "prompt_completion":
            return _prompt_completion(record, dropped)
        case "brightrun_lora_v4":
            return _v4(record, dropped)
        case _:
            raise UnwritableRecordError(f"{format} is read, not written.")


def _as_chat(record: Record) -> tuple[Record, list[str]]:
    """Preferences keep their chosen answer; judged answers are kept when they are wanted ones."""
    match record.kind:
        case "preference":
            messages = [*record.messages, *(record.chosen or [])]
            return msgspec.structs.replace(record, kind="chat", messages=messages, chosen=None, rejected=None), [
                "rejected"
            ]
        case "kto":
            if not record.label:
                raise UnwritableRecordError("The answer is labelled as unwanted; as a chat it would be learned.")
            return msgspec.structs.replace(record, kind="chat", label=None), ["label"]
        case "chat":
            return record, []


def _own_id(record: Record) -> dict[str, str]:
    """The conversation's id, unless the reader made it up from the record's number."""
    return {} if record.conversation_id == f"record-{record.index}" else {"conversation_id": record.conversation_id}


def _tools(record: Record) -> dict[str, Any]:
    return {"tools": record.tools} if record.tools else {}


def _lost_scaffold(record: Record) -> list[str]:
    return ["scaffold"] if record.scaffold is not None else []


def _message(message: Message, *, weights: bool = True) -> dict[str, Any]:
    """One message in OpenAI's spelling."""
    obj: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        obj["tool_calls"] = message.tool_calls
    for key in ("tool_call_id", "name"):
        if (value := getattr(message, key)) is not None:
            obj[key] = value
    if weights and message.role == "assistant" and not message.trained:
        obj["weight"] = 0
    return obj


def _v3(record: Record, dropped: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    turns = [_message(message) for message in record.messages]
    obj = {"conversation_id": record.conversation_id, "turns": turns, **_tools(record)}
    return [obj], dropped + _lost_scaffold(record)


def _openai(record: Record, dropped: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    messages = [_message(message) for message in record.messages]
    return [{**_own_id(record), "messages": messages, **_tools(record)}], dropped + _lost_scaffold(record)


def _sharegpt(record: Record, dropped: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    conversations: list[dict[str, Any]] = []
    for message in record.messages:
        weight = {"weight": 0} if message.role == "assistant" and not message.trained else {}
        if message.content or not message.tool_calls:
            conversations.append({"from": _SHAREGPT_ROLES[message.role], "value": message.content, **weight})
        if message.tool_calls:
            calls = [call.get("function", call) for call in message.tool_calls]
            value = orjson.dumps(calls[0] if len(calls) == 1 else calls).decode()
            conversations.append({"from": "function_call", "value": value, **weight})
            if message.content:
                dropped.append("messages[].tool_calls (kept as a turn of its own)")
            if any("id" in call for call in message.tool_calls):
                dropped.append("messages[].tool_calls[].id")
        dropped += [f"messages[].{key}" for key in ("tool_call_id", "name") if getattr(message, key) is not None]
    return [{**_own_id(record), "conversations": conversations, **_tools(record)}], dropped + _lost_scaffold(record)


def _plain(record: Record, format: str) -> list[str]:  # noqa: A002
    """What formats of bare texts cannot hold. Raises when leaving it out would change what is said."""
    if any(message.tool_calls or message.role == "tool" for message in record.messages):
        raise UnwritableRecordError(f"{format} has no place for tool calls.")
    dropped = ["tools"] if record.tools else []
    if any(message.name is not None for message in record.messages):
        dropped.append("messages[].name")
    return dropped


def _alpaca(record: Record, dropped: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    dropped += _plain(record, "alpaca") + _lost_scaffold(record)
    system, spoken = _split_system(record)
    if len(spoken) % 2 or [m.role for m in spoken] != ["user", "assistant"] * (len(spoken) // 2) or not spoken:
        raise UnwritableRecordError("alpaca needs user and assistant in turns, ending with the assistant.")
    if not all(message.trained for message in spoken[1::2]):
        dropped.append("messages[].trained")
    obj: dict[str, Any] = {
        **_own_id(record),
        "instruction": spoken[-2].content,
        "input": "",
        "output": spoken[-1].content,
    }
    if system:
        obj["system"] = system
    if len(spoken) > 2:
        texts = [message.content for message in spoken[:-2]]
        obj["history"] = [list(pair) for pair in zip(texts[::2], texts[1::2], strict=True)]
    return [obj], dropped


def _split_system(record: Record) -> tuple[str, list[Message]]:
    messages = record.messages
    if messages[0].role == "system":
        return messages[0].content, messages[1:]
    return "", messages


def _prompt_completion(record: Record, dropped: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    dropped += _lost_scaffold(record)
    trained = [number for number, message in enumerate(record.messages) if message.trained]
    if not trained:
        raise UnwritableRecordError("No message of the record is trained, so there is no completion.")
    last = trained[-1]
    if len(trained) > 1:
        dropped.append("messages[].trained")
    if last + 1 < len(record.messages):
        dropped.append("messages[] after the last answer")
    prompt, answer = record.messages[:last], record.messages[last]
    bare = [m.role for m in prompt] in ([], ["user"]) and not answer.tool_calls and not any(m.name for m in prompt)
    if bare and not record.tools:
        sides: dict[str, Any] = {"prompt": prompt[0].content if prompt else "", "completion": answer.content}
    else:
        messages = [_message(message, weights=False) for message in prompt]
        sides = {"prompt": messages, "completion": [_message(answer)], **_tools(record)}
    return [{**_own_id(record), **sides}], dropped


def _v4(record: Record, dropped: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    dropped += _plain(record, "brightrun_lora_v4")
    system, spoken = _split_system(record)
    if any(message.role == "system" for message in spoken):
        raise UnwritableRecordError("brightrun_lora_v4 has one system prompt, at the beginning.")
    pairs = []
    for number, message in enumerate(spoken):
        if message.trained:
            if not number or spoken[number - 1].role != "user":
                raise UnwritableRecordError("A v4 pair answers a user message, and this answer follows none.")
            pairs.append(_v4_pair(record, system, spoken, number))
    if not pairs:
        raise UnwritableRecordError("No message of the record is trained, so there is no pair.")
    if not spoken[-1].trained:
        dropped.append("messages[] after the last answer")
    return pairs, dropped


def _v4_pair(record: Record, system: str, spoken: list[Message], number: int) -> dict[str, Any]:
    scaffold = record.scaffold
    metadata = {
        key: value
        for key, value in (
            ("persona_archetype", scaffold and scaffold.persona),
            ("emotional_arc_key", scaffold and scaffold.emotional_arc),
            ("training_topic_key", scaffold and scaffold.topic),
            ("tier", scaffold and scaffold.tier),
        )
        if value
    }
    history = [
        {"turn": turn, "role": message.role, "content": message.content}
        for turn, message in enumerate(spoken[: number - 1], start=1)
    ]
    training: dict[str, Any] = {"conversation_turn": number + 1}
    if scaffold is not None and scaffold.quality_score is not None:
        training["quality_score"] = scaffold.quality_score
    return {
        "id": f"{record.conversation_id}_turn{number + 1}",
        "conversation_id": record.conversation_id,
        "turn_number": number + 1,
        "conversation_metadata": metadata,
        "system_prompt": system or None,  # said to be none, which is no fault
        "conversation_history": history,
        "current_user_input": spoken[number - 1].content,
        "target_response": spoken[number].content,
        "training_metadata": training,
    }


def _preference(record: Record) -> tuple[list[dict[str, Any]], list[str]]:
    if record.kind != "preference" or record.chosen is None or record.rejected is None:
        raise UnwritableRecordError("A preference needs two answers, and the record has one.")
    sides = {"prompt": record.messages, "chosen": record.chosen, "rejected": record.rejected}
    obj = {key: [_message(message, weights=False) for message in side] for key, side in sides.items()}
    return [{**_own_id(record), **obj, **_tools(record)}], _lost_scaffold(record)


def _kto(record: Record) -> tuple[list[dict[str, Any]], list[str]]:
    if record.kind != "kto" or record.label is None:
        raise UnwritableRecordError("KTO needs a label, and the record has none.")
    messages = [_message(message, weights=False) for message in record.messages]
    return [{**_own_id(record), "messages": messages, "label": record.label, **_tools(record)}], _lost_scaffold(record)
