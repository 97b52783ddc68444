"""The layout's own route: the live part of its header.

Mount the router where pages are mounted, so that `request.state.page` is set for it as for them.
"""

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from brightrun.errors import UnauthenticatedError
from brightrun.web import views

router = APIRouter(include_in_schema=False)


@router.get("/partials/header-status")
async def header_status(request: Request) -> HTMLResponse:
    """Active training, spend and unread notifications; live.js asks for it when one of them changed."""
    if getattr(request.state, "page", None) is None:
        raise UnauthenticatedError("Sign in to see this")
    return views.render(request, "partials/header_status.html")
