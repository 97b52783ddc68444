"""Reading the issues of a dataset: one page of the complete list, which is in the object store."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.datasets import dismissals
from brightrun.datasets.dismissals import Dismissals, Dismissed
from brightrun.datasets.issue_list import IssueIndex
from brightrun.datasets.schemas import DismissalOut, IssueOut
from brightrun.datasets.service import get
from brightrun.datasets.tables import Dataset, DatasetStatus
from brightrun.datasets.validation_run import beside
from brightrun.errors import ConflictError, InvalidInputError, NotFoundError
from brightrun.formats.codes import CODES
from brightrun.formats.issues import Issue
from brightrun.platform import Platform
from brightrun.storage import Bucket, ObjectStore
from brightrun.storage.errors import ObjectNotFoundError
from brightrun.web.http import Page

T = TypeVar("T")


@dataclass(frozen=True)
class IssueFilter:
    """Which issues; None means any. dismissed: only those that are, or only those that are not."""

    code: str | None = None
    severity: str | None = None
    line: int | None = None
    dismissed: bool | None = None

    def takes_code(self, code: str) -> bool:
        return self.code in {None, code} and self.severity in {None, CODES[code].severity}

    def takes(self, issue: Issue, known: Dismissals) -> bool:
        return (
            self.takes_code(issue.code)
            and self.line in {None, issue.line}
            and (self.dismissed is None or self.dismissed == (known.of(issue) is not None))
        )


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
    if wanted.code is not None and wanted.code not in CODES:
        raise InvalidInputError(
            f"There is no kind of finding called {wanted.code!r}",
            code="validation_error",
            details={"code": [f"one of {', '.join(sorted(CODES))}"]},
        )
    known = await dismissals.of_dataset(session, dataset_id)
    issues, total = await _over(platform, dataset, lambda found: found.page(wanted, page, known))
    return [_out(issue, known.of(issue)) for issue in issues], total


async def issues_at(session: AsyncSession, platform: Platform, dataset_id: UUID, line: int) -> list[Issue]:
    """All of one line."""
    dataset = await get(session, dataset_id)
    return await _over(platform, dataset, lambda found: found.at(line))


async def neighbours(
    session: AsyncSession, platform: Platform, dataset_id: UUID, line: int, wanted: IssueFilter
) -> tuple[int | None, int | None]:
    """The nearest lines before and after this one that have issues of the wanted code or severity."""
    dataset = await get(session, dataset_id)
    return await _over(platform, dataset, lambda found: found.neighbours(line, wanted))


async def dismissed_counts(platform: Platform, dataset: Dataset, known: Dismissals) -> dict[str, int]:
    """{code: how many of its issues are dismissed}, without zeros. Counts what is found now, not what was dismissed."""
    if not known.rows:
        return {}
    return await _over(platform, dataset, lambda found: found.dismissed(known))


async def _over(platform: Platform, dataset: Dataset, ask: "Callable[[KeptList | StoredList], T]") -> T:
    """`ask` the list of a validated dataset: the one in the row when that is complete, else the stored one."""
    report = validated(dataset)
    if not report["issues_truncated"]:
        return ask(KeptList([msgspec.convert(raw, Issue) for raw in report["issues"]]))
    bucket, path = Bucket(dataset.storage_bucket), dataset.issues_path
    assert path is not None
    return await asyncio.to_thread(lambda: ask(StoredList(platform.store, bucket, path)))


class KeptList:
    """A list that is short enough to be in the row."""

    def __init__(self, issues: list[Issue]) -> None:
        self._issues = issues

    def page(self, wanted: IssueFilter, page: Page, known: Dismissals) -> tuple[list[Issue], int]:
        """The page, and how many there are in all that fit."""
        kept = [issue for issue in self._issues if wanted.takes(issue, known)]
        return kept[page.offset : page.offset + page.limit], len(kept)

    def at(self, line: int) -> list[Issue]:
        return [issue for issue in self._issues if issue.line == line]

    def dismissed(self, known: Dismissals) -> dict[str, int]:
        return dict(Counter(issue.code for issue in self._issues if known.of(issue) is not None))

    def neighbours(self, line: int, wanted: IssueFilter) -> tuple[int | None, int | None]:
        lines = [issue.line for issue in self._issues if wanted.takes_code(issue.code)]
        return (
            max((other for other in lines if other < line), default=None),
            min((other for other in lines if other > line), default=None),
        )


class StoredList:
    """The complete list in the object store. Everything blocks.

    Raises ListIsOldError for one without an index.
    """

    def __init__(self, store: ObjectStore, bucket: Bucket, path: str) -> None:
        read_list = partial(_read_range, store, bucket, path)
        try:
            self._index = IssueIndex(partial(_read_range, store, bucket, beside(path, ".index")), read_list)
        except ObjectNotFoundError as error:
            raise ListIsOldError from error

    def page(self, wanted: IssueFilter, page: Page, known: Dismissals) -> tuple[list[Issue], int]:
        """The page, and how many there are in all that fit."""
        if wanted.line is not None:
            found = [issue for issue in self.at(wanted.line) if wanted.takes(issue, known)]
            return found[page.offset : page.offset + page.limit], len(found)
        codes = {code for code in self._index.codes if wanted.takes_code(code)}
        without, beside_ = set[int](), set[int]()
        if wanted.dismissed is False:
            codes -= known.codes.keys()
            without = {offset for offset, _code in self._places(known, codes)}
        elif wanted.dismissed is True:
            beside_ = {offset for offset, _code in self._places(known, codes - known.codes.keys())}
            codes &= known.codes.keys()
        total = sum(self._index.codes[code] for code in codes) - len(without) + len(beside_)
        found = self._index.page(codes, page.offset, page.limit, without=without, beside=beside_)
        return found, total

    def dismissed(self, known: Dismissals) -> dict[str, int]:
        counts = Counter({code: number for code, number in self._index.codes.items() if code in known.codes})
        counts.update(code for _offset, code in self._places(known, self._index.codes.keys() - known.codes.keys()))
        return dict(counts)

    def at(self, line: int) -> list[Issue]:
        return [issue for _offset, issue in self._index.of_line(line)]

    def neighbours(self, line: int, wanted: IssueFilter) -> tuple[int | None, int | None]:
        codes = {code for code in self._index.codes if wanted.takes_code(code)}
        return self._index.neighbours(line, None if len(codes) == len(self._index.codes) else codes)

    def _places(self, known: Dismissals, codes: set[str]) -> set[tuple[int, str]]:
        """Offsets in the list, and codes, of the findings of these codes that are dismissed one by one."""
        lines = {line for code, line, _path, _fingerprint in known.places if code in codes}
        return {
            (offset, issue.code)
            for line in lines
            for offset, issue in self._index.of_line(line)
            if issue.code in codes and known.of(issue) is not None
        }


def _read_range(store: ObjectStore, bucket: Bucket, path: str, offset: int, length: int) -> bytes:
    return store.read_bytes(bucket, path, offset=offset, length=length)


def _out(issue: Issue, by: Dismissed | None) -> IssueOut:
    dismissed = None if by is None else DismissalOut.model_validate(by, from_attributes=True)
    return IssueOut.model_validate(msgspec.to_builtins(issue) | {"dismissed": dismissed})


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
