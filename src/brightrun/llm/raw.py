"""An answer from the raw body that the ledger kept."""

import orjson

from brightrun.llm import claude, openai_compatible
from brightrun.llm.calls import Answer, Provider


def read_raw(provider: Provider, raw: str, *, duration_s: float = 0.0) -> Answer:
    read = claude.read_message if provider is Provider.ANTHROPIC else openai_compatible.read_completion
    return read(orjson.loads(raw), raw, duration_s=duration_s)
