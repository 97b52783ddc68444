"""How a validation ends, once: the row, the notification and the event, all or none."""

from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.clock import utcnow
from brightrun.datasets import repository
from brightrun.datasets.changes import announce, notify_ended
from brightrun.logs import get_logger

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
    await notify_ended(session, dataset, once=f"validation:{dataset.validation_attempt}")
    return True
