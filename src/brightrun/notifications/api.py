"""JSON routes: a workspace's notifications, with the caller's own read marks."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from brightrun.accounts.context import Ctx, needs
from brightrun.accounts.roles import Permission
from brightrun.notifications import repository, service
from brightrun.notifications.schemas import MarkedRead, NotificationData, NotificationItems, NotificationOut
from brightrun.web.http import PageParams, Success, one

router = APIRouter(prefix="/api/notifications", tags=["notifications"])


@router.get("", **needs(Permission.WORKSPACE_READ))
async def list_notifications(
    ctx: Ctx, page: PageParams, unread: Annotated[bool, Query(description="Only those not read yet")] = False
) -> Success[NotificationItems]:
    """Newest first, with the number that the caller has not read."""
    user_id = ctx.principal.user_id
    found, total = await repository.list_for(
        ctx.session, user_id, unread_only=unread, offset=page.offset, limit=page.limit
    )
    return one(
        NotificationItems(
            items=[NotificationOut.of(notification, read=read) for notification, read in found],
            total=total,
            page=page.page,
            limit=page.limit,
            unread_count=await repository.count_unread(ctx.session, user_id),
        )
    )


@router.post("/read-all", **needs(Permission.WORKSPACE_READ))
async def mark_all_read(ctx: Ctx) -> Success[MarkedRead]:
    """Mark everything as read by the caller; other members keep their own marks."""
    return one(MarkedRead(marked=await service.mark_all_read(ctx.session, ctx.principal.user_id)))


@router.post("/{notification_id}/read", **needs(Permission.WORKSPACE_READ))
async def mark_read(ctx: Ctx, notification_id: UUID) -> Success[NotificationData]:
    """Mark one as read by the caller; again does no harm."""
    notification = await service.mark_read(ctx.session, notification_id, ctx.principal.user_id)
    return one(NotificationData(notification=NotificationOut.of(notification, read=True)))
