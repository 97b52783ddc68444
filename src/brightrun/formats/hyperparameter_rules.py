"""The rules that adapt hyperparameters to a preset and to a dataset. Each that fires is told in a sentence.

What a person set is never changed. Estimate, page, job and trainer call `adapt`, so that all show and do the same.
"""

import math
from collections.abc import Iterable

import msgspec

from brightrun.formats.hyperparameters import (
    SPECS,
    Hyperparameters,
    build,
    minimum_steps_rule,
    of_method,
    preset_named,
)


def adapt(
    values: Hyperparameters, *, preset: str, train_records: int, explicit: Iterable[str] = ()
) -> tuple[Hyperparameters, list[str]]:
    """All rules, in order. explicit: names that a person set. Returns the values and a sentence for each change."""
    fixed = set(explicit)
    chosen = method_rule(values, preset=preset, explicit=fixed)
    values, scaled = learning_rate_rule(values, preset=preset, explicit=fixed)
    values, stepped = minimum_steps_rule(values, train_records=train_records, explicit=fixed)
    return values, [*chosen, *scaled, *stepped]


def method_rule(values: Hyperparameters, *, preset: str, explicit: Iterable[str] = ()) -> list[str]:
    """What `build` has taken otherwise than the preset because of the method, a sentence for each."""
    why = {
        "dpo": "pairs of answers are learned from in small steps, and seldom more than once",
        "rslora": "it is divided by √rank, not by rank",
    }
    usual = build(preset, {"rank": values.rank})
    return [
        f"{name} is {value:g} and not {getattr(usual, name):g} with the method {values.method}: {why[values.method]}."
        for name, value in of_method(msgspec.structs.asdict(usual) | {"method": values.method}).items()
        if name not in set(explicit) and value != getattr(usual, name)
    ]


def learning_rate_rule(
    values: Hyperparameters, *, preset: str, explicit: Iterable[str] = ()
) -> tuple[Hyperparameters, list[str]]:
    """The learning rate follows a batch that a person chose: × √(batch ÷ the preset's batch), to three digits.

    A gradient averaged over more records is less noisy, and AdamW can take a longer step along it; the square root is
    the usual scaling for adaptive optimisers. A batch that the minimum-steps rule lowers does not count: it is lowered
    to take more steps, not smaller ones.
    """
    fixed = set(explicit)
    usual = build(preset)
    if "batch_size" not in fixed or "learning_rate" in fixed or values.batch_size == usual.batch_size:
        return values, []
    spec = SPECS["learning_rate"]
    assert spec.minimum is not None
    assert spec.maximum is not None
    scaled = values.learning_rate * math.sqrt(values.batch_size / usual.batch_size)
    rate = min(spec.maximum, max(spec.minimum, float(f"{scaled:.3g}")))
    if values.learning_rate in {rate, 0}:
        return values, []
    sentence = (
        f"learning_rate scaled from {values.learning_rate:g} to {rate:g}: your batch of {values.batch_size} is "
        f"{values.batch_size / usual.batch_size:g} × the {usual.batch_size} of {preset_named(preset).id}, and the rate "
        "follows its square root. Set the learning rate yourself to keep another."
    )
    return msgspec.structs.replace(values, learning_rate=rate), [sentence]
