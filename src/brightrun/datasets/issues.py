"""Reading the issues of a dataset: one page of the complete list, which is in the object store."""

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.datasets.issue_list import IssueIndex
from brightrun.datasets.schemas import IssueOut
from brightrun.datasets.service import get
from brightrun.datasets.tables import Dataset, DatasetStatus
from brightrun.datasets.validation_run import beside
from brightrun.errors import ConflictError, NotFoundError
from brightrun.formats.codes import CODES
from brightrun.formats.issues import Issue
from brightrun.platform import Platform
from brightrun.storage import Bucket, ObjectStore
from brightrun.storage.errors import ObjectNotFoundError
from brightrun.web.http import Page


@dataclass(frozen=True)
class IssueFilter:
    """Which issues; None means any."""

    code: str | None = None
    severity: str | None = None
    line: int | None = None

    def takes_code(self, code: str) -> bool:
        return self.code in {None, code} and self.severity in {None, CODES[code].severity}

    def takes(self, issue: Issue) -> bool:
        return self.takes_code(issue.code) and self.line in {None, issue.line}


class ListIsOldError(ConflictError):
    """Lists of the first release have no index."""

    def __init__(self) -> None:
        super().__init__(
            "The complete list of this dataset was written by an older version. Validate the dataset again to see it.",
            code="list_outdated",
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
    bucket, path = Bucket(dataset.storage_bucket), dataset.issues_path
    issues, total = await asyncio.to_thread(lambda: StoredList(platform.store, bucket, path).page(wanted, page))
    return [_out(issue) for issue in issues], total


class StoredList:
    """The complete list in the object store. Everything blocks.

    Raises ListIsOldError for one without an index.
    """

    def __init__(self, store: ObjectStore, bucket: Bucket, path: str) -> None:
        self._read_list = partial(_read_range, store, bucket, path)
        try:
            self._index = IssueIndex(partial(_read_range, store, bucket, beside(path, ".index")), self._read_list)
        except ObjectNotFoundError as error:
            raise ListIsOldError from error

    def page(self, wanted: IssueFilter, page: Page) -> tuple[list[Issue], int]:
        """The page, and how many there are in all that fit."""
        if wanted.line is not None:
            found = [issue for issue in self._index.of_line(wanted.line) if wanted.takes(issue)]
            return found[page.offset : page.offset + page.limit], len(found)
        codes = {code for code in self._index.codes if wanted.takes_code(code)}
        total = sum(self._index.codes[code] for code in codes)
        return self._index.page(codes, page.offset, page.limit), total


def _read_range(store: ObjectStore, bucket: Bucket, path: str, offset: int, length: int) -> bytes:
    return store.read_bytes(bucket, path, offset=offset, length=length)


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


async def list_url(
    session: AsyncSession, platform: Platform, dataset_id: UUID, kind: Literal["jsonl", "csv"] = "jsonl"
) -> str:
    """Signed URL of the complete list. NotFoundError when the validator found nothing to say."""
    dataset = await get(session, dataset_id)
    validated(dataset)
    if dataset.issues_path is None:
        raise NotFoundError("The validator found nothing to say about this dataset", code="no_issues")
    bucket, path = Bucket(dataset.storage_bucket), beside(dataset.issues_path, f".{kind}")
    if kind == "csv":
        try:
            await asyncio.to_thread(platform.store.head, bucket, path)
        except ObjectNotFoundError as error:
            raise ListIsOldError from error
    return platform.store.presign_get(
        bucket, path, expires_s=platform.settings.signed_url_s, filename=f"{dataset.name} issues.{kind}"
    )
