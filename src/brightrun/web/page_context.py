"""What the layout shows around every page: who is here, in which workspace, and what runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal
from uuid import UUID

Theme = Literal["light", "dark", "system"]
THEMES: tuple[Theme, ...] = ("light", "dark", "system")
THEME_COOKIE = "brightrun_theme"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceChoice:
    """One line of the workspace switcher."""

    id: UUID
    name: str
    role: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PageContext:
    """Put it at `request.state.page` before a page renders; absent or None means the signed-out layout."""

    user_name: str
    user_email: str
    workspace_id: UUID
    workspace_name: str
    role: str
    csrf_token: str
    path: str
    workspaces: Sequence[WorkspaceChoice] = ()
    nav_counts: Mapping[str, int] = field(default_factory=dict)
    """Room key of `navigation.ROOMS` → number shown beside it; 0 is not shown."""
    active_jobs: int = 0
    spend_this_month: Decimal | None = Decimal(0)
    """None for someone who may not see costs."""
    unread_notifications: int = 0
    last_event_id: str = ""
    """Where the event stream stood when the page was made: live.js goes on from there, and misses nothing."""
    theme: Theme = "system"

    @property
    def initials(self) -> str:
        """One or two letters for the round mark beside the name."""
        words = (self.user_name or self.user_email).replace("@", " ").split()
        letters = [word[0] for word in words if word[0].isalnum()]
        return "".join(letters[:1] + letters[-1:] if len(letters) > 1 else letters) or "?"


def theme_from_cookies(cookies: Mapping[str, str]) -> Theme:
    """The theme chosen in this browser; what the system prefers when none, or an unknown one, was chosen."""
    value = cookies.get(THEME_COOKIE)
    return value if value in THEMES else "system"
