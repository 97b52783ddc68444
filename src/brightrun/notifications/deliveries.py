"""Notifications on their way to mailboxes and webhooks: asked for with the event, sent by the worker, logged.

A delivery is a row, written in the transaction of the event, so none is lost and there is one for each mailbox and
webhook. A worker that is killed between sending and writing it down sends once more: mails then have the same
`Message-ID`, calls the same `BrightRun-Delivery`.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts import mail
from brightrun.clock import utcnow
from brightrun.errors import BrightRunError, ConflictError, NotFoundError
from brightrun.ids import uuid7
from brightrun.notifications import quiet, repository, webhooks
from brightrun.notifications.tables import Channel, Delivery, DeliveryStatus, Notification, Priority, Webhook
from brightrun.platform import Platform
from brightrun.queue import enqueue
from brightrun.queue.events import publish

MAIL_TASK, CALL_TASK = "notifications.mail", "notifications.call"
TOPIC = "deliveries"
RETRY_AFTER = (timedelta(minutes=2), timedelta(minutes=4), timedelta(minutes=8))
"""A delivery is tried once, and after each of these once more."""
GIVE_UP_AFTER = 20
"""A webhook that failed so many deliveries in a row is switched off."""
_GONE = 410
_SENT_WITHIN = timedelta(minutes=5)
"""No mail server is waited for that long."""


async def send_out(session: AsyncSession, notification: Notification) -> None:
    """Ask for the deliveries of a notification that was just added, as part of its transaction."""
    now = utcnow()
    for preference in await repository.wanted_by_mail(session, notification.type):
        waits = not (preference.urgent_at_once and notification.priority == Priority.HIGH)
        at = quiet.due(now, preference.quiet_from, preference.quiet_to, preference.timezone) if waits else now
        session.add(_delivery(notification, Channel.EMAIL, user_id=preference.user_id, due_at=at))
        await session.flush()
        await ask_for_mail(session, preference.user_id, at)
    for webhook in await repository.webhooks_for(session, notification.type):
        delivery = _delivery(notification, Channel.WEBHOOK, webhook_id=webhook.id, due_at=now)
        session.add(delivery)
        await session.flush()
        await enqueue(session, CALL_TASK, workspace_id=delivery.workspace_id, delivery_id=delivery.id)


def _delivery(notification: Notification, channel: Channel, **values: object) -> Delivery:
    return Delivery(
        id=uuid7(),
        workspace_id=notification.workspace_id,
        notification_id=notification.id,
        channel=channel.value,
        **values,
    )


async def ask_for_mail(session: AsyncSession, user_id: UUID, at: datetime) -> None:
    """One mail for all that is due by then: what gathers in quiet hours, or fast, arrives together."""
    workspace_id = session.info["workspace_id"]
    await enqueue(
        session,
        MAIL_TASK,
        run_at=at,
        queueing_lock=f"mail:{workspace_id}:{user_id}:{at:%Y%m%d%H%M}",
        workspace_id=workspace_id,
        user_id=user_id,
    )


# --- mail -----------------------------------------------------------------------------------------------------------


async def mail_what_is_due(platform: Platform, workspace_id: UUID, user_id: UUID) -> None:
    """Send a member all their mail of a workspace that is due, as one."""
    async with platform.db.transaction(workspace_id=workspace_id) as session:
        due = await repository.due_mail(session, user_id, utcnow())
        if not due:
            return
        address = await repository.address_of(session, user_id)
        workspace = await repository.workspace_name(session, workspace_id)
        # Nobody else takes them meanwhile; and should this process be killed, they are due again then.
        safe = utcnow() + _SENT_WITHIN
        for delivery, _notification in due:
            delivery.attempts += 1
            delivery.due_at = safe
        await session.flush()
        await ask_for_mail(session, user_id, safe)
        ids = [delivery.id for delivery, _notification in due]
        notifications = [notification for _delivery, notification in due]
        attempts = max(delivery.attempts for delivery, _notification in due)
    error: str | None = None
    if address is None:
        error = "This member has left the workspace"
    else:
        subject, text = letter(platform, workspace, notifications)
        try:
            if not await mail.send(platform.settings, address, subject, text, message_id=f"{ids[0]}"):
                error = "No mail server is set (BRIGHTRUN_SMTP_HOST)"
        except BrightRunError as failure:
            error = failure.message
    hopeless = address is None or platform.settings.smtp_host is None
    async with platform.db.transaction(workspace_id=workspace_id) as session:
        again = None if error is None or hopeless else next_attempt(attempts)
        await repository.settle(session, ids, error=error, again=again)
        if again is not None:
            await ask_for_mail(session, user_id, again)


def letter(platform: Platform, workspace: str, notifications: list[Notification]) -> tuple[str, str]:
    """(subject, text) of one mail."""
    paragraphs = []
    for notification in notifications:
        link = f"\n{platform.public_url}{notification.action_url}" if notification.action_url else ""
        paragraphs.append(f"{notification.title}\n{notification.message}{link}")
    first = notifications[0].title
    subject = first if len(notifications) == 1 else f"{len(notifications)} notifications: {first}, …"
    foot = f"What is mailed, and when: {platform.public_url}/settings/notifications"
    text = "\n\n".join([*paragraphs, f"-- \n{foot}"]) + "\n"
    return " ".join(f"[{workspace}] {subject}".split()), text


# --- webhooks -------------------------------------------------------------------------------------------------------


SwitchedOff = Callable[[AsyncSession, Webhook], Awaitable[None]]


async def make_call(platform: Platform, workspace_id: UUID, delivery_id: UUID, on_switched_off: SwitchedOff) -> None:
    """Call a webhook once, and again later where that may help. on_switched_off: when it has failed for too long."""
    async with platform.db.transaction(workspace_id=workspace_id) as session:
        found = await repository.delivery_to_call(session, delivery_id)
        if found is None:
            return  # sent already, or its webhook was deleted
        delivery, webhook, notification = found
        if webhook.inactive_reason is not None and notification is not None:
            await repository.settle(session, [delivery.id], error="The webhook was switched off before", again=None)
            return
        delivery.attempts += 1
        attempts = delivery.attempts
        body = webhooks.body_of(platform, workspace_id, notification)
        url, secret = webhook.url, webhooks.secret_of(platform, webhook)
    answer = await webhooks.call(
        url, platform.settings, secret=secret, event=str(body["type"]), delivery_id=delivery_id, body=body
    )
    async with platform.db.transaction(workspace_id=workspace_id) as session:
        # The test that someone asked for is answered by its first attempt.
        again = next_attempt(attempts) if answer.error and answer.again and notification is not None else None
        await repository.settle(session, [delivery_id], error=answer.error, again=again, status=answer.status)
        await publish(session, TOPIC, "delivery.attempted", {"id": str(delivery_id), "webhook_id": str(webhook.id)})
        if again is not None:
            await enqueue(session, CALL_TASK, run_at=again, workspace_id=workspace_id, delivery_id=delivery_id)
        elif notification is not None:
            switched_off = await _count(session, webhook.id, answer)
            if switched_off is not None:
                await on_switched_off(session, switched_off)


async def _count(session: AsyncSession, webhook_id: UUID, answer: webhooks.Answer) -> Webhook | None:
    """The webhook when this failure was one too many."""
    webhook = await repository.lock_webhook(session, webhook_id)
    if webhook is None or webhook.inactive_reason is not None:
        return None
    webhook.failures = 0 if answer.error is None else webhook.failures + 1
    if answer.status == _GONE:
        webhook.inactive_reason = "It answered 410, which says that it is gone"
    elif webhook.failures >= GIVE_UP_AFTER:
        webhook.inactive_reason = f"{webhook.failures} deliveries in a row failed, the last one: {answer.error}"
    await session.flush()
    await session.refresh(webhook)
    return webhook if webhook.inactive_reason is not None else None


def next_attempt(attempts: int) -> datetime | None:
    """When to try again after so many attempts; None when that was the last."""
    return utcnow() + RETRY_AFTER[attempts - 1] if attempts <= len(RETRY_AFTER) else None


async def send_test(session: AsyncSession, webhook: Webhook) -> Delivery:
    """Send a webhook something that is no notification, whether it is switched on or not. It is tried once."""
    delivery = Delivery(
        id=uuid7(), workspace_id=webhook.workspace_id, channel=Channel.WEBHOOK.value, webhook_id=webhook.id
    )
    session.add(delivery)
    await session.flush()
    await session.refresh(delivery)
    await enqueue(session, CALL_TASK, workspace_id=delivery.workspace_id, delivery_id=delivery.id)
    return delivery


async def redeliver(session: AsyncSession, webhook_id: UUID, delivery_id: UUID) -> Delivery:
    """Try a webhook's delivery that was given up once more, as new.

    Raises NotFoundError for one that is not the webhook's, ConflictError for one that was sent, or still waits.
    """
    delivery = await repository.get_delivery(session, delivery_id)
    if delivery is None or delivery.webhook_id != webhook_id:
        raise NotFoundError(f"There is no delivery {delivery_id}")
    if delivery.status != DeliveryStatus.FAILED:
        how = "was sent" if delivery.status == DeliveryStatus.SENT else "is still being tried"
        raise ConflictError(f"This delivery {how}", code="delivery_not_failed")
    delivery.status, delivery.attempts, delivery.error, delivery.due_at = (
        DeliveryStatus.PENDING.value,
        0,
        None,
        utcnow(),
    )
    await session.flush()
    await enqueue(session, CALL_TASK, workspace_id=delivery.workspace_id, delivery_id=delivery.id)
    return delivery
