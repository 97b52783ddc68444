"""JSON route of the audit log: who did what in the workspace, when."""

from datetime import date, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from brightrun.accounts.context import Ctx, needs
from brightrun.accounts.roles import Permission
from brightrun.audit import repository
from brightrun.audit.repository import Wanted
from brightrun.web.http import Items, PageParams, Success, many

router = APIRouter(prefix="/api", tags=["audit"])

Text = Annotated[str | None, Query(max_length=254)]


class AuditEntryOut(BaseModel):
    """user_id, actor: null for what BrightRun did by itself, or an operator on the command line."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    user_id: UUID | None
    actor: str | None
    action: str
    target_kind: str
    target_id: str | None
    details: dict[str, Any]
    created_at: datetime


@router.get("/audit", **needs(Permission.AUDIT_READ))
async def list_audit_entries(
    ctx: Ctx,
    page: PageParams,
    who: Annotated[str | None, Query(max_length=254, description="Part of the e-mail address")] = None,
    action: Annotated[
        str | None, Query(max_length=80, description="`member.removed`, or all about a kind of thing: `member`")
    ] = None,
    target_id: Text = None,
    start_date: Annotated[date | None, Query(description="First day, UTC")] = None,
    end_date: Annotated[date | None, Query(description="Last day, UTC, included")] = None,
    after: Annotated[
        UUID | None, Query(description="Cursor: the id of the last entry that you have; `page` is then ignored")
    ] = None,
) -> Success[Items[AuditEntryOut]]:
    """The newest first. Entries are never changed or deleted."""
    wanted = Wanted(ctx.principal.workspace_id, who, action, target_id, start_date, end_date)
    total = await repository.count(ctx.session, wanted)
    offset = 0 if after is not None else page.offset
    entries = await repository.list_entries(ctx.session, wanted, limit=page.limit, offset=offset, after=after)
    return many([AuditEntryOut.model_validate(entry) for entry in entries], total, page)
