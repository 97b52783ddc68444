"""All that a resumed run needs to go on as if it had never stopped: the small numbers, and the tensors' files."""

import random
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from brightrun.trainer import adapter
from brightrun.trainer.objectives import HeldoutLoss

STATE_FILE = "state.json"
OPTIMIZER_FILE = "optimizer.safetensors"
RANDOM_FILE = "random.safetensors"


class StepLoss(msgspec.Struct, array_like=True):
    """Sum over the trained tokens (with DPO the pairs) of one optimiser step, in nats, and their number."""

    loss_sum: float
    tokens: int


class Evaluation(msgspec.Struct):
    """Held-out loss per trained token (with DPO per pair) after `step` steps."""

    step: int
    loss: float


class State(msgspec.Struct, kw_only=True):
    """The loop's memory, saved as state.json.

    step: optimiser steps done; with the seed it is the position in the data too (`epoch`, `step_in_epoch` repeat it
      for people). fingerprint: of what must not change between attempts. first, recent: losses of the first and the
      latest steps, `window` each. threads: of torch on the CPU. evaluations: all of them. best: index into them;
      patience_used: evaluations since. sampled_step: when sample answers were given last; −1: never.
    """

    run_id: str
    fingerprint: dict[str, Any]
    total_steps: int
    window: int
    threads: int
    step: int = 0
    epoch: int = 0
    step_in_epoch: int = 0
    first: list[StepLoss] = []
    recent: list[StepLoss] = []
    trained_tokens_total: int = 0
    evaluations: list[Evaluation] = []
    best: int | None = None
    patience_used: int = 0
    stopped_early: bool = False
    heldout_base: HeldoutLoss | None = None
    heldout_latest: HeldoutLoss | None = None
    last_metric: dict[str, Any] = {}
    sampled_step: int = -1
    spent_seconds: float = 0.0
    learning_rate: float = 0.0
    random_python: list[Any] = []

    def record(self, loss: StepLoss) -> None:
        if len(self.first) < self.window:
            self.first.append(loss)
        self.recent = [*self.recent[-(self.window - 1) :], loss] if self.window > 1 else [loss]

    @property
    def best_evaluation(self) -> Evaluation | None:
        return None if self.best is None else self.evaluations[self.best]

    def train_loss(self, *, last: bool) -> float | None:
        """Mean per trained token over the first, or last, tenth of the steps done (at least five of them)."""
        count = max(5, self.step // 10)
        losses = self.recent[-count:] if last else self.first[:count]
        tokens = sum(item.tokens for item in losses)
        return sum(item.loss_sum for item in losses) / tokens if tokens else None


def write_checkpoint(directory: Path, state: State, model: PeftModel, optimizer: torch.optim.Optimizer) -> None:
    """Fill a checkpoint directory: adapter, optimiser, random states, state.json. No pickle anywhere."""
    adapter.write_weights(directory, model)
    names = adapter.trainable_names(model)
    tensors: dict[str, torch.Tensor] = {}
    for index, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            tensor = value if isinstance(value, torch.Tensor) else torch.tensor(float(value))
            tensors[f"{names[index]}/{key}"] = tensor.detach().cpu().contiguous()
    save_file(tensors, directory / OPTIMIZER_FILE)

    numpy_state = np.random.get_state(legacy=False)
    assert isinstance(numpy_state, dict)
    randoms = {"torch": torch.get_rng_state(), "numpy": torch.from_numpy(numpy_state["state"]["key"].astype(np.int64))}
    if torch.cuda.is_available():
        randoms |= {f"cuda-{index}": value for index, value in enumerate(torch.cuda.get_rng_state_all())}
    save_file(randoms, directory / RANDOM_FILE)
    python_version, python_state, python_gauss = random.getstate()
    state.random_python = [
        [python_version, list(python_state), python_gauss],
        [numpy_state["state"]["pos"], numpy_state["has_gauss"], numpy_state["gauss"]],
    ]
    (directory / STATE_FILE).write_bytes(msgspec.json.encode(state))


def read_state(directory: Path) -> State:
    return msgspec.json.decode((directory / STATE_FILE).read_bytes(), type=State)


def restore(directory: Path, state: State, model: PeftModel, optimizer: torch.optim.Optimizer) -> None:
    """Put adapter, optimiser and random states back, to the bit."""
    adapter.read_weights(directory, model)
    names = adapter.trainable_names(model)
    tensors = load_file(directory / OPTIMIZER_FILE)
    slots: dict[int, dict[str, torch.Tensor]] = {}
    for index, name in enumerate(names):
        prefix = f"{name}/"
        slots[index] = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    current = optimizer.state_dict()
    optimizer.load_state_dict({"state": slots, "param_groups": current["param_groups"]})

    randoms = load_file(directory / RANDOM_FILE)
    torch.set_rng_state(randoms["torch"])
    cuda = [randoms[f"cuda-{index}"] for index in range(len(randoms)) if f"cuda-{index}" in randoms]
    if cuda and torch.cuda.is_available() and len(cuda) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(cuda)
    (version, values, gauss), (position, has_gauss, numpy_gauss) = state.random_python
    random.setstate((version, tuple(values), gauss))
    np.random.set_state(
        {
            "bit_generator": "MT19937",
            "state": {"key": randoms["numpy"].numpy().astype(np.uint32), "pos": position},
            "has_gauss": has_gauss,
            "gauss": numpy_gauss,
        }
    )
