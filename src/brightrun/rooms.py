"""The rooms that make up this installation: their tables, their tasks. One line for each new room."""

import importlib
import importlib.util

_ROOMS = (
    "queue.events",
    "accounts",
    "notifications",
    "costs",
    "audit",
    "llm",
    "scaffolding",
    "generation",
    "datasets",
    "training",
    "training.templates",
    "training.estimates",
    "training.labels",
    "training.comparison",
    "models",
)


def _import_all(part: str) -> None:
    for room in _ROOMS:
        name = f"brightrun.{room}.{part}"
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(name)


def import_tables() -> None:
    """Every table is in `Base.metadata` afterwards."""
    _import_all("tables")


def import_tasks() -> None:
    """Every task and schedule is registered afterwards: for the worker, and for whoever enqueues by name."""
    _import_all("tasks")
