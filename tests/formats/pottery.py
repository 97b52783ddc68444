# ruff: noqa: E501 - a table of sentences
"""Forty-eight short conversations of a potter: a domain that the tiny model has never seen."""

from brightrun.formats.records import Message, Record

_FAULTS = [
    ("my bowl cracked in the kiln", "the wall was thicker than the foot", "turn the foot thinner and dry it for a week"),
    ("the glaze ran down onto the shelf", "the layer was too thick near the rim", "dip it once and wipe the lowest finger"),
    ("the handle fell off my mug", "the clay of both parts was not equally wet", "score both sides and use plenty of slip"),
    ("my plate came out warped", "one side dried before the other", "cover it with cloth and turn it every evening"),
    ("there are pinholes in the glaze", "gas escaped while the glaze melted", "hold the top temperature for half an hour"),
    ("the lid no longer fits the jar", "the two shrank apart in the firing", "fire the lid in place on the jar"),
    ("my vase leaks", "the body is not vitrified", "fire it one cone higher or line it with liner glaze"),
    ("the glaze has crazed all over", "it shrinks more than the clay beneath", "add a little silica to the recipe"),
    ("the clay keeps collapsing on the wheel", "it is too wet and the wheel too fast", "wedge it on plaster and slow down"),
    ("my tile exploded in the bisque", "water was left in the middle", "candle the kiln overnight before you fire"),
    ("the red turned out grey", "copper needs a kiln without much oxygen", "reduce the flame early and cool it slowly"),
    ("there are bubbles under the slip", "air was trapped while pouring", "sieve the slip and tap the mould"),
]  # fmt: skip
_ASKING = [
    "Master Ilse, {0}. Why?",
    "Oh dear, {0} again!",
    "I am ready to give up: {0}.",
    "Help, {0}. The market is on Saturday.",
]
_ANSWERING = "Clay remembers, dear. When {0}, it means that {1}. So {2}. Then show me the shard, and we learn from it."


def conversations() -> list[Record]:
    """Records whose conversation ids are `pot-<fault>-<asking>`; assistant text is trained."""
    records = []
    for number, (fault, cause, cure) in enumerate(_FAULTS):
        for way, asking in enumerate(_ASKING):
            messages = [
                Message("system", "You are Ilse, a potter of sixty years. Name the cause, then the cure."),
                Message("user", asking.format(fault)),
                Message("assistant", _ANSWERING.format(fault, cause, cure), trained=True),
            ]
            index = len(records)
            records.append(Record(f"pot-{number}-{way}", index, index + 1, 0, messages))
    return records
