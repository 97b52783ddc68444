"""A run directory in a test: made, started, watched and read as its users do."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brightrun.formats.run import RunConfig, read_run
from brightrun.formats.run_directory import prepare_run

TOPICS = ["retirement", "a mortgage", "insurance", "taxes", "saving", "debt", "college", "an inheritance"]


def write_dataset(path: Path, conversations: int = 12, seed: int = 0) -> Path:
    """A v3 file of short adviser conversations of varied length."""
    rng = random.Random(seed)
    with path.open("w") as stream:
        for number in range(conversations):
            turns = []
            for _ in range(rng.randint(1, 3)):
                topic = rng.choice(TOPICS)
                turns.append({"role": "user", "content": f"I worry about {topic}. What comes first?"})
                step = "Let us take one small step: write down what you know, and we look at it together. "
                turns.append({"role": "assistant", "content": f"It makes sense that {topic} feels heavy. {step}"})
            stream.write(json.dumps({"conversation_id": f"c{number}", "turns": turns}) + "\n")
    return path


@dataclass
class Run:
    """A run directory and what to ask of it."""

    path: Path

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.path / "events.jsonl").read_text().splitlines()]

    def of(self, event_type: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == event_type]

    @property
    def warnings(self) -> list[str]:
        return [event["code"] for event in self.of("warning")]

    @property
    def config(self) -> RunConfig:
        return read_run(self.path)

    @property
    def adapter(self) -> bytes:
        return (self.path / "adapter" / "adapter_model.safetensors").read_bytes()

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change run.json as a person with an editor would."""
        text = json.loads((self.path / "run.json").read_text())
        change(text)
        (self.path / "run.json").write_text(json.dumps(text))

    def start(self) -> "subprocess.Popen[bytes]":
        """The trainer as its own process, output in out.log."""
        with (self.path.parent / f"{self.path.name}.out").open("ab") as out:
            return subprocess.Popen([sys.executable, "-m", "brightrun.trainer", str(self.path)], stdout=out, stderr=out)

    def wait(self, process: "subprocess.Popen[bytes]") -> int:
        return process.wait(timeout=240)

    def process(self) -> int:
        return self.wait(self.start())

    def until_step(self, process: "subprocess.Popen[bytes]", step: int, *, after_seq: int = 0) -> None:
        """Return as soon as the trainer has said (after event `after_seq`) that it did this step."""
        deadline = time.monotonic() + 240
        path = self.path / "events.jsonl"
        while time.monotonic() < deadline:
            assert process.poll() is None, (self.path.parent / f"{self.path.name}.out").read_text()
            lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
            for event in map(json.loads, lines[-40:]):
                if event["type"] == "metric" and event["step"] >= step and event["seq"] > after_seq:
                    return
            time.sleep(0.005)
        raise AssertionError(f"step {step} was not reached in time")


def new_run(dataset: Path, out: Path, base_model: str = "tiny-random", **overrides: Any) -> Run:
    """A quick run: 30 steps, a checkpoint every 5, unless `overrides` say otherwise."""
    quick = {
        "learning_rate": 1e-3, "batch_size": 4, "epochs": 10, "rank": 4, "min_steps": 0, "checkpoint_every_steps": 5,
        "eval_every_steps": 10, "heldout_fraction": 0.2,
    }  # fmt: skip
    sample_prompts = overrides.pop("sample_prompts", 0)
    settings = {name: overrides.pop(name) for name in ("on_bad_row", "budgets") if name in overrides}
    prepare_run(
        dataset, out, base_model=base_model, seed=7, overrides=quick | overrides, sample_prompts=sample_prompts,
        **settings,
    )  # fmt: skip
    return Run(out)
