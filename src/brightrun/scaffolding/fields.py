"""The form of each kind: which part of its content is edited how. One list drives the form and the reading page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import FormData

from brightrun.scaffolding.tables import Kind


@dataclass(frozen=True)
class Field:
    """name: place in the content, parts joined by dots. options: of a select, or which keys of the pack are offered.

    how: text, long, prompt, lines, keys, map, number, select or flag.
    """

    name: str
    label: str
    how: str = "text"
    help: str = ""
    options: str | tuple[str, ...] = ()
    required: bool = True


_COMPLEXITY = ("beginner", "intermediate", "advanced")
_TIERS = ("template", "scenario", "edge_case")
_ONE_A_LINE = "One a line."
_ANY = "None chosen: any."

FIELDS: dict[Kind, tuple[Field, ...]] = {
    Kind.PERSONA: (
        Field("name", "Name"),
        Field("archetype", "Kind of person"),
        Field("demographics", "Facts", "map", "One a line, as label: text. For example age: 42"),
        Field("background", "Background", "long"),
        Field("situation", "Situation now", "long"),
        Field("communication_style", "How this person talks", "long"),
        Field("emotional_baseline", "Usual mood", "text"),
        Field("typical_questions", "Typical questions", "lines", _ONE_A_LINE),
        Field("common_concerns", "Common concerns", "lines", _ONE_A_LINE),
        Field("language_patterns", "Habits of speech", "lines", _ONE_A_LINE),
        Field("extras", "Further texts", "map", "name: text fills the variable persona_name.", required=False),
    ),
    Kind.ARC: (
        Field("name", "Name"),
        Field("category", "Category", "select", options=("core", "edge")),
        Field("tier", "Tier", "select", options=_TIERS),
        Field("starting_emotion", "Emotion at the start"),
        Field("starting_intensity.min", "Intensity at the start, from", "number", "0 to 1"),
        Field("starting_intensity.max", "to", "number"),
        Field("ending_emotion", "Emotion at the end"),
        Field("ending_intensity.min", "Intensity at the end, from", "number", "0 to 1"),
        Field("ending_intensity.max", "to", "number"),
        Field("turns.min", "Exchanges, from", "number", "A message of the client and the reply are one exchange."),
        Field("turns.max", "to", "number"),
        Field("complexity", "Complexity", "number", "1 to 10"),
        Field("strategy", "Strategy", "text", "As a key, for example simplify_then_act"),
        Field("principles", "Principles", "lines", _ONE_A_LINE),
        Field("phrases", "Phrases in its spirit", "lines", _ONE_A_LINE),
        Field("techniques", "What to do", "lines", _ONE_A_LINE),
        Field("avoid", "What never to do", "lines", _ONE_A_LINE),
        Field("suitable_personas", "Suitable personas", "keys", _ANY, "personas", required=False),
        Field("suitable_topics", "Suitable topics", "keys", _ANY, "topics", required=False),
        Field("extras", "Further texts", "map", "name: text fills the variable arc_name.", required=False),
    ),
    Kind.TOPIC: (
        Field("name", "Name"),
        Field("category", "Category", "text", "As a key, for example cash_flow"),
        Field("description", "Description", "long"),
        Field("complexity", "Complexity", "select", options=_COMPLEXITY),
        Field("featured", "Featured: part of a plan unless it names other topics", "flag", required=False),
        Field("requires_specialist", "A specialist has to take part", "flag", required=False),
        Field("example_questions", "Example questions", "lines", _ONE_A_LINE),
        Field("key_concepts", "Key concepts", "lines", _ONE_A_LINE),
        Field("suitable_personas", "Suitable personas", "keys", _ANY, "personas", required=False),
        Field("suitable_arcs", "Suitable emotional arcs", "keys", _ANY, "arcs", required=False),
        Field("extras", "Further texts", "map", "name: text fills the variable topic_name.", required=False),
    ),
    Kind.TEMPLATE: (
        Field("name", "Name"),
        Field("description", "What it is for", "long"),
        Field("arc", "Emotional arc", "select", "The arc decides which template is used.", "arcs"),
        Field("tier", "Tier", "select", options=_TIERS),
        Field("text", "Prompt", "prompt"),
        Field("category", "Category", "text", "As a key, for example educational"),
        Field("structure", "Outline of the turns", "long"),
        Field("tone", "Tone"),
        Field("complexity", "Complexity", "number", "1 to 10"),
        Field("quality_threshold", "Quality threshold", "number", "1 to 5"),
        Field("required_elements", "Required elements", "lines", "One key a line."),
        Field("principles", "Principles", "keys", "Those of the consultant that this template rests on.", "principles"),
        Field("suitable_personas", "Suitable personas", "keys", _ANY, "personas", required=False),
        Field("suitable_topics", "Suitable topics", "keys", _ANY, "topics", required=False),
        Field("style_notes", "Notes", "long", required=False),
    ),
    Kind.PACK: (
        Field("name", "Name of the pack"),
        Field("description", "Description", "long"),
        Field("version", "Version", "text", "For example 1.1"),
        Field("profile.name", "Consultant's name"),
        Field("profile.business", "Firm"),
        Field("profile.expertise", "Expertise"),
        Field("profile.years_experience", "Years of experience", "number"),
        Field("profile.client_word", "What the trade calls who asks"),
        Field("profile.voice.tone", "Tone of voice"),
        Field("profile.voice.techniques", "What the consultant does", "lines", _ONE_A_LINE),
        Field("profile.voice.avoid", "What the consultant never does", "lines", _ONE_A_LINE),
        Field("profile.safety", "Safety rules", "lines", _ONE_A_LINE),
        Field("system", "System part of every request", "prompt"),
    ),
}


def value_at(document: Mapping[str, Any], name: str) -> Any:
    found: Any = document
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def to_form(field: Field, document: Mapping[str, Any]) -> Any:
    """What the control shows."""
    value = value_at(document, field.name)
    match field.how:
        case "lines":
            return "\n".join(value or ())
        case "map":
            return "\n".join(f"{label}: {text}" for label, text in (value or {}).items())
        case "keys":
            return list(value or ())
        case "flag":
            return bool(value)
    return "" if value is None else value


def from_form(kind: Kind, form: FormData, base: Mapping[str, Any]) -> dict[str, Any]:
    """The document that was sent: `base` (what the form does not show stays) with every field of the kind.

    A number that is none stays the text it is, for the checks to name.
    """
    document: dict[str, Any] = _copy(base)
    for field in FIELDS[kind]:
        value = _value(field, form)
        if field.how == "keys":  # a form sends them in its own order
            before = value_at(base, field.name) or []
            value = [key for key in before if key in value] + [key for key in value if key not in before]
        _put(document, field.name, value)
    if kind is Kind.TEMPLATE:
        document["variables"] = _variables(form)
    return document


def _copy(value: Any) -> Any:
    return {key: _copy(part) for key, part in value.items()} if isinstance(value, Mapping) else value


def _put(document: dict[str, Any], name: str, value: Any) -> None:
    *way, last = name.split(".")
    for part in way:
        document = document.setdefault(part, {})
    document[last] = value


def _text(form: FormData, name: str) -> str:
    value = form.get(name, "")
    return value.replace("\r\n", "\n").strip() if isinstance(value, str) else ""


def _value(field: Field, form: FormData) -> Any:
    text = _text(form, field.name)
    match field.how:
        case "lines":
            return lines_of(text)
        case "map":
            pairs = (line.partition(":") for line in lines_of(text))
            return {label.strip().lower().replace(" ", "_"): value.strip() for label, _, value in pairs}
        case "keys":
            return [value for value in form.getlist(field.name) if isinstance(value, str) and value]
        case "number":
            return number_of(text)
        case "flag":
            return bool(text)
    return text


def lines_of(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


def number_of(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _variables(form: FormData) -> list[dict[str, Any]]:
    """Rows of the table of variables; a row without a name is none."""
    variables = []
    for index in range(40):
        name = _text(form, f"variable-{index}-name")
        if not name:
            continue
        kind = _text(form, f"variable-{index}-type") or "text"
        default = _text(form, f"variable-{index}-default")
        variable: dict[str, Any] = {
            "name": name,
            "type": kind,
            "help": _text(form, f"variable-{index}-help"),
            "required": bool(_text(form, f"variable-{index}-required")),
            "options": [part.strip() for part in _text(form, f"variable-{index}-options").split(",") if part.strip()],
        }
        variable["default"] = _default(kind, default)
        variables.append(variable)
    return variables


def _default(kind: str, text: str) -> Any:
    if not text:
        return None
    match kind:
        case "number":
            return number_of(text)
        case "yes_no":
            return {"yes": True, "true": True, "no": False, "false": False}.get(text.lower(), text)
        case "list":
            return [part.strip() for part in text.split(";") if part.strip()]
    return text


def field_of(place: str, kind: Kind) -> str:
    """The control to which a fault belongs: `typical_questions[2]` → `typical_questions`; "" where there is none."""
    bare = place.split("[", 1)[0]
    names: Sequence[str] = [field.name for field in FIELDS[kind]]
    if bare in names:
        return bare
    within = [name for name in names if name.startswith(f"{bare}.")]
    return within[0] if within else "variables" if bare == "variables" else ""
