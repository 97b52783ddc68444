"""After memory ran out: the same run with less of it at once. Neither rung changes what is learned."""

from pathlib import Path

import msgspec

from brightrun.formats.run import read_run
from brightrun.training.supervisor.run_edits import replace_run

_LEAST_TOKENS = 64


def step_down(run_dir: Path) -> str | None:
    """Change run.json by one rung; what changed, in words. None when there is no rung left.

    Half the tokens in one forward pass; from the second time on also activation checkpointing.
    """
    config = read_run(run_dir)
    values = config.hyperparameters
    tokens = values.micro_batch_tokens // 2
    if tokens >= _LEAST_TOKENS:
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
    return words
