"""`GET /api/events`: what changes in one's workspace, as server-sent events, from where the last stream broke off."""

from typing import Annotated, cast

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse

from brightrun.accounts.context import Ctx, authenticate, needs
from brightrun.accounts.roles import Permission
from brightrun.errors import BrightRunError
from brightrun.queue.events import EventHub, sse_response

router = APIRouter(prefix="/api", tags=["live"])


@router.get("/events", response_class=StreamingResponse, **needs(Permission.WORKSPACE_READ))
async def events(
    request: Request,
    ctx: Ctx,
    topics: Annotated[
        str, Query(description="Comma-separated: datasets, dataset:<id>, jobs, job:<id>, models, notifications")
    ] = "",
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
) -> StreamingResponse:
    """Server-sent events. Without topics: everything of the workspace. A `resync` event means: load the page anew."""
    wanted = [topic.strip() for topic in topics.split(",") if topic.strip()]
    hub = cast(EventHub, request.app.state.hub)
    workspace_id, platform = ctx.principal.workspace_id, ctx.platform

    async def still_allowed() -> bool:
        """Signed out, removed, expired since? Then the stream ends."""
        try:
            async with platform.db.transaction() as session:
                principal = await authenticate(request, session, platform)
        except BrightRunError:
            return False
        return principal.workspace_id == workspace_id

    return await sse_response(hub, workspace_id, wanted or None, last_event_id, still_allowed=still_allowed)
