"""A combination looked at before it is sent: does it fit, which template serves, and what would the model read?"""

from typing import Any

from brightrun.errors import InvalidInputError
from brightrun.scaffolding.compatibility import compatibility
from brightrun.scaffolding.kinds import content_from
from brightrun.scaffolding.pack import Arc, Pack, Persona, Template, Topic
from brightrun.scaffolding.rendering import parse, render, render_system
from brightrun.scaffolding.schemas import (
    AlternativeOut,
    ChoiceOut,
    CombinationBody,
    CombinationOut,
    PreviewBody,
    PreviewOut,
    ReasonOut,
)
from brightrun.scaffolding.selection import NoTemplateError, choose_template
from brightrun.scaffolding.tables import Kind
from brightrun.scaffolding.variables import Value, variables_for


def chosen(pack: Pack, body: CombinationBody) -> tuple[Persona, Arc, Topic]:
    """Raises InvalidInputError that names what the pack lacks."""
    details: dict[str, list[str]] = {}
    found: list[Any] = []
    for field, find in (("persona", pack.persona), ("arc", pack.arc), ("topic", pack.topic)):
        key = getattr(body, field)
        try:
            found.append(find(key))
        except KeyError:
            details[field] = [f"there is no {field} {key!r} in the pack {pack.key!r}"]
    if details:
        sentence = "; ".join(texts[0] for texts in details.values())
        raise InvalidInputError(sentence[:1].upper() + sentence[1:], code="validation_error", details=details)
    persona, arc, topic = found
    return persona, arc, topic


def combination(pack: Pack, body: CombinationBody) -> CombinationOut:
    persona, arc, topic = chosen(pack, body)
    fit = compatibility(persona, arc, topic)
    choice, problem = None, None
    try:
        best = choose_template(pack, persona, arc, topic, body.tier)
        choice = ChoiceOut(
            template=best.template.key,
            name=best.template.name,
            tier=best.tier,
            points=best.points,
            explanation=best.explanation,
            alternatives=[
                AlternativeOut(
                    key=one.template.key, name=one.template.name, points=one.points, reasons=list(one.reasons)
                )
                for one in best.alternatives
            ],
        )
    except NoTemplateError as error:
        problem = error.message
    return CombinationOut(
        score=fit.score,
        compatible=fit.compatible,
        reasons=[ReasonOut(code=one.code, penalty=one.points / 100, message=one.message) for one in fit.reasons],
        choice=choice,
        problem=problem,
    )


def preview(pack: Pack, body: PreviewBody) -> PreviewOut:
    """The request's text. Raises what rendering raises, and NoTemplateError."""
    persona, arc, topic = chosen(pack, body)
    template = _template(pack, body, persona, arc, topic)
    values: dict[str, Value] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in body.values.items()
    }
    variables = variables_for(
        pack, template, persona, arc, topic, tier=body.tier, replicate=body.replicate, values=values
    )
    prompt = render(template, variables)
    used = parse(template.text).uses
    return PreviewOut(
        system=render_system(pack),
        prompt=prompt,
        template=template.key,
        variables={name: value for name, value in variables.items() if name in used},
    )


def _template(pack: Pack, body: PreviewBody, persona: Persona, arc: Arc, topic: Topic) -> Template:
    if body.content is not None:
        template: Template = content_from(Kind.TEMPLATE, body.content)
        return template
    if body.template is None:
        return choose_template(pack, persona, arc, topic, body.tier).template
    try:
        return pack.template(body.template)
    except KeyError:
        reason = f"there is no template {body.template!r} in the pack {pack.key!r}"
        raise InvalidInputError(reason, code="validation_error", details={"template": [reason]}) from None
