"""JSON routes: the webhooks of a workspace, and what was sent to them."""

from uuid import UUID

from fastapi import APIRouter, Response

from brightrun.accounts.context import Ctx, needs
from brightrun.accounts.roles import Permission
from brightrun.notifications import deliveries, repository, webhooks
from brightrun.notifications.schemas import (
    DeliveryData,
    DeliveryOut,
    WebhookChange,
    WebhookData,
    WebhookIn,
    WebhookOut,
    WebhooksData,
    WebhookWithSecret,
)
from brightrun.notifications.tables import Webhook
from brightrun.web.http import Items, PageParams, Success, many, one

router = APIRouter(prefix="/api/webhooks", tags=["notifications"])

_MANAGE = needs(Permission.WORKSPACE_MANAGE)


@router.get("", **_MANAGE)
async def list_webhooks(ctx: Ctx) -> Success[WebhooksData]:
    """All of them, oldest first."""
    return one(WebhooksData(webhooks=[WebhookOut.of(row) for row in await repository.list_webhooks(ctx.session)]))


@router.post("", status_code=201, **_MANAGE)
async def create_webhook(ctx: Ctx, body: WebhookIn) -> Success[WebhookWithSecret]:
    """Make one. Its secret is in this answer only; a new one: `/rotate-secret`."""
    row = await webhooks.create(ctx.session, ctx.settings, url=body.url, types=[kind.value for kind in body.types])
    return one(_with_secret(ctx, row))


@router.get("/{webhook_id}", **_MANAGE)
async def get_webhook(ctx: Ctx, webhook_id: UUID) -> Success[WebhookData]:
    return one(WebhookData(webhook=WebhookOut.of(await webhooks.get(ctx.session, webhook_id))))


@router.patch("/{webhook_id}", **_MANAGE)
async def change_webhook(ctx: Ctx, webhook_id: UUID, body: WebhookChange) -> Success[WebhookData]:
    """Change its URL or types, switch it off or on again."""
    types = None if body.types is None else [kind.value for kind in body.types]
    row = await webhooks.change(ctx.session, ctx.settings, webhook_id, url=body.url, types=types, active=body.active)
    return one(WebhookData(webhook=WebhookOut.of(row)))


@router.delete("/{webhook_id}", status_code=204, **_MANAGE)
async def delete_webhook(ctx: Ctx, webhook_id: UUID) -> Response:
    """Delete it, with the log of what was sent to it."""
    await webhooks.delete(ctx.session, webhook_id)
    return Response(status_code=204)


@router.post("/{webhook_id}/rotate-secret", **_MANAGE)
async def rotate_secret(ctx: Ctx, webhook_id: UUID) -> Success[WebhookWithSecret]:
    """A new secret, from the next call on; the old one signs nothing any more."""
    return one(_with_secret(ctx, await webhooks.rotate_secret(ctx.session, webhook_id)))


@router.post("/{webhook_id}/test", status_code=202, **_MANAGE)
async def test_webhook(ctx: Ctx, webhook_id: UUID) -> Success[DeliveryData]:
    """Send a test, once; how it went is in its deliveries."""
    delivery = await deliveries.send_test(ctx.session, await webhooks.get(ctx.session, webhook_id))
    return one(DeliveryData(delivery=DeliveryOut.of(delivery, None)))


@router.get("/{webhook_id}/deliveries", **_MANAGE)
async def list_deliveries(ctx: Ctx, webhook_id: UUID, page: PageParams) -> Success[Items[DeliveryOut]]:
    """What was sent to it, or waits to be, newest first."""
    await webhooks.get(ctx.session, webhook_id)
    found, total = await repository.list_deliveries(
        ctx.session, webhook_id=webhook_id, offset=page.offset, limit=page.limit
    )
    return many([DeliveryOut.of(delivery, title) for delivery, title in found], total, page)


@router.post("/{webhook_id}/deliveries/{delivery_id}/retry", status_code=202, **_MANAGE)
async def retry_delivery(ctx: Ctx, webhook_id: UUID, delivery_id: UUID) -> Success[DeliveryData]:
    """Send one again that was given up."""
    delivery = await deliveries.redeliver(ctx.session, webhook_id, delivery_id)
    return one(DeliveryData(delivery=DeliveryOut.of(delivery, None)))


def _with_secret(ctx: Ctx, row: Webhook) -> WebhookWithSecret:
    return WebhookWithSecret(webhook=WebhookOut.of(row), secret=webhooks.secret_of(ctx.platform, row))
