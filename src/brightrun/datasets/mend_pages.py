"""The page that mends a dataset: what can be mended, before and after, and the new version that comes of it."""

import secrets
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Query, Response
from fastapi.responses import RedirectResponse

from brightrun.accounts.context import PageCtx, RequestContext, page_needs
from brightrun.accounts.roles import Permission
from brightrun.datasets import presentation, service, versions
from brightrun.datasets.schemas import RepairCreate, RepairSelection
from brightrun.datasets.tables import Dataset
from brightrun.errors import BrightRunError, InvalidInputError
from brightrun.web import forms, views
from brightrun.web.http import Page
from brightrun.web.toasts import Toast, toast_redirect

router = APIRouter(prefix="/datasets", include_in_schema=False)

_READ = page_needs(Permission.DATASETS_READ)
_WRITE = page_needs(Permission.DATASETS_WRITE)
_FIRST = 3
_A_PAGE = 25


@router.get("/{dataset_id}/mend", **_READ)
async def mend_page(
    ctx: PageCtx,
    dataset_id: UUID,
    code: Annotated[str, Query(max_length=100)] = "",
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
) -> Response:
    """Every kind of finding that can be mended, with its first places; with `code` one kind, page by page."""
    dataset = await service.get(ctx.session, dataset_id)
    return await _page(ctx, dataset, code=code, page=page)


async def _page(
    ctx: RequestContext, dataset: Dataset, *, code: str = "", page: int = 1, status: int = 200, **values: Any
) -> Response:
    counts = await versions.to_mend(ctx.session, ctx.platform, dataset)
    dismissed = sum(versions.mendable_counts(dataset).values()) - sum(counts.values())
    code = code if code in counts else ""
    groups = presentation.issue_groups({name: n for name, n in counts.items() if code in {"", name}})
    shown = {}
    for group in groups:
        wanted = Page(page=page, limit=_A_PAGE) if code else Page(limit=_FIRST)
        selection = RepairSelection(codes=[group.name])
        shown[group.name], _ = await versions.preview_repair(ctx.session, ctx.platform, dataset.id, selection, wanted)
    values.setdefault("errors", {})
    values.setdefault("idempotency_key", secrets.token_urlsafe(18))
    return views.render(
        ctx.request,
        "datasets/mend.html",
        status=status,
        dataset=dataset,
        show=presentation,
        groups=groups,
        total=await versions.to_mend_total(ctx.session, ctx.platform, dataset),
        dismissed=dismissed,
        kinds=len(counts),
        shown=shown,
        place=_place,
        code=code,
        page_number=page,
        limit=_A_PAGE,
        can_write=Permission.DATASETS_WRITE in ctx.principal.permissions,
        **values,
    )


def _place(found: versions.Previewed) -> str:
    """A finding as the value of its check box."""
    issue = found.issue
    return orjson.dumps([issue.code, issue.line, issue.path]).decode()


@router.post("/{dataset_id}/mend", **_WRITE)
async def mend(ctx: PageCtx, dataset_id: UUID) -> Response:
    """Make the new version, and go to it."""
    form = await ctx.request.form()
    plain = forms.text_fields(form, ("name", "idempotency_key", "all"))
    dataset = await service.get(ctx.session, dataset_id)
    try:
        body = _asked(plain, [str(code) for code in form.getlist("codes")], [str(p) for p in form.getlist("issues")])
        made, _new = await versions.create_version(
            ctx.session,
            ctx.platform,
            ctx.principal,
            dataset_id,
            body,
            idempotency_key=plain["idempotency_key"] or None,
        )
    except InvalidInputError as error:
        return await _page(ctx, dataset, status=error.status, errors=forms.problems(error), name=plain["name"])
    except BrightRunError as error:
        if error.status == 404:
            raise
        refused = Toast(title="Nothing was mended", description=error.message, category="error")
        return toast_redirect(ctx.request, f"/datasets/{dataset_id}/mend", refused)
    done = Toast(title="A new version is being made", description=f"{dataset.name} itself stays as it is.")
    return toast_redirect(ctx.request, f"/datasets/{made.id}", done)


def _asked(plain: dict[str, str], codes: list[str], places: list[str]) -> RepairCreate:
    if not (plain["all"] or codes or places):
        raise InvalidInputError("Tick what is to be mended, or mend everything.", code="nothing_chosen")
    issues = []
    for place in places:
        try:
            code, line, path = orjson.loads(place)
        except ValueError:
            raise InvalidInputError("A place that was ticked could not be read.", code="invalid_place") from None
        issues.append({"code": code, "line": line, "path": path})
    return forms.parse(
        RepairCreate, {"name": plain["name"] or None, "all": bool(plain["all"]), "codes": codes, "issues": issues}
    )


@router.get("/{dataset_id}/changes/download", **_READ)
async def download_changes(ctx: PageCtx, dataset_id: UUID) -> Response:
    """Every change that made this version, JSON Lines."""
    url = await versions.change_log_url(ctx.session, ctx.platform, dataset_id)
    return RedirectResponse(url, status_code=307, headers={"Cache-Control": "no-store"})
