"""Cancel, pause, resume: what they do to a job that waits, and what they refuse."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from job_steps import data, events, get, started

from brightrun.clock import utcnow
from brightrun.db.session import Database
from brightrun.training.tables import TrainingJob
from live import Live, Member


def change(live: Live, member: Member, job_id: str, **values: Any) -> None:
    """Set columns of a job's row, as a supervisor would have."""

    async def work(database: Database) -> None:
        async with database.transaction(workspace_id=member.workspace_id) as session:
            job = await session.get_one(TrainingJob, UUID(job_id))
            for name, value in values.items():
                setattr(job, name, value)

    live.run(work)


def act(member: Member, job_id: str, what: str, **body: Any) -> Any:
    return member.client.post(f"/api/jobs/{job_id}/{what}", json=body)


def test_a_waiting_job_is_paused_at_once_keeps_its_place_and_costs_nothing(
    trainer_owner: Member, dataset_id: str
) -> None:
    job = started(trainer_owner, dataset_id)
    paused = data(act(trainer_owner, job["id"], "pause"))["job"]
    assert paused["status"] == "paused"
    assert paused["can"] == {"cancel": True, "pause": False, "resume": True, "retry": False}
    assert data(act(trainer_owner, job["id"], "pause"))["job"]["status"] == "paused", "again without harm"
    resumed = data(act(trainer_owner, job["id"], "resume"))["job"]
    assert resumed["status"] == "queued"
    assert resumed["queued_at"] == job["queued_at"]
    assert Decimal(resumed["cost_usd"]) == 0
    assert [event["type"] for event in events(trainer_owner, job["id"])] == ["queued", "paused", "resumed"]


def test_a_paused_job_can_be_cancelled(trainer_owner: Member, dataset_id: str) -> None:
    job = started(trainer_owner, dataset_id)
    act(trainer_owner, job["id"], "pause")
    cancelled = data(act(trainer_owner, job["id"], "cancel", reason="other", note="Changed plans"))["job"]
    assert (cancelled["status"], cancelled["cancel_reason"], cancelled["cancel_note"]) == (
        "cancelled", "other", "Changed plans",
    )  # fmt: skip


def test_a_running_job_is_asked_to_pause_and_may_run_on_after_all(
    quiet: Live, trainer_owner: Member, dataset_id: str
) -> None:
    job = started(trainer_owner, dataset_id)
    change(quiet, trainer_owner, job["id"], status="running")
    asked = data(act(trainer_owner, job["id"], "pause"))["job"]
    assert (asked["status"], asked["pausing"]) == ("running", True)
    assert asked["can"]["resume"]
    assert not asked["can"]["pause"]
    assert act(trainer_owner, job["id"], "resume", checkpoint_step=5).status_code == 409
    back = data(act(trainer_owner, job["id"], "resume"))["job"]
    assert (back["status"], back["pausing"]) == ("running", False)


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_what_has_ended_is_not_paused(quiet: Live, trainer_owner: Member, dataset_id: str, status: str) -> None:
    job = started(trainer_owner, dataset_id)
    change(
        quiet, trainer_owner, job["id"], status=status, completed_at=utcnow(), progress=Decimal(100),
        error_code="bug", error_message="x",
    )  # fmt: skip
    answer = act(trainer_owner, job["id"], "pause")
    assert answer.status_code == 409
    assert answer.json()["code"] == "not_pausable"


def test_a_model_that_is_being_stored_is_neither_paused_nor_taken_back(
    quiet: Live, trainer_owner: Member, dataset_id: str
) -> None:
    job = started(trainer_owner, dataset_id)
    change(quiet, trainer_owner, job["id"], status="running", trained_at=utcnow())
    assert act(trainer_owner, job["id"], "pause").json()["code"] == "job_trained"
    assert act(trainer_owner, job["id"], "resume").json()["code"] == "not_resumable"


def failed_at(quiet: Live, member: Member, dataset_id: str, **values: Any) -> str:
    job = started(member, dataset_id)
    fields = {
        "status": "failed", "completed_at": utcnow(), "error_code": "bug", "error_message": "x",
        "run_dir": "/somewhere", "checkpoints": [10, 20, 30], "checkpoint_step": 30, "attempt": 1,
    }  # fmt: skip
    change(quiet, member, job["id"], **fields | values)
    return str(job["id"])


def test_a_stopped_job_goes_on_from_a_chosen_checkpoint_with_what_may_change(
    quiet: Live, trainer_owner: Member, dataset_id: str
) -> None:
    job_id = failed_at(quiet, trainer_owner, dataset_id)
    wanted = {"micro_batch_tokens": 512, "activation_checkpointing": "true"}
    job = data(act(trainer_owner, job_id, "resume", checkpoint_step=20, hyperparameters=wanted))["job"]
    assert (job["status"], job["checkpoint_step"], job["checkpoints"]) == ("queued", 20, [10, 20])
    assert job["hyperparameters"]["micro_batch_tokens"] == 512
    assert job["hyperparameters"]["activation_checkpointing"] is True
    assert job["error_code"] is None
    assert "from step 20, with micro_batch_tokens 512" in events(trainer_owner, job_id, type="resumed")[0]["message"]


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"checkpoint_step": 15}, "checkpoint_step", "kept are those of step 10, 20, 30"),
        ({"hyperparameters": {"rank": 8}}, "hyperparameters.rank", "another run"),
        (
            {"hyperparameters": {"learning_rate": 1e-4, "micro_batch_tokens": 64}},
            "hyperparameters.learning_rate",
            "run",
        ),
        ({"hyperparameters": {"micro_batch_tokens": 1}}, "hyperparameters.micro_batch_tokens", "allowed"),
        ({"hyperparameters": {"nonsense": 1}}, "hyperparameters.nonsense", "another run"),
    ],
)
def test_another_run_is_not_gone_on_with(
    quiet: Live, trainer_owner: Member, dataset_id: str, body: dict[str, Any], field: str, words: str
) -> None:
    job_id = failed_at(quiet, trainer_owner, dataset_id)
    answer = act(trainer_owner, job_id, "resume", **body)
    assert answer.status_code == 400
    assert words in answer.json()["details"][field][0]
    assert get(trainer_owner, job_id)["status"] == "failed"


def test_a_stop_that_nobody_confirms_in_time_shows(quiet: Live, trainer_owner: Member, dataset_id: str) -> None:
    from datetime import timedelta

    job = started(trainer_owner, dataset_id)
    change(quiet, trainer_owner, job["id"], status="running", cancel_requested_at=utcnow())
    assert not get(trainer_owner, job["id"])["stop_overdue"]
    change(quiet, trainer_owner, job["id"], cancel_requested_at=utcnow() - timedelta(seconds=61))
    assert get(trainer_owner, job["id"])["stop_overdue"]


def test_a_failed_job_says_in_plain_words_what_happened_and_what_would_help(
    quiet: Live, trainer_owner: Member, dataset_id: str
) -> None:
    job_id = failed_at(
        quiet, trainer_owner, dataset_id, error_code="out_of_memory", error_message="Memory ran out: x.",
        error_evidence="step 40/180  loss 2.1\nRuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB.",
    )  # fmt: skip
    failure = get(trainer_owner, job_id)["failure"]
    assert failure["kind"] == "out_of_memory_gpu"
    assert failure["evidence"] == "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB."
    assert failure["action"]["kind"] == "retry_with_fix"
    changes = {change["field"]: (change["before"], change["after"]) for change in failure["fix"]["changes"]}
    assert changes == {"micro_batch_tokens": (4096, 2048), "activation_checkpointing": (False, True)}
    assert failure["fix"]["starts_anew"] is False
    job = data(act(trainer_owner, job_id, "retry", apply_fix=True))["job"]
    assert (job["id"], job["status"], job["checkpoint_step"]) == (job_id, "queued", 30)
    assert job["hyperparameters"]["micro_batch_tokens"] == 2048
    assert job["failure"] is None


def test_a_change_of_what_is_learned_starts_a_new_job_once_linked_both_ways(
    quiet: Live, trainer_owner: Member, dataset_id: str
) -> None:
    job_id = failed_at(quiet, trainer_owner, dataset_id, error_code="diverged", error_message="Training diverged.")
    failure = get(trainer_owner, job_id)["failure"]
    assert failure["fix"]["starts_anew"]
    assert failure["fix"]["changes"] == [{"field": "learning_rate", "before": 1e-3, "after": 3.3e-4}]
    new = data(act(trainer_owner, job_id, "retry", apply_fix=True))["job"]
    assert new["id"] != job_id
    assert (new["retry_of"], new["status"], new["seed"]) == (job_id, "queued", 7)
    assert new["hyperparameters"]["learning_rate"] == 3.3e-4
    assert new["name"].endswith("(again)")
    assert data(act(trainer_owner, job_id, "retry", apply_fix=True))["job"]["id"] == new["id"], "not twice"
    old = get(trainer_owner, job_id)
    assert (old["status"], old["retried_as"]) == ("failed", new["id"])


def test_where_no_change_is_known_to_help_none_is_made_up(quiet: Live, trainer_owner: Member, dataset_id: str) -> None:
    job_id = failed_at(quiet, trainer_owner, dataset_id, error_code="data", error_message="2 bad rows.")
    failure = get(trainer_owner, job_id)["failure"]
    assert failure["fix"] is None
    assert failure["action"] == {"kind": "open_dataset", "label": "Open the dataset", "url": f"/datasets/{dataset_id}"}
    assert act(trainer_owner, job_id, "retry", apply_fix=True).json()["code"] == "no_fix"


@pytest.mark.parametrize(
    ("code", "values", "changes"),
    [
        ("out_of_memory", {"micro_batch_tokens": 64}, {"activation_checkpointing": True}),
        ("out_of_memory", {"micro_batch_tokens": 64, "activation_checkpointing": True}, {"max_seq_length": 1024}),
        ("diverged", {"learning_rate": 2e-6}, None),
        ("interrupted_too_often", {"checkpoint_every_steps": 25}, {"checkpoint_every_steps": 5}),
        ("interrupted_too_often", {"checkpoint_every_steps": 1}, None),
        ("disk_full", {}, {"keep_checkpoints": 1}),
        ("bug", {}, None),
    ],
)
def test_each_class_has_the_change_that_helps(
    code: str, values: dict[str, Any], changes: dict[str, Any] | None
) -> None:
    import msgspec

    from brightrun.formats import hyperparameters
    from brightrun.training.failures.classify import classify
    from brightrun.training.failures.remedies import suggested_fix

    known = msgspec.to_builtins(hyperparameters.build("balanced", values))
    fix = suggested_fix(classify(code, "").kind, known)
    assert (None if fix is None else fix.values) == changes
