"""What members of a workspace should know of: `await notify(session, type=…, title=…, message=…, dedupe_key=…)`."""

from brightrun.notifications.service import notify
from brightrun.notifications.tables import NotificationType, Priority

__all__ = ["NotificationType", "Priority", "notify"]
