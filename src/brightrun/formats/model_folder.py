"""What a folder with a base model holds, told from its files without loading any of them into a framework.

Weights are read as safetensors, which are numbers and nothing else. Pickled weights (`.bin`, `.pt`, …) can run code
when they are loaded: a model that has only those is refused unless its owner allows it. Code that a model brings along
(`auto_map`) is reported and never run: the trainer loads with `trust_remote_code` off.
"""

import hashlib
import json
import os
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from brightrun.formats.tokenizer_folder import read_json

PICKLED = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".mar"})
_NOT_WEIGHTS = frozenset({"training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt"})
_LARGEST_HEADER = 100 * 1024 * 1024  # bytes; the limit that the safetensors library itself sets
_HASHED = frozenset({".safetensors", ".json", ".jinja", ".model", ".txt", ".py"}) | PICKLED


class ModelFolderError(Exception):
    """The folder cannot be used as a base model; the message says why, and what to do."""


class UnsafeModelError(ModelFolderError):
    """The model could only be loaded by running code that it brings along."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A base model, told from its files.

    parameters: number of weights; parameters_source: `weights` (counted in the safetensors headers), `config`
      (estimated from the configuration) or `none`. dtype: as stored, e.g. `bfloat16`. weight_files, pickled_files:
      names in the folder; pickled ones are never loaded where safetensors exist. remote_code: classes that the model
      wants to load from its own Python files (`auto_map`). max_positions: the longest context, in tokens.
    """

    architectures: tuple[str, ...]
    model_type: str | None
    hidden_size: int | None
    layers: int | None
    heads: int | None
    vocab_size: int | None
    max_positions: int | None
    dtype: str | None
    parameters: int | None
    parameters_source: str
    weight_files: tuple[str, ...]
    weight_bytes: int
    pickled_files: tuple[str, ...]
    remote_code: tuple[str, ...]
    has_tokenizer: bool
    has_chat_template: bool

    @property
    def needs_pickle(self) -> bool:
        """Only pickled weights are there."""
        return bool(self.pickled_files) and not self.weight_files


def inspect_folder(folder: Path, *, allow_pickle: bool = False) -> ModelFacts:
    """Read a model folder's configuration and the headers of its weights.

    allow_pickle: the owner has allowed this model's pickled weights. Raises UnsafeModelError for pickled weights
    without that, ModelFolderError for a folder without a configuration or with missing or damaged weight files.
    """
    if not folder.is_dir():
        raise ModelFolderError(f"{folder} is not a folder.")
    if not (folder / "config.json").is_file():
        hint = (
            " It holds an adapter, not a base model: name the base model it was trained on."
            if (folder / "adapter_config.json").is_file()
            else ""
        )
        raise ModelFolderError(f"{folder} has no config.json, so it is not a base model.{hint}")
    config = _json(folder / "config.json")
    text = _text_config(config)
    pickled = tuple(sorted(p.name for p in folder.iterdir() if p.suffix in PICKLED and p.name not in _NOT_WEIGHTS))
    weights = _weight_files(folder)
    counted, stored = 0, None
    for name in weights:
        size, dtype = _read_header(folder / name)
        counted, stored = counted + size, stored or dtype
    estimated = None if weights else estimate_parameters(config)
    written = config.get("dtype") or config.get("torch_dtype") or text.get("dtype") or text.get("torch_dtype")
    facts = ModelFacts(
        architectures=tuple(map(str, config.get("architectures") or ())),
        model_type=config.get("model_type"),
        hidden_size=_number(text, "hidden_size", "n_embd", "d_model"),
        layers=_number(text, "num_hidden_layers", "n_layer"),
        heads=_number(text, "num_attention_heads", "n_head"),
        vocab_size=_number(text, "vocab_size"),
        max_positions=_number(text, "max_position_embeddings", "n_positions", "n_ctx"),
        dtype=stored or (str(written) if written else None),
        parameters=counted if weights else estimated,
        parameters_source="weights" if weights else "config" if estimated else "none",
        weight_files=weights,
        weight_bytes=sum((folder / name).stat().st_size for name in weights or pickled),
        pickled_files=pickled,
        remote_code=_remote_code(folder, config),
        has_tokenizer=(folder / "tokenizer.json").is_file(),
        has_chat_template=(folder / "chat_template.jinja").is_file()
        or bool(_json(folder / "tokenizer_config.json").get("chat_template")),
    )
    if facts.needs_pickle and not allow_pickle:
        raise UnsafeModelError(
            f"{folder} has only pickled weights ({', '.join(pickled[:3])}{', …' if len(pickled) > 3 else ''}). Loading "
            "them can run any code. Convert them to safetensors (save_pretrained does that), or let an owner allow "
            "them for this model."
        )
    return facts


def estimate_parameters(config: dict[str, Any]) -> int | None:
    """Weights of a Llama-style decoder by its configuration (untied head counted once); None when sizes are missing."""
    text = _text_config(config)
    hidden = _number(text, "hidden_size", "n_embd", "d_model")
    layers = _number(text, "num_hidden_layers", "n_layer")
    heads = _number(text, "num_attention_heads", "n_head")
    vocab = _number(text, "vocab_size")
    if not (hidden and layers and heads and vocab):
        return None
    inner = _number(text, "intermediate_size", "n_inner") or 4 * hidden
    head_dim = _number(text, "head_dim") or hidden // heads
    kv_heads = _number(text, "num_key_value_heads") or heads
    attention = 2 * hidden * heads * head_dim + 2 * hidden * kv_heads * head_dim
    layer = attention + 3 * hidden * inner + 2 * hidden
    head = 0 if config.get("tie_word_embeddings", True) else vocab * hidden
    return vocab * hidden + layers * layer + hidden + head


def hash_folder(folder: Path, *, cache: Path | None = None) -> dict[str, str]:
    """SHA-256 (hex) of every file of a model folder that shapes what it does, by name.

    cache: a JSON file of our own that remembers hashes by path, size and modification time, so that a model of many
    gigabytes is read once. Raises OSError.
    """
    known: dict[str, str] = {}
    if cache is not None and cache.is_file():
        try:
            known = dict(json.loads(cache.read_text(encoding="utf-8")))
        except ValueError:
            known = {}  # derived data, torn by a crash: it is computed again
    result, fresh = {}, dict(known)
    for path in sorted(folder.iterdir()):
        if path.suffix not in _HASHED or not path.is_file():
            continue
        status = path.stat()
        key = f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
        if key not in fresh:
            with path.open("rb") as stream:
                fresh[key] = hashlib.file_digest(stream, "sha256").hexdigest()
        result[path.name] = fresh[key]
    if cache is not None and fresh != known:
        aside = cache.with_name(f"{cache.name}.{os.getpid()}.part")
        aside.write_text(json.dumps(fresh), encoding="utf-8")
        aside.replace(cache)
    return result


def folder_sha256(folder: Path, *, cache: Path | None = None) -> str:
    """One SHA-256 over the names and hashes of `hash_folder`: the identity of a base model."""
    lines = "".join(f"{name} {digest}\n" for name, digest in sorted(hash_folder(folder, cache=cache).items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def has_whole_weights(folder: Path) -> bool:
    """Whether config.json and every weight file (safetensors or pickled) are there: a download may have stopped."""
    try:
        facts = inspect_folder(folder, allow_pickle=True)
    except ModelFolderError:
        return False
    return bool(facts.weight_files or facts.pickled_files)


def _weight_files(folder: Path) -> tuple[str, ...]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = _json(index).get("weight_map")
        names = sorted(set(map(str, shards.values()))) if isinstance(shards, dict) else []
        missing = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
        if missing or not names:
            raise ModelFolderError(
                f"{folder} is incomplete: {len(missing)} of {len(names)} weight files that {index.name} lists are "
                f"missing ({', '.join(missing[:3])}). Copy or download the model again."
            )
        return tuple(names)
    return tuple(sorted(path.name for path in folder.glob("*.safetensors") if not path.name.startswith("adapter_")))


_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn"}


def _read_header(path: Path) -> tuple[int, str | None]:
    """(number of weights, type of the first tensor), from a safetensors file's header."""
    broken = ModelFolderError(f"{path} is not a whole safetensors file. Copy or download the model again.")
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        start = stream.read(8)
        if len(start) < 8:
            raise broken
        (length,) = struct.unpack("<Q", start)
        if length > min(_LARGEST_HEADER, size - 8):
            raise broken
        try:
            header = json.loads(stream.read(length))
        except ValueError as error:
            raise broken from error
    tensors = [entry for name, entry in header.items() if name != "__metadata__"]
    if any(8 + length + entry["data_offsets"][1] > size for entry in tensors):
        raise broken
    dtype = tensors[0]["dtype"] if tensors else None
    return sum(prod(entry["shape"]) for entry in tensors), _DTYPES.get(dtype, str(dtype).lower()) if dtype else None


def _remote_code(folder: Path, config: dict[str, Any]) -> tuple[str, ...]:
    found = []
    for source in (config, _json(folder / "tokenizer_config.json")):
        entries = source.get("auto_map")
        if isinstance(entries, dict):
            found += [f"{name}: {target}" for name, target in sorted(entries.items())]
    return tuple(found)


def _json(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except ValueError as error:
        raise ModelFolderError(str(error)) from error


def _text_config(config: dict[str, Any]) -> dict[str, Any]:
    """The language model's part: models with several modalities nest it."""
    nested = config.get("text_config")
    return nested if isinstance(nested, dict) else config


def _number(config: dict[str, Any], *names: str) -> int | None:
    return next((value for name in names if isinstance(value := config.get(name), int)), None)
