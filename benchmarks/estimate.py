"""Is the promise kept? Memory and duration of real runs against what was promised before, with and without a probe.

The configurations stand here since before the estimator was tuned; do not change them to suit it. Run on an idle
machine: `python benchmarks/estimate.py [--only NAME …] [--json FILE]`. Each configuration is estimated without a probe,
then with one, then trained as its own process, whose peak resident memory and wall time are what happened.
"""

import argparse
import json
import math
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brightrun.formats.base_models import BUILTIN
from brightrun.formats.run_directory import prepare_run

MIB = 1024**2
WORDS = (
    *("the", "a", "your", "our", "this", "that", "plan", "money", "income", "rent", "savings", "loan", "rate", "year"),
    *("month", "first", "next", "step", "small", "large", "help", "worry", "calm", "clear", "budget", "account"),
    *("balance", "goal", "house", "family", "future", "tax", "pension", "invest", "risk", "share", "fund", "debt"),
)


@dataclass(frozen=True)
class Case:
    """One configuration. words: mean of a conversation; spread: sigma of its log-normal. trained_share: of the words,
    those in answers."""

    name: str
    model: str
    preset: str
    conversations: int
    words: int
    spread: float = 0.6
    trained_share: float = 0.5
    settings: dict[str, Any] = field(default_factory=dict)


# Fixed on 2026-11-28, before the estimator was tuned.
CASES = (
    Case("tiny, balanced, short rows", "tiny", "balanced", 240, 90),
    Case("tiny, careful, mixed rows", "tiny", "conservative", 120, 220, 0.8),
    Case("tiny, strong, long rows", "tiny", "aggressive", 60, 700, 0.5, settings={"epochs": 3, "min_steps": 0}),
    Case(
        "tiny, one long pass, rank 64", "tiny", "custom", 300, 160, 0.4,
        settings={"rank": 64, "epochs": 2, "batch_size": 16, "min_steps": 0},
    ),
    Case(
        "tiny, checkpointed, evaluated often", "tiny", "balanced", 100, 300, 0.7, 0.8,
        settings={
            "activation_checkpointing": True, "eval_every_steps": 5, "checkpoint_every_steps": 5, "min_steps": 0,
            "epochs": 4,
        },
    ),
    Case(
        "tiny, rows cut at 512, one row a step", "tiny", "custom", 80, 900, 0.5, 0.3,
        settings={"max_seq_length": 512, "batch_size": 1, "epochs": 2, "min_steps": 0},
    ),
    Case("small, balanced, short rows", "small", "balanced", 80, 80, settings={"min_steps": 0}),
    Case(
        "small, long rows, wide passes", "small", "custom", 40, 600, 0.5,
        settings={"micro_batch_tokens": 8192, "batch_size": 8, "epochs": 2, "min_steps": 0},
    ),
    Case(
        "small, narrow passes, two layers adapted", "small", "custom", 60, 300, 0.8,
        settings={
            "micro_batch_tokens": 1024, "target_modules": ["q_proj", "v_proj"], "epochs": 2, "min_steps": 0,
            "rank": 8, "batch_size": 4,
        },
    ),
    Case(
        "small, fp32, checkpointed", "small", "custom", 40, 350, 0.6, 0.7,
        settings={
            "precision": "fp32", "activation_checkpointing": True, "epochs": 2, "min_steps": 0, "dropout": 0.05,
        },
    ),
    Case(
        "tiny-random, very many short steps", "tiny-random", "custom", 400, 60, 0.5,
        settings={"batch_size": 2, "epochs": 2, "min_steps": 0, "rank": 4},
    ),
    Case(
        "small, answers only at the end, half held out", "small", "custom", 70, 250, 0.5, 0.15,
        settings={"heldout_fraction": 0.5, "epochs": 3, "eval_every_steps": 4, "min_steps": 0},
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What was promised without and with a probe, and what happened. peak_bytes, seconds: of the real run."""

    case: Case
    alone: dict[str, Any]
    probed: dict[str, Any]
    probe_s: float
    peak_bytes: int
    seconds: float
    steps: int


def write_dataset(case: Case, path: Path) -> None:
    rng = random.Random(case.name)

    def text(words: float) -> str:
        return " ".join(rng.choice(WORDS) for _ in range(max(3, round(words)))).capitalize() + "."

    with path.open("w", encoding="utf-8") as stream:
        for number in range(case.conversations):
            words = rng.lognormvariate(math.log(case.words) - case.spread**2 / 2, case.spread)
            asked, answered = text(words * (1 - case.trained_share)), text(words * case.trained_share)
            messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
            stream.write(json.dumps({"conversation_id": f"c{number}", "messages": messages}) + "\n")


def small_model(folder: Path) -> None:
    """Random weights of the size that the measured peers were compared with: 256 wide, 6 layers, our tokenizer."""
    code = (
        "import sys, torch, transformers; torch.manual_seed(0); "
        "config = transformers.AutoConfig.from_pretrained(sys.argv[1]); "
        "config.hidden_size, config.num_hidden_layers, config.num_attention_heads = 256, 6, 8; "
        "config.num_key_value_heads, config.head_dim, config.intermediate_size = 4, 32, 704; "
        "transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(sys.argv[1])"
    )
    shutil.copytree(BUILTIN["tiny-random"], folder)
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, capture_output=True)


def promised(case: Case, dataset: Path, model: str, *flags: str) -> tuple[dict[str, Any], float]:
    """(the promise, seconds that it took)."""
    settings = [f"--set={name}={_text(value)}" for name, value in case.settings.items()]
    command = [sys.executable, "-m", "brightrun", "estimate", "--dataset", str(dataset), "--base-model", model]
    started = time.monotonic()
    done = subprocess.run(
        [*command, "--preset", case.preset, *settings, *flags, "--gpu", "local-cpu", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    answer = json.loads(done.stdout)
    if done.returncode:
        raise SystemExit(f"{case.name}: {answer['error']}")
    return answer, time.monotonic() - started


def _text(value: Any) -> str:
    return ",".join(value) if isinstance(value, list) else str(value)


def happened(case: Case, dataset: Path, model: str, run_dir: Path) -> tuple[int, float, int]:
    """(peak resident bytes, seconds, steps) of the real run, as its own process."""
    prepare_run(dataset, run_dir, base_model=model, preset=case.preset, overrides=case.settings)
    started = time.monotonic()
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    with (run_dir / "out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "brightrun.trainer", str(run_dir)], stdout=out, stderr=out, env=environment
        )
        _pid, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{case.name}: the run ended with {process.returncode}:\n{(run_dir / 'out').read_text()}")
    result = json.loads((run_dir / "result.json").read_bytes())
    return usage.ru_maxrss * 1024, seconds, result["steps"]


def measure(case: Case, folder: Path) -> Result:
    dataset, model = folder / "data.jsonl", case.model
    write_dataset(case, dataset)
    if model == "small":
        model = str(folder.parent / "small")
        if not Path(model).exists():
            small_model(Path(model))
    alone, _seconds = promised(case, dataset, model)
    probed, probe_s = promised(case, dataset, model, "--probe")
    peak, seconds, steps = happened(case, dataset, model, folder / "run")
    return Result(case, alone, probed, probe_s, peak, seconds, steps)


def inside(figure: dict[str, Any], actual: float) -> bool:
    return bool(figure["low"] <= actual <= figure["high"])


def off(figure: dict[str, Any], actual: float) -> float:
    """Relative error of the value."""
    return float(figure["value"]) / actual - 1


def width(figure: dict[str, Any]) -> float:
    """Of the interval, in centres (the middle between its ends)."""
    low, high = float(figure["low"]), float(figure["high"])
    return (high - low) / ((high + low) / 2)


def table(results: list[Result], which: str) -> None:
    print(f"\n{'with' if which == 'probed' else 'without'} a probe")
    print(f"{'configuration':42} {'memory, MiB':>19} {'off':>7}   {'seconds':>7} {'interval':>15} {'width':>6}")
    for result in results:
        promise = getattr(result, which)
        memory, seconds = promise["memory_bytes"], promise["seconds"]
        marks = ("ok" if inside(memory, result.peak_bytes) else "--") + (
            " ok" if inside(seconds, result.seconds) else " --"
        )
        print(
            f"{result.case.name:42} {memory['value'] / MIB:8.0f} / {result.peak_bytes / MIB:8.0f} "
            f"{off(memory, result.peak_bytes):+7.1%}   {result.seconds:7.1f} {seconds['low']:7.1f}–"
            f"{seconds['high']:7.1f} {width(seconds):6.2f} {marks}"
        )
    for name, actual in (("memory_bytes", "peak_bytes"), ("seconds", "seconds")):
        pairs = [(getattr(result, which)[name], getattr(result, actual)) for result in results]
        errors = [abs(off(figure, happened)) for figure, happened in pairs]
        held = sum(inside(figure, happened) for figure, happened in pairs)
        within = sum(error <= 0.1 for error in errors)
        print(
            f"  {name}: {held} of {len(pairs)} inside, {within} within 10 %, median error "
            f"{statistics.median(errors):.1%}, median width {statistics.median(width(each) for each, _ in pairs):.2f}"
        )
    if which == "probed":
        good = [
            result for result in results
            if abs(off(result.probed["memory_bytes"], result.peak_bytes)) <= 0.1
            and inside(result.probed["seconds"], result.seconds) and width(result.probed["seconds"]) <= 0.5
        ]  # fmt: skip
        print(
            "  kept: memory within 10 % and the duration inside an interval of at most half its centre: "
            f"{len(good)} of {len(results)}"
        )
    else:
        wide = max(
            (r.alone["seconds"]["high"] - r.alone["seconds"]["low"]) / r.alone["seconds"]["value"] for r in results
        )
        print(f"  widest interval of the duration: {wide:.2f} × its value")


def told(seconds: float, memory: float) -> str:
    return f"{seconds:.1f} s, {memory / MIB:.0f} MiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="parts of the configurations' names")
    parser.add_argument("--json", type=Path, help="write everything that was promised and measured")
    options = parser.parse_args()
    chosen = [case for case in CASES if not options.only or any(part in case.name for part in options.only)]
    print(f"load before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores")
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="brightrun-promise-") as folder:
        for number, case in enumerate(chosen):
            inner = Path(folder) / str(number)
            inner.mkdir()
            results.append(measure(case, inner))
            last = results[-1]
            print(f"{case.name}: {last.steps} steps, {told(last.seconds, last.peak_bytes)}", flush=True)
            for words, promise in (("alone", last.alone), (f"with a probe of {last.probe_s:.0f} s", last.probed)):
                print(f"  promised {words}: {told(promise['seconds']['value'], promise['memory_bytes']['value'])}")
            shutil.rmtree(inner / "run")
    table(results, "alone")
    table(results, "probed")
    if options.json:
        rows = [
            {
                "name": r.case.name,
                "alone": r.alone,
                "probed": r.probed,
                "peak_bytes": r.peak_bytes,
                "seconds": r.seconds,
            }
            for r in results
        ]
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
