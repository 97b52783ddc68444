"""The variables that fill a template: what persona, arc, topic, profile and the run give, by name and type.

`STANDARD` is the whole list; a template's own variables and the `extras` of persona, arc and topic come on top. What is
filled in is always a text, a number, a list of texts or yes/no, never a Python object.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from brightrun.scaffolding.pack import Arc, Pack, Persona, Profile, Template, Tier, Topic, VariableType

Value = str | int | float | bool | tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What one conversation is made of. turns: exchanges, each a message of the client and the reply."""

    profile: Profile
    persona: Persona
    arc: Arc
    topic: Topic
    tier: Tier
    turns: int
    replicate: int


@dataclass(frozen=True, kw_only=True)
class StandardVariable:
    name: str
    type: VariableType
    help: str
    of: Callable[[Cell], Value]


def _variable(
    name: str,
    about: str,
    of: Callable[[Cell], Value],
    kind: VariableType = VariableType.TEXT,
) -> StandardVariable:
    return StandardVariable(name=name, type=kind, help=about, of=of)


_LIST, _NUMBER, _YES_NO = VariableType.LIST, VariableType.NUMBER, VariableType.YES_NO


def _demographics(cell: Cell) -> Value:
    return "; ".join(f"{label.replace('_', ' ')}: {text}" for label, text in cell.persona.demographics.items())


def _focus_question(cell: Cell) -> Value:
    questions = cell.topic.example_questions
    return questions[cell.replicate % len(questions)]


def _focus_concern(cell: Cell) -> Value:
    # Beside the question it runs through all pairs before one comes again, whatever their numbers have in common.
    concerns, questions = cell.persona.common_concerns, len(cell.topic.example_questions)
    together = math.lcm(len(concerns), questions)
    return concerns[(cell.replicate + cell.replicate // together) % len(concerns)]


STANDARD: tuple[StandardVariable, ...] = (
    _variable("persona_key", "the persona's key", lambda c: c.persona.key),
    _variable("persona_name", "the persona's name", lambda c: c.persona.name),
    _variable("persona_archetype", "the kind of person", lambda c: c.persona.archetype),
    _variable("persona_demographics", "age, work, family, place, in one line", _demographics),
    _variable("persona_background", "where the persona comes from", lambda c: c.persona.background),
    _variable("persona_situation", "how things stand now", lambda c: c.persona.situation),
    _variable("persona_communication_style", "how the persona talks", lambda c: c.persona.communication_style),
    _variable("persona_emotional_baseline", "how the persona usually feels", lambda c: c.persona.emotional_baseline),
    _variable("persona_typical_questions", "questions it asks", lambda c: c.persona.typical_questions, _LIST),
    _variable("persona_common_concerns", "what worries it", lambda c: c.persona.common_concerns, _LIST),
    _variable("persona_language_patterns", "turns of phrase", lambda c: c.persona.language_patterns, _LIST),
    _variable("emotional_arc_key", "the arc's key", lambda c: c.arc.key),
    _variable("emotional_arc_name", "the arc's name", lambda c: c.arc.name),
    _variable("starting_emotion", "the feeling at the start", lambda c: c.arc.starting_emotion),
    _variable("starting_intensity_min", "0 to 1", lambda c: c.arc.starting_intensity.min, _NUMBER),
    _variable("starting_intensity_max", "0 to 1", lambda c: c.arc.starting_intensity.max, _NUMBER),
    _variable("ending_emotion", "the feeling at the end", lambda c: c.arc.ending_emotion),
    _variable("ending_intensity_min", "0 to 1", lambda c: c.arc.ending_intensity.min, _NUMBER),
    _variable("ending_intensity_max", "0 to 1", lambda c: c.arc.ending_intensity.max, _NUMBER),
    _variable("arc_strategy", "the arc's strategy, in words", lambda c: c.arc.strategy.replace("_", " ")),
    _variable("arc_principles", "what guides the consultant on this arc", lambda c: c.arc.principles, _LIST),
    _variable("arc_phrases", "phrases that fit", lambda c: c.arc.phrases, _LIST),
    _variable("arc_techniques", "what to do", lambda c: c.arc.techniques, _LIST),
    _variable("arc_avoid", "what never to do", lambda c: c.arc.avoid, _LIST),
    _variable("typical_turn_count_min", "exchanges, at least", lambda c: c.arc.turns.min, _NUMBER),
    _variable("typical_turn_count_max", "exchanges, at most", lambda c: c.arc.turns.max, _NUMBER),
    _variable("target_turn_count", "exchanges to write: message and reply are one", lambda c: c.turns, _NUMBER),
    _variable("target_message_count", "messages to write: two an exchange", lambda c: 2 * c.turns, _NUMBER),
    _variable("topic_key", "the topic's key", lambda c: c.topic.key),
    _variable("topic_name", "the topic's name", lambda c: c.topic.name),
    _variable("topic_category", "the topic's category", lambda c: c.topic.category.replace("_", " ")),
    _variable("topic_description", "the topic in a sentence", lambda c: c.topic.description),
    _variable("topic_complexity", "beginner, intermediate or advanced", lambda c: c.topic.complexity.value),
    _variable("topic_example_questions", "questions people ask", lambda c: c.topic.example_questions, _LIST),
    _variable("topic_key_concepts", "concepts to get right", lambda c: c.topic.key_concepts, _LIST),
    _variable("topic_requires_specialist", "a specialist is needed", lambda c: c.topic.requires_specialist, _YES_NO),
    _variable("focus_question", "the question to start from; moves on with each replicate", _focus_question),
    _variable("focus_concern", "the worry underneath; moves on with each replicate", _focus_concern),
    _variable("tier", "template, scenario or edge case", lambda c: c.tier.value.replace("_", " ")),
    _variable("consultant_name", "the consultant's name", lambda c: c.profile.name),
    _variable("consultant_business", "the consultant's firm", lambda c: c.profile.business),
    _variable("consultant_expertise", "what the consultant is expert in", lambda c: c.profile.expertise),
    _variable("client_word", "what the trade calls who asks", lambda c: c.profile.client_word),
)

STANDARD_NAMES = frozenset(variable.name for variable in STANDARD)

PROFILE: dict[str, VariableType] = {
    "consultant_name": VariableType.TEXT,
    "consultant_business": VariableType.TEXT,
    "consultant_expertise": VariableType.TEXT,
    "consultant_years": VariableType.NUMBER,
    "consultant_principles": VariableType.LIST,
    "client_word": VariableType.TEXT,
    "voice_tone": VariableType.TEXT,
    "voice_techniques": VariableType.LIST,
    "voice_avoid": VariableType.LIST,
    "safety_rules": VariableType.LIST,
}
"""What the system part may use: the same for every conversation of a pack, so that the provider can cache it."""


def profile_variables(profile: Profile) -> dict[str, Value]:
    """The values of `PROFILE`."""
    return {
        "consultant_name": profile.name,
        "consultant_business": profile.business,
        "consultant_expertise": profile.expertise,
        "consultant_years": profile.years_experience,
        "consultant_principles": tuple(principle.text for principle in profile.principles if principle.core),
        "client_word": profile.client_word,
        "voice_tone": profile.voice.tone,
        "voice_techniques": profile.voice.techniques,
        "voice_avoid": profile.voice.avoid,
        "safety_rules": profile.safety,
    }


def turns_of(arc: Arc, replicate: int) -> int:
    """How many exchanges the replicate aims at: the usual number first, then the others of the range in turn."""
    others = [turns for turns in range(arc.turns.min, arc.turns.max + 1) if turns != arc.turns.usual]
    choices = [arc.turns.usual, *others]
    return choices[replicate % len(choices)]


def variables_for(
    pack: Pack,
    template: Template,
    persona: Persona,
    arc: Arc,
    topic: Topic,
    *,
    tier: Tier | None = None,
    replicate: int = 0,
    turns: int | None = None,
    values: Mapping[str, Value] | None = None,
) -> dict[str, Value]:
    """Everything that is known for this conversation, by name, ready for `rendering.render`.

    values: what the caller gives for the template's own variables. Order, later wins: the template's defaults, the
    extras of persona, arc and topic, `values`, the standard variables (which nothing overrides).
    """
    cell = Cell(
        profile=pack.profile,
        persona=persona,
        arc=arc,
        topic=topic,
        tier=tier or template.tier,
        turns=turns_of(arc, replicate) if turns is None else turns,
        replicate=replicate,
    )
    known: dict[str, Value] = {v.name: v.default for v in template.variables if v.default is not None}
    for prefix, thing in (("persona", persona), ("arc", arc), ("topic", topic)):
        known |= {f"{prefix}_{name}": text for name, text in thing.extras.items()}
    known |= dict(values or {})
    known["template_principles"] = _principles(pack, template)
    known["required_elements"] = tuple(element.replace("_", " ") for element in template.required_elements)
    known["template_tone"] = template.tone
    known["template_structure"] = template.structure
    return known | {variable.name: variable.of(cell) for variable in STANDARD}


TEMPLATE_GIVES = {
    "template_principles": "the principles that this template names",
    "required_elements": "what the conversation has to contain",
    "template_tone": "the template's tone",
    "template_structure": "the outline of the turns",
}


def _principles(pack: Pack, template: Template) -> tuple[str, ...]:
    texts = {principle.key: principle.text for principle in pack.profile.principles}
    return tuple(texts.get(key, key.replace("_", " ")) for key in template.principles)


def reserved(name: str) -> bool:
    """Filled by the program, so no template may declare it and no extra may claim it."""
    return name in STANDARD_NAMES or name in TEMPLATE_GIVES
