"""Interrupted and resumed equals uninterrupted, to the byte; whatever was damaged on the way is not used."""

import contextlib
import json
import random
import signal
import subprocess
from collections.abc import Callable

import pytest
from trainer_runs import Run

from brightrun.trainer import checkpoints


@pytest.fixture
def same_run(make_run: Callable[..., Run], finished: Run) -> Run:
    """A fresh copy of the `finished` run, not yet started."""
    run = make_run("again", dropout=0.1, sample_prompts=2)
    assert run.config.hyperparameters == finished.config.hyperparameters
    return run


def assert_equal_to(run: Run, uninterrupted: Run) -> None:
    assert run.adapter == uninterrupted.adapter
    sequence = [event["seq"] for event in run.events]
    assert sequence == sorted(set(sequence))
    last = {event["step"]: event["loss"] for event in run.of("metric")}
    assert last == {event["step"]: event["loss"] for event in uninterrupted.of("metric")}
    (done,), (expected,) = run.of("done"), uninterrupted.of("done")
    for name in ("heldout_loss_base", "heldout_loss_adapter", "train_loss_first", "train_loss_last", "adapter_sha256"):
        assert done[name] == expected[name]


def test_sigterm_checkpoints_and_exits_75_and_the_resumed_run_equals_an_uninterrupted_one(
    same_run: Run, finished: Run
) -> None:
    process = same_run.start()
    same_run.until_step(process, 7)
    process.send_signal(signal.SIGTERM)
    assert same_run.wait(process) == 75
    stopped_at = same_run.of("checkpoint")[-1]["step"]
    assert stopped_at == same_run.of("metric")[-1]["step"]  # nothing that was done is lost
    assert same_run.warnings[-1] == "preempted"
    assert not same_run.of("done")
    assert same_run.process() == 0
    assert same_run.of("stage")[-1]["fraction"] == 1.0
    assert_equal_to(same_run, finished)


def test_kill_9_and_a_torn_event_and_a_damaged_checkpoint_cost_steps_but_change_nothing(
    same_run: Run, finished: Run
) -> None:
    process = same_run.start()
    same_run.until_step(process, 17)
    process.kill()
    assert same_run.wait(process) == -9
    kept = checkpoints.newest_whole(same_run.path, pytest.fail)
    assert kept is not None
    with (same_run.path / "events.jsonl").open("ab") as stream:
        stream.write(b'{"seq": 999, "type": "met')
    with (kept[1] / "optimizer.safetensors").open("r+b") as stream:
        stream.seek(2000)
        stream.write(b"damage")
    assert same_run.process() == 0
    assert {"events_repaired", "checkpoint_damaged"} <= set(same_run.warnings)
    assert (same_run.path / "checkpoints" / f"damaged-step-{kept[0]}").is_dir()
    resumed = [event["resumed_from_step"] for event in same_run.of("stage") if "resumed_from_step" in event]
    assert resumed == [0, kept[0] - 5]
    assert_equal_to(same_run, finished)


@pytest.mark.slow
def test_twelve_kills_at_random_moments_change_nothing(same_run: Run, finished: Run) -> None:
    rng = random.Random(0)
    for _ in range(12):
        seq = same_run.events[-1]["seq"] if (same_run.path / "events.jsonl").exists() else 0
        process = same_run.start()
        if rng.random() < 0.5:  # somewhere between start-up and the end
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=rng.uniform(0.1, 8))
        else:  # soon after it has got on
            # It may end before it says another step: all that was left was to finish.
            with contextlib.suppress(AssertionError):
                same_run.until_step(process, 1, after_seq=seq)
            assert process.poll() in {None, 0}, "it ended by itself, and not by finishing"
        process.kill()
        process.wait()
        (same_run.path / "events.jsonl").touch()
        repaired = (same_run.path / "events.jsonl").read_bytes().rpartition(b"\n")[0]
        if b'"type": "done"' in repaired:
            break
    assert same_run.process() == 0
    assert_equal_to(same_run, finished)


def test_changed_hyperparameters_are_refused_but_another_micro_batch_is_not(
    make_run: Callable[..., Run], train_here: Callable[[Run], int], ask_at_step: Callable[[Run, int, str], None]
) -> None:
    run = make_run(epochs=2)
    ask_at_step(run, 2, "checkpoint_and_stop")
    assert train_here(run) == 75
    run.edit(lambda text: text["hyperparameters"].update(learning_rate=5e-4))
    assert train_here(run) == 64
    assert "learning_rate" in run.of("failed")[-1]["message"]
    run.edit(lambda text: text["hyperparameters"].update(learning_rate=1e-3, micro_batch_tokens=64))
    assert train_here(run) == 0
    assert run.of("done")[0]["steps"] == 6


def test_bf16_with_activation_checkpointing_resumes_to_the_bit_too(
    make_run: Callable[..., Run], train_here: Callable[[Run], int], ask_at_step: Callable[[Run, int, str], None]
) -> None:
    settings = {"precision": "bf16", "activation_checkpointing": True, "epochs": 3, "dropout": 0.1}
    whole, cut = make_run("whole", **settings), make_run("cut", **settings)
    assert train_here(whole) == 0
    ask_at_step(cut, 4, "pause")
    assert train_here(cut) == 75
    assert train_here(cut) == 0
    assert cut.adapter == whole.adapter


def test_activation_checkpointing_and_micro_batches_change_the_adapter_by_rounding_only(
    make_run: Callable[..., Run], train_here: Callable[[Run], int]
) -> None:
    plain, frugal = make_run("plain", epochs=3), make_run("frugal", epochs=3)
    frugal.edit(lambda text: text["hyperparameters"].update(activation_checkpointing=True, micro_batch_tokens=64))
    assert train_here(plain) == train_here(frugal) == 0
    losses = [[event["loss"] for event in run.of("metric")] for run in (plain, frugal)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_a_checkpoint_holds_an_adapter_that_peft_can_load_and_a_manifest_of_all_files(finished: Run) -> None:
    newest = finished.path / "checkpoints" / "step-30"
    manifest = json.loads((newest / "manifest.json").read_text())
    assert set(manifest) == {path.name for path in newest.iterdir()} - {"manifest.json"}
    assert {"adapter_model.safetensors", "adapter_config.json"} <= manifest.keys()
    assert (newest / "adapter_model.safetensors").read_bytes() == finished.adapter
    assert sorted(path.name for path in newest.parent.iterdir()) == ["step-25", "step-30"]  # keep_checkpoints
