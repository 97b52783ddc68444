"""The base model in 4 bits (QLoRA, Dettmers et al., 2023): NF4 with double quantisation, by bitsandbytes, on a GPU."""

import importlib.util
from typing import Any

import torch

from brightrun.trainer.outcomes import bad_configuration


def require() -> None:
    """Raise TrainerStop (64) unless this machine can hold and train a model in 4 bits, saying what is lacking."""
    if not torch.cuda.is_available():
        raise bad_configuration(
            "QLoRA keeps the base model in 4 bits, which needs an NVIDIA GPU (CUDA); PyTorch finds none here.",
            code="qlora_needs_gpu",
            advice="Run it on a machine with such a GPU, or choose the method lora.",
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise bad_configuration(
            "QLoRA needs the package bitsandbytes, which is not installed where the trainer runs.",
            code="qlora_needs_bitsandbytes",
            advice="Install it there: pip install 'brightrun[gpu]'. Or choose the method lora.",
        )


def nf4(dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """What `from_pretrained` takes to load a model in 4 bits: products are computed in `dtype`."""
    import transformers

    configuration: Any = transformers.BitsAndBytesConfig
    return {
        "quantization_config": configuration(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
        ),
        "device_map": {"": str(device)},
    }
