"""JSON routes of datasets."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Header, Path, Query, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel

from brightrun.accounts.context import Ctx, needs
from brightrun.accounts.roles import Permission
from brightrun.datasets import dismissals, issues, records, service, uploads, versions
from brightrun.datasets.schemas import (
    DatasetCreate,
    DatasetData,
    DatasetOut,
    DatasetUpdate,
    DismissalCreate,
    DismissalData,
    DismissalOut,
    DismissalsData,
    FormatName,
    IssueOut,
    PreviewedIssueOut,
    RecordData,
    RepairCreate,
    RepairSelection,
    StatsData,
    UploadData,
    ValidationData,
    VersionsData,
)
from brightrun.datasets.split_view import SplitOut, split_of
from brightrun.datasets.tables import Dataset, DatasetStatus
from brightrun.web.http import Items, Page, PageParams, Success, many, one

MAX_LINE = 2**53


class SplitData(BaseModel):
    split: SplitOut


router = APIRouter(prefix="/api/datasets", tags=["datasets"])

_READ = needs(Permission.DATASETS_READ)
_WRITE = needs(Permission.DATASETS_WRITE)
_REDIRECT: dict[str, Any] = _READ | {
    "status_code": 307,
    "response_class": RedirectResponse,
    "responses": _READ["responses"] | {307: {"description": "To a signed URL that lives one hour"}},
}


def _one(dataset: Dataset) -> Success[DatasetData]:
    return one(DatasetData(dataset=DatasetOut.of(dataset)))


def _to(url: str) -> RedirectResponse:
    return RedirectResponse(url, status_code=307, headers={"Cache-Control": "no-store"})


@router.post("", status_code=201, **_WRITE)
async def create_dataset(ctx: Ctx, body: DatasetCreate) -> Success[UploadData]:
    """Announce a file. Send it to `uploadUrl` in one PUT, or in parts by `multipart`; then confirm."""
    return one(await uploads.create(ctx.session, ctx.platform, ctx.principal, body))


@router.get("", **_READ)
async def list_datasets(
    ctx: Ctx,
    page: PageParams,
    status: DatasetStatus | None = None,
    format: Annotated[FormatName, Query(description="Any spelling of a format's name")] = None,  # noqa: A002
    search: Annotated[str | None, Query(max_length=255, description="Part of the name or of the file's name")] = None,
    sort: Annotated[str, Query(description="created_at, name, file_size, …; `-` in front: descending")] = "-created_at",
    deleted: Annotated[bool, Query(description="The trash instead of the list")] = False,
) -> Success[Items[DatasetOut]]:
    """Datasets of the workspace, newest first. Issues and samples are left out: ask for one dataset to see them."""
    rows, total = await service.list_datasets(
        ctx.session, page, status=status, format=format, search=search, sort=sort, deleted=deleted
    )
    return many([DatasetOut.of(row) for row in rows], total, page)


@router.get("/stats", **_READ)
async def dataset_stats(ctx: Ctx) -> Success[StatsData]:
    """How many datasets by status, and the room they take."""
    return one(StatsData(stats=await service.stats(ctx.session, ctx.settings, ctx.principal.workspace_id)))


@router.get("/{dataset_id}", **_READ)
async def get_dataset(ctx: Ctx, dataset_id: UUID) -> Success[DatasetData]:
    return _one(await service.get(ctx.session, dataset_id))


@router.patch("/{dataset_id}", **_WRITE)
async def update_dataset(ctx: Ctx, dataset_id: UUID, body: DatasetUpdate) -> Success[DatasetData]:
    """Change name or description."""
    return _one(await service.update(ctx.session, dataset_id, body))


@router.delete("/{dataset_id}", **_WRITE)
async def delete_dataset(ctx: Ctx, dataset_id: UUID) -> Success[DatasetData]:
    """Into the trash, from where it can be restored until it is purged. 409 while an active job uses it."""
    return _one(await service.delete(ctx.session, dataset_id))


@router.post("/{dataset_id}/restore", **_WRITE)
async def restore_dataset(ctx: Ctx, dataset_id: UUID) -> Success[DatasetData]:
    """Out of the trash."""
    return _one(await service.restore(ctx.session, dataset_id))


@router.post("/{dataset_id}/confirm", **_WRITE)
async def confirm_dataset(ctx: Ctx, dataset_id: UUID) -> Success[DatasetData]:
    """The file is uploaded: validate it. Repeating is harmless; a ready or faulty dataset is validated again."""
    return _one(await uploads.confirm(ctx.session, ctx.platform, dataset_id))


@router.get("/{dataset_id}/upload", **_WRITE)
async def resume_upload(ctx: Ctx, dataset_id: UUID) -> Success[UploadData]:
    """Fresh upload URLs, and which parts have arrived."""
    return one(await uploads.renew(ctx.session, ctx.platform, dataset_id))


@router.delete("/{dataset_id}/upload", **_WRITE)
async def cancel_upload(ctx: Ctx, dataset_id: UUID) -> Success[DatasetData]:
    """Give the upload up; what has arrived is removed."""
    return _one(await uploads.cancel(ctx.session, ctx.platform, dataset_id))


@router.get("/{dataset_id}/validation", **_READ)
async def get_validation(ctx: Ctx, dataset_id: UUID) -> Success[ValidationData]:
    """The validator's report, as `brightrun validate --json` prints it. 409 while there is none."""
    return one(ValidationData(validation=await issues.full_report(ctx.session, dataset_id)))


@router.get("/{dataset_id}/issues", **_READ)
async def list_issues(
    ctx: Ctx,
    page: PageParams,
    dataset_id: UUID,
    code: Annotated[str | None, Query(max_length=100)] = None,
    severity: Literal["error", "warning", "info"] | None = None,
    line: Annotated[int | None, Query(ge=1)] = None,
    dismissed: Annotated[bool | None, Query(description="Only dismissed ones, or only others; default: all")] = None,
) -> Success[Items[IssueOut]]:
    """All issues, in the order of the file."""
    wanted = issues.IssueFilter(code=code, severity=severity, line=line, dismissed=dismissed)
    found, total = await issues.page_of_issues(ctx.session, ctx.platform, dataset_id, page, wanted)
    return many(found, total, page)


@router.get("/{dataset_id}/issues/download", **_REDIRECT)
async def download_issues(
    ctx: Ctx,
    dataset_id: UUID,
    format: Annotated[  # noqa: A002
        Literal["jsonl", "csv"],
        Query(description="JSON Lines, or CSV for spreadsheets: no cell is a formula"),
    ] = "jsonl",
) -> RedirectResponse:
    """The complete list of issues, in the order of the file."""
    return _to(await issues.list_url(ctx.session, ctx.platform, dataset_id, format))


@router.get("/{dataset_id}/split", **_READ)
async def preview_split(
    ctx: Ctx,
    dataset_id: UUID,
    page: PageParams,
    fraction: Annotated[float, Query(ge=0, le=0.5, description="Share of conversations to hold out")] = 0.1,
    seed: Annotated[int, Query(ge=0, le=2**32 - 1)] = 0,
) -> Success[SplitData]:
    """Which conversations a training job would hold out, and how both sides are made up. Nothing is stored."""
    split = await split_of(ctx.session, ctx.platform, dataset_id, fraction=fraction, seed=seed, page=page)
    return one(SplitData(split=split))


@router.get("/{dataset_id}/dismissals", **_READ)
async def list_dismissals(ctx: Ctx, dataset_id: UUID) -> Success[DismissalsData]:
    """Warnings that were dismissed, newest first."""
    await service.get(ctx.session, dataset_id, large=False)
    return one(_dismissals((await dismissals.of_dataset(ctx.session, dataset_id)).rows))


@router.post("/{dataset_id}/dismissals", status_code=201, **_WRITE)
async def dismiss_warning(ctx: Ctx, dataset_id: UUID, body: DismissalCreate) -> Success[DismissalsData]:
    """Let a warning or note stand, with the reason. It no longer counts; errors cannot be dismissed."""
    found = None
    if body.line is not None:
        at = await issues.issues_at(ctx.session, ctx.platform, dataset_id, body.line)
        found = [issue for issue in at if issue.code == body.code and body.path in {None, issue.path}]
    user = ctx.principal.user_id
    made = await dismissals.dismiss(ctx.session, dataset_id, body.code, body.reason, found, user)
    rows = (await dismissals.of_dataset(ctx.session, dataset_id)).rows
    return one(_dismissals([row for row in rows if row.id in made]))


@router.delete("/{dataset_id}/dismissals/{dismissal_id}", **_WRITE)
async def take_dismissal_back(ctx: Ctx, dataset_id: UUID, dismissal_id: UUID) -> Success[DismissalData]:
    """The warning counts again. The audit log keeps that it was dismissed, by whom and why."""
    row = await dismissals.take_back(ctx.session, dataset_id, dismissal_id)
    return one(DismissalData(dismissal=DismissalOut.model_validate(row, from_attributes=True)))


def _dismissals(rows: Sequence[dismissals.Dismissed]) -> DismissalsData:
    return DismissalsData(dismissals=[DismissalOut.model_validate(row, from_attributes=True) for row in rows])


@router.get("/{dataset_id}/records/{line}", **_READ)
async def get_record(
    ctx: Ctx,
    dataset_id: UUID,
    line: Annotated[int, Path(ge=1, le=MAX_LINE, description="As in issues: line, or number of record or pair")],
) -> Success[RecordData]:
    """One record of the file: its text, what was read from it, and its issues. Quick in files of any size."""
    found = await records.read_record(ctx.session, ctx.platform, dataset_id, line)
    wanted = issues.IssueFilter(line=line)
    listed, total = await issues.page_of_issues(ctx.session, ctx.platform, dataset_id, Page(limit=100), wanted)
    return one(RecordData(record=records.as_answer(found, listed, total)))


_CREATE: dict[str, Any] = _WRITE | {
    "responses": _WRITE["responses"]
    | {200: {"model": Success[DatasetData], "description": "The version that this Idempotency-Key has made before"}}
}


@router.post("/{dataset_id}/repair/preview", **_READ)
async def preview_repair(
    ctx: Ctx, page: PageParams, dataset_id: UUID, body: RepairSelection
) -> Success[Items[PreviewedIssueOut]]:
    """Before and after of what would be mended, finding by finding. Nothing is changed."""
    found, total = await versions.preview_repair(ctx.session, ctx.platform, dataset_id, body, page)
    return many([_previewed(one) for one in found], total, page)


@router.post("/{dataset_id}/repair", status_code=201, **_CREATE)
async def repair_dataset(
    ctx: Ctx,
    dataset_id: UUID,
    body: RepairCreate,
    response: Response,
    idempotency_key: Annotated[
        str | None, Header(alias="Idempotency-Key", description="Repeating a request with it makes nothing twice")
    ] = None,
) -> Success[DatasetData]:
    """Mend into a new version, which is validated like any upload; this dataset stays as it is. Nothing but a name
    given: everything that can be mended. A repeated Idempotency-Key answers 200 with the first version."""
    dataset, new = await versions.create_version(
        ctx.session, ctx.platform, ctx.principal, dataset_id, body, idempotency_key=idempotency_key
    )
    if not new:
        response.status_code = 200
    return _one(dataset)


@router.get("/{dataset_id}/versions", **_READ)
async def list_versions(ctx: Ctx, dataset_id: UUID) -> Success[VersionsData]:
    """All versions of a dataset, the first first."""
    rows = await versions.list_versions(ctx.session, dataset_id)
    return one(VersionsData(versions=[DatasetOut.of(row) for row in rows]))


@router.get("/{dataset_id}/changes/download", **_REDIRECT)
async def download_changes(ctx: Ctx, dataset_id: UUID) -> RedirectResponse:
    """Every change that made this version from the one before, JSON Lines."""
    return _to(await versions.change_log_url(ctx.session, ctx.platform, dataset_id))


def _previewed(found: versions.Previewed) -> PreviewedIssueOut:
    issue, change = found.issue, found.change
    return PreviewedIssueOut(
        line=issue.line,
        path=issue.path,
        code=issue.code,
        message=issue.message,
        before=change and change.before,
        after=change and change.after,
    )


@router.get("/{dataset_id}/download", **_REDIRECT)
async def download_dataset(ctx: Ctx, dataset_id: UUID) -> RedirectResponse:
    """The file as it was uploaded."""
    return _to(await uploads.download_url(ctx.session, ctx.platform, dataset_id))
