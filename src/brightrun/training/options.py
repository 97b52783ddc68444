"""What a person may choose from when they start a job: presets, hyperparameters, devices, base models."""

from typing import Any

import msgspec

from brightrun.formats import base_models, hyperparameters
from brightrun.formats.base_models import BaseModel, ModelFolderError
from brightrun.formats.methods import METHODS
from brightrun.settings import Settings
from brightrun.training.catalogue import load_catalogue
from brightrun.training.configuration import DEFAULT_BASE_MODEL, inspect_base_model, method_unavailable
from brightrun.training.executors.devices import local_gpus

_EXPLANATIONS = {
    "conservative": "A small adapter and gentle steps: it picks up tone and form, and forgets little. Start here with "
    "few conversations.",
    "balanced": "A middle way that suits most datasets: it learns how the expert answers and keeps general skill.",
    "aggressive": "A large adapter and strong steps: it can learn behaviour far from the base model, and needs many "
    "conversations to do so without harm.",
    "custom": "Your own values. What you leave out is as in balanced.",
}


def training_options(settings: Settings) -> dict[str, Any]:
    """JSON for a form. Reads model folders: call it in a thread."""
    catalogue = load_catalogue(settings)
    default_gpu = catalogue.default()
    return {
        "default_preset": "balanced",
        "presets": [
            {
                "id": preset.id,
                "title": preset.title,
                "goal": preset.goal,
                "explanation": _EXPLANATIONS[preset.id],
                "hyperparameters": msgspec.to_builtins(hyperparameters.build(preset.id)),
            }
            for preset in hyperparameters.PRESETS.values()
        ],
        "preset_aliases": hyperparameters.PRESET_ALIASES,
        "hyperparameters": [
            {**msgspec.to_builtins(spec), "range": spec.range_text} for spec in hyperparameters.HYPERPARAMETERS
        ],
        "methods": [
            {
                **msgspec.to_builtins(method),
                "unavailable": {
                    entry.id: reason
                    for entry in catalogue.entries.values()
                    if (reason := method_unavailable(method.id, entry)) is not None
                },
            }
            for method in METHODS.values()
        ],
        "default_gpu": default_gpu.id,
        "gpus": [
            {
                "id": entry.id,
                "title": entry.title,
                "kind": entry.kind,
                "price_per_gpu_hour_usd": str(entry.price_per_gpu_hour_usd),
                "tokens_per_s": float(entry.tokens_per_s),
                "memory_gib": entry.memory_gib,
                "max_count": entry.max_count,
                "available": entry.unavailable is None,
                "reason": entry.unavailable,
                "source": entry.source,
            }
            for entry in catalogue.entries.values()
        ],
        "local_gpus": [{"index": gpu.index, "name": gpu.name, "memory_mib": gpu.memory_mib} for gpu in local_gpus()],
        "default_base_model": DEFAULT_BASE_MODEL,
        "base_models": [_model(settings, model) for model in base_models.list_available(settings.base_model_dir)],
        "hub_allowed": settings.allow_hub,
    }


def _model(settings: Settings, model: BaseModel) -> dict[str, Any]:
    """A model that cannot be used is listed with the reason, not left out."""
    answer: dict[str, Any] = {"name": model.name, "kind": model.kind, "usable": True, "reason": None}
    assert model.folder is not None  # `list_available` names only what is on the disk
    try:
        facts = inspect_base_model(settings, model.name, model.folder)
    except (ModelFolderError, OSError) as error:
        return answer | {"usable": False, "reason": str(error)}
    return answer | {
        "parameters": facts.parameters,
        "parameters_source": facts.parameters_source,
        "weight_bytes": facts.weight_bytes,
        "max_positions": facts.max_positions,
        "model_type": facts.model_type,
        "has_chat_template": facts.has_chat_template,
    }
