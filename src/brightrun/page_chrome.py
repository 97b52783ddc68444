"""What the layout shows around every page, gathered from the rooms, in the page's own transaction."""

from sqlalchemy import null, select

from brightrun.accounts import repository as accounts
from brightrun.accounts.context import RequestContext, csrf_token
from brightrun.accounts.roles import Permission
from brightrun.costs import service as costs
from brightrun.datasets import repository as datasets
from brightrun.models import repository as models
from brightrun.notifications import repository as notifications
from brightrun.queue.events.cursor import NOW, cursor_at
from brightrun.training import repository as training
from brightrun.web.page_context import THEME_COOKIE, PageContext, WorkspaceChoice, theme_from_cookies


async def build_page(ctx: RequestContext) -> PageContext:
    """Two queries: this is asked for every page."""
    session, principal = ctx.session, ctx.principal
    may_see_costs = Permission.COSTS_READ in principal.permissions
    # Before the page reads anything: what happens later is replayed.
    snapshot, datasets_total, active, models_total, unread, spent = (
        await session.execute(
            select(
                NOW,
                datasets.how_many(),
                training.active_count(),
                models.how_many(),
                notifications.unread_count(principal.user_id),
                costs.month_so_far() if may_see_costs else null(),
            )
        )
    ).one()
    workspaces = await accounts.list_workspaces(session, principal.user_id)
    current = next(workspace for workspace, _role in workspaces if workspace.id == principal.workspace_id)
    return PageContext(
        user_name=principal.name,
        user_email=principal.email,
        workspace_id=principal.workspace_id,
        workspace_name=current.name,
        role=principal.role.value,
        csrf_token=csrf_token(ctx.platform, str(principal.session_id)),
        path=ctx.request.url.path,
        workspaces=[WorkspaceChoice(id=workspace.id, name=workspace.name, role=role) for workspace, role in workspaces],
        nav_counts={"datasets": datasets_total, "training": active, "models": models_total},
        active_jobs=active,
        spend_this_month=spent,
        unread_notifications=unread,
        last_event_id=str(cursor_at(snapshot)),
        # A new browser has no cookie yet: what the profile says.
        theme=theme_from_cookies({THEME_COOKIE: principal.theme} | ctx.request.cookies),
    )
