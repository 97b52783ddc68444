"""JSON routes of packs and what they hold."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from brightrun.accounts.context import Ctx, needs
from brightrun.accounts.roles import Permission
from brightrun.audit.service import record
from brightrun.errors import NotFoundError, TooLargeError
from brightrun.scaffolding import coverage, preview, service
from brightrun.scaffolding.archive import MAX_ZIP_BYTES, pack_from_zip, pack_to_zip
from brightrun.scaffolding.pack import KEY_PATTERN
from brightrun.scaffolding.pack_files import builtin_pack
from brightrun.scaffolding.planning import plan, quotas_from
from brightrun.scaffolding.schemas import (
    CombinationBody,
    CombinationData,
    CoverageData,
    DuplicateBody,
    LoadBody,
    LoadedData,
    LoadedOut,
    PackOut,
    PacksData,
    PlanBody,
    PlanData,
    PlanItemOut,
    PlanOut,
    PreviewBody,
    PreviewData,
    ShortfallOut,
    ThingCreate,
    ThingData,
    ThingEdit,
    ThingOut,
    VersionsData,
)
from brightrun.scaffolding.tables import Kind
from brightrun.web.http import Items, PageParams, Success, many, one

router = APIRouter(tags=["scaffolding"])

_READ = needs(Permission.CONVERSATIONS_READ)
_WRITE = needs(Permission.CONVERSATIONS_WRITE)
_ZIP: dict[str, Any] = _READ | {
    "response_class": Response,
    "responses": _READ["responses"]
    | {200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}},
}
_UPLOAD: dict[str, Any] = _WRITE | {
    "openapi_extra": _WRITE["openapi_extra"]
    | {
        "requestBody": {
            "required": True,
            "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
        }
    }
}
PackKey = Annotated[str, Query(pattern=KEY_PATTERN, description="The pack's key, e.g. financial_planning")]


@router.get("/api/packs", **_READ)
async def list_packs(ctx: Ctx) -> Success[PacksData]:
    """Packs of the workspace. The first look loads those that come with BrightRun."""
    return one(PacksData(packs=await _packs(ctx)))


async def _packs(ctx: Ctx) -> list[PackOut]:
    return await coverage.pack_list(ctx.session, ctx.principal.workspace_id)


@router.post("/api/packs/load", **_WRITE)
async def load_builtin(ctx: Ctx, body: LoadBody) -> Success[LoadedData]:
    """Take in a pack that comes with BrightRun, as it comes: what was changed becomes a new version again."""
    return one(LoadedData(loaded=await take_in(ctx, builtin_pack(body.key), f"loaded {body.key}")))


@router.post("/api/packs/import", **_UPLOAD)
async def import_pack(ctx: Ctx, request: Request) -> Success[LoadedData]:
    """Take in a pack from a zip file (the body). A pack that is not whole is refused with every place."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_ZIP_BYTES:
            raise TooLargeError(f"A pack has at most {MAX_ZIP_BYTES:,} bytes as a zip file")
    return one(LoadedData(loaded=await take_in(ctx, pack_from_zip(bytes(body)), "imported")))


async def take_in(ctx: Ctx, pack: Any, note: str) -> LoadedOut:
    principal = ctx.principal
    await service.ensure_builtin(ctx.session, principal.workspace_id)
    loaded = await service.take_in(
        ctx.session, principal.workspace_id, pack, user_id=principal.user_id, note=f"{note}, {pack.head.version}"
    )
    await record(ctx.session, "pack.loaded", "pack", pack.key, {"version": pack.head.version, "how": note})
    return LoadedOut(
        key=pack.key, name=pack.name, added=loaded.added, changed=loaded.changed, unchanged=loaded.unchanged
    )


@router.get("/api/packs/export", **_ZIP)
async def export_pack(ctx: Ctx, pack: PackKey) -> Response:
    """The pack as a zip file of YAML: import gives the same pack. Without keys, users and what was written."""
    found = await service.load_pack(ctx.session, ctx.principal.workspace_id, pack)
    return Response(
        pack_to_zip(found),
        media_type="application/zip",
        headers={"Content-Disposition": f'attachment; filename="{found.key}-{found.head.version}.zip"'},
    )


@router.get("/api/packs/coverage", **_READ)
async def get_coverage(ctx: Ctx, pack: PackKey) -> Success[CoverageData]:
    """Per persona × arc: how many conversations were written, how many of them accepted."""
    return one(CoverageData(coverage=await coverage.grid(ctx.session, ctx.principal.workspace_id, pack)))


@router.post("/api/packs/plan", **_READ)
async def draw_plan(ctx: Ctx, body: PlanBody) -> Success[PlanData]:
    """Draw the conversations that meet the quotas. Nothing is stored and nothing is sent."""
    pack = await service.load_pack(ctx.session, ctx.principal.workspace_id, body.pack)
    existing = await coverage.existing_cells(ctx.session, body.pack)
    planned = plan(pack, quotas_from(body.quotas), seed=body.seed, existing=existing)
    return one(
        PlanData(
            plan=PlanOut(
                pack=pack.key,
                seed=body.seed,
                items=[
                    PlanItemOut(**item.as_json(), tier=item.tier, score=item.points / 100) for item in planned.items
                ],
                shortfalls=[
                    ShortfallOut(what=one.what, missing=one.missing, reason=one.reason) for one in planned.shortfalls
                ],
            )
        )
    )


@router.post("/api/scaffolding/check-compatibility", **_READ)
async def check_combination(ctx: Ctx, body: CombinationBody) -> Success[CombinationData]:
    """How well persona, arc and topic fit, every penalty named, and which template serves."""
    pack = await service.load_pack(ctx.session, ctx.principal.workspace_id, body.pack)
    return one(CombinationData(combination=preview.combination(pack, body)))


@router.post("/api/scaffolding/preview", **_READ)
async def preview_prompt(ctx: Ctx, body: PreviewBody) -> Success[PreviewData]:
    """The prompt as it would be sent, with a stored template or one that is being edited. Nothing is sent."""
    pack = await service.load_pack(ctx.session, ctx.principal.workspace_id, body.pack)
    return one(PreviewData(preview=preview.preview(pack, body)))


@router.get("/api/scaffolding/{kind}", **_READ)
async def list_things(
    ctx: Ctx,
    kind: Kind,
    page: PageParams,
    pack: Annotated[str | None, Query(pattern=KEY_PATTERN)] = None,
    search: Annotated[str | None, Query(max_length=255, description="Part of name or key")] = None,
    active: bool | None = None,
    group: Annotated[str | None, Query(max_length=64, description="Category")] = None,
    tier: Annotated[str | None, Query(max_length=64)] = None,
    arc: Annotated[str | None, Query(max_length=64, description="Templates of this arc")] = None,
    sort: Annotated[str, Query(description="name, key, created_at, version; `-`: descending")] = "name",
) -> Success[Items[ThingOut]]:
    """The newest version of each."""
    rows, total = await service.list_things(
        ctx.session,
        ctx.principal.workspace_id,
        kind,
        page,
        sort=sort,
        pack_key=pack,
        search=search,
        active=active,
        group=group,
        tier=tier,
        arc=arc,
    )
    return many([ThingOut.of(row) for row in rows], total, page)


@router.post("/api/scaffolding/{kind}", status_code=201, **_WRITE)
async def create_thing(ctx: Ctx, kind: Kind, body: ThingCreate) -> Success[ThingData]:
    """Add to a pack. An active template must fill for every combination of its arc."""
    if kind is Kind.PACK:
        raise NotFoundError("A pack comes by import: POST /api/packs/import")
    row = await service.create(
        ctx.session,
        ctx.principal.workspace_id,
        kind,
        body.pack,
        body.content,
        user_id=ctx.principal.user_id,
        note=body.note,
    )
    return one(ThingData(thing=ThingOut.of(row)))


@router.get("/api/scaffolding/{kind}/{thing_id}", **_READ)
async def get_thing(
    ctx: Ctx,
    kind: Kind,
    thing_id: UUID,
    version: Annotated[int | None, Query(ge=1, description="Left out: the newest")] = None,
) -> Success[ThingData]:
    return one(ThingData(thing=ThingOut.of(await service.get(ctx.session, kind, thing_id, version))))


@router.put("/api/scaffolding/{kind}/{thing_id}", **_WRITE)
async def edit_thing(ctx: Ctx, kind: Kind, thing_id: UUID, body: ThingEdit) -> Success[ThingData]:
    """Write a new version. The old ones stay readable."""
    row = await service.edit(
        ctx.session,
        kind,
        thing_id,
        body.content,
        base_version=body.base_version,
        user_id=ctx.principal.user_id,
        note=body.note,
    )
    return one(ThingData(thing=ThingOut.of(row)))


@router.get("/api/scaffolding/{kind}/{thing_id}/versions", **_READ)
async def list_versions(ctx: Ctx, kind: Kind, thing_id: UUID) -> Success[VersionsData]:
    """Newest first."""
    rows = await service.history(ctx.session, kind, thing_id)
    return one(VersionsData(versions=[ThingOut.of(row) for row in rows]))


@router.post("/api/scaffolding/{kind}/{thing_id}/duplicate", status_code=201, **_WRITE)
async def duplicate_thing(ctx: Ctx, kind: Kind, thing_id: UUID, body: DuplicateBody) -> Success[ThingData]:
    """The same under another key, inactive at first."""
    row = await service.duplicate(
        ctx.session, kind, thing_id, key=body.key, name=body.name, user_id=ctx.principal.user_id
    )
    return one(ThingData(thing=ThingOut.of(row)))


@router.post("/api/scaffolding/{kind}/{thing_id}/activate", **_WRITE)
async def activate_thing(ctx: Ctx, kind: Kind, thing_id: UUID) -> Success[ThingData]:
    row = await service.set_active(ctx.session, kind, thing_id, True, user_id=ctx.principal.user_id)
    return one(ThingData(thing=ThingOut.of(row)))


@router.post("/api/scaffolding/{kind}/{thing_id}/deactivate", **_WRITE)
async def deactivate_thing(ctx: Ctx, kind: Kind, thing_id: UUID) -> Success[ThingData]:
    """Nothing new is written with it; what was written stays."""
    row = await service.set_active(ctx.session, kind, thing_id, False, user_id=ctx.principal.user_id)
    return one(ThingData(thing=ThingOut.of(row)))
