"""Tell live pages of a change, and people of how an upload or a validation ended; in its transaction."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.datasets.tables import Dataset, DatasetStatus
from brightrun.formats.names import TRAINED_LATER
from brightrun.notifications.service import notify
from brightrun.notifications.tables import NotificationType
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


async def notify_ended(session: AsyncSession, dataset: Dataset, *, once: str) -> None:
    """Notify of a dataset that has become ready or faulty; nobody is told of one in the trash.

    once: names the event within the dataset; it is notified of once, however often the fault is found again.
    """
    if dataset.deleted_at is not None:
        return
    ready = dataset.status == DatasetStatus.READY
    later = dataset.format in TRAINED_LATER
    if ready:
        message = (
            f"{dataset.name}: {dataset.total_conversations:,} conversations, "
            f"{dataset.total_training_pairs:,} training pairs, "
            + ("read and checked; training on them comes later." if later else "ready to train on.")
        )
    else:
        message = f"{dataset.name}: {dataset.error_message}"
    await notify(
        session,
        type=NotificationType.DATASET_READY if ready else NotificationType.DATASET_ERROR,
        title="Dataset ready" if ready else "Dataset has errors",
        message=message,
        action_url=f"/datasets/{dataset.id}",
        metadata={"dataset_id": str(dataset.id), "error_code": dataset.error_code},
        dedupe_key=f"dataset:{dataset.id}:{once}",
    )
