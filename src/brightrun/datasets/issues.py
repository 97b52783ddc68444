"""Reading the issues of a dataset: one page of the complete list, which is in the object store."""

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.datasets.schemas import IssueOut
from brightrun.datasets.service import get
from brightrun.datasets.tables import Dataset, DatasetStatus
from brightrun.errors import ConflictError, NotFoundError
from brightrun.formats.codes import CODES
from brightrun.formats.issues import Issue
from brightrun.platform import Platform
from brightrun.storage import Bucket, ObjectStore
from brightrun.web.http import Page


@dataclass(frozen=True)
class IssueFilter:
    """Which issues; None means any."""

    code: str | None = None
    severity: str | None = None
    line: int | None = None

    def takes(self, issue: Issue) -> bool:
        return (
            self.code in {None, issue.code}
            and self.severity in {None, issue.severity}
            and self.line in {None, issue.line}
        )

    def total(self, counts: dict[str, int]) -> int | None:
        """How many there are, from the counts by code alone; None when that takes reading the list."""
        if self.line is not None:
            return None
        return sum(
            number
            for code, number in counts.items()
            if self.code in {None, code} and (self.severity is None or CODES[code].severity == self.severity)
        )


async def page_of_issues(
    session: AsyncSession, platform: Platform, dataset_id: UUID, page: Page, wanted: IssueFilter
) -> tuple[list[IssueOut], int]:
    """One page, in the order of the file, and how many issues there are in all that fit."""
    dataset = await get(session, dataset_id)
    report = validated(dataset)
    if not report["issues_truncated"]:
        kept = [issue for raw in report["issues"] if wanted.takes(issue := msgspec.convert(raw, Issue))]
        return [_out(issue) for issue in kept[page.offset : page.offset + page.limit]], len(kept)
    assert dataset.issues_path is not None
    known = wanted.total(dataset.issue_counts or {})
    if known == 0:
        return [], 0
    issues, seen = await asyncio.to_thread(
        _read_page,
        platform.store,
        Bucket(dataset.storage_bucket),
        dataset.issues_path,
        wanted,
        page,
        count_all=known is None,
    )
    return [_out(issue) for issue in issues], seen if known is None else known


def _read_page(
    store: ObjectStore, bucket: Bucket, path: str, wanted: IssueFilter, page: Page, *, count_all: bool
) -> tuple[list[Issue], int]:
    """Blocking. The page, and how many that fit were passed on the way (all of them with `count_all`)."""
    decoder = msgspec.json.Decoder(Issue)
    found: list[Issue] = []
    seen = 0
    with store.open_read(bucket, path) as stream:
        for line in stream:
            issue = decoder.decode(line)
            if not wanted.takes(issue):
                continue
            if page.offset <= seen < page.offset + page.limit:
                found.append(issue)
            seen += 1
            if len(found) == page.limit and not count_all:
                break
    return found, seen


def _out(issue: Issue) -> IssueOut:
    return IssueOut.model_validate(msgspec.to_builtins(issue))


def validated(dataset: Dataset) -> dict[str, Any]:
    """The stored report. ConflictError while there is none."""
    if dataset.report is not None:
        return dataset.report
    if dataset.status == DatasetStatus.ERROR:
        raise ConflictError(
            f"There is no validation report: {dataset.error_message}",
            code="not_validated",
            details={"error_code": dataset.error_code},
        )
    raise ConflictError(f"The dataset is {dataset.status}; there is no validation report yet.", code="not_validated")


async def full_report(session: AsyncSession, dataset_id: UUID) -> dict[str, Any]:
    """The report as `brightrun validate --json` prints it: counts are complete, `issues` holds the first 1,000."""
    dataset = await get(session, dataset_id)
    return validated(dataset) | {"sample_data": dataset.sample_data}


async def list_url(session: AsyncSession, platform: Platform, dataset_id: UUID) -> str:
    """Signed URL of the complete list, JSON Lines. NotFoundError when the validator found nothing to say."""
    dataset = await get(session, dataset_id)
    validated(dataset)
    if dataset.issues_path is None:
        raise NotFoundError("The validator found nothing to say about this dataset", code="no_issues")
    return platform.store.presign_get(
        Bucket(dataset.storage_bucket),
        dataset.issues_path,
        expires_s=platform.settings.signed_url_s,
        filename=f"{dataset.name} issues.jsonl",
    )
