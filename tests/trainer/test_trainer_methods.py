"""Every method runs, stops, goes on and delivers in the same way; what differs is what it learns from and how."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trainer_runs import Run

METHODS = ["lora", "rslora", "dora", "dpo"]


@pytest.fixture
def run_of(make_run: Callable[..., Run], preferences: Path) -> Callable[..., Run]:
    """A run by this method, on the data that it learns from."""

    def make(name: str, method: str, **overrides: Any) -> Run:
        data = preferences if method == "dpo" else None
        return make_run(name, data, **({"method": method, "epochs": 2, "dropout": 0.1} | overrides))

    return make


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_was_paused_ends_with_the_same_bytes(
    method: str,
    run_of: Callable[..., Run],
    train_here: Callable[[Run], int],
    ask_at_step: Callable[[Run, int, str], None],
) -> None:
    whole, cut = run_of("whole", method), run_of("cut", method)
    assert train_here(whole) == 0
    ask_at_step(cut, 3, "pause")
    assert train_here(cut) == 75
    assert train_here(cut) == 0
    assert cut.adapter == whole.adapter
    assert whole.of("done")[0]["method"] == whole.config.method == method


def test_a_dpo_run_that_is_killed_ends_with_the_same_bytes(
    run_of: Callable[..., Run], train_here: Callable[[Run], int]
) -> None:
    whole, killed = run_of("whole", "dpo", epochs=5), run_of("killed", "dpo", epochs=5)
    process = killed.start()
    killed.until_step(process, 7)
    process.kill()
    assert killed.wait(process) == -9
    assert train_here(whole) == train_here(killed) == 0
    assert killed.adapter == whole.adapter
    assert {event["resumed_from_step"] for event in killed.of("stage") if "resumed_from_step" in event} >= {0, 5}


@pytest.mark.parametrize("method", METHODS)
def test_less_memory_at_once_changes_the_losses_by_rounding_only(
    method: str, run_of: Callable[..., Run], train_here: Callable[[Run], int]
) -> None:
    plain = run_of("plain", method, dropout=0.0)
    frugal = run_of("frugal", method, dropout=0.0, micro_batch_tokens=64, activation_checkpointing=True)
    assert train_here(plain) == train_here(frugal) == 0
    losses = [[event["loss"] for event in run.of("metric")] for run in (plain, frugal)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize(
    ("method", "scale"), [("lora", 2.0), ("rslora", 4.0), ("dora", 2.0), ("dpo", 2.0)], ids=METHODS
)
def test_the_adapter_is_standard_peft_and_gives_the_losses_that_the_trainer_measured(
    method: str, scale: float, run_of: Callable[..., Run], train_here: Callable[[Run], int]
) -> None:
    import torch
    import transformers
    from peft import PeftModel

    from brightrun.formats.base_models import BUILTIN
    from brightrun.formats.chat import IGNORED, ChatTokenizer
    from brightrun.formats.reader import read_records
    from brightrun.formats.records import Record

    run = run_of("run", method)
    assert train_here(run) == 0
    torch.manual_seed(7)  # tiny-random: the base weights are those of the run's seed
    config = transformers.AutoConfig.from_pretrained(BUILTIN["tiny-random"])
    base = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, run.path / "adapter").eval()
    scalings = [getattr(module, "scaling", None) for module in model.modules()]
    assert {found["default"] for found in scalings if isinstance(found, dict)} == {scale}
    assert any("magnitude" in name for name, _ in model.named_parameters()) == (method == "dora")

    tokenizer = ChatTokenizer.from_folder(run.path / "adapter")

    def log_probability(encoded: Any) -> float:
        """Of the trained tokens, one record alone, as the textbook has it."""
        ids, labels = torch.tensor([list(encoded.input_ids)]), torch.tensor(list(encoded.labels))
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0]
        chosen = torch.log_softmax(logits[:-1], -1).gather(1, ids[0, 1:, None])[:, 0]
        return float(chosen[labels[1:] != IGNORED].sum())

    records = {r.line: r for r in read_records(run.path / run.config.data.file) if isinstance(r, Record)}
    told = json.loads((run.path / "heldout.json").read_text())["records"]
    assert told
    for row in told:
        if method == "dpo":
            pair = tokenizer.encode_preference(records[row["line"]])
            tuned = [log_probability(side) for side in (pair.chosen, pair.rejected)]
            with model.disable_adapter():
                untouched = [log_probability(side) for side in (pair.chosen, pair.rejected)]
            margin = 0.1 * ((tuned[0] - untouched[0]) - (tuned[1] - untouched[1]))
            assert row["reward_margin"] == pytest.approx(margin, rel=1e-3, abs=1e-4)
            assert row["loss_sum_adapter"] == pytest.approx(math.log1p(math.exp(-margin)), rel=1e-3, abs=1e-5)
        else:
            loss = -log_probability(tokenizer.encode(records[row["line"]]))
            assert row["loss_sum_adapter"] == pytest.approx(loss, rel=1e-4)


def test_qlora_without_a_gpu_is_refused_in_plain_words(
    run_of: Callable[..., Run], train_here: Callable[[Run], int]
) -> None:
    run = run_of("run", "qlora")
    assert train_here(run) == 64
    (failed,) = run.of("failed")
    assert failed["code"] == "qlora_needs_gpu"
    assert "NVIDIA" in failed["message"]
    assert "lora" in failed["advice"]


def test_a_file_that_does_not_fit_the_method_makes_no_run(
    make_run: Callable[..., Run], preferences: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="dpo learns from pairs of a chosen and a rejected answer"):
        make_run("conversations", method="dpo")
    with pytest.raises(ValueError, match="learned with the method dpo, not with lora"):
        make_run("pairs", preferences)
    assert not list(tmp_path.glob("**/run.json"))


def test_a_row_that_does_not_fit_the_method_is_named(
    make_run: Callable[..., Run], preferences: Path, train_here: Callable[[Run], int], tmp_path: Path
) -> None:
    run = make_run("run", preferences, method="dpo")
    run.edit(lambda text: text["hyperparameters"].update(method="lora"))
    assert train_here(run) == 64, "the two places of run.json disagree"
    run.edit(lambda text: text.update(method="lora"))
    assert train_here(run) == 65
    rows = [json.loads(line) for line in (run.path / "problems.jsonl").read_text().splitlines()]
    assert len(rows) == 20
    assert {row["code"] for row in rows} == {"not_for_this_method"}


def test_a_run_of_an_earlier_version_goes_on(
    make_run: Callable[..., Run], train_here: Callable[[Run], int], ask_at_step: Callable[[Run, int, str], None]
) -> None:
    """Its run.json and its checkpoints know nothing of methods."""
    run = make_run("run", epochs=2)
    names = [name for name in run.config.hyperparameters.__struct_fields__ if name.startswith("dpo_")] + ["method"]

    def forget(text: dict[str, Any]) -> None:
        text["method"] = "lora_sft"
        for name in names:
            del text["hyperparameters"][name]

    run.edit(forget)
    ask_at_step(run, 2, "checkpoint_and_stop")
    assert train_here(run) == 75
    (checkpoint,) = (run.path / "checkpoints").glob("step-*")
    state = json.loads((checkpoint / "state.json").read_text())
    for name in names:
        del state["fingerprint"][name]
    (checkpoint / "state.json").write_text(json.dumps(state))
    import hashlib

    manifest = json.loads((checkpoint / "manifest.json").read_text())
    manifest["state.json"] = hashlib.sha256((checkpoint / "state.json").read_bytes()).hexdigest()
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
    assert train_here(run) == 0


def test_questions_of_ones_own_are_answered_instead_of_held_out_ones(
    make_run: Callable[..., Run], train_here: Callable[[Run], int]
) -> None:
    run = make_run("run", epochs=2, eval_every_steps=4, heldout_fraction=0.0)
    run.edit(lambda text: text.update(sample_questions=["What comes first?", "And then?"]))
    assert train_here(run) == 0
    asked = [(event["when"], event["step"], event["prompt"]) for event in run.of("sample")]
    assert asked == [
        (when, step, question)
        for when, step in (("before", 0), ("during", 4), ("after", 6))
        for question in ("What comes first?", "And then?")
    ]
    assert all(event["expected"] is None for event in run.of("sample"))


def test_the_first_step_says_where_the_time_until_then_went(finished: Run) -> None:
    (told,) = [event["startup"] for event in finished.of("stage") if "startup" in event]
    parts = ["interpreter", "data", "imports", "model", "baseline", "first_step"]
    assert list(told) == [*parts, "total"]
    assert sum(told[part] for part in parts) == pytest.approx(told["total"], abs=0.01)
    assert finished.of("done")[0]["startup"] == told
    assert all(event["cpu_percent"] >= 0 for event in finished.of("metric"))


def test_the_best_checkpoint_is_kept_and_marked(
    make_run: Callable[..., Run], train_here: Callable[[Run], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from brightrun.trainer.objectives import HeldoutLoss, Supervised

    run = make_run("run", epochs=8, eval_every_steps=4, checkpoint_every_steps=6)
    told = iter([5.0, 4.0, 3.0, 3.5, 3.6, 3.7, 3.8])
    heldout = Supervised.heldout

    def scripted(made: Supervised, items: Any, **more: Any) -> HeldoutLoss:
        result = heldout(made, items, **more)
        tokens = result.tokens
        wanted = next(told, result.mean)
        return HeldoutLoss([wanted * count for count in tokens], tokens)

    monkeypatch.setattr(Supervised, "heldout", scripted)
    assert train_here(run) == 0
    best = {event["step"]: event["best"] for event in run.of("checkpoint")}
    assert best == {4: True, 6: False, 8: True, 12: False, 18: False, 24: False}
    assert run.of("checkpoint")[-1]["kept"] == [8, 18, 24]
    assert run.of("done")[0]["best_step"] == 8
    assert run.of("done")[0]["selected_step"] == 24, "without early stopping the last weights are delivered"


def test_a_gpus_use_is_asked_of_nvidia_smi_where_nothing_else_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from brightrun.trainer.hardware import smi_utilization

    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    program.write_text('#!/bin/sh\n[ "$1" = --id=GPU-1 ] && echo 87\n')
    program.chmod(0o755)
    assert smi_utilization("GPU-1") == 87.0
    assert smi_utilization("GPU-2") is None, "it ends with a fault"
    program.write_text("#!/bin/sh\necho '[N/A]'\n")
    assert smi_utilization("GPU-1") is None
    program.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert smi_utilization("GPU-1") is None
