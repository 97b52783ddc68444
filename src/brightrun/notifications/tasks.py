"""Notifications are mailed and sent to webhooks; old ones are deleted."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.clock import utcnow
from brightrun.notifications import deliveries, repository
from brightrun.notifications.service import notify
from brightrun.notifications.tables import NotificationType, Priority, Webhook
from brightrun.platform import Platform
from brightrun.queue import registry, schedule, task

KEEP_DAYS = 90
QUEUE = "notifications"
"""A lane of its own: a mail server that lets one wait holds up nothing else."""


@task(deliveries.MAIL_TASK, queue=QUEUE)
async def send_mail(platform: Platform, *, workspace_id: str, user_id: str) -> None:
    """One mail with all that is due for a member."""
    await deliveries.mail_what_is_due(platform, UUID(workspace_id), UUID(user_id))


@task(deliveries.CALL_TASK, queue=QUEUE)
async def call_webhook(platform: Platform, *, workspace_id: str, delivery_id: str) -> None:
    """One call of a webhook."""
    await deliveries.make_call(platform, UUID(workspace_id), UUID(delivery_id), _tell_that_it_is_off)


async def _tell_that_it_is_off(session: AsyncSession, webhook: Webhook) -> None:
    await notify(
        session,
        type=NotificationType.SYSTEM,
        title="A webhook was switched off",
        message=f"{webhook.url}: {webhook.inactive_reason}. Switch it on again when it works.",
        action_url="/settings/webhooks",
        dedupe_key=f"webhook_off:{webhook.id}:{webhook.updated_at.isoformat()}",
        priority=Priority.HIGH,
    )


@schedule("41 3 * * *", name="notifications.delete_old")
async def delete_old_notifications(platform: registry.TaskPlatform) -> None:
    before = utcnow() - timedelta(days=KEEP_DAYS)
    async with platform.db.transaction() as session:
        workspaces = await repository.workspaces_with_older(session, before)
    for workspace_id in workspaces:
        async with platform.db.transaction(workspace_id=workspace_id) as session:
            await repository.delete_older(session, before)
