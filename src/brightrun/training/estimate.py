"""What a run will take, by the documented formula of the earlier product, with every input and part shown.

The formula (amounts are decimals; nothing is rounded before the end):

    steps per epoch = ⌈pairs ÷ batch⌉                       steps  = steps per epoch × epochs
    tokens per step = tokens ÷ pairs × batch                speed  = tokens/s of one device × devices
    seconds = steps × tokens per step ÷ speed + start-up + per epoch × epochs + saving
    cost    = price of one device × devices × hours + storage

Neither learning rate nor rank matter to it, and it has no interval: it was never compared with what happened.
"""

import math
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from brightrun.training.catalogue import GpuEntry

METHOD = "documented"
DEFAULT_PAIRS = 1000
DEFAULT_TOKENS_PER_PAIR = 200
_CENT = Decimal("0.01")


@dataclass(frozen=True)
class Workload:
    """What is to be trained on. pairs_source, tokens_source: `counted`, `given`, or why a default is used."""

    pairs: int
    pairs_source: str
    tokens: int
    tokens_source: str
    dataset_name: str | None = None


def workload(
    *, pairs: int | None, tokens: int | None, tokens_source: str | None = None, dataset_name: str | None = None
) -> Workload:
    """Fill in what is not known, and say so."""
    counted = "counted in the dataset" if dataset_name is not None else "given"
    known_pairs = pairs or DEFAULT_PAIRS
    return Workload(
        pairs=known_pairs,
        pairs_source=counted if pairs else f"not known; {DEFAULT_PAIRS} assumed",
        tokens=tokens or known_pairs * DEFAULT_TOKENS_PER_PAIR,
        tokens_source=(tokens_source or counted) if tokens else f"not known; {DEFAULT_TOKENS_PER_PAIR} a pair assumed",
        dataset_name=dataset_name,
    )


def documented(work: Workload, *, batch_size: int, epochs: int, gpu: GpuEntry, count: int) -> dict[str, Any]:
    """The estimate as JSON. Rounded values are half up to the cent, hours to four places."""
    per_epoch = math.ceil(work.pairs / batch_size)
    steps = per_epoch * epochs
    tokens_per_step = Decimal(work.tokens) / work.pairs * batch_size
    speed = gpu.tokens_per_s * count
    train_s = steps * tokens_per_step / speed
    epochs_s = gpu.per_epoch_s * epochs
    seconds = train_s + gpu.startup_s + epochs_s + gpu.saving_s
    hours = seconds / 3600
    rate = gpu.price_per_gpu_hour_usd * count
    compute = rate * hours
    total = compute + gpu.storage_usd

    def whole(value: Decimal, places: str = "0.001") -> float:
        return float(value.quantize(Decimal(places), rounding=ROUND_HALF_UP))

    return {
        "method": METHOD,
        "estimated_cost": _cents(total),
        "cost_breakdown": {"compute": _cents(compute), "storage": _cents(gpu.storage_usd)},
        "estimated_duration_hours": whole(hours, "0.0001"),
        "hourly_rate": _cents(rate),
        "training_details": {
            "total_steps": steps,
            "steps_per_epoch": per_epoch,
            "estimated_throughput_tokens_per_sec": float(speed),
            "dataset_name": work.dataset_name,
        },
        "inputs": {
            "training_pairs": work.pairs,
            "training_pairs_source": work.pairs_source,
            "tokens": work.tokens,
            "tokens_source": work.tokens_source,
            "batch_size": batch_size,
            "epochs": epochs,
            "gpu_type": gpu.id,
            "gpu_count": count,
            "price_per_gpu_hour_usd": str(gpu.price_per_gpu_hour_usd),
            "tokens_per_s_per_gpu": float(gpu.tokens_per_s),
        },
        "seconds": {
            "value": whole(seconds),
            "low": None,
            "high": None,
            "parts": {
                "training": whole(train_s),
                "start_up": whole(gpu.startup_s),
                "epochs": whole(epochs_s),
                "saving": whole(gpu.saving_s),
            },
        },
        "cost_usd": {
            "value": _cents(total),
            "low": None,
            "high": None,
            "parts": {"compute": _cents(compute), "storage": _cents(gpu.storage_usd)},
        },
        "memory_bytes": {"value": None, "low": None, "high": None, "parts": {}},
        "level": None,
        "fits": None,
        "reasons": ["The documented formula gives neither an interval nor memory; take it as a first idea."],
        "sources": {
            "formula": "The earlier product's documented formula.",
            "gpu": gpu.source,
            "tokens": work.tokens_source,
        },
    }


def _cents(amount: Decimal) -> float:
    return float(amount.quantize(_CENT, rounding=ROUND_HALF_UP))  # a promise for reading, not an amount that is booked
