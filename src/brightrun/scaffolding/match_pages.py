"""Trying a combination: does it fit, which template serves, what would be sent. Also the editor's live preview."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from brightrun.accounts.context import PageCtx, page_needs
from brightrun.accounts.roles import Permission
from brightrun.errors import BrightRunError
from brightrun.scaffolding import preview, service
from brightrun.scaffolding.fields import from_form
from brightrun.scaffolding.pack import Pack
from brightrun.scaffolding.pages import TIER_WORDS, render
from brightrun.scaffolding.schemas import CombinationBody, PreviewBody
from brightrun.scaffolding.tables import Kind
from brightrun.scaffolding.variables import STANDARD, TEMPLATE_GIVES
from brightrun.web import forms, views

router = APIRouter(prefix="/scaffolding", include_in_schema=False)

_READ = page_needs(Permission.CONVERSATIONS_READ)
Text = Annotated[str, Query(max_length=64)]


@router.get("/match", **_READ)
async def match_page(
    ctx: PageCtx,
    pack: Text = "",
    persona: Text = "",
    arc: Text = "",
    topic: Text = "",
    tier: Text = "",
    template: Text = "",
    replicate: Text = "",
) -> Response:
    """One combination, in the URL: score, reasons, template, prompt."""
    packs = await service.packs(ctx.session, ctx.principal.workspace_id)
    which = int(replicate) if replicate.isdecimal() and len(replicate) < 5 else 0
    key = pack if pack in {one.key for one in packs} else packs[0].key
    found = await service.load_pack(ctx.session, ctx.principal.workspace_id, key)
    chosen = {
        "persona": _known(persona, found.personas),
        "arc": _known(arc, found.arcs),
        "topic": _known(topic, found.topics),
    }
    body = CombinationBody(pack=key, **chosen, tier=tier if tier in TIER_WORDS else None)
    combination = preview.combination(found, body)
    shown, fault = None, None
    templates = [one for one in found.templates if one.arc == chosen["arc"]]
    explicit = template if template in {one.key for one in templates} else None
    if combination.choice or explicit:
        try:
            shown = preview.preview(
                found, PreviewBody(**body.model_dump(), template=explicit, replicate=which, values={})
            )
        except BrightRunError as error:
            fault = error.message
    return render(
        ctx,
        "match",
        block="result" if views.is_fragment_request(ctx.request) else None,
        packs=packs,
        pack=found,
        chosen=chosen | {"tier": tier, "template": explicit or "", "replicate": which},
        templates=templates,
        combination=combination,
        preview=shown,
        fault=fault,
    )


def _known(key: str, things: Any) -> str:
    keys = [thing.key for thing in things if thing.active] or [thing.key for thing in things]
    return key if key in keys else keys[0]


@router.post("/templates/preview", **_READ)
async def live_preview(ctx: PageCtx) -> Response:
    """The template as it is being edited, filled for a combination: a fragment for the editor."""
    form = await ctx.request.form()
    values = forms.text_fields(form, ("pack", "key", "preview_persona", "preview_topic", "active"))
    pack = await service.load_pack(ctx.session, ctx.principal.workspace_id, values["pack"])
    document = from_form(Kind.TEMPLATE, form, {}) | {"key": values["key"] or "unnamed", "active": True}
    return await editor_preview(ctx, pack, document, values["preview_persona"], values["preview_topic"])


async def editor_preview(
    ctx: PageCtx, pack: Pack, document: dict[str, Any], persona: str = "", topic: str = ""
) -> Response:
    shown, fault, details = None, None, {}
    arcs = {arc.key for arc in pack.arcs}
    # Only the words matter here: what else is unfinished in the form is told when it is saved.
    whole = FILLER | {name: value for name, value in document.items() if value not in ("", [], None)}
    try:
        shown = preview.preview(
            pack,
            PreviewBody(
                pack=pack.key,
                persona=_known(persona, pack.personas),
                arc=document["arc"] if document.get("arc") in arcs else pack.arcs[0].key,
                topic=_known(topic, pack.topics),
                content=whole,
                values={},
            ),
        )
    except BrightRunError as error:
        fault = error.message
        details = error.details if isinstance(error.details, dict) else {}
    return render(
        ctx, "_preview", preview=shown, fault=fault, details=details, standard=STANDARD, template_gives=TEMPLATE_GIVES
    )


FILLER: dict[str, Any] = {
    "name": "Unnamed",
    "description": "–",
    "category": "unnamed",
    "tier": "template",
    "arc": "unnamed",
    "text": "–",
    "structure": "–",
    "tone": "–",
    "complexity": 5,
    "quality_threshold": 4,
    "required_elements": ["unnamed"],
    "principles": ["unnamed"],
}
