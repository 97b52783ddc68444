"""How each state of a thing looks: a word, an icon and a tone, so that colour is never the only sign."""

from dataclasses import dataclass
from typing import Literal

Tone = Literal["neutral", "info", "success", "warning", "danger"]


@dataclass(frozen=True, slots=True)
class StatusLook:
    label: str
    tone: Tone
    icon: str
    spins: bool = False


_LOOKS: dict[str, dict[str, StatusLook]] = {
    "dataset": {
        "uploading": StatusLook("Uploading", "info", "cloud-upload"),
        "validating": StatusLook("Validating", "info", "loader-circle", spins=True),
        "ready": StatusLook("Ready", "success", "circle-check"),
        "error": StatusLook("Error", "danger", "circle-alert"),
    },
    "job": {
        "queued": StatusLook("Queued", "neutral", "clock"),
        "initializing": StatusLook("Initializing", "info", "loader-circle", spins=True),
        "running": StatusLook("Running", "info", "circle-play"),
        "paused": StatusLook("Paused", "warning", "circle-pause"),
        "interrupted": StatusLook("Interrupted", "warning", "rotate-ccw"),
        "completed": StatusLook("Completed", "success", "circle-check"),
        "failed": StatusLook("Failed", "danger", "circle-x"),
        "cancelled": StatusLook("Cancelled", "neutral", "ban"),
    },
    "model": {
        "stored": StatusLook("Stored", "success", "circle-check"),
        "archived": StatusLook("Archived", "neutral", "archive"),
    },
    "invitation": {
        "pending": StatusLook("Pending", "neutral", "clock"),
        "accepted": StatusLook("Accepted", "success", "circle-check"),
        "expired": StatusLook("Expired", "warning", "circle-alert"),
        "revoked": StatusLook("Revoked", "neutral", "ban"),
    },
    "delivery": {
        "pending": StatusLook("Waits", "neutral", "clock"),
        "sent": StatusLook("Sent", "success", "circle-check"),
        "failed": StatusLook("Failed", "danger", "circle-x"),
    },
    "token": {
        "active": StatusLook("Active", "success", "circle-check"),
        "expired": StatusLook("Expired", "warning", "circle-alert"),
        "revoked": StatusLook("Revoked", "neutral", "ban"),
    },
}


def status_look(kind: str, status: str) -> StatusLook:
    """The look of `status` of a `kind` (`dataset`, `job`, …). Raises `LookupError` for one that has no look yet."""
    try:
        return _LOOKS[kind][status]
    except KeyError:
        raise LookupError(f"{kind} status {status!r} has no look: add it to brightrun.web.statuses") from None


def known_statuses(kind: str) -> tuple[str, ...]:
    """Every status of a kind, in its natural order, for a filter's options."""
    return tuple(_LOOKS[kind])
