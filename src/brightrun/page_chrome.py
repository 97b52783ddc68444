"""What the layout shows around every page, gathered from the rooms, in the page's own transaction."""

from brightrun.accounts import repository as accounts
from brightrun.accounts.context import RequestContext, csrf_token
from brightrun.web.page_context import PageContext, WorkspaceChoice, theme_from_cookies


async def build_page(ctx: RequestContext) -> PageContext:
    principal = ctx.principal
    workspaces = await accounts.list_workspaces(ctx.session, principal.user_id)
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
        theme=theme_from_cookies(ctx.request.cookies),
    )
