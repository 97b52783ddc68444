"""Settings of notifications: what one is told of and how; the workspace's webhooks and what was sent to them."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Response
from starlette.datastructures import FormData

from brightrun.accounts.context import PageCtx, RequestContext, page_needs
from brightrun.accounts.roles import Permission
from brightrun.accounts.settings_pages import failure, settings_page
from brightrun.errors import BrightRunError
from brightrun.notifications import deliveries, preferences, quiet, repository, webhooks
from brightrun.notifications.schemas import PreferencesIn, WebhookIn
from brightrun.notifications.tables import NotificationType
from brightrun.notifications.targets import TargetError
from brightrun.notifications.words import TYPE_WORDS
from brightrun.web import forms, toasts
from brightrun.web.http import Page, PageParams

router = APIRouter(include_in_schema=False)

_READ = page_needs(Permission.WORKSPACE_READ)
_MANAGE = page_needs(Permission.WORKSPACE_MANAGE)
_URL, _HOOKS_URL = "/settings/notifications", "/settings/webhooks"


# --- preferences ----------------------------------------------------------------------------------------------------


@router.get(_URL, **_READ)
async def preferences_page(ctx: PageCtx, page: PageParams) -> Response:
    saved = await preferences.read(ctx.session, ctx.principal.user_id)
    hours = saved.quiet_hours
    values = {
        "panel": [kind for kind in NotificationType if kind not in saved.muted],
        "email": list(saved.email),
        "quiet": hours is not None,
        "start": f"{hours.start:%H:%M}" if hours else "22:00",
        "end": f"{hours.end:%H:%M}" if hours else "07:00",
        "timezone": hours.timezone if hours else "UTC",
        "urgent_at_once": hours.urgent_at_once if hours else True,
    }
    return await _preferences(ctx, values, page)


async def _preferences(ctx: RequestContext, values: dict[str, Any], page: Page, **shown: Any) -> Response:
    mailed, total = await repository.list_deliveries(
        ctx.session, user_id=ctx.principal.user_id, offset=page.offset, limit=page.limit
    )
    return settings_page(
        ctx,
        "notifications",
        "Notifications",
        values=values,
        types=TYPE_WORDS.items(),
        timezones=[(name, name.replace("_", " ")) for name in quiet.timezones()],
        mail_available=ctx.settings.smtp_host is not None,
        mailed=mailed,
        total=total,
        page_number=page,
        **shown,
    )


@router.post(_URL, **_READ)
async def save_preferences(ctx: PageCtx) -> Response:
    form = await ctx.request.form()
    texts = forms.text_fields(form, ("start", "end", "timezone"))
    panel, email = _chosen(form, "panel"), _chosen(form, "email")
    values = texts | {
        "panel": panel,
        "email": email,
        "quiet": "quiet" in form,
        "urgent_at_once": "urgent_at_once" in form,
    }
    hours = texts | {"urgent_at_once": "urgent_at_once" in form} if "quiet" in form else None
    muted = [kind.value for kind in NotificationType if kind not in panel]
    try:
        given = forms.parse(PreferencesIn, {"muted": muted, "email": email, "quiet_hours": hours})
        await preferences.save(ctx.session, ctx.principal.user_id, given)
    except BrightRunError as error:
        fields = {f"quiet_hours.{name}": name for name in texts} | {"quiet_hours": forms.GENERAL}
        return await _preferences(ctx, values, Page(), **failure(error, "preferences", **fields))
    return toasts.toast_redirect(ctx.request, _URL, toasts.Toast(title="Saved"))


def _chosen(form: FormData, name: str) -> list[str]:
    return [value for value in form.getlist(name) if isinstance(value, str)]


# --- webhooks -------------------------------------------------------------------------------------------------------


@router.get(_HOOKS_URL, **_MANAGE)
async def webhooks_page(ctx: PageCtx) -> Response:
    return await _webhooks(ctx)


async def _webhooks(ctx: RequestContext, **shown: Any) -> Response:
    values = {"url": "", "types": [kind.value for kind in NotificationType]}
    return settings_page(
        ctx,
        "webhooks",
        "Webhooks",
        webhooks=await repository.list_webhooks(ctx.session),
        types=TYPE_WORDS.items(),
        type_words=TYPE_WORDS,
        private_allowed=ctx.settings.allow_private_webhooks,
        **({"values": values, "secret": None} | shown),
    )


@router.post(_HOOKS_URL, **_MANAGE)
async def create(ctx: PageCtx) -> Response:
    """Shows the secret in this very answer."""
    form = await ctx.request.form()
    values = {**forms.text_fields(form, ("url",)), "types": _chosen(form, "types")}
    try:
        given = forms.parse(WebhookIn, values)
        row = await webhooks.create(
            ctx.session, ctx.settings, url=given.url, types=[kind.value for kind in given.types]
        )
    except BrightRunError as error:
        shown = failure(error, "webhook")
        if isinstance(error, TargetError):
            shown["errors"] = {"url": [error.message]}
        return await _webhooks(ctx, values=values, **shown)
    return await _webhooks(ctx, made=row, secret=webhooks.secret_of(ctx.platform, row))


@router.get(_HOOKS_URL + "/{webhook_id}", **_MANAGE)
async def webhook_page(ctx: PageCtx, webhook_id: UUID, page: PageParams) -> Response:
    return await _webhook(ctx, webhook_id, page)


async def _webhook(ctx: RequestContext, webhook_id: UUID, page: Page, **shown: Any) -> Response:
    row = await webhooks.get(ctx.session, webhook_id)
    found, total = await repository.list_deliveries(
        ctx.session, webhook_id=webhook_id, offset=page.offset, limit=page.limit
    )
    return settings_page(
        ctx,
        "webhook",
        "Webhooks",
        webhook=row,
        found=found,
        total=total,
        page_number=page,
        type_words=TYPE_WORDS,
        **({"secret": None} | shown),
    )


def _back(ctx: RequestContext, url: str, title: str, **more: Any) -> Response:
    return toasts.toast_redirect(ctx.request, url, toasts.Toast(title=title, **more))


@router.post(_HOOKS_URL + "/{webhook_id}/test", **_MANAGE)
async def send_test(ctx: PageCtx, webhook_id: UUID) -> Response:
    await deliveries.send_test(ctx.session, await webhooks.get(ctx.session, webhook_id))
    return _back(ctx, f"{_HOOKS_URL}/{webhook_id}", "A test is on its way", description="How it went is listed below.")


@router.post(_HOOKS_URL + "/{webhook_id}/switch", **_MANAGE)
async def switch(ctx: PageCtx, webhook_id: UUID) -> Response:
    """On when it is off, off when it is on."""
    row = await webhooks.get(ctx.session, webhook_id)
    row = await webhooks.change(ctx.session, ctx.settings, webhook_id, active=row.inactive_reason is not None)
    state = "on" if row.inactive_reason is None else "off"
    return _back(ctx, f"{_HOOKS_URL}/{webhook_id}", f"The webhook is {state}")


@router.post(_HOOKS_URL + "/{webhook_id}/rotate-secret", **_MANAGE)
async def rotate_secret(ctx: PageCtx, webhook_id: UUID) -> Response:
    row = await webhooks.rotate_secret(ctx.session, webhook_id)
    return await _webhook(ctx, webhook_id, Page(), secret=webhooks.secret_of(ctx.platform, row))


@router.post(_HOOKS_URL + "/{webhook_id}/delete", **_MANAGE)
async def delete(ctx: PageCtx, webhook_id: UUID) -> Response:
    await webhooks.delete(ctx.session, webhook_id)
    return _back(ctx, _HOOKS_URL, "Webhook deleted")


@router.post(_HOOKS_URL + "/{webhook_id}/deliveries/{delivery_id}/retry", **_MANAGE)
async def retry(ctx: PageCtx, webhook_id: UUID, delivery_id: UUID) -> Response:
    url = f"{_HOOKS_URL}/{webhook_id}"
    try:
        await deliveries.redeliver(ctx.session, webhook_id, delivery_id)
    except BrightRunError as error:
        return _back(ctx, url, "That did not work", description=error.message, category="error")
    return _back(ctx, url, "It is sent again")
