"""A base model as numbers: layers, widths, parameters, and the linear layers that an adapter can sit on.

Read from config.json and the headers of the weights; the weights themselves are not loaded.
"""

import json
import re
import struct
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

from brightrun.formats import base_models
from brightrun.formats.base_models import ModelFolderError

_SIZE_IN_NAME = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)\s?([bm])(?![a-z])", re.IGNORECASE)
_NOT_ADAPTED = re.compile(r"(^|\.)(lm_head|embed_out|embed_tokens|embed_in|wte|wpe|word_embeddings|score)(\.|$)|norm")
_ADAPTER_NAMES = {"c_attn", "c_fc", "c_proj"}


@dataclass(frozen=True)
class Linear:
    """One linear layer. name: the last part of its module's name, e.g. `q_proj`."""

    name: str
    inputs: int
    outputs: int

    @property
    def weights(self) -> int:
        return self.inputs * self.outputs


@dataclass(frozen=True)
class Shape:
    """hidden, inner, vocabulary: widths. kv_width: of keys, and of values. parameters: of the whole model.

    linears: of all layers together, without embedding and output head. stored_bytes: a weight takes so many in the
    file. source: in words.
    """

    name: str
    hidden: int
    layers: int
    heads: int
    kv_width: int
    inner: int
    vocabulary: int
    parameters: int
    linears: tuple[Linear, ...]
    stored_bytes: int
    max_positions: int | None
    source: str

    @property
    def linear_parameters(self) -> int:
        """Weights that every token is multiplied with, output head aside."""
        return sum(linear.weights for linear in self.linears)

    def adapted(self, target_modules: str | list[str]) -> list[Linear]:
        """Those that get an adapter, by PEFT's rules: all, a list of names, or those that are named with a comma."""
        if target_modules == "all-linear":
            return list(self.linears)
        names = target_modules if isinstance(target_modules, list) else target_modules.split(",")
        wanted = {name.strip().rpartition(".")[2] for name in names}
        return [linear for linear in self.linears if linear.name in wanted]

    def adapter_parameters(self, rank: int, target_modules: str | list[str]) -> int:
        return sum(rank * (linear.inputs + linear.outputs) for linear in self.adapted(target_modules))


def shape_of(name: str, folder: Path | None) -> Shape:
    """The shape of a base model in a folder; of a hub model that is not here, what its name tells.

    Raises ModelFolderError when neither says how large it is.
    """
    if folder is None:
        return _from_name(name)
    config = folder / "config.json"
    return _read(name, folder, config.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _read(name: str, folder: Path, _changed: int) -> Shape:
    facts = base_models.inspect_folder(folder, allow_pickle=True)
    config = json.loads((folder / "config.json").read_bytes())
    text = config.get("text_config") if isinstance(config.get("text_config"), dict) else config
    if not (facts.hidden_size and facts.layers and facts.heads and facts.vocab_size):
        raise ModelFolderError(f"config.json of {name} does not say how wide and deep the model is.")
    hidden, heads = facts.hidden_size, facts.heads
    head_width = _int(text, "head_dim") or hidden // heads
    kv_width = (_int(text, "num_key_value_heads") or heads) * head_width
    inner = _int(text, "intermediate_size", "n_inner") or 4 * hidden
    linears = tuple(_linears(folder, facts.weight_files)) or tuple(
        _llama(hidden, heads * head_width, kv_width, inner, facts.layers)
    )
    known = facts.parameters
    parameters = known or sum(linear.weights for linear in linears) + hidden * facts.vocab_size
    return Shape(
        name=name,
        hidden=hidden,
        layers=facts.layers,
        heads=heads,
        kv_width=kv_width,
        inner=inner,
        vocabulary=facts.vocab_size,
        parameters=parameters,
        linears=linears,
        stored_bytes=4 if facts.dtype == "float32" else 2,
        max_positions=facts.max_positions,
        source={"weights": "counted in its weights", "config": "from its configuration"}.get(
            facts.parameters_source, "from its configuration"
        ),
    )


def _linears(folder: Path, weight_files: tuple[str, ...]) -> list[Linear]:
    found = []
    for file in weight_files:
        for name, entry in _header(folder / file).items():
            module, _, kind = name.rpartition(".")
            if kind != "weight" or len(entry["shape"]) != 2 or _NOT_ADAPTED.search(module):
                continue
            outputs, inputs = entry["shape"]
            last = module.rpartition(".")[2]
            if last in _ADAPTER_NAMES:  # GPT-2's layers are stored the other way round
                outputs, inputs = inputs, outputs
            found.append(Linear(last, inputs, outputs))
    return found


def _header(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header: dict[str, Any] = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    return {name: entry for name, entry in header.items() if prod(entry["shape"])}


def _llama(hidden: int, query: int, kv: int, inner: int, layers: int) -> list[Linear]:
    one = [
        Linear("q_proj", hidden, query), Linear("k_proj", hidden, kv), Linear("v_proj", hidden, kv),
        Linear("o_proj", query, hidden), Linear("gate_proj", hidden, inner), Linear("up_proj", hidden, inner),
        Linear("down_proj", inner, hidden),
    ]  # fmt: skip
    return one * layers


def _from_name(name: str) -> Shape:
    """`org/Model-7B`: as wide and deep as models of that size usually are."""
    found = _SIZE_IN_NAME.findall(name.replace("-", " ").replace("_", " "))
    if not found:
        raise ModelFolderError(
            f"{name} is not on this machine yet, and its name does not say how large it is: what it takes is not known."
        )
    number, unit = found[-1]
    parameters = int(float(number) * (1e9 if unit.lower() == "b" else 1e6))
    # Width 128 × layers, 12.5 weights a layer and width squared: fits Llama, Qwen and Mistral from 0.5 to 70 thousand
    # million within a fifth.
    layers = max(2, round((parameters / (12.5 * 128**2)) ** (1 / 3)))
    hidden = 128 * layers
    vocabulary = 32_000 if parameters < 4e8 else 128_000
    return Shape(
        name=name, hidden=hidden, layers=layers, heads=max(1, hidden // 128), kv_width=max(128, hidden // 4),
        inner=int(hidden * 3.3), vocabulary=vocabulary, parameters=parameters,
        linears=tuple(_llama(hidden, hidden, max(128, hidden // 4), int(hidden * 3.3), layers)), stored_bytes=2,
        max_positions=None, source="guessed from its name; the model is not on this machine yet",
    )  # fmt: skip


def _int(config: dict[str, Any], *names: str) -> int | None:
    return next((value for name in names if isinstance(value := config.get(name), int)), None)
