"""A run from start to end: what it says and what it leaves behind."""

import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from trainer_runs import Run, write_dataset

STAGES = ["preprocessing", "model_loading", "training", "finalizing"]
METRIC_FIELDS = {
    "step", "epoch", "loss", "learning_rate", "grad_norm", "trained_tokens", "tokens_per_s", "rss_bytes",
}  # fmt: skip


def test_the_adapter_loads_with_peft_and_changes_the_answers(finished: Run) -> None:
    import torch
    import transformers
    from peft import PeftModel

    from brightrun.formats.base_models import BUILTIN

    torch.manual_seed(7)  # tiny-random: the base weights are those of the run's seed
    config = transformers.AutoConfig.from_pretrained(BUILTIN["tiny-random"])
    base = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        untouched = base(input_ids=ids).logits
        tuned = PeftModel.from_pretrained(base, finished.path / "adapter").eval()(input_ids=ids).logits
    assert not torch.equal(untouched, tuned)


def test_the_adapter_folder_holds_tokenizer_template_and_a_usable_base_name(finished: Run) -> None:
    folder = finished.path / "adapter"
    names = {path.name for path in folder.iterdir()}
    assert {
        "adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "tokenizer_config.json",
        "chat_template.jinja",
    } <= names  # fmt: skip
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny-random"


def test_training_lowers_the_loss_and_the_results_say_so_with_their_n(finished: Run) -> None:
    (done,) = finished.of("done")
    assert done["train_loss_last"] < done["train_loss_first"] - 0.1
    assert done["heldout_loss_adapter"] < done["heldout_loss_base"] - 0.1
    assert done["heldout_perplexity_base"] == pytest.approx(math.exp(done["heldout_loss_base"]))
    assert done["heldout_conversations"] == len(finished.config.split.heldout_ids) > 0
    assert done["adapter_sha256"] == hashlib.sha256(finished.adapter).hexdigest()
    assert done["steps"] == done["total_steps"] == 30
    assert done["seconds"] > 0
    result = json.loads((finished.path / "result.json").read_text())
    assert {key: done[key] for key in result} == result


def test_first_and_last_loss_are_means_per_trained_token_over_a_tenth_of_the_steps_at_least_five(finished: Run) -> None:
    (done,) = finished.of("done")
    by_step = {event["step"]: event for event in finished.of("metric")}
    for name, steps in (("train_loss_first", range(1, 6)), ("train_loss_last", range(26, 31))):
        metrics = [by_step[step] for step in steps]
        tokens = sum(m["trained_tokens"] for m in metrics)
        assert done[name] == pytest.approx(sum(m["loss"] * m["trained_tokens"] for m in metrics) / tokens)


def test_heldout_losses_record_by_record_add_up_to_the_result(finished: Run) -> None:
    (done,) = finished.of("done")
    rows = json.loads((finished.path / "heldout.json").read_text())["records"]
    assert sum(row["tokens"] for row in rows) == done["heldout_tokens"]
    for side in ("base", "adapter"):
        mean = sum(row[f"loss_sum_{side}"] for row in rows) / done["heldout_tokens"]
        assert mean == pytest.approx(done[f"heldout_loss_{side}"])


def test_events_are_numbered_and_every_step_has_a_metric(finished: Run) -> None:
    events = finished.events
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert all(event["time"].endswith("Z") for event in events)
    metrics = finished.of("metric")
    assert {event["step"] for event in metrics} == set(range(1, 31))
    assert all(event.keys() >= METRIC_FIELDS for event in metrics)
    assert [event["step"] for event in metrics if "heldout_loss" in event] == [10, 20, 30]
    assert events[-1]["type"] == "done"


def test_stages_come_in_order_and_fractions_never_fall(finished: Run) -> None:
    reached = [(STAGES.index(event["stage"]), event["fraction"]) for event in finished.of("stage")]
    assert reached == sorted(reached)
    assert reached[0] == (0, 0.0)
    assert reached[-1] == (3, 1.0)


def test_the_same_questions_are_answered_before_during_and_after(finished: Run) -> None:
    samples = finished.of("sample")
    asked = [("before", 0), ("during", 10), ("during", 20), ("after", 30)]
    assert [(sample["when"], sample["step"]) for sample in samples] == [each for each in asked for _ in range(2)]
    assert len({sample["prompt"] for sample in samples}) <= 2
    assert all(sample["prompt"] and sample["expected"] for sample in samples)
    assert {sample["conversation_id"] for sample in samples} <= set(finished.config.split.heldout_ids)


def test_every_metric_has_the_fields_of_the_contract_and_every_checkpoint_says_what_is_kept(finished: Run) -> None:
    contract = {
        "step", "epoch", "loss", "learning_rate", "grad_norm", "trained_tokens", "tokens_per_s", "rss_bytes",
    }  # fmt: skip
    metrics = finished.of("metric")
    assert all(contract <= event.keys() and None not in (event[name] for name in contract) for event in metrics)
    assert [event["kept"] for event in finished.of("checkpoint")][:3] == [[5], [5, 10], [10, 15]]
    there = sorted(int(path.name.removeprefix("step-")) for path in (finished.path / "checkpoints").glob("step-*"))
    assert finished.of("checkpoint")[-1]["kept"] == there


def test_a_finished_run_directory_is_left_as_it_is(finished: Run) -> None:
    def picture() -> dict[str, tuple[int, int]]:
        files = (path for path in finished.path.rglob("*") if path.is_file())
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in files}

    before = picture()
    assert finished.process() == 0
    assert picture() == before


def test_trainer_json_names_the_process_and_what_it_ran_on(finished: Run) -> None:
    who = json.loads((finished.path / "trainer.json").read_text())
    assert who["run_id"] == finished.config.run_id
    assert who["pid"] > 0
    assert who["process_start_time"] > 1e9
    assert who["device"]
    assert {"torch", "transformers", "peft", "python"} <= who["versions"].keys()
    heartbeat = json.loads((finished.path / "heartbeat.json").read_text())
    assert heartbeat["pid"] == who["pid"]
    assert heartbeat["step"] == 30


def test_learning_rate_zero_proves_nothing(make_run: Callable[..., Run], train_here: Callable[[Run], int]) -> None:
    run = make_run(learning_rate=0, max_steps=6)
    assert train_here(run) == 0
    (done,) = run.of("done")
    assert done["heldout_loss_adapter"] == done["heldout_loss_base"]
    assert "adapter_changes_nothing" in run.warnings
    assert "advice" in run.warnings


def test_early_stopping_delivers_the_best_adapter(
    make_run: Callable[..., Run], train_here: Callable[[Run], int]
) -> None:
    run = make_run(learning_rate=1e-2, schedule="constant", eval_every_steps=1, early_stopping_patience=1, epochs=20)
    assert train_here(run) == 0
    (done,) = run.of("done")
    evaluations = {event["step"]: event["heldout_loss"] for event in run.of("metric") if "heldout_loss" in event}
    assert done["stopped_early"]
    assert done["steps"] < done["total_steps"]
    assert done["selected_step"] == min(evaluations, key=lambda step: evaluations[step]) < done["steps"]
    assert done["heldout_loss_adapter"] == pytest.approx(evaluations[done["selected_step"]])
    assert done["selected_on_heldout"]


def test_without_heldout_conversations_nothing_is_claimed(
    make_run: Callable[..., Run], train_here: Callable[[Run], int]
) -> None:
    run = make_run(heldout_fraction=0, max_steps=2)
    assert train_here(run) == 0
    (done,) = run.of("done")
    assert done["heldout_loss_base"] is None
    assert done["heldout_loss_adapter"] is None
    assert "no_heldout" in run.warnings


def test_rows_without_a_trained_token_are_named_and_never_dropped_in_silence(
    make_run: Callable[..., Run], train_here: Callable[[Run], int], tmp_path: Path
) -> None:
    data = write_dataset(tmp_path / "long.jsonl", conversations=8)
    long_question = "word " * 200
    turns = [{"role": "user", "content": long_question}, {"role": "assistant", "content": "Yes."}]
    with data.open("a") as stream:
        stream.write(json.dumps({"conversation_id": "cut", "turns": turns}) + "\n")
    run = make_run(data=data, max_seq_length=64, max_steps=2, heldout_fraction=0)
    assert train_here(run) == 0
    (cut,) = [event for event in run.of("warning") if event["code"] == "all_trained_tokens_cut"]
    assert cut["rows"] == 1
    assert cut["lines"] == [9]
    assert "truncated" in run.warnings  # others are longer than 64 tokens too
    rows = [json.loads(line) for line in (run.path / "problems.jsonl").read_text().splitlines()]
    assert 9 in [row["line"] for row in rows]
    assert run.of("done")[0]["train_records"] == 8


def test_importing_the_package_loads_no_heavy_library() -> None:
    heavy = "('torch', 'transformers', 'peft') if m in sys.modules"
    code = f"import sys, brightrun.trainer.main; print([m for m in {heavy}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
