"""What is wrong with a pack as a whole: names that lead nowhere, templates that nothing fills."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from brightrun.scaffolding.pack import Pack, Template, value_fault
from brightrun.scaffolding.rendering import TemplateFaultError, UnfilledVariableError, parse, render, system_faults
from brightrun.scaffolding.variables import reserved, variables_for


@dataclass(frozen=True, slots=True)
class Fault:
    """file: the file of the pack. path: the place in it (`topics[3].suitable_arcs[0]`). message: what is wrong."""

    file: str
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.path}: {self.message}" if self.path else f"{self.file}: {self.message}"


FILE_OF = {"personas": "personas.yaml", "arcs": "arcs.yaml", "topics": "topics.yaml"}


def template_file(key: str) -> str:
    return f"templates/{key}.yaml"


def faults_of(pack: Pack) -> list[Fault]:
    """Everything wrong with `pack`, in the order of its files; empty: the pack is whole."""
    faults = [Fault("pack.yaml", "system", problem) for problem in system_faults(pack.head.system)]
    kinds: dict[str, Sequence[Any]] = {"personas": pack.personas, "arcs": pack.arcs, "topics": pack.topics}
    for kind, things in kinds.items():
        if not things:
            faults.append(Fault(FILE_OF[kind], "", f"a pack needs at least one of its {kind}"))
        faults += _twice(FILE_OF[kind], things)
        faults += _claims(FILE_OF[kind], kind.removesuffix("s"), things)
    keys = {kind: {thing.key for thing in things} for kind, things in kinds.items()}
    for index, arc in enumerate(pack.arcs):
        faults += _dangling(FILE_OF["arcs"], f"[{index}].suitable_personas", arc.suitable_personas, keys["personas"])
        faults += _dangling(FILE_OF["arcs"], f"[{index}].suitable_topics", arc.suitable_topics, keys["topics"])
    for index, topic in enumerate(pack.topics):
        faults += _dangling(
            FILE_OF["topics"], f"[{index}].suitable_personas", topic.suitable_personas, keys["personas"]
        )
        faults += _dangling(FILE_OF["topics"], f"[{index}].suitable_arcs", topic.suitable_arcs, keys["arcs"])
    if not pack.templates:
        faults.append(Fault("templates/", "", "a pack needs at least one template"))
    principles = {principle.key for principle in pack.profile.principles}
    for template in pack.templates:
        file = template_file(template.key)
        if template.arc not in keys["arcs"]:
            faults.append(Fault(file, "arc", f"there is no arc {template.arc!r} in the pack"))
        faults += _dangling(file, "suitable_personas", template.suitable_personas, keys["personas"])
        faults += _dangling(file, "suitable_topics", template.suitable_topics, keys["topics"])
        faults += _dangling(file, "principles", template.principles, principles)
        if not faults:  # what fills it can only be asked of a pack that holds together
            faults += [Fault(file, place, problem) for place, problem in template_faults(pack, template)]
    counts = Counter(template.key for template in pack.templates)
    faults += [Fault(template_file(key), "key", "used by two templates") for key, n in counts.items() if n > 1]
    return faults


def template_faults(pack: Pack, template: Template) -> list[tuple[str, str]]:
    """(place, reason): why this template cannot be active in `pack`: it must fill for every combination of its arc.

    Inactive personas and topics are left out: nothing is written with them.
    """
    try:
        parsed = parse(template.text)
    except TemplateFaultError as error:
        return [("text", error.message)]
    faults = [
        (f"variables[{i}].name", f"{variable.name!r} is filled by the program: take another name")
        for i, variable in enumerate(template.variables)
        if reserved(variable.name)
    ]
    faults += [
        (f"variables[{i}].name", f"{variable.name!r} is declared and never used")
        for i, variable in enumerate(template.variables)
        if variable.name not in parsed.uses
    ]
    arcs = [arc for arc in pack.arcs if arc.key == template.arc]
    if not arcs:
        return [*faults, ("arc", f"there is no arc {template.arc!r} in the pack")]
    arc = arcs[0]
    seen: set[tuple[str, str]] = set()
    for persona in (persona for persona in pack.personas if persona.active):
        for topic in (topic for topic in pack.topics if topic.active):
            variables = variables_for(pack, template, persona, arc, topic)
            for place, problem in _unfilled(template, parsed.uses, variables):
                if (place, problem) not in seen:
                    seen.add((place, problem))
                    faults.append((place, f"{problem} (first seen with {persona.key} and {topic.key})"))
    return faults


def _unfilled(template: Template, uses: frozenset[str], variables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Names first, as that is quick; only then the whole rendering."""
    own = {variable.name: (i, variable) for i, variable in enumerate(template.variables)}
    missing = [name for name in sorted(uses - variables.keys()) if name not in own or own[name][1].required]
    for name in missing:
        place = f"variables[{own[name][0]}]" if name in own else "text"
        yield place, f"nothing fills {{{{ {name} }}}}: declare it with a default, or give it in extras"
    for name, (i, variable) in own.items():
        problem = value_fault(variable, variables[name]) if name in variables else None
        if problem:
            yield f"variables[{i}]", f"{name} {problem}"
    if not missing:
        try:
            render(template, variables)
        except (TemplateFaultError, UnfilledVariableError) as error:
            yield "text", error.message


def _twice(file: str, things: Sequence[Any]) -> list[Fault]:
    first: dict[str, int] = {}
    faults = []
    for index, thing in enumerate(things):
        if thing.key in first:
            faults.append(Fault(file, f"[{index}].key", f"{thing.key!r} is the key of [{first[thing.key]}] already"))
        first.setdefault(thing.key, index)
    return faults


def _claims(file: str, prefix: str, things: Sequence[Any]) -> list[Fault]:
    return [
        Fault(file, f"[{index}].extras.{name}", f"{prefix}_{name} is filled by the program: take another name")
        for index, thing in enumerate(things)
        for name in thing.extras
        if reserved(f"{prefix}_{name}")
    ]


def _dangling(file: str, path: str, named: Sequence[str], there: set[str]) -> list[Fault]:
    return [
        Fault(file, f"{path}[{index}]", f"there is no {key!r} in the pack")
        for index, key in enumerate(named)
        if key not in there
    ]
