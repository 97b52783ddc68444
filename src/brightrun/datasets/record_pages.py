"""Pages about single places of a dataset: one record with what was found in it, and dismissing a warning."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Form, Path, Query, Response

from brightrun.accounts.context import PageCtx, RequestContext, page_needs
from brightrun.accounts.roles import Permission
from brightrun.datasets import dismissals, issues, presentation, record_view, records, service, versions
from brightrun.datasets.schemas import DismissalCreate
from brightrun.datasets.split_view import SplitOut, split_of
from brightrun.errors import BrightRunError, ConflictError, InvalidInputError, NotFoundError
from brightrun.formats.codes import CODES
from brightrun.formats.issues import Issue
from brightrun.formats.records import Message, Record
from brightrun.web import forms, views
from brightrun.web.http import Page
from brightrun.web.toasts import Toast, toast_redirect

router = APIRouter(prefix="/datasets", include_in_schema=False)

_READ = page_needs(Permission.DATASETS_READ)
_WRITE = page_needs(Permission.DATASETS_WRITE)
_SHOWN_ISSUES = 50
_SHOWN_MESSAGES = 100
_SHOWN_CHARACTERS = 4_000

LineNumber = Annotated[int, Path(ge=1, le=2**53)]
Text = Annotated[str, Query(max_length=400)]


def _render(ctx: RequestContext, template: str, *, status: int = 200, **values: Any) -> Response:
    can_write = Permission.DATASETS_WRITE in ctx.principal.permissions
    return views.render(
        ctx.request, f"datasets/{template}.html", status=status, show=presentation, can_write=can_write, **values
    )


# --- one record -----------------------------------------------------------------------------------------------------


@router.get("/{dataset_id}/records/{line}", **_READ)
async def record_page(
    ctx: PageCtx, dataset_id: UUID, line: LineNumber, code: Text = "", severity: Text = "", path: Text = ""
) -> Response:
    """The record as it stands in the file, as a model reads it, and its findings; from one finding to the next.

    code, severity: which findings lead on. path: the field to look at first.
    """
    dataset = await service.get(ctx.session, dataset_id)
    code = code if code in CODES else ""
    severity = severity if severity in presentation.SEVERITIES else ""
    wanted = issues.IssueFilter(code=code or None, severity=severity or None)
    before, after = await issues.neighbours(ctx.session, ctx.platform, dataset_id, line, wanted)
    here = issues.IssueFilter(line=line)
    found, total = await issues.page_of_issues(ctx.session, ctx.platform, dataset_id, Page(limit=_SHOWN_ISSUES), here)
    record: records.StoredRecord | None = None
    fault: BrightRunError | None = None
    try:
        record = await records.read_record(ctx.session, ctx.platform, dataset_id, line)
    except BrightRunError as error:
        if isinstance(error, NotFoundError) and not found:
            raise
        fault = error
    return _render(
        ctx,
        "record",
        dataset=dataset,
        line=line,
        unit=presentation.unit_of(record.layout) if record else "line",
        before=before,
        after=after,
        code=code,
        severity=severity,
        path=path,
        issues=found,
        issues_total=total,
        mendable=versions.mendable_counts(dataset),
        record=record,
        fault=fault,
        chats=[_chat(read) for read in record.records[:3]] if record else [],
        **_picture(record, await issues.issues_at(ctx.session, ctx.platform, dataset_id, line), path),
    )


def _picture(record: records.StoredRecord | None, found: list[Issue], path: str) -> dict[str, Any]:
    """The record's JSON as lines, or its text around where it breaks."""
    if record is None or record.data is None:
        return {"lines": [], "whole": False, "around": None}
    if record.value is None:
        return {"lines": [], "whole": False, "around": record_view.around(record, found)}
    paths = [path] if path else [issue.path for issue in found if issue.path]
    within = (record.prefix.sub("", one, count=1) for one in paths)
    places = {place for one in within if (place := record_view.place_of(one, record.value))}
    lines, whole = record_view.lines_of(record.value, places)
    return {"lines": lines, "whole": whole, "around": None}


def _chat(record: Record) -> dict[str, Any]:
    sides = {"messages": record.messages, "chosen": record.chosen, "rejected": record.rejected}
    return {
        "kind": record.kind,
        "label": record.label,
        "total": len(record.messages),
        **{name: [_message(one) for one in side[:_SHOWN_MESSAGES]] if side else None for name, side in sides.items()},
    }


def _message(message: Message) -> dict[str, Any]:
    return {
        "role": message.role,
        "content": message.content[:_SHOWN_CHARACTERS],
        "truncated": len(message.content) > _SHOWN_CHARACTERS,
        "trained": message.trained,
        "tool_calls": str(message.tool_calls)[:_SHOWN_CHARACTERS] if message.tool_calls else None,
    }


# --- the split ------------------------------------------------------------------------------------------------------

_FRACTIONS = ("0.05", "0.1", "0.15", "0.2", "0.25", "0.3", "0.4", "0.5")


@router.get("/{dataset_id}/split", **_READ)
async def split_page(
    ctx: PageCtx,
    dataset_id: UUID,
    fraction: Annotated[float, Query(ge=0, le=0.5)] = 0.1,
    seed: Annotated[int, Query(ge=0, le=2**32 - 1)] = 0,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
) -> Response:
    """Which conversations a training job would hold out."""
    dataset = await service.get(ctx.session, dataset_id)
    split: SplitOut | None = None
    fault: str | None = None
    try:
        split = await split_of(
            ctx.session, ctx.platform, dataset_id, fraction=fraction, seed=seed, page=Page(page=page, limit=25)
        )
    except ConflictError as error:
        fault = error.message
    text = f"{fraction:g}"
    return _render(
        ctx,
        "split",
        dataset=dataset,
        split=split,
        fault=fault,
        fraction_text=text,
        fractions=[(value, f"{float(value):.0%} held out") for value in sorted({*_FRACTIONS, text}, key=float)],
        seed=seed,
        seeds=[(str(value), f"Seed {value}") for value in sorted({*range(5), 42, seed})],
    )


# --- dismissing -----------------------------------------------------------------------------------------------------


@router.get("/{dataset_id}/dismiss", **_WRITE)
async def dismiss_page(
    ctx: PageCtx,
    dataset_id: UUID,
    code: Annotated[str, Query(max_length=100)],
    line: Annotated[int | None, Query(ge=1, le=2**53)] = None,
    path: Text | None = None,
) -> Response:
    """Asks for the reason."""
    return await _dismiss(ctx, dataset_id, code, line, path)


async def _dismiss(
    ctx: RequestContext,
    dataset_id: UUID,
    code: str,
    line: int | None,
    path: str | None,
    *,
    reason: str = "",
    problems: dict[str, list[str]] | None = None,
    status: int = 200,
) -> Response:
    dataset = await service.get(ctx.session, dataset_id)
    number = (dataset.issue_counts or {}).get(code, 0)
    found = [] if line is None else await _at(ctx, dataset_id, code, line, path)
    if not number or code not in CODES or CODES[code].severity == "error" or (line is not None and not found):
        raise NotFoundError("There is no such warning in this dataset")
    return _render(
        ctx,
        "dismiss",
        status=status,
        dataset=dataset,
        code=code,
        entry=CODES[code],
        line=line,
        path=path,
        number=number,
        issue=found[0] if found else None,
        reason=reason,
        errors=problems or {},
    )


async def _at(ctx: RequestContext, dataset_id: UUID, code: str, line: int, path: str | None) -> list[Issue]:
    at = await issues.issues_at(ctx.session, ctx.platform, dataset_id, line)
    return [issue for issue in at if issue.code == code and path in {None, issue.path}]


@router.post("/{dataset_id}/dismiss", **_WRITE)
async def dismiss(
    ctx: PageCtx,
    dataset_id: UUID,
    code: Annotated[str, Form(max_length=100)],
    line: Annotated[int | None, Form(ge=1, le=2**53)] = None,
    path: Annotated[str | None, Form(max_length=400)] = None,
    reason: Annotated[str, Form()] = "",
) -> Response:
    try:
        body = forms.parse(DismissalCreate, {"code": code, "line": line, "path": path, "reason": reason})
    except InvalidInputError as error:
        problems = forms.problems(error)
        return await _dismiss(ctx, dataset_id, code, line, path, reason=reason, problems=problems, status=error.status)
    found = None if line is None else await _at(ctx, dataset_id, code, line, path)
    try:
        made = await dismissals.dismiss(ctx.session, dataset_id, code, body.reason, found, ctx.principal.user_id)
    except BrightRunError as error:
        if error.status == 404:
            raise
        told = Toast(title="It was not dismissed", description=error.message, category="error")
        return toast_redirect(ctx.request, f"/datasets/{dataset_id}", told)
    done = Toast(
        title="Warning dismissed" if line is not None else "All of this kind dismissed",
        description="It stays in the list, struck out, with your reason.",
        undo_url=f"/datasets/{dataset_id}/dismissals/{made[0]}/take-back" if len(made) == 1 else None,
    )
    return toast_redirect(ctx.request, f"/datasets/{dataset_id}#issues", done)


@router.post("/{dataset_id}/dismissals/{dismissal_id}/take-back", **_WRITE)
async def take_back(ctx: PageCtx, dataset_id: UUID, dismissal_id: UUID) -> Response:
    row = await dismissals.take_back(ctx.session, dataset_id, dismissal_id)
    done = Toast(title="Taken back", description=f"{CODES[row.code].title} counts again.")
    return toast_redirect(ctx.request, f"/datasets/{dataset_id}#issues", done)
