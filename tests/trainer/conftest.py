"""Real runs of the smallest model: in this process where only the result counts, as a process where its end does."""

import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from trainer_runs import TOPICS, Run, new_run, write_dataset

# As the trainer sets it for itself: threads that wait must not take the cores from the processes under test.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "turns.jsonl")


@pytest.fixture(scope="session")
def preferences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pairs: a kind answer, and a rude one."""
    rng = random.Random(0)
    path = tmp_path_factory.mktemp("preferences") / "pairs.jsonl"
    with path.open("w") as stream:
        for number in range(20):
            topic = rng.choice(TOPICS)
            pair = {
                "prompt": f"I worry about {topic}, number {number}. What comes first?",
                "chosen": f"It makes sense that {topic} feels heavy. " * rng.randint(1, 3),
                "rejected": f"No idea about {topic}. Ask somebody else. " * rng.randint(1, 2),
            }
            stream.write(json.dumps(pair) + "\n")
    return path


@pytest.fixture
def make_run(dataset: Path, tmp_path: Path) -> Callable[..., Run]:
    def make(name: str = "run", data: Path | None = None, **overrides: Any) -> Run:
        return new_run(data or dataset, tmp_path / name, **overrides)

    return make


@pytest.fixture
def train_here() -> Iterator[Callable[[Run], int]]:
    """Run the trainer's `main` in this process: imports are paid once for all tests."""
    import torch

    from brightrun.trainer.main import main

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    offline = os.environ.get("HF_HUB_OFFLINE")
    yield lambda run: main([str(run.path)])
    for number, handler in handlers.items():
        signal.signal(number, handler)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
    if offline is None:
        os.environ.pop("HF_HUB_OFFLINE", None)
    else:
        os.environ["HF_HUB_OFFLINE"] = offline


@pytest.fixture(scope="session")
def finished(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One uninterrupted run with dropout, as a process of its own. Read only."""
    run = new_run(dataset, tmp_path_factory.mktemp("finished") / "run", dropout=0.1, sample_prompts=2)
    assert run.process() == 0, (run.path.parent / "run.out").read_text()
    return run


@pytest.fixture
def ask_at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run, int, str], None]:
    """Put a control file into a run (in this process) the moment it reports a step."""
    from brightrun.trainer.events import EventLog

    emit = EventLog.emit

    def ask(run: Run, step: int, action: str) -> None:
        def listening(log: EventLog, event_type: Any, /, **fields: Any) -> dict[str, Any]:
            event = emit(log, event_type, **fields)
            if log.path.parent == run.path and event_type == "metric" and fields["step"] == step:
                (run.path / "control.json").write_text(f'{{"action": "{action}"}}')
            return event

        monkeypatch.setattr(EventLog, "emit", listening)

    return ask


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A base model as people have them: a folder with safetensors, made from tiny-random's configuration."""
    import shutil

    import torch
    import transformers

    from brightrun.formats.base_models import BUILTIN

    folder = tmp_path / "model"
    shutil.copytree(BUILTIN["tiny-random"], folder)
    torch.manual_seed(3)
    config = transformers.AutoConfig.from_pretrained(folder)
    transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return folder
