"""JSON routes: a workspace's notifications, with the caller's own read marks."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from brightrun.accounts.context import Ctx, needs
from brightrun.accounts.roles import Permission
from brightrun.notifications import preferences, repository, service
from brightrun.notifications.schemas import (
    DeliveryOut,
    MarkedRead,
    NotificationData,
    NotificationItems,
    NotificationOut,
    PreferencesData,
    PreferencesIn,
)
from brightrun.web.http import Items, PageParams, Success, many, one

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


@router.get("/preferences", **needs(Permission.WORKSPACE_READ))
async def get_preferences(ctx: Ctx) -> Success[PreferencesData]:
    """What the caller wants to be told of in this workspace, and how."""
    return one(
        PreferencesData(
            preferences=await preferences.read(ctx.session, ctx.principal.user_id),
            mail_available=ctx.settings.smtp_host is not None,
        )
    )


@router.put("/preferences", **needs(Permission.WORKSPACE_READ))
async def put_preferences(ctx: Ctx, body: PreferencesIn) -> Success[PreferencesData]:
    """Replace the caller's preferences."""
    await preferences.save(ctx.session, ctx.principal.user_id, body)
    return await get_preferences(ctx)


@router.get("/mail", **needs(Permission.WORKSPACE_READ))
async def list_mail(ctx: Ctx, page: PageParams) -> Success[Items[DeliveryOut]]:
    """What was mailed to the caller, or waits to be, newest first."""
    found, total = await repository.list_deliveries(
        ctx.session, user_id=ctx.principal.user_id, offset=page.offset, limit=page.limit
    )
    return many([DeliveryOut.of(delivery, title) for delivery, title in found], total, page)
