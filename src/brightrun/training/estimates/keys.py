"""Names of background tasks, and what makes two configurations the same for a probe."""

import hashlib

import msgspec
import orjson

from brightrun.formats.hyperparameters import Hyperparameters

COUNT_TASK = "estimates.count_lengths"
PROBE_TASK = "estimates.probe"
_NO_MATTER = {
    "learning_rate", "epochs", "alpha", "schedule", "warmup_ratio", "weight_decay", "max_grad_norm", "min_steps",
    "max_steps", "eval_every_steps", "checkpoint_every_steps", "keep_checkpoints", "early_stopping_patience",
    "divergence_loss", "seed", "heldout_fraction", "dpo_beta", "dpo_label_smoothing", "dpo_sft_weight",
}  # fmt: skip
"""Hyperparameters that change neither how fast nor how large a pass is."""


def probe_key(dataset_sha256: str, base_model: str, gpu_type: str, values: Hyperparameters) -> str:
    """Of everything that decides what a pass takes."""
    kept = {name: value for name, value in msgspec.to_builtins(values).items() if name not in _NO_MATTER}
    raw = orjson.dumps([dataset_sha256, base_model, gpu_type, kept], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(raw).hexdigest()
