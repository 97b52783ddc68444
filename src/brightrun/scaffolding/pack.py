"""What a pack is made of. One definition for the YAML files, the rows, the API's bodies and the pages.

Every class is a frozen dataclass that checks itself: an unknown key, a wrong type, an empty text or a placeholder that
somebody left in a text is refused with the place named.
"""

import re
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic.dataclasses import dataclass

KEY_PATTERN = r"^[a-z0-9][a-z0-9_]{0,63}$"
VARIABLE_PATTERN = r"^[a-z][a-z0-9_]{0,63}$"

_LEFTOVER = re.compile(r"\{\{|\}\}|\{%|%\}|\{#|\[object Object\]|\x00")


class Tier(StrEnum):
    """What a conversation is for: everyday shape, grounded in a document, or the rare and delicate case."""

    TEMPLATE = "template"
    SCENARIO = "scenario"
    EDGE_CASE = "edge_case"


class ArcCategory(StrEnum):
    CORE = "core"
    EDGE = "edge"


class Complexity(StrEnum):
    BEGINNER = "beginner"
    INTERMEDIATE = "intermediate"
    ADVANCED = "advanced"


class VariableType(StrEnum):
    TEXT = "text"
    NUMBER = "number"
    LIST = "list"
    CHOICE = "choice"
    YES_NO = "yes_no"


def _no_placeholder(text: str) -> str:
    found = _LEFTOVER.search(text)
    if found is not None:
        raise ValueError(f"holds {found.group()!r}: a text of a pack is sent as it stands, nothing in it is filled in")
    return text


Key = Annotated[str, StringConstraints(pattern=KEY_PATTERN)]
VariableName = Annotated[str, StringConstraints(pattern=VARIABLE_PATTERN)]
Short = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255), AfterValidator(_no_placeholder)
]
Long = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=10_000), AfterValidator(_no_placeholder)
]
OptionalText = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=10_000), AfterValidator(_no_placeholder)
]
PromptText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=40_000)]
Lines = Annotated[tuple[Long, ...], Field(max_length=50)]
SomeLines = Annotated[tuple[Long, ...], Field(min_length=1, max_length=50)]
Keys = Annotated[tuple[Key, ...], Field(max_length=500)]
Extras = Annotated[dict[VariableName, Long], Field(max_length=30)]

_STRICT = ConfigDict(extra="forbid")


def _range_in_order(low: float, high: float, what: str) -> None:
    if low > high:
        raise ValueError(f"{what}: min {low} is above max {high}")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Intensity:
    """How strongly the emotion is felt, 0 (not at all) to 1."""

    min: Annotated[float, Field(ge=0, le=1)]
    max: Annotated[float, Field(ge=0, le=1)]

    @model_validator(mode="after")
    def _ordered(self) -> "Intensity":
        _range_in_order(self.min, self.max, "intensity")
        return self


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Turns:
    """How many exchanges a conversation has. One exchange is what the client says and the reply to it: two messages."""

    min: Annotated[int, Field(ge=1, le=50)]
    max: Annotated[int, Field(ge=1, le=50)]

    @model_validator(mode="after")
    def _ordered(self) -> "Turns":
        _range_in_order(self.min, self.max, "turns")
        return self

    @property
    def usual(self) -> int:
        """The middle of the range, rounded up."""
        return -((self.min + self.max) // -2)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Persona:
    """Who asks. demographics: label → text, in the order in which they are told ('age' → '37')."""

    key: Key
    name: Short
    archetype: Short
    demographics: Annotated[dict[VariableName, Short], Field(min_length=1, max_length=20)]
    background: Long
    situation: Long
    communication_style: Long
    emotional_baseline: Long
    typical_questions: SomeLines
    common_concerns: SomeLines
    language_patterns: SomeLines
    extras: Extras = Field(default_factory=dict)
    """Further texts by name: `loss_context` fills the variable `persona_loss_context`."""
    active: bool = True


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Arc:
    """How the client's feeling moves from the first message to the last, and how the consultant helps it move."""

    key: Key
    name: Short
    category: ArcCategory
    tier: Tier
    starting_emotion: Short
    starting_intensity: Intensity
    ending_emotion: Short
    ending_intensity: Intensity
    strategy: Key
    principles: SomeLines
    phrases: SomeLines
    techniques: SomeLines
    avoid: SomeLines
    turns: Turns
    complexity: Annotated[int, Field(ge=1, le=10)]
    suitable_personas: Keys = ()
    """Empty: any."""
    suitable_topics: Keys = ()
    """Empty: any."""
    extras: Extras = Field(default_factory=dict)
    active: bool = True


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Topic:
    """What the conversation is about."""

    key: Key
    name: Short
    category: Key
    description: Long
    complexity: Complexity
    example_questions: SomeLines
    key_concepts: SomeLines
    suitable_personas: Keys = ()
    suitable_arcs: Keys = ()
    requires_specialist: bool = False
    featured: bool = False
    """Among the topics that a plan takes unless it names others."""
    extras: Extras = Field(default_factory=dict)
    active: bool = True


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Variable:
    """A template's own variable, beside those that persona, arc, topic and profile fill.

    default: what is filled in where nothing else gives a value. options: the values of a choice. required: false lets
    it be absent, and then the template asks `{% if name is defined %}` before it uses it.
    """

    name: VariableName
    type: VariableType = VariableType.TEXT
    help: OptionalText = ""
    required: bool = True
    default: str | float | bool | tuple[Long, ...] | None = None
    options: Annotated[tuple[Short, ...], Field(max_length=50)] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "Variable":
        if (self.type is VariableType.CHOICE) != bool(self.options):
            raise ValueError("a choice needs its options" if not self.options else f"a {self.type} has no options")
        if self.default is not None:
            problem = value_fault(self, self.default)
            if problem:
                raise ValueError(f"default: {problem}")
        return self


def value_fault(variable: Variable, value: Any) -> str | None:
    """Why `value` is none for this variable, or None where it is one."""
    match variable.type:
        case VariableType.TEXT:
            if not isinstance(value, str) or not value.strip():
                return "must be text that is not empty"
            if len(value) > 10_000:
                return "must have at most 10,000 characters"
        case VariableType.NUMBER:
            if isinstance(value, bool) or not isinstance(value, int | float) or not -1e15 <= value <= 1e15:
                return "must be a number between -10^15 and 10^15"
        case VariableType.LIST:
            if not isinstance(value, list | tuple) or not value or not all(isinstance(v, str) and v for v in value):
                return "must be a list of texts that is not empty"
        case VariableType.CHOICE:
            if value not in variable.options:
                return f"must be one of {', '.join(variable.options)}"
        case VariableType.YES_NO:
            if not isinstance(value, bool):
                return "must be true or false"
    return None


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Template:
    """The words of the request. arc: the emotional arc that this template is written for."""

    key: Key
    name: Short
    description: Long
    category: Key
    tier: Tier
    arc: Key
    text: PromptText
    structure: Long
    """The outline of the turns, in a sentence."""
    tone: Short
    complexity: Annotated[int, Field(ge=1, le=10)]
    quality_threshold: Annotated[float, Field(ge=1, le=5)]
    """1 to 5: the mean score below which a conversation of this template is not good enough."""
    required_elements: Annotated[tuple[Key, ...], Field(min_length=1, max_length=30)]
    principles: Annotated[tuple[Key, ...], Field(min_length=1, max_length=20)]
    variables: Annotated[tuple[Variable, ...], Field(max_length=30)] = ()
    suitable_personas: Keys = ()
    suitable_topics: Keys = ()
    style_notes: OptionalText = ""
    active: bool = True

    @model_validator(mode="after")
    def _names_once(self) -> "Template":
        names = [variable.name for variable in self.variables]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"declared twice: {', '.join(twice)}")
        return self


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Principle:
    key: Key
    text: Long
    core: bool = True
    """Part of the consultant's philosophy; the others apply where a template names them."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Voice:
    tone: Short
    techniques: SomeLines
    avoid: SomeLines


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Profile:
    """The consultant whose answers the model is to learn."""

    name: Short
    business: Short
    expertise: Short
    years_experience: Annotated[int, Field(ge=0, le=80)]
    client_word: Short = "client"
    """What this trade calls the person who asks."""
    principles: Annotated[tuple[Principle, ...], Field(min_length=1, max_length=20)]
    voice: Voice
    safety: SomeLines


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class PackHead:
    """`pack.yaml`: everything of a pack but its four lists."""

    format: Literal[1]
    """The version of this file format."""
    key: Key
    name: Short
    description: Long
    version: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+(\.\d+)?$")]
    language: Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[A-Z]{2})?$")] = "en"
    profile: Profile
    system: PromptText
    """The part of the request that is the same for every conversation, and is cached by the provider."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Pack:
    """One trade's scaffolding, whole and checked (`pack_checks.faults_of` found nothing)."""

    head: PackHead
    personas: tuple[Persona, ...]
    arcs: tuple[Arc, ...]
    topics: tuple[Topic, ...]
    templates: tuple[Template, ...]

    @property
    def key(self) -> str:
        return self.head.key

    @property
    def name(self) -> str:
        return self.head.name

    @property
    def profile(self) -> Profile:
        return self.head.profile

    @cached_property
    def _by_key(self) -> dict[tuple[str, str], Any]:
        kinds: dict[str, tuple[Any, ...]] = {
            "persona": self.personas,
            "arc": self.arcs,
            "topic": self.topics,
            "template": self.templates,
        }
        return {(kind, thing.key): thing for kind, things in kinds.items() for thing in things}

    def persona(self, key: str) -> Persona:
        """Raises KeyError; so do the three below."""
        return self._by_key["persona", key]  # type: ignore[no-any-return]

    def arc(self, key: str) -> Arc:
        return self._by_key["arc", key]  # type: ignore[no-any-return]

    def topic(self, key: str) -> Topic:
        return self._by_key["topic", key]  # type: ignore[no-any-return]

    def template(self, key: str) -> Template:
        return self._by_key["template", key]  # type: ignore[no-any-return]
