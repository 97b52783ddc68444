"""Settings › Providers: keys, the address of a server of one's own, the terms, models and prices."""

from typing import Any

from fastapi import APIRouter, Response

from brightrun.accounts.context import PageCtx, RequestContext, page_needs
from brightrun.accounts.roles import Permission
from brightrun.accounts.settings_pages import failure, settings_page
from brightrun.errors import BrightRunError
from brightrun.generation import providers
from brightrun.llm import terms
from brightrun.llm.calls import Provider
from brightrun.llm.prices import catalogue
from brightrun.web import forms, toasts

router = APIRouter(include_in_schema=False)

URL = "/settings/providers"
_READ = page_needs(Permission.CONVERSATIONS_READ)
_MANAGE = page_needs(Permission.WORKSPACE_MANAGE)


@router.get(URL, **_READ)
async def providers_page(ctx: PageCtx) -> Response:
    return await _page(ctx)


async def _page(ctx: RequestContext, **shown: Any) -> Response:
    found = await providers.states(ctx.session, ctx.platform)
    return settings_page(
        ctx,
        "providers",
        "Providers",
        providers=[{"state": state, "notice": terms.NOTICES[state.provider]} for state in found],
        models=providers.known_models(),
        as_of=catalogue().as_of,
        **({"values": {}, "checked": None} | shown),
    )


def _done(ctx: RequestContext, title: str, **more: Any) -> Response:
    return toasts.toast_redirect(ctx.request, URL, toasts.Toast(title=title, **more))


@router.post(URL + "/{provider}/key", **_MANAGE)
async def save_key(ctx: PageCtx, provider: Provider) -> Response:
    given = forms.text_fields(await ctx.request.form(), ("key", "base_url"))
    try:
        state = await providers.set_key(
            ctx.session, ctx.platform, provider, key=given["key"] or None, base_url=given["base_url"] or None
        )
    except BrightRunError as error:
        # The key itself is not put back into the page.
        return await _page(ctx, values={"base_url": given["base_url"]}, **failure(error, provider.value))
    words = f"It ends with …{state.last_four}." if state.last_four else "It is used without a key."
    return _done(ctx, f"{state.label} is set up", description=words)


@router.post(URL + "/{provider}/key/remove", **_MANAGE)
async def remove_key(ctx: PageCtx, provider: Provider) -> Response:
    try:
        state = await providers.remove_key(ctx.session, ctx.platform, provider)
    except BrightRunError as error:
        return _done(ctx, "That did not work", description=error.message, category="error")
    return _done(ctx, f"The key for {state.label} is deleted")


@router.post(URL + "/{provider}/terms", **_MANAGE)
async def accept_terms(ctx: PageCtx, provider: Provider) -> Response:
    given = forms.text_fields(await ctx.request.form(), ("version", "agree"))
    try:
        providers.check_version(given["version"])
        if given["agree"] != "on":
            raise providers.not_agreed()
        state = await providers.accept_terms(ctx.session, ctx.platform, provider, email=ctx.principal.email)
    except BrightRunError as error:
        return await _page(ctx, **failure(error, f"{provider.value}-terms"))
    return _done(ctx, f"Accepted for {state.label}", description=f"On record: {ctx.principal.email}")


@router.post(URL + "/{provider}/check", **_MANAGE)
async def check(ctx: PageCtx, provider: Provider) -> Response:
    """Shown on the page itself: a list of models is more than a toast holds."""
    found = await providers.check(ctx.session, ctx.platform, provider)
    return await _page(ctx, checked={"provider": provider, "result": found})
