"""Who did what, when: `await record(session, "dataset.deleted", "dataset", dataset.id)`."""

from brightrun.audit.service import record

__all__ = ["record"]
