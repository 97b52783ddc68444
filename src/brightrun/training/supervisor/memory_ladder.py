"""After memory ran out: the same run with less of it at once. No rung changes what is learned: the effective batch
stays, and the loss is divided by the trained tokens of the whole step however it is cut.
"""

import json
from pathlib import Path

import msgspec

from brightrun.formats.run import RunConfig, read_run
from brightrun.training.supervisor.run_edits import replace_run

_LEAST_TOKENS = 64
_HEARTBEAT_FILE = "heartbeat.json"


def step_down(run_dir: Path) -> tuple[str, RunConfig] | None:
    """Change run.json by one rung: what changed, in words, and the run as it is now. None when no rung is left.

    Half the tokens in one forward pass, so that a step takes twice as many passes; from the second time on also
    activation checkpointing. Half of what the largest pass really was: a limit that no pass comes near helps nothing.
    A single record cannot be cut, so where it alone was too much only checkpointing is left.
    """
    config = read_run(run_dir)
    values = config.hyperparameters
    largest, longest = _seen(run_dir)
    tokens = min(values.micro_batch_tokens, largest or values.micro_batch_tokens) // 2
    helps = tokens >= _LEAST_TOKENS and (largest == 0 or largest > longest)
    if helps:
        lowered_before = any(rule.startswith("micro_batch_tokens") for rule in config.rules_fired)
        checkpointing = values.activation_checkpointing or lowered_before
        values = msgspec.structs.replace(values, micro_batch_tokens=tokens, activation_checkpointing=checkpointing)
        words = f"micro_batch_tokens lowered to {tokens}" + (" with activation checkpointing" if checkpointing else "")
    elif not values.activation_checkpointing:
        values = msgspec.structs.replace(values, activation_checkpointing=True)
        words = "activation checkpointing turned on"
    else:
        return None
    changed = msgspec.structs.replace(
        config, hyperparameters=values, rules_fired=[*config.rules_fired, f"{words}: memory had run out."]
    )
    replace_run(run_dir, changed)
    return words, changed


def _seen(run_dir: Path) -> tuple[int, int]:
    """(tokens of the largest forward pass, tokens of the longest record), as the trainer last told; 0 for unknown."""
    try:
        told = json.loads((run_dir / _HEARTBEAT_FILE).read_bytes())
        return int(told.get("largest_pass_tokens") or 0), int(told.get("longest_record_tokens") or 0)
    except (OSError, ValueError, AttributeError, TypeError):
        return 0, 0
