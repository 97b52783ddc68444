"""Peak memory of the trainer's process, or on its GPU, in parts that add up: PROMISE.md has the formulas."""

from brightrun.formats.hyperparameters import Hyperparameters
from brightrun.training.promise.machine import Machine
from brightrun.training.promise.plan import Plan
from brightrun.training.promise.shape import Shape

MIB = 1024**2
_CPU_FRAMEWORK = 560 * MIB
"""Python, torch, transformers and PEFT in memory before a model is loaded."""
_CUDA_FRAMEWORK = 350 * MIB
"""cuBLAS workspaces and the allocator's rounding, as `torch.cuda.max_memory_allocated` and its cache see them."""
_BYTES_A_TOKEN = 60
"""Of the tokenised dataset: ids, mask, and the objects around them."""
_CPU_KEPT = 1.1
"""What the C library keeps of freed passes of other widths."""


def precision_of(values: Hyperparameters, machine: Machine, shape: Shape) -> str:
    """What the trainer's `choose_precision` takes; a test compares the two."""
    if values.precision != "auto":
        return values.precision
    if machine.kind == "cuda":
        return "bf16" if machine.bf16 else "fp32"
    return "bf16" if machine.bf16 and shape.hidden >= 256 else "fp32"


def memory_parts(
    shape: Shape, values: Hyperparameters, machine: Machine, plan: Plan, *, dataset_tokens: float
) -> dict[str, float]:
    """Bytes by part; their sum is the peak."""
    width = 2 if precision_of(values, machine, shape) == "bf16" else 4
    method = getattr(values, "method", "lora")
    adapter = shape.adapter_parameters(values.rank, values.target_modules) * (2 if method == "dpo" else 1)
    quantised = method == "qlora"
    weights: float = shape.parameters * width
    if quantised:  # NF4 with double quantisation; embedding, head and norms stay as they are
        weights = shape.linear_parameters * 0.53 + (shape.parameters - shape.linear_parameters) * width
    tokens, trained = plan.largest_padded, plan.largest_trained
    parts = {
        "weights": weights,
        "adapter": adapter * 4,
        "gradients": adapter * 4,
        "optimizer": adapter * 8,
        "activations": tokens * activation_bytes(shape, values, width),
        "logits": trained * shape.vocabulary * (14 if width == 2 else 12),
        "framework": float(_CPU_FRAMEWORK if machine.kind == "cpu" else _CUDA_FRAMEWORK),
    }
    if machine.kind == "cpu":
        parts["activations"] *= _CPU_KEPT
        parts["framework"] += dataset_tokens * _BYTES_A_TOKEN
        # While it loads, the mapped file and the converted weights are both in memory, and no activations yet.
        loading = shape.parameters * (shape.stored_bytes + width)
        parts["loading"] = max(0.0, loading - sum(parts[name] for name in ("weights", "activations", "logits")))
    return {name: float(value) for name, value in parts.items()}


def activation_bytes(shape: Shape, values: Hyperparameters, width: int) -> float:
    """Kept for the backward pass by each token of the widest pass, all layers together.

    A layer keeps its input and its normed input (twice each), queries, keys, values, the answer of attention, gate,
    up, their product and what the adapters project to. With checkpointing only the input of each layer, and one layer
    whole.
    """
    adapted = shape.adapted(values.target_modules)
    per_layer = len(adapted) / max(1, shape.layers)
    layer = (8 * shape.hidden + 3 * shape.kv_width + 5 * shape.inner) * width + per_layer * values.rank * 4
    if width == 2:  # norms and residuals are in fp32 beside it
        layer += 4 * shape.hidden * 2
    if values.dropout > 0:
        layer += per_layer * shape.hidden * (width + 1)
    if values.activation_checkpointing:
        return shape.layers * shape.hidden * width + layer
    return shape.layers * layer
