"""Costs that other ledgers keep are recorded."""

from brightrun.costs.model_calls import record_model_calls
from brightrun.llm import ledger
from brightrun.queue import registry, schedule


@schedule("* * * * *", name="costs.record_model_calls")
async def record_all_model_calls(platform: registry.TaskPlatform) -> None:
    async with platform.db.transaction() as session:
        workspaces = await ledger.workspaces_with_unrecorded(session)
    for workspace_id in workspaces:
        async with platform.db.transaction(workspace_id=workspace_id) as session:
            await record_model_calls(session)
