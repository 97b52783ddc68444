"""Pages of scaffolding: packs, lists, one thing with its versions, and the forms."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response, UploadFile

from brightrun.accounts.context import PageCtx, RequestContext, page_needs
from brightrun.accounts.roles import Permission
from brightrun.errors import BrightRunError, NotFoundError
from brightrun.scaffolding import api, coverage, service
from brightrun.scaffolding.archive import MAX_ZIP_BYTES, pack_from_zip
from brightrun.scaffolding.fields import FIELDS, field_of, from_form, to_form
from brightrun.scaffolding.kinds import SPECS, content_from
from brightrun.scaffolding.pack import Pack
from brightrun.scaffolding.pack_files import PackInvalidError, builtin_keys, builtin_pack
from brightrun.scaffolding.schemas import ThingOut
from brightrun.scaffolding.tables import Kind, Versioned
from brightrun.scaffolding.usage import uses
from brightrun.web import forms, views
from brightrun.web.http import Page
from brightrun.web.toasts import Toast, toast_redirect

router = APIRouter(prefix="/scaffolding", include_in_schema=False)

_READ = page_needs(Permission.CONVERSATIONS_READ)
_WRITE = page_needs(Permission.CONVERSATIONS_WRITE)
_PAGE_SIZE = 25

Text = Annotated[str, Query(max_length=255)]
PageNumber = Annotated[int, Query(ge=1, le=1_000_000)]
THINGS = (Kind.PERSONA, Kind.ARC, Kind.TOPIC, Kind.TEMPLATE)
ICONS = {Kind.PERSONA: "user", Kind.ARC: "activity", Kind.TOPIC: "book-open", Kind.TEMPLATE: "file-text"}
TIER_WORDS = {"template": "Everyday", "scenario": "From a document", "edge_case": "Edge case"}


def render(
    ctx: RequestContext, template: str, *, status: int = 200, block: str | None = None, **values: Any
) -> Response:
    return views.render(
        ctx.request,
        f"scaffolding/{template}.html",
        status=status,
        block=block,
        can_write=Permission.CONVERSATIONS_WRITE in ctx.principal.permissions,
        specs=SPECS,
        kinds=THINGS,
        icons=ICONS,
        tier_words=TIER_WORDS,
        **values,
    )


@router.get("", **_READ)
async def packs_page(ctx: PageCtx) -> Response:
    return await _packs(ctx)


async def _packs(ctx: RequestContext, *, status: int = 200, faults: Any = ()) -> Response:
    packs = await coverage.pack_list(ctx.session, ctx.principal.workspace_id)
    return render(ctx, "packs", status=status, packs=packs, faults=faults, builtin=builtin_keys())


@router.post("/load", **_WRITE)
async def load(ctx: PageCtx) -> Response:
    values = forms.text_fields(await ctx.request.form(), ("key",))
    pack = builtin_pack(values["key"])
    return toast_redirect(ctx.request, "/scaffolding", await _taken_in(ctx, pack, f"loaded {pack.key}"))


@router.post("/import", **_WRITE)
async def import_pack(ctx: PageCtx) -> Response:
    upload = (await ctx.request.form()).get("file")
    if not isinstance(upload, UploadFile) and not hasattr(upload, "read"):
        return toast_redirect(ctx.request, "/scaffolding", Toast(title="Choose a zip file first", category="error"))
    try:
        pack = pack_from_zip(await upload.read(MAX_ZIP_BYTES + 1))  # type: ignore[union-attr]
        toast = await _taken_in(ctx, pack, "imported")
    except PackInvalidError as error:
        return await _packs(ctx, status=400, faults=error.faults)
    return toast_redirect(ctx.request, "/scaffolding", toast)


async def _taken_in(ctx: RequestContext, pack: Pack, note: str) -> Toast:
    loaded = await api.take_in(ctx, pack, note)
    told = f"{loaded.added} added, {loaded.changed} changed, {loaded.unchanged} as they were."
    return Toast(title=f"{pack.name} is here", description=told)


# --- lists ----------------------------------------------------------------------------------------------------------


@router.get("/{kind}", **_READ)
async def list_page(
    ctx: PageCtx,
    kind: Kind,
    pack: Text = "",
    search: Text = "",
    group: Text = "",
    state: Text = "",
    sort: Text = "name",
    page: PageNumber = 1,
) -> Response:
    if kind is Kind.PACK:
        return await _packs(ctx)
    packs = await service.packs(ctx.session, ctx.principal.workspace_id)
    chosen = next((one for one in packs if one.key == pack), packs[0])
    fault: str | None = None
    rows: list[Versioned] = []
    total = 0
    try:
        rows, total = await service.list_things(
            ctx.session,
            ctx.principal.workspace_id,
            kind,
            Page(page=page, limit=_PAGE_SIZE),
            sort=sort,
            pack_key=chosen.key,
            search=search.strip() or None,
            group=group or None,
            active={"active": True, "inactive": False}.get(state),
        )
    except BrightRunError as error:
        fault = error.message
    used = {"personas": "persona", "emotional-arcs": "arc", "training-topics": "topic", "templates": "template"}[kind]
    written: dict[str, int] = {}
    for use in await uses(ctx.session, chosen.key):
        key = getattr(use, used)
        written[key] = written.get(key, 0) + use.written
    return render(
        ctx,
        "list",
        block="list" if views.is_fragment_request(ctx.request) else None,
        status=400 if fault else 200,
        kind=kind,
        packs=packs,
        pack=chosen,
        things=[ThingOut.of(row) for row in rows],
        written=written,
        total=total,
        groups=await service.groups(ctx.session, kind, chosen.key),
        group=group,
        search=search,
        state=state,
        sort=sort,
        fault=fault,
        filtered=bool(search.strip() or group or state),
        page_number=page,
        limit=_PAGE_SIZE,
    )


# --- forms ----------------------------------------------------------------------------------------------------------

EMPTY: dict[Kind, dict[str, Any]] = {
    Kind.PERSONA: {},
    Kind.ARC: {"category": "core", "tier": "template", "turns": {"min": 3, "max": 5}, "complexity": 5},
    Kind.TOPIC: {"complexity": "intermediate"},
    Kind.TEMPLATE: {"tier": "template", "complexity": 5, "quality_threshold": 4.5, "active": False},
}


@router.get("/{kind}/new", **_READ)
async def new_page(ctx: PageCtx, kind: Kind, pack: Text = "") -> Response:
    _no_pack(kind)
    packs = await service.packs(ctx.session, ctx.principal.workspace_id)
    key = pack if pack in {one.key for one in packs} else packs[0].key
    return await _form(ctx, kind, key, EMPTY[kind])


@router.post("/{kind}/new", **_WRITE)
async def create(ctx: PageCtx, kind: Kind) -> Response:
    _no_pack(kind)
    form = await ctx.request.form()
    values = forms.text_fields(form, ("pack", "key", "note", "active"))
    document = from_form(kind, form, {}) | {"key": values["key"], "active": bool(values["active"])}
    try:
        row = await service.create(
            ctx.session,
            ctx.principal.workspace_id,
            kind,
            values["pack"],
            document,
            user_id=ctx.principal.user_id,
            note=values["note"] or None,
        )
    except BrightRunError as error:
        if error.status == 404:
            raise
        return await _form(ctx, kind, values["pack"], document, note=values["note"], error=error)
    return toast_redirect(ctx.request, f"/scaffolding/{kind.value}/{row.thing_id}", Toast(title=f"{row.name} is here"))


@router.get("/{kind}/{thing_id}/edit", **_READ)
async def edit_page(ctx: PageCtx, kind: Kind, thing_id: UUID) -> Response:
    row = await service.get(ctx.session, kind, thing_id)
    return await _form(ctx, kind, row.pack_key, row.content, row=row)


@router.post("/{kind}/{thing_id}/edit", **_WRITE)
async def edit(ctx: PageCtx, kind: Kind, thing_id: UUID) -> Response:
    form = await ctx.request.form()
    values = forms.text_fields(form, ("note", "active", "base_version"))
    row = await service.get(ctx.session, kind, thing_id)
    document = from_form(kind, form, row.content)
    if kind is not Kind.PACK:
        document["active"] = bool(values["active"])
    try:
        base = int(values["base_version"]) if values["base_version"].isdigit() else 0
        changed = await service.edit(
            ctx.session,
            kind,
            thing_id,
            document,
            base_version=base,
            user_id=ctx.principal.user_id,
            note=values["note"] or None,
        )
    except BrightRunError as error:
        return await _form(ctx, kind, row.pack_key, document, row=row, note=values["note"], error=error)
    words = f"Version {changed.version}" if changed.version != row.version else "Nothing was changed"
    return toast_redirect(ctx.request, f"/scaffolding/{kind.value}/{thing_id}", Toast(title="Saved", description=words))


async def _form(
    ctx: RequestContext,
    kind: Kind,
    pack_key: str,
    document: dict[str, Any],
    *,
    row: Versioned | None = None,
    note: str = "",
    error: BrightRunError | None = None,
) -> Response:
    pack = await service.load_pack(ctx.session, ctx.principal.workspace_id, pack_key)
    errors: dict[str, list[str]] = {}
    elsewhere: list[str] = []
    if error is not None:
        details = error.details if isinstance(error.details, dict) else {}
        for place, texts in details.items():
            field = "key" if place == "key" else field_of(str(place), kind)
            for text in texts if isinstance(texts, list) else []:
                sentence = f"{text[:1].upper()}{text[1:]}"
                if field and field != place:
                    sentence = f"{place}: {text}"
                (errors.setdefault(field, []) if field else elsewhere).append(sentence)
        if not errors and not elsewhere:
            elsewhere.append(error.message)
    variables = document.get("variables") or []
    return render(
        ctx,
        "edit",
        status=error.status if error else 200,
        kind=kind,
        pack=pack,
        row=row,
        document=document,
        fields=[(field, to_form(field, document)) for field in FIELDS[kind]],
        choices=_choices(pack),
        variables=[*variables, *({} for _ in range(2 if len(variables) < 28 else 0))],
        note=note,
        errors=errors,
        elsewhere=elsewhere,
        message=error.message if error else None,
    )


def _choices(pack: Pack) -> dict[str, list[tuple[str, str]]]:
    return {
        "personas": [(one.key, one.name) for one in pack.personas],
        "arcs": [(one.key, one.name) for one in pack.arcs],
        "topics": [(one.key, one.name) for one in pack.topics],
        "principles": [(one.key, one.key.replace("_", " ")) for one in pack.profile.principles],
    }


def _no_pack(kind: Kind) -> None:
    if kind is Kind.PACK:
        raise NotFoundError("A new pack comes by import")


# --- one thing ------------------------------------------------------------------------------------------------------


@router.get("/{kind}/{thing_id}", **_READ)
async def thing_page(
    ctx: PageCtx, kind: Kind, thing_id: UUID, version: Annotated[int | None, Query(ge=1)] = None
) -> Response:
    return await _thing(ctx, kind, thing_id, version=version)


async def _thing(
    ctx: RequestContext, kind: Kind, thing_id: UUID, *, version: int | None = None, status: int = 200, **shown: Any
) -> Response:
    row = await service.get(ctx.session, kind, thing_id, version)
    history = await service.history(ctx.session, kind, thing_id)
    pack = await service.load_pack(ctx.session, ctx.principal.workspace_id, row.pack_key)
    word = {Kind.PERSONA: "persona", Kind.ARC: "arc", Kind.TOPIC: "topic", Kind.TEMPLATE: "template"}.get(kind)
    mine = [use for use in await uses(ctx.session, row.pack_key) if word and getattr(use, word) == row.key]
    faults = service.problems_of(pack, content_from(kind, row.content)) if kind is Kind.TEMPLATE else []
    return render(
        ctx,
        "thing",
        status=status,
        kind=kind,
        thing=ThingOut.of(row),
        history=[ThingOut.of(one) for one in history],
        people=await service.names_of(ctx.session, [one.created_by for one in history]),
        fields=[(field, to_form(field, row.content)) for field in FIELDS[kind]],
        choices={name: dict(options) for name, options in _choices(pack).items()},
        pack=pack,
        faults=faults,
        used={
            "written": sum(use.written for use in mine),
            "accepted": sum(use.accepted for use in mine),
            "failed": sum(use.failed for use in mine),
            "last": max((use.last_used_at for use in mine if use.last_used_at), default=None),
        },
        **({"errors": {}, "copy": {"key": f"{row.key}_2"[:64], "name": f"{row.name} (copy)"}} | shown),
    )


@router.post("/{kind}/{thing_id}/duplicate", **_WRITE)
async def duplicate(ctx: PageCtx, kind: Kind, thing_id: UUID) -> Response:
    values = forms.text_fields(await ctx.request.form(), ("copy_key", "copy_name"))
    try:
        row = await service.duplicate(
            ctx.session,
            kind,
            thing_id,
            key=values["copy_key"],
            name=values["copy_name"],
            user_id=ctx.principal.user_id,
        )
    except BrightRunError as error:
        if error.status == 404:
            raise
        toast = Toast(title="Not duplicated", description=error.message, category="error")
        return toast_redirect(ctx.request, f"/scaffolding/{kind.value}/{thing_id}", toast)
    toast = Toast(title="Duplicated", description="It is off until you switch it on.")
    return toast_redirect(ctx.request, f"/scaffolding/{kind.value}/{row.thing_id}", toast)


@router.post("/{kind}/{thing_id}/activate", **_WRITE)
async def activate(ctx: PageCtx, kind: Kind, thing_id: UUID) -> Response:
    return await _switch(ctx, kind, thing_id, True)


@router.post("/{kind}/{thing_id}/deactivate", **_WRITE)
async def deactivate(ctx: PageCtx, kind: Kind, thing_id: UUID) -> Response:
    return await _switch(ctx, kind, thing_id, False)


async def _switch(ctx: RequestContext, kind: Kind, thing_id: UUID, on: bool) -> Response:
    path = f"/scaffolding/{kind.value}/{thing_id}"
    try:
        row = await service.set_active(ctx.session, kind, thing_id, on, user_id=ctx.principal.user_id)
    except BrightRunError as error:
        if error.status == 404:
            raise
        return toast_redirect(
            ctx.request, path, Toast(title="It stays off", description=error.message, category="error")
        )
    undo = f"{path}/{'deactivate' if on else 'activate'}"
    words = "on" if on else "off: nothing new is written with it"
    return toast_redirect(ctx.request, path, Toast(title=f"{row.name} is {words}", undo_url=undo))
