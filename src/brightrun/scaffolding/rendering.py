"""Filling a template, in a sandbox that can do nothing but fill a template.

The language is a small part of Jinja: `{{ name }}`, filters of a short list, `{% if %}`, `{% for x in list %}` (not
nested). Calls, attributes, arithmetic and imports are refused when the template is read, so a template from a stranger
can neither reach anything nor run long. A variable that nothing fills is an error that names it, never an empty gap.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from brightrun.errors import InvalidInputError
from brightrun.scaffolding.pack import Pack, Template, value_fault
from brightrun.scaffolding.variables import PROFILE, Value, profile_variables

MAX_RENDERED = 400_000
"""Characters. More than any model's prompt should have, less than what would hurt this process."""

_FILTERS = ("lower", "upper", "capitalize", "title", "trim", "length", "first", "last")
_ALLOWED: tuple[type[nodes.Node], ...] = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.If, nodes.For, nodes.Filter,
    nodes.CondExpr, nodes.And, nodes.Or, nodes.Not, nodes.Compare, nodes.Operand, nodes.Keyword, nodes.Test,
)  # fmt: skip
_LOOP = ("index", "first", "last", "length")


class TemplateFaultError(InvalidInputError):
    """A template that is not one: what, on which line."""

    code = "template_invalid"


class UnfilledVariableError(InvalidInputError):
    """A variable that the template uses and nothing fills, or a value of the wrong type; `details` names them."""

    code = "variable_unfilled"


def _bullets(values: Iterable[Any]) -> str:
    return "\n".join(f"- {value}" for value in values)


def _joined(values: Iterable[Any], by: str = "; ") -> str:
    return by.join(str(value) for value in values)


def _to_text(value: Any) -> str:
    """What stands in the prompt for a value; an object that has no words of its own is refused, not printed."""
    match value:
        case jinja2.Undefined():
            return str(value)  # raises: every undefined is strict
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.2f}" if 0 <= value <= 1 else f"{value:g}"
        case str() | int():
            return str(value)
        case list() | tuple():
            return _bullets(value)
    raise TemplateFaultError(
        f"A {type(value).__name__} cannot stand in a prompt: write out which of its texts you mean."
    )


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined,
        finalize=_to_text,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )
    environment.globals.clear()
    environment.filters = {name: environment.filters[name] for name in _FILTERS}
    environment.filters |= {"bullets": _bullets, "joined": _joined}
    environment.tests = {name: environment.tests[name] for name in ("defined", "odd", "even")}
    return environment


_ENVIRONMENT = _environment()


@dataclass(frozen=True)
class Parsed:
    """A template that was read and found harmless. uses: the variables in it; loops: those that must be lists."""

    uses: frozenset[str]
    loops: frozenset[str]
    compiled: jinja2.Template


@lru_cache(maxsize=512)
def parse(text: str) -> Parsed:
    """Raises TemplateFaultError with the line."""
    try:
        tree = _ENVIRONMENT.parse(text)
    except jinja2.TemplateSyntaxError as error:
        hint = " Write {{ 'x' if condition else 'y' }}." if "?" in (error.message or "") else ""
        raise TemplateFaultError(
            f"Line {error.lineno}: {error.message}.{hint}", details={"text": [f"line {error.lineno}: {error.message}"]}
        ) from error
    _refuse_what_can_do_more(tree, depth=0)
    loops = frozenset(loop.iter.name for loop in tree.find_all(nodes.For) if isinstance(loop.iter, nodes.Name))
    try:
        compiled = _ENVIRONMENT.from_string(tree)
    except jinja2.TemplateError as error:  # an unknown filter or test, found while compiling
        raise TemplateFaultError(
            f"Line {getattr(error, 'lineno', 1)}: {error.message}. Filters: {', '.join(_ENVIRONMENT.filters)}.",
            details={"text": [str(error.message)]},
        ) from error
    return Parsed(uses=frozenset(meta.find_undeclared_variables(tree)), loops=loops, compiled=compiled)


def _refuse_what_can_do_more(node: nodes.Node, *, depth: int) -> None:
    if isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Name) and node.node.name == "loop":
        if node.attr in _LOOP:
            return
    elif isinstance(node, _ALLOWED):
        if isinstance(node, nodes.For):
            depth += 1
            if depth > 1 or node.recursive or not isinstance(node.iter, nodes.Name):
                raise _fault(node, "a loop goes over one list variable, and loops are not nested")
        for child in node.iter_child_nodes():
            _refuse_what_can_do_more(child, depth=depth)
        return
    what = type(node).__name__.lower()
    raise _fault(node, f"'{what}' is not part of the language of templates (variables, filters, if, for)")


def _fault(node: nodes.Node, reason: str) -> TemplateFaultError:
    return TemplateFaultError(f"Line {node.lineno}: {reason}.", details={"text": [f"line {node.lineno}: {reason}"]})


def render_text(text: str, variables: Mapping[str, Value], *, optional: frozenset[str] = frozenset()) -> str:
    """`text` with every variable filled in. Raises TemplateFaultError and UnfilledVariableError.

    optional: names that may be absent; the text asks whether they are defined before it uses them.
    """
    parsed = parse(text)
    missing = sorted(parsed.uses - variables.keys() - optional)
    if missing:
        raise UnfilledVariableError(
            f"Nothing fills {_named(missing)}.", details={name: ["nothing fills this variable"] for name in missing}
        )
    for name in sorted(parsed.loops):
        if not isinstance(variables.get(name, ()), list | tuple):
            raise UnfilledVariableError(
                f"{name} is looped over, but it is not a list.", details={name: ["is not a list"]}
            )
    try:
        filled = parsed.compiled.render(variables)
    except jinja2.UndefinedError as error:
        raise UnfilledVariableError(f"A variable is used where it may be absent: {error.message}.") from error
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError) as error:
        raise TemplateFaultError(f"The template cannot be filled: {error}.") from error
    if len(filled) > MAX_RENDERED:
        raise TemplateFaultError(f"The filled template has {len(filled):,} characters, more than {MAX_RENDERED:,}.")
    return filled


def render(template: Template, variables: Mapping[str, Value]) -> str:
    """The prompt. variables: from `variables_for`; the template's own variables are checked against their types."""
    for variable in template.variables:
        if variable.name in variables:
            problem = value_fault(variable, variables[variable.name])
            if problem:
                raise UnfilledVariableError(
                    f"{variable.name} {problem}.", details={variable.name: [problem]}, code="variable_invalid"
                )
    optional = frozenset(variable.name for variable in template.variables if not variable.required)
    return render_text(template.text, variables, optional=optional)


def render_system(pack: Pack) -> str:
    """The system part: the same for every conversation of the pack."""
    return render_text(pack.head.system, profile_variables(pack.profile))


def system_faults(text: str) -> list[str]:
    """What is wrong with a pack's system part, in sentences."""
    try:
        parsed = parse(text)
    except TemplateFaultError as error:
        return [error.message]
    return [f"nothing fills {{{{ {name} }}}} in the system part" for name in sorted(parsed.uses - PROFILE.keys())]


def _named(names: list[str]) -> str:
    return ", ".join(f"{{{{ {name} }}}}" for name in names)
