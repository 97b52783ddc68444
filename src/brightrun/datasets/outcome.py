"""How a validation ends, once: the row, the notification and the event, all or none."""

from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.clock import utcnow
from brightrun.datasets import repository
from brightrun.datasets.changes import announce
from brightrun.datasets.tables import Dataset, DatasetStatus
from brightrun.formats.names import TRAINED_LATER
from brightrun.logs import get_logger
from brightrun.notifications.service import notify
from brightrun.notifications.tables import NotificationType

log = get_logger(__name__)


async def finish(session: AsyncSession, dataset_id: UUID, attempt: int, values: dict[str, Any]) -> bool:
    """Write the outcome of an attempt (`values`: columns). False when it is finished, or a later one overtook it."""
    values = values | {"validated_at": utcnow(), "validation_heartbeat_at": utcnow()}
    if not await repository.finish_validation(session, dataset_id, attempt, values):
        log.info("the outcome of an overtaken validation is dropped", dataset=str(dataset_id), attempt=attempt)
        return False
    dataset = await repository.find(session, dataset_id, deleted=True)
    assert dataset is not None
    await announce(session, dataset)
    if dataset.deleted_at is None:
        await _notify(session, dataset)
    return True


async def _notify(session: AsyncSession, dataset: Dataset) -> None:
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
        dedupe_key=f"dataset:{dataset.id}:validation:{dataset.validation_attempt}",
    )
