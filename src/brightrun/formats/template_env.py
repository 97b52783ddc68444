"""The sandbox in which chat templates run: the same language that transformers gives them, and nothing more.

Templates come with models, from strangers. They see plain JSON values only, cannot reach Python's internals, cannot
change what they are given, and have no access to files or network.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.runtime
import jinja2.sandbox
import jinja2.utils

from brightrun.formats.chat_errors import TemplateFaultError, TemplateRefusedError


class RaisedByTemplateError(jinja2.TemplateError):
    """What `raise_exception('…')` in a template raises: told apart from every other template error."""


class _Generation(jinja2.ext.Extension):
    """`{% generation %}…{% endgeneration %}`: some templates mark assistant text so; the text passes unchanged."""

    tags = {"generation"}  # noqa: RUF012 - the name and type that Jinja asks for

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_pass"), [], [], body).set_lineno(line)

    @staticmethod
    def _pass(caller: Callable[[], str]) -> str:
        return caller()


class _Dict:
    """`dict(…)` in a template makes a dictionary, but is not the class itself."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args, **kwargs)


class _Namespace(jinja2.utils.Namespace):
    """`namespace(…)` without underscore names, which could reach into the interpreter."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # lets a template say namespace(self=…)
        self, rest = args[0], args[1:]
        attributes = dict(*rest, **kwargs)
        for name in attributes:
            _check_attribute(name)
        jinja2.utils.Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_attribute(name)
        super().__setitem__(name, value)


def _check_attribute(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace may not hold the underscore name {name!r}")


def _raise_exception(message: str) -> None:
    raise RaisedByTemplateError(message)


def _clock(now: datetime | None) -> Callable[[str], str]:
    def strftime_now(form: str) -> str:
        return (now or datetime.now()).strftime(form)  # noqa: DTZ005 - the local date, as transformers gives it

    return strftime_now


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class ChatTemplate:
    """One compiled chat template.

    source: Jinja text. now: the clock that `strftime_now` shows; fix it, or a run that is resumed tomorrow sees other
    tokens than today (several popular templates write the date into the system message).
    Raises TemplateFaultError when the text is not valid Jinja.
    """

    def __init__(self, source: str, *, now: datetime | None = None) -> None:
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _clock(now)
        environment.globals["dict"] = _Dict()
        environment.globals["namespace"] = _Namespace
        self.source = source
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise TemplateFaultError(
                f"The chat template is not valid Jinja, line {error.lineno}: {error.message}"
            ) from error

    def render(
        self,
        messages: list[dict[str, Any]],
        *,
        tools: list[dict[str, Any]] | None,
        add_generation_prompt: bool,
        variables: Mapping[str, str],
    ) -> str:
        """The chat as text. Raises TemplateRefusedError (the template's own words) and TemplateFaultError."""
        try:
            return self._template.render(
                messages=messages,
                tools=tools,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **variables,
            )
        except RaisedByTemplateError as error:
            raise TemplateRefusedError(str(error)) from error
        except jinja2.exceptions.SecurityError as error:
            raise TemplateFaultError(f"The chat template tried something that templates may not do: {error}") from error
        except jinja2.TemplateError as error:
            raise TemplateFaultError(f"The chat template cannot render this conversation: {error}") from error
        except (
            TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError,
        ) as error:  # fmt: skip
            # Errors of the Python values inside a template, such as None + str
            raise TemplateFaultError(
                f"The chat template cannot render this conversation ({type(error).__name__}: {error})"
            ) from error
