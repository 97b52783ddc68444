"""Who may do what, in one table. API tokens and people are measured by the same one."""

from enum import StrEnum


class Role(StrEnum):
    """A member's role in a workspace, from most to least."""

    OWNER = "owner"
    ADMIN = "admin"
    TRAINER = "trainer"
    REVIEWER = "reviewer"
    VIEWER = "viewer"


class Permission(StrEnum):
    """One thing a route asks for. Also the scopes of API tokens."""

    WORKSPACE_READ = "workspace:read"
    WORKSPACE_MANAGE = "workspace:manage"
    """Members, invitations, name, settings."""
    TOKENS_MANAGE = "tokens:manage"
    """One's own API tokens."""
    CONVERSATIONS_READ = "conversations:read"
    """Scaffolding, batches and the conversations that were written."""
    CONVERSATIONS_WRITE = "conversations:write"
    """Change scaffolding, and have conversations written: this spends money."""
    DATASETS_READ = "datasets:read"
    DATASETS_WRITE = "datasets:write"
    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    """Start, cancel and retry training: this spends money."""
    MODELS_READ = "models:read"
    MODELS_WRITE = "models:write"
    COSTS_READ = "costs:read"
    AUDIT_READ = "audit:read"
    """Who did what in the workspace."""


_VIEWER = frozenset(
    {
        Permission.WORKSPACE_READ,
        Permission.TOKENS_MANAGE,
        Permission.CONVERSATIONS_READ,
        Permission.DATASETS_READ,
        Permission.JOBS_READ,
        Permission.MODELS_READ,
    }
)
# What a reviewer may do beyond a viewer comes with the review of conversations.
_REVIEWER = _VIEWER
_TRAINER = _REVIEWER | {
    Permission.CONVERSATIONS_WRITE,
    Permission.DATASETS_WRITE,
    Permission.JOBS_WRITE,
    Permission.MODELS_WRITE,
    Permission.COSTS_READ,
}
_ADMIN = _TRAINER | {Permission.WORKSPACE_MANAGE, Permission.AUDIT_READ}

PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: _VIEWER,
    Role.REVIEWER: _REVIEWER,
    Role.TRAINER: _TRAINER,
    Role.ADMIN: _ADMIN,
    Role.OWNER: _ADMIN,
}
"""What each role may do. The owner also is the one who cannot be removed or demoted by an admin."""

ALL_SCOPES = "*"
"""A token scope: everything its member may do, also what is added later."""


def permitted(role: Role, scopes: frozenset[str] | None) -> frozenset[Permission]:
    """What `role` may do, narrowed to a token's `scopes` (None for a browser session)."""
    allowed = PERMISSIONS[role]
    if scopes is None or ALL_SCOPES in scopes:
        return allowed
    return frozenset(permission for permission in allowed if permission.value in scopes)
