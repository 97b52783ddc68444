"""Every way a trainer can end, each with its exit code and words a person can use."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trainer_runs import Run, write_dataset

from brightrun.formats.run import Budgets
from brightrun.trainer.main import main

Here = Callable[[Run], int]
Make = Callable[..., Run]


def failure(run: Run) -> dict[str, Any]:
    event = run.events[-1]
    assert event["type"] == "failed"
    assert event["message"]
    return event


# --- 64: configuration -------------------------------------------------------------------------------------------


def test_a_second_trainer_exits_64_and_leaves_the_first_alone_and_a_dead_ones_lock_is_free(make_run: Make) -> None:
    run = make_run(epochs=20)
    first = run.start()
    run.until_step(first, 1)
    before = (run.path / "trainer.json").read_bytes()
    assert run.process() == 64
    assert (run.path / "trainer.json").read_bytes() == before
    assert first.poll() is None
    first.send_signal(signal.SIGKILL)
    run.wait(first)
    again = run.start()
    run.until_step(again, 1, after_seq=run.events[-1]["seq"])
    again.send_signal(signal.SIGINT)  # and Ctrl-C is a clean stop as well
    assert run.wait(again) == 75
    assert not run.of("failed")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("learning_rate", 0.5, ["learning_rate", "0.5", "1e-06 to 0.01"]),
        ("batch_size", 65, ["batch_size", "65", "1 to 64"]),
        ("epochs", 0, ["epochs", "1 to 20"]),
        ("rank", 3, ["rank", "4 to 128"]),
        ("dropout", 0.9, ["dropout", "0 to 0.5"]),
        ("schedule", "step", ["schedule"]),
        ("rang", 8, ["rang"]),
    ],
)
def test_a_bad_value_in_run_json_exits_64_and_is_named_with_its_range(
    make_run: Make, train_here: Here, field: str, value: object, words: list[str]
) -> None:
    run = make_run()
    run.edit(lambda text: text["hyperparameters"].update({field: value}))
    assert train_here(run) == 64
    assert failure(run)["exit_code"] == 64
    assert all(word in failure(run)["message"] for word in words)


def test_a_directory_without_run_json_exits_64_and_stays_empty(tmp_path: Path, train_here: Here) -> None:
    assert train_here(Run(tmp_path)) == 64
    assert list(tmp_path.iterdir()) == []
    assert train_here(Run(tmp_path / "absent")) == 64
    assert main([]) == 64


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 99}', '{"schema_version": 1}', "\udcff"])
def test_a_run_json_that_cannot_be_read_exits_64(tmp_path: Path, train_here: Here, text: str) -> None:
    (tmp_path / "run.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert train_here(Run(tmp_path)) == 64


def test_target_modules_that_the_model_does_not_have_exit_64(make_run: Make, train_here: Here) -> None:
    run = make_run(target_modules="no_such_layer")
    assert train_here(run) == 64
    assert "no_such_layer" in failure(run)["message"]


def test_a_base_model_that_is_gone_or_changed_exits_64(make_run: Make, train_here: Here) -> None:
    run = make_run()
    run.edit(lambda text: text["base_model"].update(sha256="0" * 64))
    assert train_here(run) == 64
    assert failure(run)["code"] == "base_model_changed"
    run.edit(lambda text: text["base_model"].update(folder="/nowhere/at/all", kind="folder"))
    assert train_here(run) == 64
    assert "/nowhere/at/all" in failure(run)["message"]


def test_pickled_weights_are_refused(make_run: Make, train_here: Here, model_folder: Path) -> None:
    (model_folder / "model.safetensors").rename(model_folder / "pytorch_model.bin")
    run = make_run()
    run.edit(lambda text: text["base_model"].update(folder=str(model_folder), kind="folder", sha256=None))
    assert train_here(run) == 64
    assert failure(run)["code"] == "pickled_weights_refused"


def test_missing_weights_are_refused_and_never_filled_with_random_numbers(
    make_run: Make, train_here: Here, model_folder: Path
) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(model_folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, model_folder / "model.safetensors", metadata={"format": "pt"})
    run = make_run(base_model=str(model_folder))
    assert train_here(run) == 64
    assert failure(run)["code"] == "base_model_incomplete"
    assert "up_proj" in failure(run)["message"]


# --- 65: data -----------------------------------------------------------------------------------------------------


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    path = write_dataset(tmp_path / "faulty.jsonl", conversations=6)
    with path.open("a") as stream:
        stream.write("not json\n")
        stream.write(json.dumps({"conversation_id": "x", "turns": []}) + "\n")
    return path


def test_bad_rows_exit_65_and_every_one_is_named(make_run: Make, train_here: Here, faulty: Path) -> None:
    run = make_run(data=faulty)
    assert train_here(run) == 65
    assert "2 bad rows" in failure(run)["message"]
    assert "line 7" in failure(run)["message"]
    rows = [json.loads(line) for line in (run.path / "problems.jsonl").read_text().splitlines()]
    assert {row["line"] for row in rows if row["severity"] == "error"} == {7, 8}


def test_bad_rows_may_be_skipped_and_are_still_named(make_run: Make, train_here: Here, faulty: Path) -> None:
    run = make_run(data=faulty, on_bad_row="skip", max_steps=1)
    assert train_here(run) == 0
    lines = {line for event in run.of("warning") for line in event.get("lines", [])}
    assert {7, 8} <= lines


def test_a_changed_or_missing_training_file_exits_65(make_run: Make, train_here: Here, tmp_path: Path) -> None:
    run = make_run(data=write_dataset(tmp_path / "own.jsonl"))
    file = run.path / run.config.data.file
    file.write_text(file.read_text() + "\n")
    assert train_here(run) == 65
    assert failure(run)["code"] == "data_changed"
    file.unlink()
    assert train_here(run) == 65
    assert failure(run)["code"] == "data_missing"


def test_a_file_with_nothing_to_learn_exits_65(make_run: Make, train_here: Here, tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text(json.dumps({"conversation_id": "q", "turns": [{"role": "user", "content": "Why?"}]}) + "\n")
    run = make_run(data=path)
    assert train_here(run) == 65
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    run = make_run("empty", data=empty)
    assert train_here(run) == 65


# --- 70, 76, 78: what goes wrong inside ---------------------------------------------------------------------------


def test_a_bug_exits_70_with_its_traceback_in_the_log(
    make_run: Make, train_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    from brightrun.trainer import objectives

    def broken(*_: object) -> None:
        raise RuntimeError("injected")

    monkeypatch.setattr(objectives, "collate", broken)
    run = make_run()
    assert train_here(run) == 70
    assert "injected" in failure(run)["message"]
    assert "Traceback" in (run.path / "trainer.log").read_text()


def test_out_of_memory_exits_76_and_a_smaller_micro_batch_goes_on_from_the_checkpoint(
    make_run: Make, train_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from brightrun.trainer import objectives
    from brightrun.trainer.data import Example
    from brightrun.trainer.model import Batch, Numerics

    collate = objectives.collate
    calls = 0

    def greedy(examples: list[Example], numerics: Numerics) -> Batch:
        nonlocal calls
        calls += 1
        if calls > 8 and len(examples) > 1:
            torch.empty(1 << 60)  # the allocator's own refusal
        return collate(examples, numerics)

    monkeypatch.setattr(objectives, "collate", greedy)
    run = make_run(checkpoint_every_steps=1, epochs=4)
    assert train_here(run) == 76
    assert failure(run)["code"] == "out_of_memory"
    assert failure(run)["resumable"]
    done = run.of("checkpoint")[-1]["step"]
    assert done > 0
    run.edit(lambda text: text["hyperparameters"].update(micro_batch_tokens=16))
    assert train_here(run) == 0
    assert [event["resumed_from_step"] for event in run.of("stage") if "resumed_from_step" in event] == [0, done]


def test_a_loss_above_the_threshold_exits_78(make_run: Make, train_here: Here) -> None:
    run = make_run(divergence_loss=0.01)
    assert train_here(run) == 78
    assert run.of("metric")[-1]["step"] == 4  # the mean of five steps, before the fifth touches the weights
    assert "learning_rate" in failure(run)["advice"]


def test_a_loss_that_is_no_number_exits_78_and_leaves_no_checkpoint_of_it(
    make_run: Make, train_here: Here, model_folder: Path
) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(model_folder / "model.safetensors")
    tensors["model.norm.weight"].fill_(float("nan"))
    save_file(tensors, model_folder / "model.safetensors", metadata={"format": "pt"})
    run = make_run(base_model=str(model_folder))
    assert train_here(run) == 78
    assert "nan" in failure(run)["message"]
    assert not (run.path / "checkpoints").exists()


# --- 75, 77: stopped from outside ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "code", "saved"),
    [("stop", "stopped", False), ("checkpoint_and_stop", "stopped", True), ("pause", "paused", True)],
)
def test_the_control_file_stops_at_the_next_step_and_is_taken_away(
    make_run: Make,
    train_here: Here,
    ask_at_step: Callable[[Run, int, str], None],
    action: str,
    code: str,
    saved: bool,
) -> None:
    run = make_run(epochs=2)
    ask_at_step(run, 2, action)
    assert train_here(run) == 75
    assert run.events[-1]["type"] == "warning"
    assert run.events[-1]["code"] == code
    assert run.of("metric")[-1]["step"] == 2
    assert [event["step"] for event in run.of("checkpoint")] == ([2] if saved else [])
    assert not (run.path / "control.json").exists()
    if action == "pause":
        assert train_here(run) == 0
        assert run.of("done")


def test_a_control_file_that_makes_no_sense_is_warned_of_once_and_training_goes_on(
    make_run: Make, train_here: Here
) -> None:
    run = make_run(max_steps=3)
    (run.path / "control.json").write_text('{"action": "explode"}')
    assert train_here(run) == 0
    assert run.warnings.count("control_unreadable") == 1


def test_a_control_file_that_was_there_first_stops_before_any_work(make_run: Make, train_here: Here) -> None:
    run = make_run()
    (run.path / "control.json").write_text('{"action": "stop"}')
    assert train_here(run) == 75
    assert not run.of("metric")


def test_the_budget_stops_at_a_checkpoint_and_a_raise_goes_on(make_run: Make, train_here: Here) -> None:
    run = make_run(epochs=2, budgets=Budgets(max_cost_usd="0.01", price_per_hour_usd="0.001"))  # ten hours
    heartbeat = {"spent_seconds": 36_000 - 1e-6}
    assert train_here(make_run("free", max_steps=1)) == 0  # imports, so that the next start is quick
    (run.path / "heartbeat.json").write_text(json.dumps(heartbeat))
    assert train_here(run) == 77
    assert "US$ 0.01" in failure(run)["message"]
    assert failure(run)["resumable"]
    run.edit(lambda text: text["budgets"].update(max_cost_usd="0.02"))
    assert train_here(run) == 0
    assert run.of("done")[0]["seconds"] > 35_999


def test_a_time_limit_in_the_middle_keeps_what_was_done(
    make_run: Make, train_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    from brightrun.trainer.context import RunContext

    run = make_run(epochs=2, budgets=Budgets(max_seconds=1e6))
    check = RunContext.check_budget

    def late(context: RunContext, next_seconds: float = 0.0) -> None:
        if any(event["step"] == 3 for event in run.of("metric")):
            context.heartbeat.at_least(1e6)
        check(context, next_seconds)

    monkeypatch.setattr(RunContext, "check_budget", late)
    assert train_here(run) == 77
    assert run.of("checkpoint")[-1]["step"] == 3
