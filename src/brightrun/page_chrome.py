"""What the layout shows around every page, gathered from the rooms, in the page's own transaction."""

from brightrun.accounts import repository as accounts
from brightrun.accounts.context import RequestContext, csrf_token
from brightrun.accounts.roles import Permission
from brightrun.costs import service as costs
from brightrun.datasets import repository as datasets
from brightrun.models import service as models
from brightrun.notifications import repository as notifications
from brightrun.queue.events.cursor import current_cursor
from brightrun.training import repository as training
from brightrun.web.http import Page
from brightrun.web.page_context import THEME_COOKIE, PageContext, WorkspaceChoice, theme_from_cookies


async def build_page(ctx: RequestContext) -> PageContext:
    session, principal = ctx.session, ctx.principal
    cursor = await current_cursor(session)  # Before anything is read: what happens later is replayed.
    workspaces = await accounts.list_workspaces(session, principal.user_id)
    current = next(workspace for workspace, _role in workspaces if workspace.id == principal.workspace_id)
    by_status, _deleted = await datasets.counts(session)
    active = await training.active_count(session)
    _, models_total = await models.list_models(session, Page(limit=1))
    may_see_costs = Permission.COSTS_READ in principal.permissions
    return PageContext(
        user_name=principal.name,
        user_email=principal.email,
        workspace_id=principal.workspace_id,
        workspace_name=current.name,
        role=principal.role.value,
        csrf_token=csrf_token(ctx.platform, str(principal.session_id)),
        path=ctx.request.url.path,
        workspaces=[WorkspaceChoice(id=workspace.id, name=workspace.name, role=role) for workspace, role in workspaces],
        nav_counts={"datasets": sum(by_status.values()), "training": active, "models": models_total},
        active_jobs=active,
        spend_this_month=await costs.spent_this_month(session) if may_see_costs else None,
        unread_notifications=await notifications.count_unread(session, principal.user_id),
        last_event_id=str(cursor),
        # A new browser has no cookie yet: what the profile says.
        theme=theme_from_cookies({THEME_COOKIE: principal.theme} | ctx.request.cookies),
    )
