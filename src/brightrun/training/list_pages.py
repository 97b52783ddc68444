"""The list of jobs: filters, search, selection. Its whole state is in the URL."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response

from brightrun.accounts.context import PageCtx, page_needs
from brightrun.accounts.roles import Permission
from brightrun.clock import utcnow
from brightrun.errors import InvalidInputError
from brightrun.training import repository, scheduling, service
from brightrun.training.labels import repository as labels
from brightrun.training.pages import STAGE_WORDS, PageNumber, Text
from brightrun.training.repository import Archived
from brightrun.training.tables import ACTIVE, ENDED, WAITING, JobStatus, PresetId
from brightrun.training.views import job_views
from brightrun.web import views
from brightrun.web.http import Page
from brightrun.web.statuses import status_look

router = APIRouter(prefix="/training", include_in_schema=False)

PERIODS = {"1": "The last 24 hours", "7": "The last 7 days", "30": "The last 30 days", "90": "The last 90 days"}
_PAGE_SIZES = (20, 50, 100)
_ACTIVE_FILTER = "active"
_ENDED_FILTER = "ended"
_MORE = ("dataset", "model", "preset", "who", "period", "since", "until", "archived")
"""Filters that are folded away until one of them is set."""


@router.get("", **page_needs(Permission.JOBS_READ))
async def list_page(
    ctx: PageCtx,
    search: Text = "",
    status: Text = "",
    tag: Text = "",
    dataset: Text = "",
    model: Text = "",
    preset: Text = "",
    who: Text = "",
    period: Text = "",
    since: Text = "",
    until: Text = "",
    archived: Text = "",
    sort: Text = "-created_at",
    page: PageNumber = 1,
    size: Annotated[int, Query(ge=1, le=100)] = _PAGE_SIZES[0],
) -> Response:
    """Jobs, newest first. A filter that does not exist is told in the list's place."""
    given = {
        "search": search.strip(), "status": status, "tag": tag, "dataset": dataset, "model": model, "preset": preset,
        "who": who, "period": period, "since": since, "until": until, "archived": archived,
    }  # fmt: skip
    values: dict[str, Any] = {"fault": None, "jobs": [], "total": 0}
    try:
        rows, values["total"] = await service.list_jobs(
            ctx.session, Page(page=page, limit=size), sort=sort or "-created_at", **filters_of(given)
        )
        values["jobs"] = await job_views(ctx.session, rows)
        await scheduling.add_places(ctx.session, ctx.settings, values["jobs"])
    except InvalidInputError as error:
        values["fault"] = error.message
    part = views.is_fragment_request(ctx.request)
    return views.render(
        ctx.request,
        "training/list.html",
        block="list" if part else None,
        status=400 if values["fault"] else 200,
        stats=await service.stats(ctx.session),
        given=given,
        more=sum(bool(given[name]) for name in _MORE),
        sort=sort,
        filtered=any(given.values()),
        page_number=page,
        limit=size,
        can_write=Permission.JOBS_WRITE in ctx.principal.permissions,
        sees_costs=Permission.COSTS_READ in ctx.principal.permissions,
        stage_words=STAGE_WORDS,
        tags=[name for name, _jobs in await labels.counts(ctx.session)],
        # What can be chosen stands outside of the part that a filter brings anew.
        options={} if part else await _options(ctx),
        **values,
    )


async def _options(ctx: PageCtx) -> dict[str, list[tuple[str, str]]]:
    datasets, models, people = await repository.choices(ctx.session)
    return {
        "status": [(status.value, status_look("job", status).label) for status in JobStatus],
        "dataset": [("", "All datasets"), *((str(key), name) for key, name in datasets)],
        "model": [("", "All base models"), *((name, name) for name in models)],
        "preset": [("", "All goals"), *((preset.value, preset.value.capitalize()) for preset in PresetId)],
        "who": [("", "Everybody"), *((str(key), name) for key, name in people)],
        "period": [("", "Any time"), *PERIODS.items()],
        "archived": [("", "Not archived"), (Archived.ONLY.value, "Archived only"), (Archived.ALL.value, "All")],
    }


def filters_of(given: dict[str, str]) -> dict[str, Any]:
    """What the page's filters mean to `service.list_jobs`. Raises InvalidInputError that names what does not exist."""
    since, until = _day(given["since"], "since"), _day(given["until"], "until")
    if given["period"]:
        if given["period"] not in PERIODS:
            raise InvalidInputError(f"There is no period {given['period']!r}; there are {', '.join(PERIODS)} days")
        begin = utcnow() - timedelta(days=int(given["period"]))
        since = max(since, begin) if since is not None else begin
    if given["archived"] not in {"", *Archived}:
        raise InvalidInputError(f"archived is one of {', '.join(Archived)}, not {given['archived']!r}")
    if given["preset"] not in {"", *PresetId}:
        raise InvalidInputError(f"There is no goal {given['preset']!r}")
    return {
        "statuses": statuses_of(given["status"]),
        "tags": [given["tag"].lower()] if given["tag"] else [],
        "dataset_id": _id(given["dataset"], "dataset"),
        "base_model": given["model"] or None,
        "preset_id": given["preset"] or None,
        "created_by": _id(given["who"], "member"),
        "since": since,
        "until": until + timedelta(days=1) if until is not None else None,
        "search": given["search"] or None,
        "archived": Archived(given["archived"] or Archived.NO),
    }


def statuses_of(text: str) -> Sequence[JobStatus]:
    """A status filter: a status, `active` (waits or runs), `ended`, or nothing. Raises InvalidInputError."""
    match text:
        case "":
            return ()
        case "active":
            return (*WAITING, *ACTIVE, JobStatus.PAUSED)
        case "ended":
            return ENDED
    if text not in set(JobStatus):
        raise InvalidInputError(
            f"No job is ever {text!r}. States: {_ACTIVE_FILTER}, {_ENDED_FILTER}, {', '.join(JobStatus)}"
        )
    return (JobStatus(text),)


def _id(text: str, what: str) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        raise InvalidInputError(f"{text!r} is no {what}") from None


def _day(text: str, field: str) -> datetime | None:
    """Its first moment, UTC."""
    try:
        return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC) if text else None
    except ValueError:
        raise InvalidInputError(f"{field} is a day, as 2026-01-31; {text!r} is none") from None
