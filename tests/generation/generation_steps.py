"""What tests of generation share: plans, and rows as a worker leaves them."""

from typing import Any
from uuid import UUID

from brightrun.db.session import Database
from brightrun.generation.tables import BatchItem, Conversation, ConversationTurn, FailedGeneration
from brightrun.ids import uuid7
from brightrun.llm import terms
from live import Live, Member
from waiting import eventually

CELL = {"persona": "overwhelmed_avoider", "arc": "confusion_to_clarity", "topic": "roth_ira_conversion"}
PLAN: dict[str, Any] = {"pack": "financial_planning", "model": "claude-sonnet-5-5", "seed": 1, "items": [CELL]}


def plan_of(count: int, **changes: Any) -> dict[str, Any]:
    """A plan of `count` different conversations."""
    items = [CELL | {"replicate": number} for number in range(count)]
    return PLAN | {"items": items} | changes


def add_generation(live: Live, owner: Member) -> dict[str, str]:
    """A batch that nobody could send for want of a key, with a conversation and a failure as a run leaves them."""
    accepted = owner.client.post("/api/providers/anthropic/terms", json={"version": terms.VERSION})
    assert accepted.status_code == 200, accepted.text
    body = {"plan": plan_of(2), "name": "secret batch"}
    made = owner.client.post("/api/batch-jobs", json=body, headers={"Idempotency-Key": "tenancy"}).json()
    batch_id = made["data"]["batch"]["id"]
    path = f"/api/batch-jobs/{batch_id}"
    eventually("given up", lambda: owner.client.get(path).json()["data"]["batch"]["status"] == "failed")

    async def add(database: Database) -> tuple[UUID, UUID]:
        async with database.transaction(workspace_id=owner.workspace_id) as session:
            items = (await session.scalars(_items(UUID(batch_id)))).all()
            conversation = Conversation(
                id=uuid7(), workspace_id=owner.workspace_id, batch_job_id=UUID(batch_id), request_id=uuid7(),
                work_key=items[0].work_key, title="secret conversation", pack_key="financial_planning",
                persona_key="p", arc_key="a", topic_key="t", template_key="x", tier="template", scaffolding={},
                details={}, turn_count=1, model="m", total_tokens=2,
            )  # fmt: skip
            session.add(conversation)
            await session.flush()
            session.add(
                ConversationTurn(
                    workspace_id=owner.workspace_id, conversation_id=conversation.id, turn_number=1, role="user",
                    content="secret turn", emotional_context={},
                )
            )  # fmt: skip
            failure = FailedGeneration(
                id=uuid7(), workspace_id=owner.workspace_id, batch_job_id=UUID(batch_id), batch_item_id=items[1].id,
                attempt=1, failure_class="truncated", reason="max_tokens", message="secret failure", model="m",
                max_tokens=1,
            )  # fmt: skip
            session.add(failure)
            await session.flush()
            return conversation.id, failure.id

    conversation_id, failure_id = live.run(add)
    return {"batch_id": batch_id, "conversation_id": str(conversation_id), "failure_id": str(failure_id)}


def _items(batch_id: UUID) -> Any:
    from sqlalchemy import select

    return select(BatchItem).where(BatchItem.batch_job_id == batch_id).order_by(BatchItem.position)
