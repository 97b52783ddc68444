"""Is the promise kept? Memory and duration of real runs against what was promised before, with and without a probe.

The configurations stand here since before the estimator was tuned; do not change them to suit it. Run on an idle
machine: `python benchmarks/estimate.py [--only NAME …] [--json FILE]`. Each configuration is estimated without a probe,
then with one, then trained as its own process, whose peak resident memory and wall time are what happened.
"""

from dataclasses import dataclass, field
from typing import Any

LEVEL = 0.9


@dataclass(frozen=True)
class Case:
    """One configuration. words: mean of a conversation; spread: sigma of its log-normal. trained_share: of the words,
    those in answers."""

    name: str
    model: str
    preset: str
    conversations: int
    words: int
    spread: float = 0.6
    trained_share: float = 0.5
    settings: dict[str, Any] = field(default_factory=dict)


# Fixed on 2026-11-28, before the estimator was tuned.
CASES = (
    Case("tiny, balanced, short rows", "tiny", "balanced", 240, 90),
    Case("tiny, careful, mixed rows", "tiny", "conservative", 120, 220, 0.8),
    Case("tiny, strong, long rows", "tiny", "aggressive", 60, 700, 0.5, settings={"epochs": 3, "min_steps": 0}),
    Case(
        "tiny, one long pass, rank 64", "tiny", "custom", 300, 160, 0.4,
        settings={"rank": 64, "epochs": 2, "batch_size": 16, "min_steps": 0},
    ),
    Case(
        "tiny, checkpointed, evaluated often", "tiny", "balanced", 100, 300, 0.7, 0.8,
        settings={
            "activation_checkpointing": True, "eval_every_steps": 5, "checkpoint_every_steps": 5, "min_steps": 0,
            "epochs": 4,
        },
    ),
    Case(
        "tiny, rows cut at 512, one row a step", "tiny", "custom", 80, 900, 0.5, 0.3,
        settings={"max_seq_length": 512, "batch_size": 1, "epochs": 2, "min_steps": 0},
    ),
    Case("small, balanced, short rows", "small", "balanced", 80, 80, settings={"min_steps": 0}),
    Case(
        "small, long rows, wide passes", "small", "custom", 40, 600, 0.5,
        settings={"micro_batch_tokens": 8192, "batch_size": 8, "epochs": 2, "min_steps": 0},
    ),
    Case(
        "small, narrow passes, two layers adapted", "small", "custom", 60, 300, 0.8,
        settings={
            "micro_batch_tokens": 1024, "target_modules": ["q_proj", "v_proj"], "epochs": 2, "min_steps": 0,
            "rank": 8, "batch_size": 4,
        },
    ),
    Case(
        "small, fp32, checkpointed", "small", "custom", 40, 350, 0.6, 0.7,
        settings={
            "precision": "fp32", "activation_checkpointing": True, "epochs": 2, "min_steps": 0, "dropout": 0.05,
        },
    ),
    Case(
        "tiny-random, very many short steps", "tiny-random", "custom", 400, 60, 0.5,
        settings={"batch_size": 2, "epochs": 2, "min_steps": 0, "rank": 4},
    ),
    Case(
        "small, answers only at the end, half held out", "small", "custom", 70, 250, 0.5, 0.15,
        settings={"heldout_fraction": 0.5, "epochs": 3, "eval_every_steps": 4, "min_steps": 0},
    ),
)  # fmt: skip
