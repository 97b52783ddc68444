"""What the server would have charged: its own arithmetic over the shipped price file."""

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

PRICES = Path(__file__).parents[2] / "src" / "brightrun" / "llm" / "models.toml"
MILLION = Decimal(1_000_000)


def load_models(path: Path = PRICES) -> dict[str, dict[str, Any]]:
    models: dict[str, dict[str, Any]] = {}
    for model in tomllib.loads(path.read_text(), parse_float=Decimal)["models"]:
        for name in [model["id"], *model.get("aliases", [])]:
            models[name] = model
    return models


def charge(model: dict[str, Any] | None, usage: dict[str, Any], *, batch: bool) -> Decimal:
    """USD; 0 for a model without prices (the server counts those apart)."""
    if model is None or "prices" not in model:
        return Decimal(0)
    creation = usage.get("cache_creation") or {}
    counts = {
        "input": usage["input_tokens"],
        "output": usage["output_tokens"],
        "cache_read": usage.get("cache_read_input_tokens") or 0,
        "cache_write_5m": creation.get("ephemeral_5m_input_tokens", 0),
        "cache_write_1h": creation.get("ephemeral_1h_input_tokens", 0),
    }
    prompt = sum(count for name, count in counts.items() if name != "output")
    band = next(band for band in model["prices"] if prompt <= band.get("up_to", prompt))
    total = sum((Decimal(band[name]) * count for name, count in counts.items() if count), Decimal(0)) / MILLION
    return total * Decimal(model["batch"]) if batch else total
