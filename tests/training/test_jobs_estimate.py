"""The promise before a run: the documented formula, to the cent, with everything that went into it."""

import pytest
from job_steps import data

from live import Live, Member


@pytest.mark.parametrize(
    ("batch_size", "epochs", "steps", "hours", "compute", "total"),
    [(8, 1, 125, 0.3488, 2.44, 2.94), (4, 3, 750, 0.5463, 3.82, 4.32), (2, 5, 2500, 0.7438, 5.21, 5.71)],
)
def test_the_documented_worked_examples_come_out_to_the_cent(
    trainer_owner: Member, batch_size: int, epochs: int, steps: int, hours: float, compute: float, total: float
) -> None:
    answer = trainer_owner.client.post(
        "/api/jobs/estimate",
        json={
            "training_pairs": 1000,
            "preset_id": "balanced",
            "hyperparameters": {"batch_size": batch_size, "epochs": epochs},
            "gpu_config": {"type": "A100-80GB", "count": 2},
            "method": "documented",
        },
    )
    promise = data(answer)
    assert promise["method"] == "documented"
    assert promise["training_details"]["total_steps"] == steps
    assert promise["estimated_duration_hours"] == hours
    assert promise["cost_breakdown"] == {"compute": compute, "storage": 0.5}
    assert promise["estimated_cost"] == promise["cost_usd"]["value"] == total
    assert promise["hourly_rate"] == 7.0
    assert sum(promise["seconds"]["parts"].values()) == pytest.approx(promise["seconds"]["value"], abs=0.01)
    assert promise["inputs"]["tokens_source"].startswith("not known")
    assert promise["cost_usd"]["low"] is None
    assert promise["reasons"], "an estimate without an interval says so"


def test_a_dataset_brings_its_own_counts_and_their_source(trainer_owner: Member, dataset_id: str) -> None:
    promise = data(trainer_owner.client.post("/api/jobs/estimate", json={"dataset_id": dataset_id}))
    assert promise["method"] == "analytic", "the default"
    assert promise["level"] == 0.9
    for figure in ("memory_bytes", "seconds", "cost_usd"):
        assert promise[figure]["low"] <= promise[figure]["value"] <= promise[figure]["high"]
        assert sum(promise[figure]["parts"].values()) == pytest.approx(promise[figure]["value"], abs=1e-3)
    assert promise["fits"] is True
    assert promise["inputs"]["training_pairs"] == 24
    assert promise["inputs"]["tokens"] == pytest.approx(1500, rel=0.05)
    assert not promise["inputs"]["tokens_exact"]
    assert "estimated" in promise["inputs"]["tokens_source"], "an estimate is labelled as such"
    assert promise["training_details"]["dataset_name"] == "Adviser"
    assert promise["rules_fired"], "few pairs: the minimum-steps rule fires, and is shown"
    assert promise["estimated_cost"] == 0.0, "this machine costs nothing"


def lengths_report(source: str, of: str = "rendered chats") -> dict:
    return {
        "lengths": {
            "source": source, "of": of, "records": 12, "total": 2400, "mean": 200, "min": 100, "max": 390,
            "histogram": [{"from": 100, "to": 200, "records": 6}, {"from": 200, "to": 400, "records": 6}],
        }
    }  # fmt: skip


def test_exact_lengths_of_this_tokenizer_narrow_the_interval(quiet: Live, trainer_owner: Member, add_dataset) -> None:
    widths = {}
    for source in ("exact:tiny", "exact:another"):
        dataset = add_dataset(quiet, trainer_owner, report=lengths_report(source), total_records=12, total_tokens=2400)
        promise = data(trainer_owner.client.post("/api/jobs/estimate", json={"dataset_id": dataset}))
        assert promise["inputs"]["longest_record"] == 390
        assert promise["inputs"]["tokens_exact"] is (source == "exact:tiny")
        widths[source] = promise["seconds"]["high"] - promise["seconds"]["low"]
        if source == "exact:another":
            assert "not with that of tiny" in promise["inputs"]["tokens_source"]
    assert widths["exact:tiny"] < widths["exact:another"]


def test_tiny_random_has_the_same_tokenizer_so_its_lengths_are_exact_too(
    quiet: Live, trainer_owner: Member, add_dataset
) -> None:
    dataset = add_dataset(quiet, trainer_owner, report=lengths_report("exact:tiny"), total_records=12)
    body = {"dataset_id": dataset, "base_model": "tiny-random"}
    assert data(trainer_owner.client.post("/api/jobs/estimate", json=body))["inputs"]["tokens_exact"]


def test_a_rented_device_is_paid_for_from_its_start_and_says_whether_it_fits(trainer_owner: Member) -> None:
    body = {"training_pairs": 1000, "tokens": 400_000, "gpu_config": {"type": "A100-80GB", "count": 2}}
    promise = data(trainer_owner.client.post("/api/jobs/estimate", json=body))
    assert promise["hourly_rate"] == 7.0
    assert promise["fits"] is True
    assert promise["seconds"]["parts"]["machine"] == 600
    hours = promise["seconds"]["value"] / 3600
    assert promise["cost_usd"]["parts"]["compute"] == pytest.approx(7 * hours, rel=1e-4)
    assert any("one device" in reason for reason in promise["reasons"]), "a second device would stand idle"
    assert not promise["available"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"hyperparameters": {"learning_rate": 0.5}}, "hyperparameters.learning_rate"),
        ({"hyperparameters": {"rang": 8}}, "hyperparameters.rang"),
        ({"preset_id": "wild"}, "preset_id"),
        ({"gpu_config": {"type": "Z80", "count": 1}}, "gpu_config.type"),
        ({"gpu_config": {"type": "H100", "count": 9}}, "gpu_config.count"),
        ({"training_pairs": 0}, "training_pairs"),
        ({"base_model": "no-such-model"}, "base_model"),
        ({"method": "guess"}, "method"),
    ],
)
def test_a_value_that_is_not_allowed_is_named_with_its_field(trainer_owner: Member, body: dict, field: str) -> None:
    answer = trainer_owner.client.post("/api/jobs/estimate", json=body)
    assert answer.status_code == 400
    assert field in answer.json()["details"], answer.json()


def test_presets_are_understood_by_their_earlier_names(trainer_owner: Member) -> None:
    for name, preset in (("fast", "conservative"), ("quality", "aggressive")):
        promise = data(trainer_owner.client.post("/api/jobs/estimate", json={"preset_id": name}))
        assert promise["preset_id"] == preset


def test_options_explain_presets_ranges_devices_and_models(trainer_owner: Member) -> None:
    options = data(trainer_owner.client.get("/api/training/options"))
    assert [preset["id"] for preset in options["presets"]] == ["conservative", "balanced", "aggressive", "custom"]
    assert all(preset["explanation"] for preset in options["presets"])
    rank = next(spec for spec in options["hyperparameters"] if spec["name"] == "rank")
    assert (rank["minimum"], rank["maximum"]) == (4, 128)
    devices = {gpu["id"]: gpu for gpu in options["gpus"]}
    assert devices["A100-80GB"]["price_per_gpu_hour_usd"] == "3.50"
    assert not devices["A100-80GB"]["available"]
    assert devices["A100-80GB"]["reason"]
    assert devices["local-cpu"]["available"]
    assert {"tiny", "tiny-random"} <= {model["name"] for model in options["base_models"]}
