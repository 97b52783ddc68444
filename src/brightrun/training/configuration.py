"""From what a person asks for to what will run: preset, hyperparameters, device, base model; each checked and named."""

import asyncio
import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from brightrun.errors import ConflictError, InvalidInputError
from brightrun.formats import base_models, hyperparameters
from brightrun.formats.base_models import ModelFacts, UnsafeModelError
from brightrun.formats.hyperparameter_rules import adapt
from brightrun.formats.hyperparameters import HyperparameterError, Hyperparameters
from brightrun.formats.methods import METHODS, data_fault
from brightrun.settings import Settings
from brightrun.training.catalogue import GpuEntry, load_catalogue
from brightrun.training.executors.devices import local_gpus
from brightrun.training.schemas import GpuConfigIn

DEFAULT_BASE_MODEL = "tiny"


@dataclass(frozen=True)
class Configuration:
    """overrides: what the user set, typed. advice: field → a second look that it deserves. rules: what fired."""

    preset_id: str
    values: Hyperparameters
    overrides: dict[str, Any]
    gpu: GpuEntry
    gpu_count: int
    rules: list[str]

    @property
    def advice(self) -> dict[str, str]:
        return hyperparameters.advice(self.values)

    @property
    def as_json(self) -> dict[str, Any]:
        values: dict[str, Any] = msgspec.to_builtins(self.values)
        return values


def configure(
    settings: Settings,
    *,
    preset_id: str,
    overrides: dict[str, Any],
    gpu_config: GpuConfigIn | None,
    pairs: int | None = None,
) -> Configuration:
    """Check everything and answer all problems at once (InvalidInputError: field → messages).

    pairs: training pairs of the dataset; with them the rules are shown as they will fire.
    """
    try:
        preset = hyperparameters.preset_named(preset_id)
        values = hyperparameters.build(preset.id, overrides)
    except HyperparameterError as error:
        details = {
            "preset_id" if field == "preset" else f"hyperparameters.{field}": texts
            for field, texts in error.problems.items()
        }
        raise InvalidInputError(
            f"Some values are not allowed: {error}", code="validation_error", details=details
        ) from error
    catalogue = load_catalogue(settings)
    gpu = catalogue.default() if gpu_config is None else catalogue.get(gpu_config.type)
    count = 1 if gpu_config is None else gpu_config.count
    if count > gpu.max_count:
        raise InvalidInputError(
            f"{gpu.title} is offered {gpu.max_count} at a time, not {count}",
            code="validation_error",
            details={"gpu_config.count": [f"at most {gpu.max_count}"]},
        )
    typed = {name: getattr(values, name) for name in overrides}
    # Without a dataset only what follows from the preset is known: no steps can be counted.
    records = pairs - math.floor(pairs * values.heldout_fraction) if pairs else 0
    values, rules = adapt(values, preset=preset.id, train_records=records, explicit=typed)
    return Configuration(preset.id, values, typed, gpu, count, rules)


def may_be_pickled(settings: Settings, name: str) -> bool:
    """Whether the pickled weights of this base model are allowed here.

    By the very name that a job gives: `org/model` does not allow `org/model@refs/pr/1`, which anyone can put there.
    """
    return name in settings.pickled_models


def inspect_base_model(settings: Settings, name: str, folder: Path) -> ModelFacts:
    """Raises UnsafeModelError for pickled weights that are not allowed, ModelFolderError for an unusable folder."""
    try:
        return base_models.inspect_folder(folder, allow_pickle=may_be_pickled(settings, name))
    except UnsafeModelError as error:
        raise UnsafeModelError(
            f"{error} Whoever runs this installation allows them by adding {name} to the setting "
            "BRIGHTRUN_PICKLED_MODELS, for the server and the workers."
        ) from error


async def check_base_model(settings: Settings, name: str) -> None:
    """Raises InvalidInputError: nothing has this name (it says where was looked), or what has it cannot be used."""

    def look() -> None:
        # A path from a user would be a way to read the server's disk: only names are taken.
        model = base_models.resolve(
            name, base_model_dir=settings.base_model_dir, allow_hub=settings.allow_hub, allow_paths=False
        )
        if model.folder is not None:
            inspect_base_model(settings, name, model.folder)

    try:
        await asyncio.to_thread(look)
    except (base_models.ModelFolderError, OSError) as error:
        raise InvalidInputError(str(error), code="validation_error", details={"base_model": [str(error)]}) from error


def require_method(configuration: Configuration, *, dataset_name: str, dataset_format: str) -> None:
    """Raises InvalidInputError with the reason when the method cannot learn from this data, or not on this device."""
    method, gpu = configuration.values.method, configuration.gpu
    fault = data_fault(method, "preference" if dataset_format == "preference" else "chat")
    if fault is not None:
        reason = f"The dataset {dataset_name!r} does not fit the method: {fault}"
    elif (lacking := method_unavailable(method, gpu)) is not None:
        reason = lacking
    else:
        return
    raise InvalidInputError(reason, code="validation_error", details={"hyperparameters.method": [reason]})


def method_unavailable(method: str, gpu: GpuEntry) -> str | None:
    """Why a method cannot run on this device, as a sentence; None when it can, as far as can be seen from here."""
    if not METHODS[method].needs_cuda:
        return None
    title = METHODS[method].title
    if gpu.kind != "cuda":
        return (
            f"{title} keeps the base model in 4 bits, which needs an NVIDIA GPU; {gpu.title} is none. Choose a GPU, or "
            "the method lora"
        )
    if gpu.executor == "local" and local_gpus() and importlib.util.find_spec("bitsandbytes") is None:
        return f"{title} needs the package bitsandbytes, which is not installed here: pip install 'brightrun[gpu]'"
    if gpu.executor == "local" and not local_gpus():
        return f"{title} needs an NVIDIA GPU, and this machine has none that answers. Choose the method lora"
    return None


def require_available(gpu: GpuEntry) -> None:
    """Raises ConflictError with the reason when no job can run there."""
    if reason := gpu.unavailable:
        raise ConflictError(reason, code="gpu_unavailable", details={"gpu_config.type": [reason]})
