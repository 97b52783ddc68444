"""No job begins that the month cannot pay, none runs past its own limit, and every dollar is in the ledger once."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from job_steps import AddDataset, at_step, data, ended, events, get, start, started

from brightrun.accounts.roles import Role
from brightrun.db.roles import DatabaseUrls
from brightrun.settings import Settings
from live import Live, Member, live_server

CATALOGUE = """
[[gpu]]
id = "shed"
title = "A machine in the shed"
kind = "cpu"
executor = "local"
price_per_gpu_hour_usd = "100"
tokens_per_s = 1000
storage_usd = "100"

[[gpu]]
id = "local-cpu"
kind = "cpu"
executor = "local"
price_per_gpu_hour_usd = "0"
"""
LONG = {"batch_size": 1, "epochs": 15, "checkpoint_every_steps": 5, "eval_every_steps": 500}
REASON = "The client waits for it, agreed with the owner."


@pytest.fixture(scope="module")
def priced(
    new_database: Callable[[], AbstractContextManager[DatabaseUrls]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Live, Live]]:
    """(a server without a worker, one with) on a machine that costs 100 dollars to have, and 100 an hour."""
    lives = []
    catalogue = tmp_path_factory.mktemp("catalogue") / "gpus.toml"
    catalogue.write_text(CATALOGUE)
    settings = {"database_role_prefix": "brtest", "min_free_disk_bytes": 0, "gpu_catalogue": catalogue}
    with new_database() as idle, new_database() as busy:
        first = Settings(data=tmp_path_factory.mktemp("idle"), **settings)  # type: ignore[arg-type]
        second = Settings(data=tmp_path_factory.mktemp("busy"), worker_heartbeat_s=1, **settings)  # type: ignore[arg-type]
        with (
            live_server(idle, first, b"the tests' secret key", worker=False) as quiet,
            live_server(busy, second, b"the tests' secret key") as working,
        ):
            lives = [quiet, working]
            yield lives[0], lives[1]


@pytest.fixture
def waiting(priced: tuple[Live, Live], add_dataset: AddDataset) -> tuple[Live, Member, str]:
    member = priced[0].new_workspace()
    return priced[0], member, add_dataset(priced[0], member)


SHED: dict[str, Any] = {"gpu_config": {"type": "shed"}}


def limit(member: Member, dollars: str) -> None:
    assert member.client.put("/api/budget", json={"monthly_limit_usd": dollars}).status_code == 200


def test_a_launch_counts_what_is_on_its_way_and_says_what_is_short(waiting: tuple[Live, Member, str]) -> None:
    _live, member, dataset_id = waiting
    for number in range(4):
        assert start(member, dataset_id, **SHED).status_code == 201, number  # 100 dollars and a little each
    answer = start(member, dataset_id, **SHED)
    assert answer.status_code == 409
    body = answer.json()
    assert body["code"] == "budget_exceeded"
    committed, upper = Decimal(body["details"]["committed_usd"]), Decimal(body["details"]["upper_estimate_usd"])
    assert committed == 4 * upper
    assert Decimal(body["details"]["shortfall_usd"]) == committed + upper - 500
    told = data(member.client.get("/api/budget"))["budget"]
    assert Decimal(told["committed_usd"]) == committed
    assert start(member, dataset_id, gpu_config={"type": "local-cpu"}).status_code == 201, (
        "what is free is never refused"
    )
    assert start(member, dataset_id, max_cost_usd="20", **SHED).status_code == 201, "a cap makes it fit"


def test_a_paused_or_cancelled_job_makes_room_and_is_looked_at_again_when_it_goes_on(
    waiting: tuple[Live, Member, str],
) -> None:
    _live, member, dataset_id = waiting
    limit(member, "150")
    first = started(member, dataset_id, **SHED)["id"]
    assert start(member, dataset_id, **SHED).status_code == 409
    member.client.post(f"/api/jobs/{first}/pause")
    second = started(member, dataset_id, **SHED)["id"]
    assert member.client.post(f"/api/jobs/{first}/resume").json()["code"] == "budget_exceeded"
    member.client.post(f"/api/jobs/{second}/cancel", json={})
    assert member.client.post(f"/api/jobs/{first}/resume").status_code == 200


def test_only_who_manages_the_workspace_may_pass_the_budget_and_says_why(waiting: tuple[Live, Member, str]) -> None:
    live, member, dataset_id = waiting
    limit(member, "50")
    trainer = live.new_member(member.workspace_id, Role.TRAINER)
    assert start(trainer, dataset_id, budget_override_reason=REASON, **SHED).status_code == 403
    assert start(member, dataset_id, budget_override_reason="because", **SHED).status_code == 400
    job = data(start(member, dataset_id, budget_override_reason=REASON, **SHED))["job"]
    assert job["budget_override"]["reason"] == REASON
    entries = data(member.client.get("/api/audit"))["items"]
    (entry,) = [entry for entry in entries if entry["action"] == "budget.overridden"]
    assert entry["details"]["reason"] == REASON
    assert entry["target_id"] == job["id"]


def ledger(member: Member, job_id: str) -> Decimal:
    records = data(member.client.get("/api/costs/records", params={"job_id": job_id, "limit": 100}))["items"]
    return sum((Decimal(record["amount"]) for record in records), Decimal(0))


def test_a_jobs_limit_saves_and_stops_it_and_a_raise_goes_on(
    priced: tuple[Live, Live], add_dataset: AddDataset, tmp_path: Path
) -> None:
    live, member = priced[1], priced[1].new_workspace()
    cap = Decimal("0.60")  # 21.6 seconds of this machine
    body = {"hyperparameters": LONG | {"epochs": 20, "learning_rate": 1e-4}, "max_cost_usd": str(cap)}
    job_id = started(member, add_dataset(live, member, _many()), **SHED, **body)["id"]
    job = ended(member, job_id, seconds=200)
    assert (job["status"], job["error_code"]) == ("failed", "budget"), (job["error_message"], job["step"])
    assert job["attempts"][0]["exit_code"] == 77
    assert job["checkpoint_step"] == job["step"] > 0, "saved where it stood"
    assert job["failure"]["action"]["kind"] == "raise_limit"
    spent = ledger(member, job_id)
    assert spent == Decimal(job["final_cost_usd"])
    assert cap * Decimal("0.5") < spent < cap * Decimal("1.5"), "one step and the end of its process, at most"
    assert member.client.post(f"/api/jobs/{job_id}/retry").json()["code"] == "job_limit_reached"
    raised = member.client.post(f"/api/jobs/{job_id}/resume", json={"max_cost_usd": "500"})
    assert raised.status_code == 200, raised.text
    at_step(member, job_id, job["step"] + 1)
    member.client.post(f"/api/jobs/{job_id}/cancel", json={"checkpoint": False})
    job = ended(member, job_id)
    assert job["attempts"][1]["checkpoint_before"] == job["attempts"][0]["checkpoint_after"]
    assert ledger(member, job_id) == Decimal(job["final_cost_usd"])


def test_a_month_that_is_used_up_stops_a_running_job_at_a_checkpoint(
    priced: tuple[Live, Live], add_dataset: AddDataset
) -> None:
    live, member = priced[1], priced[1].new_workspace()
    job_id = started(member, add_dataset(live, member, _many()), hyperparameters=LONG | {"epochs": 20}, **SHED)["id"]
    at_step(member, job_id, 3)
    limit(member, "0.01")
    job = ended(member, job_id, seconds=120)
    assert (job["status"], job["error_code"]) == ("failed", "month_budget"), job["error_message"]
    assert job["checkpoint_step"] == job["step"]
    titles = [item["title"] for item in data(member.client.get("/api/notifications"))["items"]]
    assert "The monthly budget is used up" in titles
    assert member.client.post(f"/api/jobs/{job_id}/retry").json()["code"] == "budget_exceeded"
    limit(member, "500")
    assert member.client.post(f"/api/jobs/{job_id}/retry").status_code == 200
    assert get(member, job_id)["status"] in {"queued", "initializing", "running"}
    member.client.post(f"/api/jobs/{job_id}/cancel", json={"checkpoint": False})
    job = ended(member, job_id)
    assert ledger(member, job_id) == Decimal(job["final_cost_usd"])
    assert "failed" in {event["type"] for event in events(member, job_id)}


def _many() -> bytes:
    from job_steps import adviser_file

    return adviser_file(conversations=200)
