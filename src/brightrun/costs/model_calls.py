"""What requests to models cost, from their ledger into the workspace's cost records."""

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.costs.service import record, to_usd
from brightrun.costs.tables import CostType
from brightrun.llm import ledger


async def record_model_calls(session: AsyncSession) -> int:
    """Record what was settled since the last time, one record a batch and model; how many were made.

    Each request is taken once, in this transaction: the sum of these records is the ledger's, rounded record by record
    to a millionth of a dollar.
    """
    taken = await ledger.take_unrecorded(session)
    for one in taken:
        details = {
            "provider": one.provider,
            "model": one.model,
            "via": one.via,
            "requests": one.requests,
            "batch_id": str(one.batch_id) if one.batch_id else None,
            "basis": "exact",
        }
        await record(
            session,
            cost_type=CostType.API_CALLS,
            amount=to_usd(one.cost),
            dedupe_key=f"llm:{one.first}:{one.last}:{one.requests}",
            details=details,
        )
    return len(taken)
