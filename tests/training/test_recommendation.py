"""Which preset is advised for a dataset: rules over its numbers, each with its reason in words."""

import pytest

from brightrun.formats.hyperparameters import PRESETS
from brightrun.training.recommendation import recommend


@pytest.mark.parametrize(
    ("conversations", "pairs", "repeated", "preset", "word"),
    [
        (1, 1, 0.0, "conservative", "It has 1 conversation, fewer than 150"),
        (149, 149, 0.0, "conservative", "fewer than 150"),
        (150, 900, 0.0, "balanced", "150 conversations"),
        (300, 5_000, 0.0, "balanced", "300 conversations"),
        (301, 1_500, 0.0, "aggressive", "more than 300"),
        (301, 1_499, 0.0, "balanced", "1,499 training pairs"),
        (301, None, 0.0, "aggressive", "more than 300"),
        (0, 0, 0.0, "balanced", "not known"),
        (None, None, 0.0, "balanced", "not known"),
    ],
)
def test_the_preset_follows_from_conversations_and_pairs(
    conversations: int | None, pairs: int | None, repeated: float, preset: str, word: str
) -> None:
    found = recommend(conversations=conversations, pairs=pairs, repeated=repeated)
    assert found.preset_id == preset
    assert word in found.reasons[0]
    assert found.preset_id in PRESETS


@pytest.mark.parametrize(("conversations", "preset"), [(100, "conservative"), (200, "conservative"), (400, "balanced")])
def test_what_repeats_itself_is_learned_more_gently(conversations: int, preset: str) -> None:
    found = recommend(conversations=conversations, pairs=conversations * 6, repeated=0.25)
    assert found.preset_id == preset
    assert "25% of its records repeat" in found.reasons[1]
    assert recommend(conversations=conversations, pairs=conversations * 6, repeated=0.1).reasons[1:] == []
