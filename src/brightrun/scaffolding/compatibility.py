"""How well persona, arc and topic fit one another, and why.

| Mismatch (only where the list is not empty) | Penalty |
|---|---|
| the arc's suitable personas lack the persona | 0.20 |
| the arc's suitable topics lack the topic | 0.20 |
| the topic's suitable personas lack the persona | 0.15 |
| the topic's suitable arcs lack the arc | 0.15 |

The score starts at 1 and is counted in whole hundredths: all four together leave exactly 0.30, which is not above the
threshold of 0.30 and so not compatible. A low score never forbids a conversation; it says what to expect.
"""

from dataclasses import dataclass

from brightrun.scaffolding.pack import Arc, Persona, Topic

THRESHOLD_POINTS = 30
PENALTIES: dict[str, int] = {
    "arc_without_persona": 20,
    "arc_without_topic": 20,
    "topic_without_persona": 15,
    "topic_without_arc": 15,
}
"""In hundredths."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One mismatch. points: what it costs, in hundredths."""

    code: str
    points: int
    message: str


@dataclass(frozen=True, slots=True)
class Compatibility:
    """points: 0 to 100."""

    points: int
    reasons: tuple[Reason, ...]

    @property
    def score(self) -> float:
        """0 to 1; two decimals, exactly."""
        return self.points / 100

    @property
    def compatible(self) -> bool:
        return self.points > THRESHOLD_POINTS


def compatibility(persona: Persona, arc: Arc, topic: Topic) -> Compatibility:
    """The score of this combination and every reason that lowers it."""
    checks = (
        ("arc_without_persona", arc.suitable_personas, persona.key, f"“{arc.name}” is not written for {persona.name}"),
        (
            "arc_without_topic",
            arc.suitable_topics,
            topic.key,
            f"“{arc.name}” does not name “{topic.name}” as its topic",
        ),
        (
            "topic_without_persona",
            topic.suitable_personas,
            persona.key,
            f"“{topic.name}” is not a usual topic of {persona.name}",
        ),
        ("topic_without_arc", topic.suitable_arcs, arc.key, f"“{topic.name}” does not name “{arc.name}” as its arc"),
    )
    reasons = tuple(
        Reason(code, PENALTIES[code], message)
        for code, suitable, key, message in checks
        if suitable and key not in suitable
    )
    return Compatibility(100 - sum(reason.points for reason in reasons), reasons)
