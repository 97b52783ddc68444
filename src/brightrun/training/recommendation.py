"""Which preset suits a dataset, by rules over its own numbers, and why in plain words.

The rules, in order (docs/how-to/configure-a-run.md says the same to users):

1. fewer than 150 conversations: conservative; up to 300: balanced; more: aggressive. Unknown: balanced.
2. aggressive also needs 1,500 training pairs: a large adapter with few answers to learn from learns them by heart.
3. more than a tenth of the records repeat another (exactly or nearly): one step gentler, because what is repeated is
   seen that often in every epoch.

The first rule is the earlier product's. None of the thresholds has been swept on our own data yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from brightrun.datasets.tables import Dataset

FEW_CONVERSATIONS, MANY_CONVERSATIONS = 150, 300
MANY_PAIRS = 1500
MUCH_REPEATED = 0.1
"""Share of records that repeat another."""
REPEATS = ("duplicate_record", "near_duplicate")
_STEPS = ("conservative", "balanced", "aggressive")


@dataclass(frozen=True)
class Recommendation:
    """reasons: a sentence for each rule that had a say, the deciding one first."""

    preset_id: str
    reasons: list[str]


def recommend(*, conversations: int | None, pairs: int | None, repeated: float = 0.0) -> Recommendation:
    """The preset for a dataset of so many conversations and training pairs. repeated: share of records, 0…1."""
    if not conversations:
        return Recommendation("balanced", ["How many conversations it has is not known, so the middle way is advised."])
    if conversations < FEW_CONVERSATIONS:
        place = 0
        why = (
            f"It has {conversations:,} conversation{'' if conversations == 1 else 's'}, fewer than "
            f"{FEW_CONVERSATIONS}: a small adapter and gentle steps pick up tone and form without learning single "
            "answers by heart."
        )
    elif conversations <= MANY_CONVERSATIONS:
        place = 1
        why = (
            f"{conversations:,} conversations ({FEW_CONVERSATIONS} to {MANY_CONVERSATIONS}) are enough to learn how "
            "the expert answers, and not so many that a large adapter would pay."
        )
    elif pairs is not None and pairs < MANY_PAIRS:
        place = 1
        why = (
            f"{conversations:,} conversations are many, but {pairs:,} training pairs (fewer than {MANY_PAIRS:,}) are "
            "too few answers for a large adapter."
        )
    else:
        place = 2
        why = (
            f"{conversations:,} conversations (more than {MANY_CONVERSATIONS}) can fill a large adapter: it may learn "
            "behaviour far from the base model."
        )
    reasons = [why]
    if repeated > MUCH_REPEATED:
        more = f"{repeated:.0%} of its records repeat another one"
        if place:
            place -= 1
            reasons.append(f"{more}, and are seen that often in every epoch: one step gentler.")
        else:
            reasons.append(f"{more}, and are seen that often in every epoch: all the more reason to be careful.")
    return Recommendation(_STEPS[place], reasons)


def recommend_for(dataset: Dataset) -> Recommendation:
    """By what its validation counted."""
    counts: Mapping[str, Any] = dataset.issue_counts or {}
    repeats = sum(int(counts.get(code, 0)) for code in REPEATS)
    records = dataset.total_records or 0
    return recommend(
        conversations=dataset.total_conversations,
        pairs=dataset.total_training_pairs,
        repeated=min(1.0, repeats / records) if records else 0.0,
    )
