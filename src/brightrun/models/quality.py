"""What the held-out losses show of an adapter: numbers with their n, an interval, and a verdict that may be "no"."""

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from brightrun.training.comparison.paired import CONFIDENCE, LEAST_CONVERSATIONS, bootstrap_difference

_UNIT = "nats per trained token"


class Verdict(StrEnum):
    """Of the adapter against the untouched base model, on conversations that training did not see."""

    IMPROVED = "improved"
    NOT_PROVEN = "not_proven"
    WORSE = "worse"
    NOT_MEASURED = "not_measured"


def quality_metrics(result: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The metrics of a model, flat.

    result: what the trainer's `done` event says. records: of heldout.json, one a held-out record, with
    `conversation_id, tokens, loss_sum_base, loss_sum_adapter` (nats, summed over trained tokens); empty when nothing
    was held out. Of a preference run a record has `pairs` (1) too, and the loss is that of the pair.

    `heldout_loss_difference` is adapter − base, below 0 when the adapter is better; `heldout_loss_difference_low` and
    `_high` are its 95 % interval from a paired bootstrap over whole conversations, since answers of one conversation
    are not independent of each other.
    """
    metrics: dict[str, Any] = {
        "train_loss_first": result.get("train_loss_first"),
        "train_loss_last": result.get("train_loss_last"),
        "unit": result.get("unit", _UNIT),
    }
    if not records:
        return metrics | {
            "verdict": Verdict.NOT_MEASURED.value,
            "verdict_reason": "Nothing was held out of training, so nothing can be said of how the adapter answers.",
        }
    conversations = _by_conversation(records)
    n = sum(n for _base, _adapter, n in conversations)
    base = math.fsum(base for base, _adapter, _n in conversations) / n
    adapter = math.fsum(adapter for _base, adapter, _n in conversations) / n
    pairs = sum(int(record.get("pairs", 0)) for record in records)
    low, high, resamples = bootstrap_difference(conversations)
    on_heldout = bool(result.get("selected_on_heldout"))
    verdict, reason = _judge(low, high, len(conversations), selected_on_heldout=on_heldout)
    return metrics | {
        "heldout_loss_base": base,
        "heldout_loss_adapter": adapter,
        "heldout_loss_difference": adapter - base,
        "heldout_loss_difference_low": low,
        "heldout_loss_difference_high": high,
        "heldout_perplexity_base": None if pairs else _perplexity(base),
        "heldout_perplexity_adapter": None if pairs else _perplexity(adapter),
        "heldout_pairs": pairs,
        "heldout_reward_margin": result.get("heldout_reward_margin"),
        "heldout_reward_accuracy": result.get("heldout_reward_accuracy"),
        "heldout_conversations": len(conversations),
        "heldout_records": len(records),
        "heldout_tokens": sum(int(record["tokens"]) for record in records),
        "selected_on_heldout": on_heldout,
        "confidence": CONFIDENCE,
        "interval_method": f"paired bootstrap over conversations, percentiles of {resamples} resamples, seed 0",
        "verdict": verdict.value,
        "verdict_reason": reason,
    }


def _by_conversation(records: Sequence[Mapping[str, Any]]) -> list[tuple[float, float, int]]:
    sums: dict[str, list[float]] = {}
    for record in records:
        of = sums.setdefault(str(record["conversation_id"]), [0.0, 0.0, 0])
        of[0] += record["loss_sum_base"]
        of[1] += record["loss_sum_adapter"]
        of[2] += record.get("pairs") or record["tokens"]
    return [(base, adapter, int(n)) for base, adapter, n in sums.values()]


def _judge(low: float, high: float, conversations: int, *, selected_on_heldout: bool) -> tuple[Verdict, str]:
    interval = f"the 95 % interval of the difference is {low:+.4f} to {high:+.4f}"
    over = f"over {conversations:,} held-out conversation{'s' if conversations != 1 else ''}"
    if conversations < LEAST_CONVERSATIONS:
        return Verdict.NOT_PROVEN, (
            f"Only {conversations} conversation{'s were' if conversations != 1 else ' was'} held out; with fewer than "
            f"{LEAST_CONVERSATIONS} no difference counts as proven."
        )
    if selected_on_heldout and high < 0:
        return Verdict.NOT_PROVEN, (
            f"The loss is lower ({interval}, {over}), but the weights were picked where the loss on these same "
            "conversations was lowest, which flatters the result. Other conversations are needed to prove it."
        )
    if high < 0:
        return Verdict.IMPROVED, f"The loss is lower with the adapter: {interval}, {over}."
    if low > 0:
        return Verdict.WORSE, f"The loss is higher with the adapter: {interval}, {over}."
    return Verdict.NOT_PROVEN, f"The difference may be chance: {interval}, which includes 0, {over}."


def _perplexity(loss: float) -> float | None:
    """exp(loss); None where that is no number any more."""
    try:
        return math.exp(loss)
    except OverflowError:
        return None
