"""What counts as proof: the interval, not the number; and "not proven" is an answer."""

import math
import random

import pytest

from brightrun.models.quality import bootstrap_difference, quality_metrics

RESULT = {"train_loss_first": 3.0, "train_loss_last": 2.0, "selected_on_heldout": False}


def records(differences: list[float], *, tokens: int = 50, base: float = 3.0, each: int = 1) -> list[dict]:
    """Held-out records, `each` a conversation, whose loss per token changes by the given differences."""
    return [
        {
            "conversation_id": f"c{number}",
            "line": number * each + part + 1,
            "tokens": tokens,
            "loss_sum_base": base * tokens,
            "loss_sum_adapter": (base + difference) * tokens,
        }
        for number, difference in enumerate(differences)
        for part in range(each)
    ]


def test_losses_are_per_trained_token_over_all_records():
    rows = [
        {"conversation_id": "a", "line": 1, "tokens": 10, "loss_sum_base": 20.0, "loss_sum_adapter": 10.0},
        {"conversation_id": "b", "line": 2, "tokens": 30, "loss_sum_base": 60.0, "loss_sum_adapter": 50.0},
    ]
    metrics = quality_metrics(RESULT, rows)
    assert metrics["heldout_loss_base"] == 2.0
    assert metrics["heldout_loss_adapter"] == 1.5
    assert metrics["heldout_loss_difference"] == -0.5
    assert metrics["heldout_perplexity_base"] == pytest.approx(math.exp(2))
    assert (metrics["heldout_conversations"], metrics["heldout_records"], metrics["heldout_tokens"]) == (2, 2, 40)


def test_losses_of_pairs_are_per_pair_however_long_the_answers_are():
    rows = [
        {"conversation_id": "a", "line": 1, "tokens": 10, "pairs": 1, "loss_sum_base": 0.7, "loss_sum_adapter": 0.1},
        {"conversation_id": "b", "line": 2, "tokens": 90, "pairs": 1, "loss_sum_base": 0.7, "loss_sum_adapter": 0.3},
    ]
    metrics = quality_metrics(RESULT | {"unit": "nats per pair", "heldout_reward_accuracy": 1.0}, rows)
    assert metrics["heldout_loss_adapter"] == pytest.approx(0.2)
    assert (metrics["heldout_pairs"], metrics["heldout_tokens"], metrics["unit"]) == (2, 100, "nats per pair")
    assert metrics["heldout_perplexity_base"] is None
    assert metrics["heldout_reward_accuracy"] == 1.0


def test_a_clear_gain_on_enough_conversations_is_proven():
    chance = random.Random(1)
    metrics = quality_metrics(RESULT, records([-0.3 + chance.gauss(0, 0.1) for _ in range(30)]))
    assert metrics["verdict"] == "improved"
    assert metrics["heldout_loss_difference_high"] < 0
    assert "30 held-out conversations" in metrics["verdict_reason"]


def test_no_change_is_not_proven():
    """What a learning rate of 0 gives."""
    metrics = quality_metrics(RESULT, records([0.0] * 30))
    assert metrics["verdict"] == "not_proven"
    assert (metrics["heldout_loss_difference_low"], metrics["heldout_loss_difference_high"]) == (0, 0)


def test_noise_around_nothing_is_not_proven():
    chance = random.Random(2)
    metrics = quality_metrics(RESULT, records([chance.gauss(-0.01, 0.3) for _ in range(30)]))
    assert metrics["verdict"] == "not_proven"
    assert "may be chance" in metrics["verdict_reason"]


def test_harm_is_called_worse():
    metrics = quality_metrics(RESULT, records([0.2, 0.3, 0.25, 0.4, 0.1] * 4))
    assert metrics["verdict"] == "worse"
    assert metrics["heldout_loss_difference_low"] > 0


def test_a_few_conversations_prove_nothing_however_large_the_gain():
    metrics = quality_metrics(RESULT, records([-2.0] * 9))
    assert metrics["verdict"] == "not_proven"
    assert "Only 9 conversations were held out" in metrics["verdict_reason"]


def test_many_records_of_one_conversation_are_one_conversation():
    metrics = quality_metrics(RESULT, records([-1.0], each=200))
    assert metrics["heldout_conversations"] == 1
    assert metrics["verdict"] == "not_proven"


def test_weights_that_were_picked_on_the_heldout_conversations_prove_nothing_on_them():
    metrics = quality_metrics(RESULT | {"selected_on_heldout": True}, records([-0.5, -0.4, -0.6] * 10))
    assert metrics["verdict"] == "not_proven"
    assert "flatters" in metrics["verdict_reason"]


def test_without_anything_held_out_nothing_is_claimed():
    metrics = quality_metrics(RESULT, [])
    assert metrics["verdict"] == "not_measured"
    assert "heldout_loss_adapter" not in metrics
    assert metrics["train_loss_last"] == 2.0


def test_the_interval_is_the_same_every_time():
    rows = [(3.0 * n, 2.5 * n + n % 3, n) for n in range(10, 40)]
    assert bootstrap_difference(rows) == bootstrap_difference(rows)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """100 experiments of 30 conversations: 95 % nominal; a percentile bootstrap of 30 covers a little less."""
    chance = random.Random(3)
    covered = 0
    for _ in range(100):
        rows = []
        for _ in range(30):
            tokens = chance.randint(20, 200)
            rows.append((3.0 * tokens, (3.0 + chance.gauss(-0.2, 0.4)) * tokens, tokens))
        low, high, _resamples = bootstrap_difference(rows[:30])
        covered += low <= -0.2 <= high
    assert 0.86 <= covered / 100 <= 1


def test_many_conversations_take_fewer_resamples():
    *_interval, resamples = bootstrap_difference([(3.0, 2.9, 1)] * 10_000)
    assert resamples == 200
