"""Tell live pages of a change, in its transaction."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.models.tables import ModelArtifact
from brightrun.queue.events import publish


async def announce(session: AsyncSession, model: ModelArtifact, kind: str = "model.updated") -> None:
    """To everyone who watches the list, and to those who watch this model.

    kinds: `model.created`, `model.updated`, `model.deleted`, `model.restored`, `model.purged`.
    """
    payload: dict[str, Any] = {
        "id": str(model.id),
        "name": model.name,
        "version": model.version,
        "status": model.status,
        "job_id": str(model.job_id),
        "dataset_id": str(model.dataset_id),
    }
    await publish(session, "models", kind, payload)
    await publish(session, f"model:{model.id}", kind, payload)
