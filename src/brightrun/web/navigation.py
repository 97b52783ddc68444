"""The sidebar, in pipeline order. A new room adds one line here."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Room:
    """`key` names the room in `PageContext.nav_counts`; a page is in the room whose `path` begins its own."""

    key: str
    label: str
    path: str
    icon: str


ROOMS: tuple[Room, ...] = (
    Room("overview", "Overview", "/", "layout-dashboard"),
    Room("scaffolding", "Scaffolding", "/scaffolding", "layers"),
    Room("conversations", "Conversations", "/conversations", "messages-square"),
    Room("batches", "Batches", "/batches", "list"),
    Room("datasets", "Datasets", "/datasets", "database"),
    Room("training", "Training", "/training", "activity"),
    Room("models", "Models", "/models", "box"),
)

HOUSEKEEPING: tuple[Room, ...] = (
    Room("costs", "Costs", "/costs", "dollar-sign"),
    Room("notifications", "Notifications", "/notifications", "bell"),
    Room("settings", "Settings", "/settings", "settings"),
)


def is_current(room: Room, path: str) -> bool:
    """Is a page at `path` in this room?"""
    if room.path == "/":
        return path == "/"
    return path == room.path or path.startswith(room.path + "/")
