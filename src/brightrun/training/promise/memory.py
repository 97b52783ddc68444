"""Peak memory of the trainer's process, or on its GPU, in parts that add up: PROMISE.md has the formulas."""

from brightrun.formats.hyperparameters import Hyperparameters
from brightrun.training.promise.machine import Machine
from brightrun.training.promise.plan import Plan
from brightrun.training.promise.shape import Shape

MIB = 1024**2
_CPU_FRAMEWORK = 384 * MIB
"""Python, torch, transformers and PEFT, and what their first pass sets up."""
_CUDA_FRAMEWORK = 350 * MIB
"""cuBLAS workspaces and the allocator's rounding, as `torch.cuda.max_memory_allocated` and its cache see them."""
_BYTES_A_TOKEN = 60
"""Of the tokenised dataset: ids, mask, and the objects around them."""
_CPU_BF16 = 400 * MIB
"""What the product library prepares and keeps for each shape of a bf16 product on a processor: seen in whole runs, and
differing a lot between them."""
_SAVED = {4: 8.0, 2: 5.6}
"""Bytes kept for the backward pass by each output of a linear layer, by the width of a number; and where it has an
adapter, and by each of its inputs with dropout in front of the adapter. Measured: PROMISE.md."""
_SAVED_ADAPTED = {4: 3.2, 2: 3.3}
_SAVED_DROPPED = {4: 5.0, 2: 4.7}
_WORKING_LAYERS = 2.5
"""A layer that is being worked on needs this many times what it keeps."""
_LOGITS = {4: 16, 2: 14}
"""Bytes of each entry of the output head's rows: logits, their softmax, and the gradients of both."""


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
    adapter = shape.adapter_parameters(values.rank, values.target_modules)
    weights: float = shape.parameters * width
    if values.method == "qlora":  # NF4 with double quantisation; embedding, head and norms stay as they are
        weights = shape.linear_parameters * 0.53 + (shape.parameters - shape.linear_parameters) * width
    tokens, trained = plan.largest_padded, plan.largest_trained
    parts = {
        "weights": weights,
        "adapter": adapter * 4,
        "gradients": adapter * 4,
        "optimizer": adapter * 8,
        "activations": tokens * activation_bytes(shape, values, width),
        "logits": trained * logit_bytes(shape, width),
        "framework": float(_CPU_FRAMEWORK if machine.kind == "cpu" else _CUDA_FRAMEWORK),
    }
    if machine.kind == "cpu":
        parts["framework"] += dataset_tokens * _BYTES_A_TOKEN + (_CPU_BF16 if width == 2 else 0)
        # While it loads, the mapped file and the converted weights are both in memory, and no activations yet.
        loading = shape.parameters * (shape.stored_bytes + width)
        parts["loading"] = max(0.0, loading - sum(parts[name] for name in ("weights", "activations", "logits")))
    return {name: float(value) for name, value in parts.items()}


def logit_bytes(shape: Shape, width: int) -> float:
    """Of each position that goes through the output head."""
    return float(shape.vocabulary * _LOGITS[width])


def activation_bytes(shape: Shape, values: Hyperparameters, width: int) -> float:
    """Of each token of the widest pass, in all layers together.

    Without checkpointing every layer keeps what its backward pass needs, and one is worked on. With it only the input
    of each is kept, and one is worked out again.
    """
    adapted = shape.adapted(values.target_modules)
    layers = max(1, shape.layers)
    layer = sum(linear.outputs for linear in shape.linears) / layers * _SAVED[width]
    layer += sum(linear.outputs for linear in adapted) / layers * _SAVED_ADAPTED[width]
    layer += len(adapted) / layers * values.rank * 4
    if values.dropout > 0:
        layer += sum(linear.inputs for linear in adapted) / layers * _SAVED_DROPPED[width]
    if values.activation_checkpointing:
        return layers * shape.hidden * width + (1 + _WORKING_LAYERS) * layer
    return (layers + _WORKING_LAYERS) * layer
