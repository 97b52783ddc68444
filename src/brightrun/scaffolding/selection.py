"""Which template a conversation is written with: the arc decides, persona and topic only rank."""

from dataclasses import dataclass

from brightrun.errors import InvalidInputError
from brightrun.scaffolding.pack import Arc, Pack, Persona, Template, Tier, Topic


class NoTemplateError(InvalidInputError):
    """No active template is written for this arc in this tier."""

    code = "no_template"


@dataclass(frozen=True)
class Ranked:
    """A template that was considered. points: 0 to 100. reasons: what raised or lowered them."""

    template: Template
    points: int
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """explanation: a sentence that says why this one. alternatives: the others, best first."""

    template: Template
    tier: Tier
    points: int
    explanation: str
    alternatives: tuple[Ranked, ...]


def choose_template(pack: Pack, persona: Persona, arc: Arc, topic: Topic, tier: Tier | None = None) -> Choice:
    """The best active template for `arc` in `tier` (by default the arc's own).

    Points: 100, halved where the template names personas and not this one, halved where it names topics and not this
    one. Equal points: the higher quality threshold, then the key. A scenario is the everyday shape with a document
    behind it: where the arc has no scenario template, its templates of tier `template` serve, and the explanation says
    so. Raises NoTemplateError.
    """
    wanted = tier or arc.tier
    of_arc = [template for template in pack.templates if template.arc == arc.key and template.active]
    candidates = [template for template in of_arc if template.tier is wanted]
    note = ""
    if not candidates and wanted is Tier.SCENARIO:
        candidates = [template for template in of_arc if template.tier is Tier.TEMPLATE]
        note = f" The arc has no template of tier scenario; one of tier {Tier.TEMPLATE} serves."
    if not candidates:
        raise NoTemplateError(_nothing(arc, wanted, of_arc), details={"template": [f"none for arc {arc.key!r}"]})
    ranked = sorted(
        (_rank(template, persona, topic) for template in candidates),
        key=lambda one: (-one.points, -one.template.quality_threshold, one.template.key),
    )
    best = ranked[0]
    because = f"“{best.template.name}” is written for the arc “{arc.name}”; {', '.join(best.reasons)}.{note}"
    return Choice(best.template, wanted, best.points, because, tuple(ranked[1:]))


def _rank(template: Template, persona: Persona, topic: Topic) -> Ranked:
    points, reasons = 100, []
    for what, suitable, key, name in (
        ("persona", template.suitable_personas, persona.key, persona.name),
        ("topic", template.suitable_topics, topic.key, topic.name),
    ):
        if not suitable:
            reasons.append(f"it takes any {what}")
        elif key in suitable:
            reasons.append(f"it names the {what} {name}")
        else:
            points //= 2
            reasons.append(f"it does not name the {what} {name} (half the points)")
    return Ranked(template, points, tuple(reasons))


def _nothing(arc: Arc, wanted: Tier, of_arc: list[Template]) -> str:
    tiers = sorted({template.tier.value for template in of_arc})
    if tiers:
        return f"The arc “{arc.name}” has no active template of tier {wanted}; it has {', '.join(tiers)}."
    return f"The arc “{arc.name}” has no active template: write one for it, or choose another arc."
