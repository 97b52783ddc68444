"""Settings → Audit log: who did what in this workspace, when; also as CSV."""

import csv
import io
import json
import re
from collections.abc import AsyncIterator, Sequence
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from starlette.responses import StreamingResponse

from brightrun.accounts.context import PageCtx, RequestContext, page_needs
from brightrun.accounts.roles import Permission
from brightrun.accounts.settings_pages import settings_page
from brightrun.audit import repository
from brightrun.audit.repository import Wanted
from brightrun.audit.tables import AuditEntry
from brightrun.clock import utcnow
from brightrun.errors import InvalidInputError
from brightrun.platform import Platform
from brightrun.web.http import PageParams
from brightrun.web.text import plain_cell

router = APIRouter(include_in_schema=False)

_READ = page_needs(Permission.AUDIT_READ)
_CSV_BATCH = 1000

Text = Annotated[str, Query(max_length=254)]

ACTION_WORDS = {
    "account.signed_in": "Signed in",
    "account.sign_in_failed": "Failed to sign in",
    "account.link_created": "One-time link made",
    "account.password_changed": "Password changed",
    "account.password_reset": "Password set anew by link",
    "account.single_sign_on_bound": "Account bound to single sign-on",
    "workspace.created": "Workspace created",
    "workspace.renamed": "Workspace renamed",
    "workspace.quota_set": "Storage quota set",
    "member.role_changed": "Role changed",
    "member.removed": "Member removed",
    "member.left": "Left the workspace",
    "invitation.created": "Invitation made",
    "invitation.accepted": "Invitation accepted",
    "invitation.revoked": "Invitation revoked",
    "token.created": "API token made",
    "token.revoked": "API token revoked",
}
KIND_WORDS = {
    "account": "Accounts and sign-in",
    "member": "Members",
    "invitation": "Invitations",
    "token": "API tokens",
    "workspace": "Workspace",
    "dataset": "Datasets",
    "job": "Training jobs",
    "model": "Models",
}
_PATHS = {"dataset": "/datasets/", "job": "/training/", "model": "/models/"}
"""Where a thing that still exists is looked at."""
_CHANGE = {"before", "after"}
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?\+00:00")


def action_words(action: str) -> str:
    """`dataset.upload_expired` → `Dataset upload expired`, for those of which nobody said more."""
    return ACTION_WORDS.get(action) or action.replace(".", " ").replace("_", " ").capitalize()


def _chosen(ctx: RequestContext, who: str, action: str, start_date: str, end_date: str) -> Wanted:
    """Raises InvalidInputError for days that are none."""
    try:
        first, last = (date.fromisoformat(text) if text else None for text in (start_date, end_date))
    except ValueError as error:
        raise InvalidInputError("Dates are written like 2026-01-31") from error
    if first and last and first > last:
        raise InvalidInputError("The first day comes after the last")
    return Wanted(ctx.principal.workspace_id, who.strip() or None, action or None, None, first, last)


@router.get("/settings/audit", **_READ)
async def audit_page(
    ctx: PageCtx,
    page: PageParams,
    who: Text = "",
    action: Text = "",
    start_date: Text = "",
    end_date: Text = "",
) -> Response:
    entries: Sequence[AuditEntry] = ()
    total, fault = 0, None
    try:
        wanted = _chosen(ctx, who, action, start_date, end_date)
        total = await repository.count(ctx.session, wanted)
        entries = await repository.list_entries(ctx.session, wanted, limit=page.limit, offset=page.offset)
    except InvalidInputError as error:
        fault = error.message
    known = await repository.actions(ctx.session, ctx.principal.workspace_id)
    kinds = [kind for kind in KIND_WORDS if any(name.startswith(f"{kind}.") for name in known)]
    return settings_page(
        ctx,
        "audit",
        "Audit log",
        status=400 if fault else 200,
        fault=fault,
        entries=[_shown(entry) for entry in entries],
        total=total,
        page_number=page,
        chosen={"who": who, "action": action, "start_date": start_date, "end_date": end_date},
        filtered=bool(who or action or start_date or end_date),
        choices=[("", "Everything")]
        + [(kind, f"All: {KIND_WORDS[kind]}") for kind in kinds]
        + [(name, action_words(name)) for name in known],
    )


def _shown(entry: AuditEntry) -> dict[str, Any]:
    details = {key: value for key, value in entry.details.items() if value not in (None, "", [], {})}
    by_token = details.pop("by_token", None)
    name = details.pop("name", None) or details.pop("email", None)
    texts = [f"{key.replace('_', ' ')}: {_text(value)}" for key, value in details.items() if key not in _CHANGE]
    if details.keys() >= _CHANGE:
        texts.insert(0, f"{_text(details['before'])} → {_text(details['after'])}")
    return {
        "row": entry,
        "words": action_words(entry.action),
        "by_token": by_token,
        "name": name,
        "href": _PATHS[entry.target_kind] + str(entry.target_id) if entry.target_kind in _PATHS else None,
        "details": ", ".join(texts),
    }


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')}: {_text(one)}" for key, one in value.items())
    if isinstance(value, list):
        return ", ".join(_text(one) for one in value)
    if isinstance(value, str):
        # 2030-01-31T10:20:30.123456+00:00, to the minute.
        return f"{value[:10]} {value[11:16]} UTC" if _MOMENT.fullmatch(value) else value
    return json.dumps(value)


@router.get("/settings/audit.csv", **_READ)
async def export_audit(
    ctx: PageCtx, who: Text = "", action: Text = "", start_date: Text = "", end_date: Text = ""
) -> Response:
    """Every entry that the filter finds, the newest first."""
    wanted = _chosen(ctx, who, action, start_date, end_date)
    name = f"brightrun-audit-{utcnow():%Y-%m-%d}.csv"
    return StreamingResponse(
        _csv(ctx.platform, ctx.principal.user_id, wanted),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


async def _csv(platform: Platform, user_id: Any, wanted: Wanted) -> AsyncIterator[str]:
    """In transactions of its own, a batch each: a log may be long, and whoever reads it slow."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(["time_utc", "actor", "action", "target_kind", "target_id", "details"])
    last = None
    while True:
        async with platform.db.transaction(user_id=user_id, workspace_id=wanted.workspace_id) as session:
            entries = await repository.list_entries(session, wanted, limit=_CSV_BATCH, after=last)
        for entry in entries:
            writer.writerow(
                [
                    entry.created_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                    plain_cell(entry.actor or ""),
                    entry.action,
                    entry.target_kind,
                    entry.target_id or "",
                    json.dumps(entry.details, ensure_ascii=False),
                ]
            )
        yield text.getvalue()
        text.seek(0)
        text.truncate()
        if len(entries) < _CSV_BATCH:
            return
        last = entries[-1].id
