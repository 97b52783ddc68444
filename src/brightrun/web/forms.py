"""HTML forms on the API's own schemas: what was sent becomes a model, what is wrong becomes field → messages."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData

from brightrun.errors import BrightRunError, InvalidInputError

M = TypeVar("M", bound=BaseModel)
GENERAL = ""
"""The field of a message that is for the form as a whole."""


def text_fields(form: FormData, names: Iterable[str]) -> dict[str, str]:
    """The named fields as trimmed text, "" where one is absent. A file in their place is refused."""
    values: dict[str, str] = {}
    for name in names:
        value = form.get(name, "")
        if not isinstance(value, str):
            raise InvalidInputError(f"{name} is a file; text was expected", code="validation_error")
        values[name] = value.strip()
    return values


def parse(model: type[M], values: Mapping[str, Any]) -> M:
    """`values` as `model`. Raises InvalidInputError whose details are field → messages."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        details: dict[str, list[str]] = {}
        for fault in error.errors():
            field = ".".join(str(part) for part in fault["loc"])
            details.setdefault(field, []).append(_sentence(fault))
        raise InvalidInputError("Please correct the marked fields", code="validation_error", details=details) from error


def problems(error: BrightRunError) -> dict[str, list[str]]:
    """What a page shows beside its fields; what belongs to none is under `GENERAL`."""
    if isinstance(error.details, Mapping) and error.code == "validation_error":
        return {str(field): [_capital(text) for text in _listed(texts)] for field, texts in error.details.items()}
    return {GENERAL: [error.message]}


def _listed(texts: Any) -> list[str]:
    return [str(text) for text in texts] if isinstance(texts, list | tuple) else [str(texts)]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sentence(fault: Any) -> str:
    context = fault.get("ctx", {})
    match fault["type"]:
        case "string_too_short" if context.get("min_length") == 1:
            return "Please fill this in"
        case "string_too_short":
            return f"At least {context['min_length']} characters"
        case "string_too_long":
            return f"At most {context['max_length']:,} characters"
        case "too_short":
            return "Choose at least one"
        case "uuid_parsing" | "missing":
            return "Please choose one"
    return str(fault["msg"]).removeprefix("Value error, ")
