"""How each kind of notification looks: an icon and a tone, so that a list can be read at a glance."""

from dataclasses import dataclass

from brightrun.notifications.tables import NotificationType
from brightrun.web.statuses import Tone


@dataclass(frozen=True)
class Look:
    icon: str
    tone: Tone


_LOOKS = {
    NotificationType.DATASET_READY: Look("database", "success"),
    NotificationType.DATASET_ERROR: Look("database", "danger"),
    NotificationType.JOB_QUEUED: Look("clock", "neutral"),
    NotificationType.JOB_STARTED: Look("circle-play", "info"),
    NotificationType.JOB_COMPLETED: Look("circle-check", "success"),
    NotificationType.JOB_FAILED: Look("circle-x", "danger"),
    NotificationType.JOB_CANCELLED: Look("ban", "neutral"),
    NotificationType.JOB_INTERRUPTED: Look("rotate-ccw", "warning"),
    NotificationType.COST_ALERT: Look("dollar-sign", "warning"),
    NotificationType.SYSTEM: Look("info", "info"),
}


def look(type_: str) -> Look:
    """The look of a notification's type; every type has one (a test compares)."""
    return _LOOKS[NotificationType(type_)]
