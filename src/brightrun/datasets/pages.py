"""Pages of datasets: the list, the trash, uploading, and one dataset with what the validator found in it."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from brightrun.accounts import repository as accounts
from brightrun.accounts.context import PageCtx, RequestContext, page_needs
from brightrun.accounts.roles import Permission
from brightrun.datasets import dismissals, issues, presentation, service, uploads, versions
from brightrun.datasets.schemas import DatasetUpdate, IssueOut
from brightrun.datasets.tables import Dataset, DatasetStatus
from brightrun.errors import BrightRunError, InvalidInputError
from brightrun.formats.codes import CODES
from brightrun.formats.names import FORMAT_IDS
from brightrun.web import forms, views
from brightrun.web.http import Page
from brightrun.web.toasts import Toast, toast_redirect

router = APIRouter(prefix="/datasets", include_in_schema=False)

_READ = page_needs(Permission.DATASETS_READ)
_WRITE = page_needs(Permission.DATASETS_WRITE)
_PAGE_SIZE = 12
_ISSUES_A_PAGE = 25
_SORTS = [
    ("", "Newest first"),
    ("created_at", "Oldest first"),
    ("name", "Name, A to Z"),
    ("-name", "Name, Z to A"),
    ("-total_training_pairs", "Most training pairs"),
    ("-file_size", "Largest file"),
    ("-validated_at", "Last checked"),
]

PageNumber = Annotated[int, Query(ge=1, le=1_000_000)]
Text = Annotated[str, Query(max_length=255)]


def _rights(ctx: RequestContext) -> dict[str, bool]:
    permissions = ctx.principal.permissions
    return {"can_write": Permission.DATASETS_WRITE in permissions, "can_train": Permission.JOBS_WRITE in permissions}


def _render(
    ctx: RequestContext, template: str, *, block: str | None = None, status: int = 200, **values: Any
) -> Response:
    return views.render(
        ctx.request,
        f"datasets/{template}.html",
        block=block,
        status=status,
        show=presentation,
        **_rights(ctx),
        **values,
    )


# --- the list, and the trash ----------------------------------------------------------------------------------------


@router.get("", **_READ)
async def list_page(
    ctx: PageCtx,
    search: Text = "",
    status: Text = "",
    format: Text = "",  # noqa: A002 - the field's word
    sort: Text = "",
    page: PageNumber = 1,
) -> Response:
    """What the search and filters find. A filter that does not exist is told in the list's place, with a way out."""
    wanted = {"search": search, "status": status, "format": format, "sort": sort}
    values: dict[str, Any] = {"fault": None, "items": [], "total": 0, "page_number": page, "limit": _PAGE_SIZE}
    try:
        _require_known(wanted)
        values["items"], values["total"] = await service.list_datasets(
            ctx.session,
            Page(page=page, limit=_PAGE_SIZE),
            status=DatasetStatus(status) if status else None,
            format=format or None,
            search=search.strip() or None,
            sort=sort or "-created_at",
        )
    except InvalidInputError as error:
        values["fault"] = error.message
    return _render(
        ctx,
        "list",
        block="list" if views.is_fragment_request(ctx.request) else None,
        status=400 if values["fault"] else 200,
        stats=await service.stats(ctx.session, ctx.settings, ctx.principal.workspace_id),
        sorts=_SORTS,
        filtered=bool(search.strip() or status or format),
        chosen=wanted,
        **values,
    )


def _require_known(wanted: dict[str, str]) -> None:
    if wanted["status"] and wanted["status"] not in set(DatasetStatus):
        raise InvalidInputError(f"No dataset is ever {wanted['status']!r}. States: {', '.join(DatasetStatus)}")
    if wanted["format"] and wanted["format"] not in FORMAT_IDS:
        raise InvalidInputError(f"There is no format {wanted['format']!r}. Formats: {', '.join(FORMAT_IDS)}")


@router.get("/counts", **_READ)
async def counts(ctx: PageCtx) -> Response:
    """The live strip of totals above the list."""
    stats = await service.stats(ctx.session, ctx.settings, ctx.principal.workspace_id)
    return _render(ctx, "list", block="counts", stats=stats)


@router.get("/trash", **_READ)
async def trash_page(ctx: PageCtx, page: PageNumber = 1) -> Response:
    """Deleted datasets, until they are purged."""
    items, total = await service.list_datasets(
        ctx.session, Page(page=page, limit=_ISSUES_A_PAGE), sort="-updated_at", deleted=True
    )
    return _render(
        ctx,
        "trash",
        block="list" if views.is_fragment_request(ctx.request) else None,
        items=items,
        total=total,
        page_number=page,
        limit=_ISSUES_A_PAGE,
        keep_days=ctx.settings.deleted_retention_days,
    )


@router.get("/new", **_WRITE)
async def upload_page(ctx: PageCtx) -> Response:
    stats = await service.stats(ctx.session, ctx.settings, ctx.principal.workspace_id)
    return _render(ctx, "new", stats=stats, max_bytes=ctx.settings.max_upload_bytes)


# --- one dataset ----------------------------------------------------------------------------------------------------


@router.get("/{dataset_id}", **_READ)
async def detail_page(
    ctx: PageCtx,
    dataset_id: UUID,
    severity: Text = "",
    code: Text = "",
    line: Text = "",
    dismissed: Text = "",
    page: PageNumber = 1,
    sample: Annotated[int, Query(ge=1, le=3)] = 1,
) -> Response:
    """Also of a dataset in the trash, which then says so: links to it stay good until it is purged."""
    dataset = await service.get(ctx.session, dataset_id, deleted=True)
    groups = presentation.issue_groups(dataset.issue_counts)
    found: list[IssueOut] = []
    total = 0
    fault: str | None = None
    known = await dismissals.of_dataset(ctx.session, dataset_id)
    let_be: dict[str, int] = {}
    mendable, mendable_total = versions.mendable_counts(dataset), versions.mendable_total(dataset)
    severity = severity if severity in presentation.SEVERITIES else ""
    code = code if code in CODES else ""
    if dataset.deleted_at is None and dataset.report is not None and groups:
        wanted = issues.IssueFilter(
            code=code or None,
            severity=severity or None,
            line=_line_number(line),
            dismissed={"yes": True, "no": False}.get(dismissed),
        )
        try:
            let_be = await issues.dismissed_counts(ctx.platform, dataset, known)
            mendable = await versions.to_mend(ctx.session, ctx.platform, dataset)
            mendable_total = await versions.to_mend_total(ctx.session, ctx.platform, dataset)
            found, total = await issues.page_of_issues(
                ctx.session, ctx.platform, dataset_id, Page(page=page, limit=_ISSUES_A_PAGE), wanted
            )
        except issues.ListIsOldError as error:
            fault = error.message
    return _render(
        ctx,
        "detail",
        block="body" if views.is_fragment_request(ctx.request) else None,
        dataset=dataset,
        uploader=await _name_of(ctx, dataset),
        groups=groups,
        mendable=mendable,
        mendable_total=mendable_total,
        versions=await versions.versions_of(ctx.session, dataset),
        issues=found,
        issues_total=total,
        severity=severity,
        code=code,
        line_text=line,
        dismissed_shown=dismissed if dismissed in {"yes", "no"} else "",
        dismissed=known,
        dismissed_counts=let_be,
        list_fault=fault,
        page_number=page,
        limit=_ISSUES_A_PAGE,
        sample=sample,
        keep_days=ctx.settings.deleted_retention_days,
        upload_hours=ctx.settings.unconfirmed_upload_hours,
    )


def _line_number(text: str) -> int | None:
    """What somebody types into the search by line; 0, which no line has, for what is no number."""
    text = text.strip().replace(",", "")
    if not text:
        return None
    return min(int(text), 2**53) if text.isdecimal() and text.isascii() else 0


async def _name_of(ctx: RequestContext, dataset: Dataset) -> str | None:
    """Who uploaded it; None for someone who has left the workspace."""
    user = await accounts.get_user(ctx.session, dataset.created_by) if dataset.created_by else None
    return (user.name or user.email) if user else None


@router.get("/{dataset_id}/download", **_READ)
async def download(ctx: PageCtx, dataset_id: UUID) -> Response:
    """The file as it was uploaded."""
    return _to(await uploads.download_url(ctx.session, ctx.platform, dataset_id))


@router.get("/{dataset_id}/issues/download", **_READ)
async def download_issues(
    ctx: PageCtx,
    dataset_id: UUID,
    format: Literal["jsonl", "csv"] = "jsonl",  # noqa: A002
) -> Response:
    """The complete list of findings."""
    return _to(await issues.list_url(ctx.session, ctx.platform, dataset_id, format))


def _to(url: str) -> Response:
    return RedirectResponse(url, status_code=307, headers={"Cache-Control": "no-store"})


# --- changes --------------------------------------------------------------------------------------------------------


@router.get("/{dataset_id}/edit", **_WRITE)
async def edit_page(ctx: PageCtx, dataset_id: UUID) -> Response:
    dataset = await service.get(ctx.session, dataset_id, large=False)
    return _edit(ctx, dataset, name=dataset.name, description=dataset.description or "")


def _edit(ctx: RequestContext, dataset: Dataset, *, status: int = 200, **values: Any) -> Response:
    values.setdefault("errors", {})
    return _render(ctx, "edit", status=status, dataset=dataset, **values)


@router.post("/{dataset_id}/edit", **_WRITE)
async def edit(
    ctx: PageCtx, dataset_id: UUID, name: Annotated[str, Form()] = "", description: Annotated[str, Form()] = ""
) -> Response:
    try:
        changes = forms.parse(DatasetUpdate, {"name": name, "description": description or None})
    except InvalidInputError as error:
        dataset = await service.get(ctx.session, dataset_id, large=False)
        return _edit(
            ctx, dataset, status=error.status, name=name, description=description, errors=forms.problems(error)
        )
    dataset = await service.update(ctx.session, dataset_id, changes)
    return toast_redirect(ctx.request, f"/datasets/{dataset_id}", Toast(title="Saved", description=dataset.name))


@router.post("/{dataset_id}/validate", **_WRITE)
async def validate_again(ctx: PageCtx, dataset_id: UUID) -> Response:
    try:
        await uploads.confirm(ctx.session, ctx.platform, dataset_id)
    except BrightRunError as error:
        return _refused(ctx.request, f"/datasets/{dataset_id}", "It could not be checked", error)
    return RedirectResponse(f"/datasets/{dataset_id}", status_code=303)


@router.get("/{dataset_id}/delete", **_WRITE)
async def delete_page(ctx: PageCtx, dataset_id: UUID) -> Response:
    """The question on a page of its own, for browsers without scripts."""
    dataset = await service.get(ctx.session, dataset_id, large=False)
    return _render(ctx, "delete", dataset=dataset, keep_days=ctx.settings.deleted_retention_days)


@router.post("/{dataset_id}/delete", **_WRITE)
async def delete(ctx: PageCtx, dataset_id: UUID) -> Response:
    try:
        dataset = await service.delete(ctx.session, dataset_id)
    except BrightRunError as error:
        return _refused(ctx.request, f"/datasets/{dataset_id}", "It was not deleted", error)
    done = Toast(
        title="Dataset deleted",
        description=f"{dataset.name} is in the trash.",
        undo_url=f"/datasets/{dataset_id}/restore",
    )
    return toast_redirect(ctx.request, "/datasets", done)


@router.post("/{dataset_id}/restore", **_WRITE)
async def restore(ctx: PageCtx, dataset_id: UUID) -> Response:
    try:
        dataset = await service.restore(ctx.session, dataset_id)
    except BrightRunError as error:
        return _refused(ctx.request, "/datasets/trash", "It cannot be restored", error)
    done = Toast(title="Dataset restored", description=dataset.name)
    return toast_redirect(ctx.request, f"/datasets/{dataset_id}", done)


@router.post("/{dataset_id}/cancel-upload", **_WRITE)
async def cancel_upload(ctx: PageCtx, dataset_id: UUID) -> Response:
    try:
        dataset = await uploads.cancel(ctx.session, ctx.platform, dataset_id)
    except BrightRunError as error:
        return _refused(ctx.request, f"/datasets/{dataset_id}", "The upload was not cancelled", error)
    done = Toast(title="Upload cancelled", description=f"What had arrived of {dataset.file_name} was removed.")
    return toast_redirect(ctx.request, "/datasets", done)


def _refused(request: Request, url: str, title: str, error: BrightRunError) -> Response:
    """Back to where one came from, with the reason. What is not there at all gets the error page instead."""
    if error.status == 404:
        raise error
    return toast_redirect(request, url, Toast(title=title, description=error.message, category="error"))
