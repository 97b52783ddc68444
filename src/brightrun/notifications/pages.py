"""The page of notifications: what happened, what one has not read yet, and the way to it."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Form, Query, Response
from fastapi.responses import RedirectResponse

from brightrun.accounts.context import PageCtx, page_needs
from brightrun.accounts.roles import Permission
from brightrun.notifications import looks, repository, service
from brightrun.web import views
from brightrun.web.filters import plural
from brightrun.web.http import Page
from brightrun.web.toasts import Toast, toast_redirect

router = APIRouter(prefix="/notifications", include_in_schema=False)

_READ = page_needs(Permission.WORKSPACE_READ)
_PAGE_SIZE = 25

Show = Annotated[Literal["", "unread"], Query()]
Back = Annotated[Literal["", "unread"], Form()]


def _list_url(show: str) -> str:
    return f"/notifications?show={show}" if show else "/notifications"


@router.get("", **_READ)
async def list_page(ctx: PageCtx, show: Show = "", page: Annotated[int, Query(ge=1, le=1_000_000)] = 1) -> Response:
    user_id = ctx.principal.user_id
    wanted = Page(page=page, limit=_PAGE_SIZE)
    found, total = await repository.list_for(
        ctx.session, user_id, unread_only=show == "unread", offset=wanted.offset, limit=wanted.limit
    )
    return views.render(
        ctx.request,
        "notifications/list.html",
        block="list" if views.is_fragment_request(ctx.request) else None,
        items=found,
        total=total,
        unread=await repository.count_unread(ctx.session, user_id),
        show=show,
        page_number=page,
        limit=_PAGE_SIZE,
        look=looks.look,
    )


@router.post("/read-all", **_READ)
async def mark_all_read(ctx: PageCtx, show: Back = "") -> Response:
    marked = await service.mark_all_read(ctx.session, ctx.principal.user_id)
    done = Toast(title=f"{plural(marked, 'notification')} marked as read" if marked else "Everything was read already")
    return toast_redirect(ctx.request, _list_url(show), done)


@router.post("/{notification_id}/read", **_READ)
async def mark_read(ctx: PageCtx, notification_id: UUID, show: Back = "") -> Response:
    await service.mark_read(ctx.session, notification_id, ctx.principal.user_id)
    return RedirectResponse(_list_url(show), status_code=303)


@router.post("/{notification_id}/open", **_READ)
async def open_and_mark_read(ctx: PageCtx, notification_id: UUID) -> Response:
    """To what it is about; whoever goes there has read it."""
    notification = await service.mark_read(ctx.session, notification_id, ctx.principal.user_id)
    return RedirectResponse(notification.action_url or "/notifications", status_code=303)
