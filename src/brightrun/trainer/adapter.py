"""The adapter as files: standard PEFT form, the same bytes for the same weights."""

import json
import shutil
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from brightrun.formats.run_directory import sha256_of
from brightrun.trainer.checkpoints import sync

ADAPTER = "adapter"
WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
)


def trainable_names(model: PeftModel) -> list[str]:
    """Names of the trained parameters, in the optimiser's order."""
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def weights(model: PeftModel, adapter_name: str = "default") -> dict[str, torch.Tensor]:
    """The adapter's tensors on the CPU under the names of a PEFT file, adapter name left out."""
    # save_embedding_layers: `auto` would ask the hub whether the vocabulary was resized; ours never is.
    tensors = get_peft_model_state_dict(model, adapter_name=adapter_name, save_embedding_layers=False)
    return {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}


def write_weights(directory: Path, model: PeftModel) -> None:
    """adapter_model.safetensors (fp32) and adapter_config.json: enough for `PeftModel.from_pretrained`."""
    save_file(weights(model), directory / WEIGHTS_FILE, metadata={"format": "pt"})
    config = model.peft_config["default"].to_dict()
    config["inference_mode"] = True
    # PEFT keeps sets, whose order changes from process to process.
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    text = json.dumps(plain, indent=2, sort_keys=True, default=str)
    (directory / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def read_weights(directory: Path, model: PeftModel) -> None:
    """Put saved weights into `model`. Every tensor must be in both: PEFT itself would only warn."""
    saved = load_file(directory / WEIGHTS_FILE)
    own = {_name_in_file(name): parameter for name, parameter in model.named_parameters()}
    expected = set(weights(model))
    if set(saved) != expected:
        odd = sorted(set(saved) ^ expected)
        raise RuntimeError(f"{directory / WEIGHTS_FILE} is not this model's adapter: {odd[0]} is in only one of them")
    with torch.no_grad():
        for name, tensor in saved.items():
            own[name].copy_(tensor)


def _name_in_file(parameter: str) -> str:
    """PEFT leaves the adapter's name out, and of DoRA's lengths the word `weight` too."""
    return parameter.replace(".default.", ".").replace(".lora_magnitude_vector.weight", ".lora_magnitude_vector")


def save(run_dir: Path, model: PeftModel, tokenizer_folder: Path) -> tuple[Path, str]:
    """Write RUN_DIR/adapter/ with the base model's tokenizer and template beside it; it appears whole.

    Returns its path and the SHA-256 of the weights.
    """
    final, aside = run_dir / ADAPTER, run_dir / f".{ADAPTER}.partial"
    for leftover in (aside, run_dir / f".{ADAPTER}.old"):
        if leftover.exists():
            shutil.rmtree(leftover)
    aside.mkdir()
    write_weights(aside, model)
    for name in _TOKENIZER_FILES:
        if (tokenizer_folder / name).is_file():
            shutil.copyfile(tokenizer_folder / name, aside / name)
    for path in aside.iterdir():
        sync(path)
    sync(aside)
    if final.exists():  # an attempt that died after this point; directories cannot be replaced in one step
        final.rename(run_dir / f".{ADAPTER}.old")
    aside.rename(final)
    sync(run_dir)
    shutil.rmtree(run_dir / f".{ADAPTER}.old", ignore_errors=True)
    return final, sha256_of(final / WEIGHTS_FILE)
