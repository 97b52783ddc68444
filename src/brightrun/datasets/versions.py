"""Versions of a dataset: mending makes a new one, with lineage and a log of each change; the original stays.

The new row is `validating` from the start. Its file is made by the task that validates it, so a kill, a stop or a
sweep begins it again like any validation, and what it ends in is told in the same way.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

import msgspec
import orjson
from sqlalchemy import func, text
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts import quota
from brightrun.accounts.signin import Principal
from brightrun.audit.service import record
from brightrun.datasets import dismissals, issues, repository, service
from brightrun.datasets.changes import announce
from brightrun.datasets.dismissals import Dismissals
from brightrun.datasets.records import record_of
from brightrun.datasets.schemas import RepairCreate, RepairSelection
from brightrun.datasets.service import get, get_for_update, removed
from brightrun.datasets.tables import Dataset, DatasetStatus
from brightrun.datasets.uploads import KIND, request_validation
from brightrun.errors import ConflictError, InvalidInputError, NotFoundError
from brightrun.formats.issues import Issue
from brightrun.formats.names import FormatId
from brightrun.ids import uuid7
from brightrun.platform import Platform
from brightrun.storage import Bucket, object_path
from brightrun.validation.repair import MENDABLE
from brightrun.validation.repair_preview import preview
from brightrun.validation.repair_records import Change
from brightrun.web.http import Page


@dataclass(frozen=True)
class Previewed:
    """A finding, and the change that mending it makes; None where it cannot be mended."""

    issue: Issue
    change: Change | None


def mendable_counts(dataset: Dataset) -> dict[str, int]:
    """{code: findings} of the codes that have a repair here. Of some codes single findings cannot be mended.

    dataset: with its report.
    """
    fixable = _fixable(dataset)
    counts = {code: count for code, count in (dataset.issue_counts or {}).items() if code in MENDABLE}
    return counts if fixable is None else {code: count for code, count in counts.items() if code in fixable}


def mendable_total(dataset: Dataset) -> tuple[int, bool]:
    """How many findings have a repair, and whether that is exact: of a report that holds only the first findings it is
    the most there can be."""
    counts, fixable = mendable_counts(dataset), _fixable(dataset)
    return (sum(counts.values()), False) if fixable is None else (sum(fixable[code] for code in counts), True)


def _fixable(dataset: Dataset) -> Counter[str] | None:
    """How many findings of each code can be mended; None where the report does not hold all of them."""
    report = dataset.report
    if not report or report.get("issues_truncated", True):
        return None
    return Counter(issue["code"] for issue in report["issues"] if issue["fixable"])


# --- before ---------------------------------------------------------------------------------------------------------


async def preview_repair(
    session: AsyncSession, platform: Platform, dataset_id: UUID, wanted: RepairSelection, page: Page
) -> tuple[list[Previewed], int]:
    """One page of the findings that are chosen, with before and after, code by code; and how many there are.

    Raises ConflictError for a dataset that was not validated, or whose file is gone.
    """
    dataset = await get(session, dataset_id)
    issues.validated(dataset)
    if dataset.object_deleted_at is not None:
        raise removed(dataset)
    known = await dismissals.of_dataset(session, dataset_id)
    counts = await _to_mend(platform, dataset, known)
    if not wanted.all:
        counts = {code: count for code, count in counts.items() if code in wanted.codes}
    found, total = [], sum(counts.values())
    if wanted.issues and not (wanted.all or wanted.codes):
        places = [(place.code, place.line, place.path) for place in wanted.issues]
        total = len(places)
        for code, line, path in places[page.offset : page.offset + page.limit]:
            at = await issues.issues_at(session, platform, dataset_id, line)
            found += [issue for issue in at if (issue.code, issue.path) == (code, path)][:1]
    else:
        found = await _page_of(session, platform, dataset_id, counts, page)
    return await asyncio.to_thread(_preview_all, platform, dataset, found), total


async def to_mend(session: AsyncSession, platform: Platform, dataset: Dataset) -> dict[str, int]:
    """`mendable_counts` without what was dismissed, which mending everything leaves alone."""
    return await _to_mend(platform, dataset, await dismissals.of_dataset(session, dataset.id))


async def to_mend_total(session: AsyncSession, platform: Platform, dataset: Dataset) -> tuple[int, bool]:
    """`mendable_total` without what was dismissed."""
    known = await dismissals.of_dataset(session, dataset.id)
    if not known.rows or dataset.report is None:
        return mendable_total(dataset)
    if _fixable(dataset) is None:
        return sum((await _to_mend(platform, dataset, known)).values()), False
    found = [msgspec.convert(raw, Issue) for raw in dataset.report["issues"]]
    return sum(one.fixable and one.code in MENDABLE and known.of(one) is None for one in found), True


async def _to_mend(platform: Platform, dataset: Dataset, known: Dismissals) -> dict[str, int]:
    counts = mendable_counts(dataset)
    if not counts or dataset.report is None:
        return counts
    dismissed = await issues.dismissed_counts(platform, dataset, known)
    return {code: left for code, count in counts.items() if (left := count - dismissed.get(code, 0)) > 0}


async def _page_of(
    session: AsyncSession, platform: Platform, dataset_id: UUID, counts: dict[str, int], page: Page
) -> list[Issue]:
    """A page of the findings of several codes, one code after the other."""
    found: list[Issue] = []
    skip, room = page.offset, page.limit
    for code, count in counts.items():
        if skip >= count:
            skip -= count
            continue
        while room and skip < count:
            # A page of the list begins at a multiple of its size: take the one that holds what comes next.
            part = Page(page=skip // page.limit + 1, limit=page.limit)
            wanted = issues.IssueFilter(code=code, dismissed=False)
            listed, _ = await issues.page_of_issues(session, platform, dataset_id, part, wanted)
            taken = listed[skip % page.limit :][:room]
            if not taken:
                break
            found += [_issue(one) for one in taken]
            skip, room = skip + len(taken), room - len(taken)
        skip = 0
        if not room:
            break
    return found


def _issue(shown: Any) -> Issue:
    return Issue(**{name: getattr(shown, name) for name in Issue.__struct_fields__})


def _preview_all(platform: Platform, dataset: Dataset, found: Sequence[Issue]) -> list[Previewed]:
    """Blocking: reads the record of each finding."""
    shown = []
    for issue in found:
        data, prefix, format_id = None, "", dataset.format
        if issue.fixable and format_id is not None:
            try:
                stored = record_of(platform.store, dataset, issue.line)
            except (NotFoundError, ConflictError):
                stored = None  # of the file as a whole, or in a place that cannot be found again
            if stored is not None:
                data = stored.data
                matched = stored.prefix.match(issue.path)
                prefix = matched.group().rstrip(".") if matched else ""
        change = preview(issue, data, cast("FormatId", format_id or "openai_messages"), prefix)
        shown.append(Previewed(issue, change))
    return shown


# --- a new version --------------------------------------------------------------------------------------------------


async def create_version(
    session: AsyncSession,
    platform: Platform,
    principal: Principal,
    dataset_id: UUID,
    body: RepairCreate,
    *,
    idempotency_key: str | None = None,
) -> tuple[Dataset, bool]:
    """A new dataset in `validating` whose file is the mended one, and whether it is new: a key makes one only.

    Raises ConflictError for a dataset that was not validated, whose file is gone, or in which nothing that was chosen
    can be mended; StorageFullError when the quota has no room for another file of this size.
    """
    # Locked: it must not go to the trash between this look and the commit.
    parent = await get_for_update(session, dataset_id)
    asked = {"parent": str(dataset_id), **body.model_dump(mode="json")}
    digest = hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()
    if idempotency_key is not None:
        earlier = await _earlier(session, principal, idempotency_key, digest)
        if earlier is not None:
            return earlier, False
    if parent.validated_at is None or parent.status == DatasetStatus.VALIDATING or parent.issue_counts is None:
        raise ConflictError("The dataset must be checked before it can be mended.", code="not_validated")
    if parent.object_deleted_at is not None:
        raise removed(parent)
    parent = await get(session, dataset_id)
    known = await dismissals.of_dataset(session, dataset_id)
    repair = _repair_of(body, mendable_counts(parent), await _to_mend(platform, parent, known), known)
    # Makes other creations in the workspace wait, so the number below is this one's.
    await quota.reserve(session, platform.settings, principal.workspace_id, parent.file_size)
    root_id = parent.root_id or parent.id
    number = await repository.last_version(session, root_id) + 1
    dataset = Dataset(
        id=uuid7(),
        workspace_id=principal.workspace_id,
        created_by=principal.user_id,
        name=body.name or _version_name(parent.name, number),
        description=parent.description,
        declared_format=parent.declared_format,
        file_name=parent.file_name,
        file_size=parent.file_size,
        storage_bucket=parent.storage_bucket,
        parent_id=parent.id,
        root_id=root_id,
        version=number,
        repair=repair,
        status=DatasetStatus.VALIDATING,
        validation_attempt=1,
        validation_heartbeat_at=func.now(),
        idempotency_key=idempotency_key,
        request_hash=None if idempotency_key is None else digest,
    )
    dataset.storage_path = object_path(principal.workspace_id, KIND, dataset.id, parent.file_name)
    session.add(dataset)
    await session.flush()
    await dismissals.take_over(session, parent.id, dataset.id)
    await request_validation(session, dataset.workspace_id, dataset.id, 1)
    facts = {"name": dataset.name, "parent_id": str(parent.id), "version": number, "repair": _summary(repair)}
    await record(session, "dataset.version_created", "dataset", str(dataset.id), facts)
    dataset = await get(session, dataset.id)
    await announce(session, dataset, "dataset.created")
    return dataset, True


def _repair_of(body: RepairCreate, present: dict[str, int], open_: dict[str, int], known: Dismissals) -> dict[str, Any]:
    """What was dismissed stays as it is, unless its very place is chosen. present: what has a repair; open_: of that,
    what is not dismissed."""
    left = [[code, line, path] for code, line, path, _print in known.places if code in present]
    if body.all:
        # All that there is a repair for: what one brings to light is mended, too.
        chosen: dict[str, list[Any]] = {"codes": sorted(MENDABLE - known.codes.keys()), "issues": []}
        nothing = not open_
    else:
        places = [[place.code, place.line, place.path] for place in body.issues if place.code in present]
        chosen = {"codes": [code for code in sorted(body.codes) if code in open_], "issues": places}
        nothing = not (chosen["codes"] or places)
    if left:
        chosen["left"] = left
    if nothing:
        raise ConflictError("Nothing that was chosen can be mended in this dataset.", code="nothing_to_mend")
    return chosen


def _summary(repair: dict[str, Any]) -> dict[str, Any]:
    everything = len(repair["codes"]) == len(MENDABLE)
    facts = {"codes": "all" if everything else repair["codes"], "issues": len(repair["issues"])}
    return facts | ({"left": len(repair["left"])} if repair.get("left") else {})


def _version_name(name: str, number: int) -> str:
    ending = f" (version {number})"
    stem = name.rpartition(" (version ")[0] if name.endswith(")") and " (version " in name else name
    return stem[: 255 - len(ending)] + ending


async def _earlier(session: AsyncSession, principal: Principal, key: str, digest: str) -> Dataset | None:
    """The version that this key made; holds the key until the transaction ends, so that two requests cannot both."""
    if not 1 <= len(key) <= 255 or not key.isprintable():
        message = "1 to 255 printable characters"
        raise InvalidInputError(
            f"The Idempotency-Key must have {message}",
            code="validation_error",
            details={"Idempotency-Key": [message]},
        )
    await session.execute(
        text("select pg_advisory_xact_lock(hashtextextended(:key, 0))"),
        {"key": f"dataset {principal.workspace_id} {key}"},
    )
    made = await repository.by_idempotency_key(session, key)
    if made is not None and made.request_hash != digest:
        raise ConflictError(
            f"The Idempotency-Key was used for another request: it made the dataset {made.name!r}. Use a new key",
            code="idempotency_key_reused",
            details={"dataset_id": str(made.id)},
        )
    return made


# --- lineage --------------------------------------------------------------------------------------------------------


async def list_versions(session: AsyncSession, dataset_id: UUID) -> Sequence[Dataset]:
    """All versions of a dataset, itself among them, the first first; those in the trash, too."""
    return await versions_of(session, await get(session, dataset_id, deleted=True, large=False))


async def versions_of(session: AsyncSession, dataset: Dataset) -> Sequence[Dataset]:
    """As `list_versions`, of a row at hand."""
    return await repository.versions(session, dataset.root_id or dataset.id)


async def change_log_url(session: AsyncSession, platform: Platform, dataset_id: UUID) -> str:
    """Signed URL of the log of each change, JSON Lines. NotFoundError when nothing was changed, or it is no version."""
    dataset = await get(session, dataset_id, large=False)
    if dataset.repair_log_path is None:
        raise NotFoundError("There is no log of changes for this dataset", code="no_changes")
    return platform.store.presign_get(
        Bucket(dataset.storage_bucket),
        dataset.repair_log_path,
        expires_s=platform.settings.signed_url_s,
        filename=f"{dataset.name} changes.jsonl",
    )


async def _needed_by_a_version(session: AsyncSession, dataset: Dataset) -> str | None:
    names = await repository.unmade_versions(session, dataset.id)
    return f"The version {names[0]!r} is being made from it; wait until it is there." if names else None


service.deletion_guards.append(_needed_by_a_version)
