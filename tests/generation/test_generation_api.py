"""Batches over the API, and carried out as a worker does."""

import asyncio
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import SecretStr

from brightrun.cli.runtime import open_platform
from brightrun.generation.tasks import run_batch
from brightrun.llm import terms
from generation.generation_steps import add_generation, plan_of
from live import Live, Member
from provider_server import Provider


def accept(owner: Member) -> None:
    body = {"version": terms.VERSION}
    assert owner.client.post("/api/providers/anthropic/terms", json=body).status_code == 200


def work(live: Live, owner: Member, provider: Provider, batch_id: str) -> None:
    """What the queue's task does, with a key: the shared worker has none."""
    settings = live.settings.model_copy(
        update={"anthropic_base_url": provider.url, "anthropic_api_key": SecretStr("sk-test-0123456789")}
    )

    async def carry_out() -> None:
        url = live.urls.worker.render_as_string(hide_password=False)
        async with open_platform(settings, url, pool_size=3, name="test") as platform:
            platform.secret = live.secret
            await run_batch(platform, workspace_id=str(owner.workspace_id), batch_id=batch_id)

    asyncio.run(carry_out())


def batch_of(owner: Member, batch_id: str) -> dict[str, Any]:
    found: dict[str, Any] = owner.client.get(f"/api/batch-jobs/{batch_id}").json()["data"]["batch"]
    return found


def test_nothing_is_sent_before_the_terms_are_accepted(owner: Member):
    answer = owner.client.post("/api/batch-jobs", json={"plan": plan_of(1)})
    assert (answer.status_code, answer.json()["code"]) == (409, "terms_not_accepted")


def test_a_quote_says_what_both_routes_cost_and_sends_nothing(owner: Member, provider: Provider):
    quote = owner.client.post("/api/batch-jobs/quote", json={"plan": plan_of(5)}).json()["data"]["quote"]
    assert (quote["items"], quote["to_send"]) == (5, 5)
    assert 0 < float(quote["now"]["low"]) < float(quote["now"]["usd"]) < float(quote["now"]["high"])
    assert float(quote["batch"]["usd"]) * 2 == float(quote["now"]["usd"])
    assert provider.stats()["requests"] == 0
    bad = owner.client.post("/api/batch-jobs/quote", json={"plan": plan_of(1) | {"pack": "gardening"}})
    assert bad.status_code == 404
    wrong = plan_of(2)
    wrong["items"][1]["topic"] = "nothing"
    answer = owner.client.post("/api/batch-jobs/quote", json={"plan": wrong})
    assert (answer.status_code, answer.json()["code"]) == (400, "plan_invalid")
    assert list(answer.json()["details"]) == ["items[1].topic"]


def test_a_batch_is_made_once_for_a_key_carried_out_and_read(live: Live, owner: Member, provider: Provider):
    accept(owner)
    provider.configure(faults=[{"kind": "refusal", "contains": "variation 2 of"}])
    body = {"plan": plan_of(4), "name": "Four", "max_cost_usd": "20"}
    first = owner.client.post("/api/batch-jobs", json=body, headers={"Idempotency-Key": "k"})
    again = owner.client.post("/api/batch-jobs", json=body, headers={"Idempotency-Key": "k"})
    assert (first.status_code, again.status_code) == (201, 200)
    batch_id = first.json()["data"]["batch"]["id"]
    assert again.json()["data"]["batch"]["id"] == batch_id
    other = owner.client.post("/api/batch-jobs", json=body | {"name": "x"}, headers={"Idempotency-Key": "k"})
    assert other.status_code == 409
    _until_given_up(owner, batch_id)
    _resume_and_work(live, owner, provider, batch_id)
    batch = batch_of(owner, batch_id)
    assert (batch["status"], batch["written"], batch["failed_by_class"]) == ("completed", 3, {"refusal": 1})
    assert abs(Decimal(batch["cost_usd"]) - Decimal(provider.stats()["usd"])) <= Decimal("0.000001")
    items = owner.client.get(f"/api/batch-jobs/{batch_id}/items", params={"status": "written"}).json()["data"]
    assert items["total"] == 3
    found = owner.client.get("/api/conversations", params={"batch_id": batch_id, "sort": "title"}).json()["data"]
    assert found["total"] == 3
    conversation_id = found["items"][0]["id"]
    detail = owner.client.get(f"/api/conversations/{conversation_id}").json()["data"]["conversation"]
    assert [turn["turn_number"] for turn in detail["turns"]] == list(range(1, detail["turn_count"] + 1))
    assert detail["conversation_metadata"]["client_persona"] == detail["scaffolding"]["persona"]["name"]
    raw = owner.client.get(f"/api/conversations/{conversation_id}/raw")
    assert raw.json()["stop_reason"] == "end_turn"
    failures = owner.client.get("/api/failed-generations", params={"batch_id": batch_id}).json()["data"]["items"]
    assert [(one["failure_class"], one["position"]) for one in failures] == [("refusal", 2)]
    whole = owner.client.get(f"/api/failed-generations/{failures[0]['id']}").json()["data"]["failure"]
    assert "variation 2 of" in whole["prompt"]
    assert "refusal" in whole["raw_response"]
    assert owner.client.get(f"/api/failed-generations/{failures[0]['id']}/download").json()["id"] == whole["id"]
    log = owner.client.get(f"/api/batch-jobs/{batch_id}/log", params={"position": 2}).json()["data"]["items"]
    assert "failed" in {line["event"] for line in log}
    provider.configure(faults=[])
    retried = owner.client.post(f"/api/failed-generations/{whole['id']}/retry")
    assert retried.status_code == 200
    _until_given_up(owner, batch_id)
    _resume_and_work(live, owner, provider, batch_id)
    assert batch_of(owner, batch_id)["written"] == 4
    assert owner.client.post(f"/api/failed-generations/{whole['id']}/retry").status_code == 409


def _until_given_up(owner: Member, batch_id: str) -> None:
    """The shared worker takes the batch, and has no key."""
    from waiting import eventually

    eventually("given up", lambda: batch_of(owner, batch_id)["status"] == "failed")
    assert "no key" in batch_of(owner, batch_id)["error_message"]


def _resume_and_work(live: Live, owner: Member, provider: Provider, batch_id: str) -> None:
    from sqlalchemy import text

    async def queued(database: Any) -> None:
        async with database.transaction(workspace_id=owner.workspace_id) as session:
            await session.execute(
                text("update batch_jobs set status = 'queued' where id = :id"), {"id": UUID(batch_id)}
            )

    live.run(queued)
    work(live, owner, provider, batch_id)


def test_a_batch_that_the_months_budget_cannot_hold_is_refused_unless_it_is_capped(owner: Member):
    accept(owner)
    assert owner.client.put("/api/budget", json={"monthly_limit_usd": "0.10"}).status_code == 200
    body = {"plan": plan_of(20)}
    refused = owner.client.post("/api/batch-jobs", json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "budget_exceeded")
    assert owner.client.get("/api/batch-jobs").json()["data"]["total"] == 0
    assert owner.client.post("/api/batch-jobs", json=body | {"max_cost_usd": "0.05"}).status_code == 201


def test_pause_resume_and_cancel_say_when_they_cannot(live: Live, owner: Member):
    ids = add_generation(live, owner)
    path = f"/api/batch-jobs/{ids['batch_id']}"
    assert owner.client.post(f"{path}/pause").json()["code"] == "not_running"
    assert owner.client.post(f"{path}/cancel").json()["data"]["batch"]["status"] == "cancelled"
    assert owner.client.post(f"{path}/cancel").json()["code"] == "batch_ended"
    assert owner.client.post(f"{path}/retry").json()["code"] == "nothing_failed"
    assert owner.client.post(f"{path}/resume").status_code == 200
