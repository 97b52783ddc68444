"""The held-out losses that a run leaves, by conversation: read from its directory, kept in the database."""

import hashlib
import json
from pathlib import Path
from typing import Any

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.training.comparison.tables import HeldoutLosses
from brightrun.training.tables import TrainingJob

HELDOUT_FILE = "heldout.json"


def read_heldout(run_dir: Path) -> dict[str, Any] | None:
    """`{unit, conversations}` as the table holds them; None when nothing was held out.

    Raises ValueError for a file that does not hold what the trainer writes.
    """
    try:
        content = json.loads((run_dir / HELDOUT_FILE).read_bytes())
    except FileNotFoundError:
        return None
    try:
        return {"unit": str(content["unit"]), "conversations": _by_conversation(content["records"])}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{HELDOUT_FILE} is not as a trainer writes it: {error!r}") from error


def _by_conversation(records: list[dict[str, Any]]) -> list[list[Any]]:
    found: dict[str, list[Any]] = {}
    digests: dict[str, Any] = {}
    for record in records:
        key = str(record["conversation_id"])
        row = found.setdefault(key, [key, "", 0, 0.0, 0.0])
        digests.setdefault(key, hashlib.sha256()).update(str(record["digest"]).encode())
        row[2] += int(record.get("pairs", record["tokens"]))
        row[3] += float(record["loss_sum_base"])
        row[4] += float(record["loss_sum_adapter"])
    for key, row in found.items():
        row[1] = digests[key].hexdigest()[:32]
    return list(found.values())


async def keep(session: AsyncSession, job: TrainingJob, heldout: dict[str, Any]) -> None:
    """A run that was trained anew replaces what its earlier one measured."""
    statement = insert(HeldoutLosses).values(job_id=job.id, workspace_id=job.workspace_id, **heldout)
    await session.execute(statement.on_conflict_do_update(index_elements=["job_id"], set_=heldout))
