"""Each kind of thing in a pack: what its content is, and what of it lists show and search."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from brightrun.errors import InvalidInputError
from brightrun.scaffolding.pack import Arc, PackHead, Persona, Template, Topic
from brightrun.scaffolding.pack_files import place_of, sentence_of
from brightrun.scaffolding.tables import Kind


@dataclass(frozen=True)
class KindSpec:
    """word, words: what a person calls one and many. group: by what lists are grouped."""

    kind: Kind
    type: type
    adapter: TypeAdapter[Any]
    word: str
    words: str
    group: Callable[[Any], str | None]


SPECS: dict[Kind, KindSpec] = {
    spec.kind: spec
    for spec in (
        KindSpec(Kind.PACK, PackHead, TypeAdapter(PackHead), "pack", "packs", lambda _: None),
        KindSpec(Kind.PERSONA, Persona, TypeAdapter(Persona), "persona", "personas", lambda _: None),
        KindSpec(Kind.ARC, Arc, TypeAdapter(Arc), "emotional arc", "emotional arcs", lambda arc: arc.category.value),
        KindSpec(Kind.TOPIC, Topic, TypeAdapter(Topic), "topic", "topics", lambda topic: topic.category),
        KindSpec(Kind.TEMPLATE, Template, TypeAdapter(Template), "template", "templates", lambda one: one.category),
    )
}


def content_from(kind: Kind, document: Mapping[str, Any]) -> Any:
    """The checked content. Raises InvalidInputError whose details are place → sentences."""
    try:
        return SPECS[kind].adapter.validate_python(dict(document))
    except ValidationError as error:
        details: dict[str, list[str]] = {}
        for one in error.errors(include_url=False):
            details.setdefault(place_of(one["loc"]), []).append(sentence_of(one))
        raise InvalidInputError("Please correct the marked fields", code="validation_error", details=details) from error


def document_of(kind: Kind, content: Any) -> dict[str, Any]:
    """As JSON."""
    return SPECS[kind].adapter.dump_python(content, mode="json")  # type: ignore[no-any-return]


def columns_of(kind: Kind, content: Any) -> dict[str, Any]:
    """What the row repeats of the content."""
    return {
        "key": content.key,
        "name": content.name,
        "is_active": getattr(content, "active", True),
        "group_key": SPECS[kind].group(content),
        "tier": getattr(content, "tier", None),
        "arc_key": getattr(content, "arc", None),
        "content": document_of(kind, content),
    }
