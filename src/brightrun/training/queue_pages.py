"""The queue of the workspace's training jobs, in the order in which they start."""

from fastapi import APIRouter, Response

from brightrun.accounts.context import PageCtx, page_needs
from brightrun.accounts.roles import Permission
from brightrun.training.pages import priority_choices
from brightrun.training.views import queue_view
from brightrun.web import views

router = APIRouter(prefix="/training", include_in_schema=False)


@router.get("/queue", **page_needs(Permission.JOBS_READ))
async def queue_page(ctx: PageCtx) -> Response:
    """What waits, for what, and until when; priorities are changed here."""
    queue = await queue_view(ctx.session, ctx.settings)
    permissions = ctx.principal.permissions
    return views.render(
        ctx.request,
        "training/queue.html",
        block="queue" if views.is_fragment_request(ctx.request) else None,
        queue=queue,
        choices={job.id: priority_choices(job, permissions) for job in queue.jobs},
    )
