"""Saved configurations, and two configurations side by side."""

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response

from brightrun.accounts.context import PageCtx, RequestContext, page_needs
from brightrun.accounts.roles import Permission
from brightrun.errors import BrightRunError, InvalidInputError
from brightrun.formats.hyperparameters import PRESETS
from brightrun.training import service as jobs
from brightrun.training.setting_words import LABELS, setting_text
from brightrun.training.templates import service
from brightrun.training.templates.diff import diff
from brightrun.training.templates.schemas import TemplateCreate, TemplateUpdate
from brightrun.web import forms, views
from brightrun.web.http import Page
from brightrun.web.toasts import Toast, toast_redirect

router = APIRouter(prefix="/training", include_in_schema=False)

_READ = page_needs(Permission.JOBS_READ)
_WRITE = page_needs(Permission.JOBS_WRITE)
_PAGE_SIZE = 20
_MOST_CHOICES = 100
_LIST = "/training/templates"

Text = Annotated[str, Query(max_length=255)]
PageNumber = Annotated[int, Query(ge=1, le=1_000_000)]


@router.get("/templates", **_READ)
async def list_page(ctx: PageCtx, search: Text = "", page: PageNumber = 1) -> Response:
    rows, total = await service.list_templates(
        ctx.session, Page(page=page, limit=_PAGE_SIZE), search=search.strip() or None
    )
    return views.render(
        ctx.request,
        "training/templates.html",
        block="list" if views.is_fragment_request(ctx.request) else None,
        templates=await service.views(ctx.session, ctx.settings, rows),
        total=total,
        page_number=page,
        limit=_PAGE_SIZE,
        search=search,
        can_write=Permission.JOBS_WRITE in ctx.principal.permissions,
        preset_titles={preset.id: preset.title for preset in PRESETS.values()},
        labels=LABELS,
        setting_text=setting_text,
        retention_days=ctx.settings.deleted_retention_days,
    )


@router.post("/templates", **_WRITE)
async def save_job(ctx: PageCtx) -> Response:
    """Save the configuration of a job, from its page."""
    values = forms.text_fields(await ctx.request.form(), ("job_id", "name", "description"))
    body = forms.parse(TemplateCreate, {name: text or None for name, text in values.items()})
    try:
        async with ctx.session.begin_nested():
            template = await service.create(ctx.session, ctx.settings, ctx.principal, body)
    except BrightRunError as error:
        if error.status == 404 or body.job_id is None:
            raise
        toast = Toast(title="The template was not saved", description=_sentences(error), category="error")
        return toast_redirect(ctx.request, f"/training/{body.job_id}", toast)
    return toast_redirect(ctx.request, _LIST, saved(template.name))


def saved(name: str) -> Toast:
    return Toast(title="Template saved", description=f"{name}. Start any dataset with it.")


@router.post("/templates/{template_id}/edit", **_WRITE)
async def edit(ctx: PageCtx, template_id: UUID) -> Response:
    values = forms.text_fields(await ctx.request.form(), ("name", "description"))
    try:
        async with ctx.session.begin_nested():
            changes = forms.parse(TemplateUpdate, {**values, "description": values["description"] or None})
            template = await service.update(ctx.session, ctx.principal, template_id, changes)
    except BrightRunError as error:
        if error.status == 404:
            raise
        toast = Toast(title="The template was not changed", description=_sentences(error), category="error")
    else:
        toast = Toast(title="Template changed", description=template.name)
    return toast_redirect(ctx.request, _LIST, toast)


def _sentences(error: BrightRunError) -> str:
    if error.status == 409:
        return error.message
    return " ".join(text for texts in forms.problems(error).values() for text in texts)


@router.post("/templates/{template_id}/delete", **_WRITE)
async def delete(ctx: PageCtx, template_id: UUID) -> Response:
    template = await service.delete(ctx.session, ctx.settings, template_id)
    toast = Toast(title="Template deleted", description=template.name, undo_url=f"{_LIST}/{template_id}/restore")
    return toast_redirect(ctx.request, _LIST, toast)


@router.post("/templates/{template_id}/restore", **_WRITE)
async def restore(ctx: PageCtx, template_id: UUID) -> Response:
    try:
        async with ctx.session.begin_nested():
            template = await service.restore(ctx.session, ctx.principal, template_id)
    except BrightRunError as error:
        if error.status == 404:
            raise
        toast = Toast(title="It was not restored", description=error.message, category="error")
    else:
        toast = Toast(title="Template restored", description=template.name)
    return toast_redirect(ctx.request, _LIST, toast)


# --- two side by side -----------------------------------------------------------------------------------------------


@router.get("/diff", **_READ)
async def diff_page(ctx: PageCtx, left: Text = "", right: Text = "", every: Text = "") -> Response:
    """left, right: `job:ID` or `template:ID`. every: `all` shows what is equal too."""
    found, fault, status = None, None, 200
    if left and right:
        try:
            found = await diff(ctx.session, ctx.settings, left, right)
        except InvalidInputError as error:
            fault, status = error.message, error.status
    return views.render(
        ctx.request,
        "training/diff.html",
        status=status,
        block="result" if views.is_fragment_request(ctx.request) else None,
        diff=found,
        fault=fault,
        left=left,
        right=right,
        every=every == "all",
        choices=await _choices(ctx, (left, right)),
        written=_written,
    )


async def _choices(ctx: RequestContext, chosen: Sequence[str]) -> list[tuple[str, str]]:
    """Templates and the newest jobs; one that is chosen already is always among them."""
    templates, _total = await service.list_templates(ctx.session, Page(limit=_MOST_CHOICES))
    newest, _total = await jobs.list_jobs(ctx.session, Page(limit=_MOST_CHOICES))
    found = [(f"template:{row.id}", f"Template · {row.name}") for row in templates]
    found += [(f"job:{row.id}", f"Job · {row.name} ({row.status})") for row in newest]
    known = {value for value, _text in found}
    for text in chosen:
        if text.startswith("job:") and text not in known:
            try:
                job = await jobs.get(ctx.session, UUID(text.removeprefix("job:")))
            except (BrightRunError, ValueError):
                continue  # the comparison itself says what is wrong with it
            found.append((text, f"Job · {job.name} ({job.status})"))
    return [("", "Choose…"), *found]


def _written(value: Any) -> str:
    return "—" if value is None else value if isinstance(value, str) else setting_text(value)
