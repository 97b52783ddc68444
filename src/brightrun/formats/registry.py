"""The formats: what each is called, how it is recognised, how one of its objects is read."""

from collections.abc import Callable
from typing import Any, NamedTuple

from brightrun.formats.alpaca import read_alpaca
from brightrun.formats.kto import read_kto
from brightrun.formats.names import FormatId
from brightrun.formats.openai import read_openai
from brightrun.formats.preference import read_preference
from brightrun.formats.prompt_completion import read_prompt_completion
from brightrun.formats.reading import Reading, json_type, shown
from brightrun.formats.sharegpt import read_sharegpt
from brightrun.formats.texts import PAIR_FIELDS
from brightrun.formats.v3 import read_v3
from brightrun.formats.v4 import read_enriched, read_v4

Object = dict[str, Any]
_ANSWERS = ("chosen", "rejected", "preferred_output", "non_preferred_output")
_LABELS = ("label", "kto_tag")
_PROMPT = frozenset(
    {"system", "prompt", "question", "instruction", "input", "history", "messages", "conversations", "conversation"}
)


class Format(NamedTuple):
    """marks: whether an object has the fields that no other format has. reads: one object into a Reading. texts: the
    fields that hold what a model sees. unmarked: the formats that an object of this one looks like when its mark is
    what is missing."""

    id: FormatId
    marks: Callable[[Object], bool]
    looks_like: str
    reads: Callable[[Object, Reading], None]
    texts: frozenset[str]
    unmarked: frozenset[FormatId] = frozenset()


def _has_turns(obj: Object) -> bool:
    """A number of turns beside the messages is a remark about them, not the conversation."""
    if "turns" not in obj:
        return False
    elsewhere = any(isinstance(obj.get(key), list) for key in ("messages", "conversations"))
    return isinstance(obj["turns"], list) or not elsewhere


# Most particular first: the first whose mark fits is the format of an object.
FORMATS: dict[FormatId, Format] = {
    entry.id: entry
    for entry in (
        Format(
            "enriched_conversation",
            lambda o: "training_pairs" in o and ("dataset_metadata" in o or "consultant_profile" in o),
            "`dataset_metadata` and `training_pairs`",
            read_enriched,
            frozenset({"training_pairs"}),
        ),
        Format(
            "brightrun_lora_v4",
            lambda o: "target_response" in o or "current_user_input" in o,
            "`current_user_input` and `target_response`",
            read_v4,
            PAIR_FIELDS,
        ),
        Format(
            "preference",
            lambda o: _any(o, _ANSWERS),
            "a chosen and a rejected answer",
            read_preference,
            _PROMPT | set(_ANSWERS),
        ),
        Format(
            "kto",
            lambda o: _any(o, _LABELS) and _any(o, ("completion", "messages", "conversations", "output")),
            "an answer and a `label`",
            read_kto,
            _PROMPT | {"completion", "output"},
            frozenset({"prompt_completion", "openai_messages", "sharegpt", "alpaca"}),
        ),
        Format("brightrun_lora_v3", _has_turns, "`turns`", read_v3, frozenset({"turns"})),
        Format("openai_messages", lambda o: "messages" in o, "`messages`", read_openai, frozenset({"messages"})),
        Format(
            "sharegpt", lambda o: "conversations" in o or "conversation" in o, "`conversations`", read_sharegpt, _PROMPT
        ),
        Format(
            "alpaca",
            lambda o: "instruction" in o,
            "`instruction` and `output`",
            read_alpaca,
            _PROMPT | {"output", "response"},
        ),
        Format(
            "prompt_completion",
            lambda o: "prompt" in o,
            "`prompt` and `completion`",
            read_prompt_completion,
            _PROMPT | {"completion", "response"},
        ),
    )
}


def _any(obj: Object, keys: tuple[str, ...]) -> bool:
    return any(key in obj for key in keys)


def classify(obj: Object) -> Format | None:
    """The format of one object by its fields; None when it has those of none."""
    return next((entry for entry in FORMATS.values() if entry.marks(obj)), None)


def read_object(value: object, entry: Format, reading: Reading) -> None:
    """Turn one decoded value into records or issues. The reading says what came out."""
    if not isinstance(value, dict):
        message = f"The record is {json_type(value)}; a record is an object: {{…}}."
        reading.report("not_an_object", "", message, excerpt=shown(value))
        return
    if not entry.marks(value):
        if "_meta" in value:
            reading.is_record, reading.meta = False, value["_meta"]
            return
        other = classify(value)
        if other is not None and other.id not in entry.unmarked:
            reading.report(
                "mixed_formats",
                "",
                f"This record looks like {other.id} ({other.looks_like}); the file is {entry.id}.",
                excerpt=", ".join(map(str, value))[:200],
            )
            return
    entry.reads(value, reading)
