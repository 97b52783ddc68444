"""The method of a job: which data it fits, where it can run, and what of it the platform shows."""

import json
import math
import random
from typing import Any

import pytest
from job_steps import TOPICS, AddDataset, data, ended, events, start, started

from live import Live


def preference_file(pairs: int = 16) -> bytes:
    rng = random.Random(0)
    lines = []
    for number in range(pairs):
        topic = rng.choice(TOPICS)
        pair = {
            "prompt": f"I worry about {topic}, number {number}. What comes first?",
            "chosen": f"It makes sense that {topic} feels heavy. " * rng.randint(1, 3),
            "rejected": f"No idea about {topic}. Ask somebody else. " * rng.randint(1, 2),
        }
        lines.append(json.dumps(pair) + "\n")
    return "".join(lines).encode()


def refused(answer: Any) -> str:
    """The sentence beside the field `method`."""
    assert answer.status_code == 400, answer.text
    (reason,) = answer.json()["details"]["hyperparameters.method"]
    assert reason in answer.json()["error"]
    return str(reason)


def test_data_and_method_must_fit_and_the_answer_says_which_would(quiet: Live, add_dataset: AddDataset) -> None:
    member = quiet.new_workspace()
    pairs = add_dataset(quiet, member, preference_file(), format="preference")
    conversations = add_dataset(quiet, member)
    assert "learned with the method dpo, not with lora" in refused(start(member, pairs))
    reason = refused(start(member, conversations, hyperparameters={"method": "dpo"}))
    assert "a preference file" in reason
    assert start(member, pairs, hyperparameters={"method": "dpo"}).status_code == 201
    assert start(member, conversations, hyperparameters={"method": "dora"}).status_code == 201


def test_qlora_is_refused_where_there_is_no_gpu_for_it(quiet: Live, add_dataset: AddDataset) -> None:
    member = quiet.new_workspace()
    answer = start(
        member, add_dataset(quiet, member), hyperparameters={"method": "qlora"}, gpu_config={"type": "local-cpu"}
    )
    assert "NVIDIA GPU" in refused(answer)
    methods = {method["id"]: method for method in data(member.client.get("/api/training/options"))["methods"]}
    assert list(methods) == ["lora", "rslora", "dora", "qlora", "dpo"]
    assert "NVIDIA GPU" in methods["qlora"]["unavailable"]["local-cpu"]
    assert methods["dora"]["unavailable"] == {}


def test_dpo_takes_smaller_steps_than_the_preset_and_says_so(quiet: Live, add_dataset: AddDataset) -> None:
    member = quiet.new_workspace()
    body = {"dataset_id": add_dataset(quiet, member, preference_file(), format="preference")}
    job = data(
        member.client.post("/api/jobs", json=body | {"hyperparameters": {"method": "dpo", "epochs": 3, "min_steps": 0}})
    )["job"]
    assert (job["hyperparameters"]["learning_rate"], job["hyperparameters"]["epochs"]) == (1e-5, 3)
    assert len(job["rules_fired"]) == 1
    assert "learning_rate is 1e-05 and not 0.0002 with the method dpo" in job["rules_fired"][0]


def test_a_preference_job_runs_and_shows_margin_and_accuracy_in_its_curves_and_its_model(working: Any) -> None:
    member = working.member
    dataset_id = working.dataset(preference_file(), format="preference", total_training_pairs=16)
    job = ended(member, started(member, dataset_id, hyperparameters={"method": "dpo", "learning_rate": 1e-3})["id"])
    assert job["status"] == "completed", job["error_message"]
    assert job["heldout_loss_base"] == pytest.approx(math.log(2))
    assert job["heldout_loss_adapter"] < job["heldout_loss_base"]

    curves = data(member.client.get(f"/api/jobs/{job['id']}/metrics"))["series"]
    train, heldout = curves["train"]["points"], curves["heldout"]["points"]
    assert train[0]["reward_accuracy"] == 0.5
    assert train[-1]["reward_margin"] > 0
    assert heldout[-1]["reward_accuracy"] > 0.5
    assert any(point["cpu_percent"] for point in train)
    told = [event["message"] for event in events(member, job["id"])]
    assert any("the chosen answer is ahead in" in message for message in told)
    assert any(message.startswith("First step. The time until then:") for message in told)

    model = data(member.client.get(f"/api/models/{job['model_id']}"))["model"]
    quality = model["quality_metrics"]
    assert quality["unit"] == "nats per pair"
    assert quality["heldout_pairs"] == quality["heldout_records"] > 0
    assert quality["heldout_perplexity_base"] is None
    (message,) = (
        item["message"]
        for item in data(member.client.get("/api/notifications"))["items"]
        if item["type"] == "job_completed"
    )
    assert "held-out pairs the chosen answer is ahead in" in message


def test_a_gpu_that_is_too_small_at_the_least_settings_is_offered_four_bits_where_they_can_be_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import importlib.util

    import msgspec

    from brightrun.formats import hyperparameters
    from brightrun.training.failures.classes import FailureClass
    from brightrun.training.failures.classify import classify
    from brightrun.training.failures.remedies import suggested_fix

    least = {"micro_batch_tokens": 64, "activation_checkpointing": True}
    values = msgspec.to_builtins(hyperparameters.build("balanced", least))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())
    fix = suggested_fix(FailureClass.GPU_MEMORY, values)
    assert fix is not None
    assert (fix.values, fix.starts_anew) == ({"method": "qlora"}, True)
    host = suggested_fix(FailureClass.HOST_MEMORY, values)
    assert host is not None
    assert host.values == {"max_seq_length": 1024}
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    without = suggested_fix(FailureClass.GPU_MEMORY, values)
    assert without is not None
    assert without.values == {"max_seq_length": 1024}
    assert classify("qlora_needs_gpu", "").kind is FailureClass.CONFIGURATION
