"""The formats' names: many spellings are read, one is written."""

import re
from typing import Literal, cast, get_args

from brightrun.formats.errors import UnknownFormatError

FormatId = Literal[
    "brightrun_lora_v4",
    "brightrun_lora_v3",
    "openai_messages",
    "sharegpt",
    "alpaca",
    "prompt_completion",
    "preference",
    "kto",
    "enriched_conversation",
]
FORMAT_IDS: tuple[FormatId, ...] = get_args(FormatId)
AUTO = "auto"

_ALIASES: dict[str, FormatId] = {
    "brightrunlorav4": "brightrun_lora_v4",
    "brightrunv4": "brightrun_lora_v4",
    "lorav4": "brightrun_lora_v4",
    "v4": "brightrun_lora_v4",
    "400": "brightrun_lora_v4",  # `version` 4.0.0, as `_meta` writes it
    "brightrunlorav3": "brightrun_lora_v3",
    "brightrunv3": "brightrun_lora_v3",
    "lorav3": "brightrun_lora_v3",
    "turns": "brightrun_lora_v3",
    "v3": "brightrun_lora_v3",
    "openaimessages": "openai_messages",
    "openaichat": "openai_messages",
    "openai": "openai_messages",
    "chatml": "openai_messages",
    "messages": "openai_messages",
    "chat": "openai_messages",
    "sharegpt": "sharegpt",
    "alpaca": "alpaca",
    "instruction": "alpaca",
    "promptcompletion": "prompt_completion",
    "completion": "prompt_completion",
    "completions": "prompt_completion",
    "preference": "preference",
    "preferences": "preference",
    "dpo": "preference",
    "kto": "kto",
    "enrichedconversation": "enriched_conversation",
    "enriched": "enriched_conversation",
}


def format_id(name: str) -> FormatId | Literal["auto"]:
    """The one spelling of a format's name (`BRIGHTRUN-LoRA-v4` → `brightrun_lora_v4`); `auto` stays `auto`.

    Raises UnknownFormatError when no format is called that.
    """
    key = re.sub(r"[^a-z0-9]", "", name.lower())
    if key == AUTO:
        return cast(Literal["auto"], AUTO)
    if key not in _ALIASES:
        raise UnknownFormatError(name, FORMAT_IDS)
    return _ALIASES[key]


TRAINED_LATER = frozenset({"kto"})
"""Formats that are read, validated and converted, and that no trainer of this version learns from."""
