"""The trainer against TRL, transformers' own Trainer and LLaMA-Factory: same model, data, epochs, batch, dropout 0.

    python benchmarks/train.py [--trl PYTHON] [--llamafactory PYTHON] [--rounds 3] [--only WORDS] [--small]

Peers run in environments of their own (`pip install trl peft datasets`, `pip install llamafactory`), whose Python is
named on the command line; without it they are left out and that is said. The model has random weights (hidden 256, 6
layers). Every row trains on every conversation once an epoch, eight conversations (or as many tokens, packed) an
optimiser step, LoRA rank 16 on all linear layers. Two corpora: `all` is one long answer to a short question, so that
nearly every token is trained whoever trains; `assistant` is conversations of which only the assistant's turns are.

Seconds are those of the training loop, from its first step's begin to its last step's end; "to first step" is from the
start of the process. Contenders take turns; the median counts.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

BATCH, LENGTH = 8, 1792
HERE = Path(__file__).parent
WORDS = [
    *(
        "clay",
        "glaze",
        "kiln",
        "wheel",
        "slip",
        "cone",
        "firing",
        "foot",
        "rim",
        "lid",
        "handle",
        "trim",
        "oxide",
        "ash",
    ),
    *("you", "we", "they", "should", "would", "might", "can", "try", "slowly", "again", "before", "after", "between"),
    *(
        "until",
        "while",
        "because",
        "although",
        "the",
        "a",
        "this",
        "that",
        "salt",
        "soda",
        "wood",
        "gas",
        "shelf",
        "prop",
    ),
]


def sentences(rng: random.Random, count: int) -> str:
    made = (" ".join(rng.choices(WORDS, k=rng.randint(6, 16))).capitalize() + "." for _ in range(count))
    return " ".join(made)


def conversations(kind: str, count: int) -> list[dict[str, Any]]:
    """50 to 1,500 tokens each, most of them short, as real ones are."""
    rng = random.Random(5)
    rows = []
    for _ in range(count):
        size = max(2, int(60 * rng.paretovariate(1.1) / 12)) if rng.random() < 0.5 else rng.randint(4, 70)
        size = min(size, 75)
        messages: list[dict[str, str]] = []
        if kind == "all":
            messages += [{"role": "user", "content": "Go on."}]
            messages += [{"role": "assistant", "content": sentences(rng, size)}]
        while kind == "assistant" and size > 0:
            messages += [{"role": "user", "content": sentences(rng, min(size, rng.randint(1, 6)))}]
            messages += [{"role": "assistant", "content": sentences(rng, min(size, rng.randint(2, 10)))}]
            size -= 10
        rows.append({"messages": messages})
    return rows


def make_model(folder: Path) -> None:
    """The tokenizer that we ship, with a template that marks answers, so that every trainer can tell them."""
    import shutil

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    import brightrun.formats

    shipped = Path(brightrun.formats.__file__).parent / "builtin" / "tiny"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(shipped / name, folder / name)
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}{% if m['role'] == 'assistant' %}"
        "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
        "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
        encoding="utf-8",
    )
    torch.manual_seed(1)
    known = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    ids = dict(known["model"]["vocab"])
    ids |= {token["content"]: token["id"] for token in known["added_tokens"]}
    config = LlamaConfig(
        vocab_size=8192, hidden_size=256, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=8,
        num_key_value_heads=8, max_position_embeddings=4096, tie_word_embeddings=False,
        eos_token_id=ids["<|im_end|>"], pad_token_id=ids["<|pad|>"], bos_token_id=None,
    )  # fmt: skip
    assert max(ids.values()) < config.vocab_size
    LlamaForCausalLM(config).save_pretrained(folder)


def ours(work: Path, data: Path, _kind: str, *_: Any, method: str = "") -> dict[str, Any]:
    run = Path(tempfile.mkdtemp(dir=work)) / "run"
    settings = {
        "epochs": 1, "batch_size": BATCH, "rank": 16, "alpha": 32, "dropout": 0, "learning_rate": 2e-4,
        "schedule": "constant", "warmup_ratio": 0, "weight_decay": 0, "min_steps": 0, "max_seq_length": LENGTH,
        "heldout_fraction": 0, "checkpoint_every_steps": 10_000,
    }  # fmt: skip
    sets = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    command = ["-m", "brightrun", "trainer", "prepare", "--dataset", str(data), "--base-model", str(work / "model")]
    subprocess.run([sys.executable, *command, "--out", str(run), "--seed", "7", *sets], check=True, capture_output=True)
    started = time.time()
    subprocess.run([sys.executable, "-m", "brightrun.trainer", str(run)], check=True, capture_output=True)
    ended = time.time()
    events = [json.loads(line) for line in (run / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    metrics = [event for event in events if event["type"] == "metric"]
    first = _moment(metrics[0])
    startup: dict[str, float] = next((event["startup"] for event in events if event.get("startup")), {})
    # The first step's own time: its tokens at its rate.
    first_took = metrics[0].get("tokens", metrics[0]["trained_tokens"]) / metrics[0]["tokens_per_s"]
    return {
        "seconds": _moment(metrics[-1]) - first + first_took,
        "to_first_step": first - started,
        "total": ended - started,
        "steps": len(metrics),
        "losses": [event["loss"] for event in metrics],
        "peak_mb": max(event["rss_bytes"] for event in metrics) / 2**20,
        "startup": startup,
    }


def _moment(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["time"]).timestamp()


def peer(which: str) -> Callable[..., dict[str, Any]]:
    def run(work: Path, data: Path, kind: str, python: str, pack: int) -> dict[str, Any]:
        command = [
            python,
            str(HERE / "train_peers.py"),
            which,
            tempfile.mkdtemp(dir=work),
            "--model",
            str(work / "model"),
        ]
        command += ["--data", str(data), "--batch", str(BATCH), "--length", str(LENGTH), "--pack", str(pack)]
        if kind == "assistant":
            command += ["--assistant-only"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{which} failed:\n{done.stderr[-3000:]}")
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return found

    return run


def llama_factory(work: Path, data: Path, kind: str, python: str, pack: int) -> dict[str, Any]:
    """Its packing, loss on the whole of it or on the answers, as it does by default.

    Version 0.9.5 with transformers 5.6 pads ids to a multiple of 8 and positions not, and fails ("The size of tensor a
    must match the size of tensor b"): measured with `pad_to_multiple_of=None` in its train/sft/workflow.py. Needs a
    module named torchaudio, which may be empty.
    """
    folder = Path(tempfile.mkdtemp(dir=work))
    rows = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()]
    (folder / "data.json").write_text(json.dumps(rows), encoding="utf-8")
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    entry = {"file_name": "data.json", "formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": tags}
    (folder / "dataset_info.json").write_text(json.dumps({"bench": entry}), encoding="utf-8")
    settings = {
        "stage": "sft", "do_train": True, "model_name_or_path": str(work / "model"), "finetuning_type": "lora",
        "lora_rank": 16, "lora_alpha": 32, "lora_dropout": 0, "lora_target": "all", "dataset": "bench",
        "dataset_dir": str(folder), "template": "chatml", "cutoff_len": pack, "packing": True, "neat_packing": False,
        "train_on_prompt": kind == "all", "per_device_train_batch_size": 2, "learning_rate": 2e-4,
        "num_train_epochs": 1, "lr_scheduler_type": "constant", "logging_steps": 1, "save_strategy": "no",
        "output_dir": str(folder / "out"), "bf16": True, "use_cpu": True, "report_to": "none", "flash_attn": "sdpa",
        "gradient_checkpointing": False, "disable_gradient_checkpointing": True, "overwrite_output_dir": True,
    }  # fmt: skip
    (folder / "train.yaml").write_text(json.dumps(settings), encoding="utf-8")
    started = time.time()
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "DISABLE_VERSION_CHECK": "1"}
    done = subprocess.run(
        [python, "-m", "llamafactory.cli", "train", str(folder / "train.yaml")],
        check=False, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    total = time.time() - started
    if done.returncode:
        raise SystemExit(f"LLaMA-Factory failed:\n{done.stderr[-3000:]}")
    result = json.loads((folder / "out" / "train_results.json").read_text(encoding="utf-8"))
    log = [json.loads(line) for line in (folder / "out" / "trainer_log.jsonl").read_text().splitlines()]
    return {
        "seconds": result["train_runtime"], "to_first_step": None, "total": total, "steps": log[-1]["current_steps"],
        "losses": [entry["loss"] for entry in log if "loss" in entry], "peak_mb": None,
    }  # fmt: skip


CONTENDERS: dict[str, tuple[str, Callable[..., dict[str, Any]]]] = {
    "brightrun": ("", ours),
    "TRL, defaults": ("trl", peer("trl")),
    "TRL, packing": ("trl", peer("trl-packing")),
    "TRL, length grouping": ("trl", peer("trl-grouped")),
    "transformers' Trainer, length grouping, bf16": ("trl", peer("transformers-grouped")),
    "LLaMA-Factory, packing": ("llamafactory", llama_factory),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl", help="Python of an environment with trl, peft and datasets")
    parser.add_argument("--llamafactory", help="Python of an environment with llamafactory")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="words in the names of contenders, comma-separated")
    parser.add_argument("--kinds", default="all,assistant")
    parser.add_argument("--small", action="store_true", help="a fifth of the data, to see whether everything runs")
    arguments = parser.parse_args()
    pythons = {"": sys.executable, "trl": arguments.trl, "llamafactory": arguments.llamafactory}
    wanted = [word.strip() for word in arguments.only.split(",") if word.strip()]
    chosen = {
        name: contender
        for name, contender in CONTENDERS.items()
        if name == "brightrun" or not wanted or any(word in name for word in wanted)
    }
    for name, (environment, _run) in list(chosen.items()):
        if pythons[environment] is None:
            print(f"left out, no environment was named: {name}", file=sys.stderr)
            del chosen[name]
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the start"
    )
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        make_model(work / "model")
        for kind in arguments.kinds.split(","):
            compare(kind, work, chosen, pythons, arguments.rounds, 48 if arguments.small else 240)
    print(f"load {os.getloadavg()[0]:.1f} at the end")


def compare(kind: str, work: Path, chosen: dict[str, Any], pythons: dict[str, str], rounds: int, count: int) -> None:
    from tokenizers import Tokenizer

    rows = conversations(kind, count)
    data = work / f"{kind}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tokenizer = Tokenizer.from_file(str(work / "model" / "tokenizer.json"))
    sizes = [sum(len(tokenizer.encode(m["content"]).ids) + 4 for m in row["messages"]) for row in rows]
    answers = [
        sum(len(tokenizer.encode(m["content"]).ids) + 1 for m in row["messages"] if m["role"] == "assistant")
        for row in rows
    ]
    pack = max(LENGTH, round(sum(sizes) / len(sizes) * BATCH / 2))
    print(
        f"\n{kind}: {count} conversations of {min(sizes)} to {max(sizes)} tokens, {sum(sizes):,} in all, "
        f"{sum(answers):,} of the assistant; packed rows of {pack}, two a step\n"
    )
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in chosen}
    for _round in range(rounds):
        for name, (environment, run) in chosen.items():
            runs[name].append(run(work, data, kind, pythons[environment], pack))
    print(
        "| Trainer | Seconds | Times ours | Tokens/s | Steps | To first step, s | Whole process, s | Peak MB | Losses |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    base = statistics.median(run["seconds"] for run in runs["brightrun"])
    for name, found in runs.items():
        seconds = statistics.median(run["seconds"] for run in found)
        shown = [found[0][key] for key in ("to_first_step", "peak_mb")]
        first, peak = ("–" if value is None else f"{value:,.1f}" for value in shown)
        losses = found[0]["losses"]
        total = statistics.median(run["total"] for run in found)
        print(
            f"| {name} | {seconds:.1f} | {seconds / base:.2f} × | {sum(sizes) / seconds:,.0f} | {found[0]['steps']} | "
            f"{first} | {total:.1f} | {peak} | {losses[0]:.3f} … {losses[-1]:.3f} |"
        )
    print(f"\nWhere our start went: {runs['brightrun'][0]['startup']}")


if __name__ == "__main__":
    main()
