"""Tell live pages and the audit log of a change, in its transaction."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.datasets.tables import Dataset
from brightrun.queue.events import publish


async def announce(session: AsyncSession, dataset: Dataset, kind: str = "dataset.updated") -> None:
    """To everyone who watches the list, and to those who watch this dataset.

    kinds: `dataset.created`, `dataset.updated`, `dataset.progress`, `dataset.deleted`, `dataset.restored`,
    `dataset.purged`.
    """
    payload: dict[str, Any] = {
        "id": str(dataset.id),
        "name": dataset.name,
        "status": dataset.status,
        "training_ready": dataset.training_ready,
        "file_size": dataset.file_size,
        "validated_bytes": dataset.validated_bytes,
        "error_code": dataset.error_code,
    }
    await publish(session, "datasets", kind, payload)
    await publish(session, f"dataset:{dataset.id}", kind, payload)
