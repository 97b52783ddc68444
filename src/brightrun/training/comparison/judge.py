"""Whether a difference between two runs is proven. Pure: from what each measured on its held-out conversations.

Two runs that differ in nothing but the seed are never called different: what is seen between them is what chance does.
For others, the interval of the paired bootstrap must exclude 0 *and* the difference must be larger than what another
seed may give, taken as 1 % of the loss: the interval knows which conversations were drawn, not how the training would
have gone another time.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from brightrun.training.comparison.paired import CONFIDENCE, LEAST_CONVERSATIONS, bootstrap_difference
from brightrun.training.comparison.schemas import PairOut, PairVerdict

SEED_NOISE = 0.01
"""Of the loss."""


@dataclass(frozen=True)
class Measured:
    """What is known of one run. setup: all that decides what was learned, the seed aside. unit: None: not measured.

    conversations: digest → (n, loss sum). on_heldout: its weights were picked where the loss on them was lowest.
    missing: why there is nothing measured, as a sentence.
    """

    name: str
    setup: Mapping[str, Any]
    seed: int
    dataset: str
    unit: str | None = None
    conversations: Mapping[str, tuple[int, float]] | None = None
    on_heldout: bool = False
    missing: str = ""


def judge(runs: Sequence[Measured]) -> list[PairOut]:
    """Every pair, in order."""
    pairs = [(first, second) for first in range(len(runs)) for second in range(first + 1, len(runs))]
    # As many chances to be wrong as there are pairs: each must be surer.
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(pairs))
    return [_pair(runs, first, second, confidence) for first, second in pairs]


def _pair(runs: Sequence[Measured], first: int, second: int, confidence: float) -> PairOut:
    one, other = runs[first], runs[second]
    nothing = {"first": first, "second": second, "conversations": 0, "tokens": 0}
    for run in (one, other):
        if run.conversations is None:
            return PairOut(**nothing, verdict=PairVerdict.CANNOT_BE_COMPARED, reason=f"{run.name}: {run.missing}")
    assert one.conversations is not None
    assert other.conversations is not None
    if one.unit != other.unit:
        reason = f"Their losses are of different kinds: {one.unit}, and {other.unit}."
        return PairOut(**nothing, verdict=PairVerdict.CANNOT_BE_COMPARED, reason=reason)
    shared = [digest for digest in one.conversations if digest in other.conversations]
    same = one.setup == other.setup
    if not shared:
        if same:
            reason = "They differ only in their seed, which also drew other conversations to hold out."
            return PairOut(**nothing, verdict=PairVerdict.NO_DIFFERENCE_PROVEN, reason=reason)
        return PairOut(**nothing, verdict=PairVerdict.CANNOT_BE_COMPARED, reason=_nothing_shared(one, other))
    rows = [(one.conversations[key][1], other.conversations[key][1], one.conversations[key][0]) for key in shared]
    tokens = sum(n for _first, _second, n in rows)
    loss = math.fsum(row[0] for row in rows) / tokens
    other_loss = math.fsum(row[1] for row in rows) / tokens
    low, high, resamples = bootstrap_difference(rows, confidence=confidence)
    noise = SEED_NOISE * min(loss, other_loss)
    verdict, reason = _verdict(one, other, len(shared), other_loss - loss, low, high, noise, confidence, same=same)
    return PairOut(
        first=first, second=second, verdict=verdict, reason=reason, conversations=len(shared), tokens=tokens,
        loss_first=loss, loss_second=other_loss, difference=other_loss - loss, low=low, high=high, noise=noise,
        confidence=confidence,
        method=f"paired bootstrap over conversations, percentiles of {resamples} resamples, seed 0",
    )  # fmt: skip


def _nothing_shared(one: Measured, other: Measured) -> str:
    why = []
    if one.dataset != other.dataset:
        why.append("their datasets differ")
    if one.seed != other.seed:
        why.append("their seeds held out other conversations")
    for key, words in (
        ("base_model", "their base models read text differently"),
        ("heldout_fraction", "they held out different shares"),
        ("max_seq_length", "they cut records at different lengths"),
    ):
        if one.setup.get(key) != other.setup.get(key):
            why.append(words)
    told = f": {', '.join(why)}" if why else ""
    return f"No conversation was held out by both and measured alike{told}. Start both on one dataset with one seed."


def _verdict(
    one: Measured,
    other: Measured,
    conversations: int,
    difference: float,
    low: float,
    high: float,
    noise: float,
    confidence: float,
    *,
    same: bool,
) -> tuple[PairVerdict, str]:
    none = PairVerdict.NO_DIFFERENCE_PROVEN
    over = f"over {conversations:,} shared held-out conversation{'s' if conversations != 1 else ''}"
    interval = f"the {confidence * 100:.3g} % interval of the difference is {low:+.4f} to {high:+.4f}, {over}"
    if same:
        what = "nothing" if one.seed == other.seed else "their seed"
        return (
            none,
            f"They differ in {what}{'' if what == 'nothing' else ' alone'}: what is seen is chance ({interval}).",
        )
    if conversations < LEAST_CONVERSATIONS:
        return none, (
            f"Only {conversations} held-out conversation{'s are' if conversations != 1 else ' is'} shared; with fewer "
            f"than {LEAST_CONVERSATIONS} no difference counts as proven."
        )
    if low <= 0 <= high:
        return none, f"The difference may be chance: {interval}, which includes 0."
    if abs(difference) <= noise:
        return none, (
            f"The difference is real for these two adapters ({interval}), but not above {noise:.4f}, 1 % of the loss: "
            "training the same again with another seed may move it as far."
        )
    better = PairVerdict.FIRST if difference > 0 else PairVerdict.SECOND
    winner = one if better is PairVerdict.FIRST else other
    if winner.on_heldout:
        return none, (
            f"{winner.name} has the lower loss ({interval}), but its weights were picked where the loss on these same "
            "conversations was lowest, which flatters it."
        )
    return better, f"{winner.name} has the lower loss: {interval}."
