"""How long a run takes, in parts that add up: what is computed and moved, divided by what a machine reaches."""

from dataclasses import dataclass

from brightrun.formats.hyperparameters import Hyperparameters
from brightrun.training.promise.machine import Machine
from brightrun.training.promise.memory import precision_of
from brightrun.training.promise.plan import Passes, Plan
from brightrun.training.promise.shape import Shape

_ONE_THREAD_HIDDEN = 256
_ANSWER_TOKENS = 40
_FORWARD = 0.39
"""Share of a training pass that a pass without a backward takes."""
_METHODS = {"dora": 1.5, "qlora": 1.35, "dpo": 1 + _FORWARD}
"""How much longer a pass takes than with plain LoRA: weights normed or unpacked again, or the untouched model asked
too. Rough; a probe measures it."""
_SHARED = 0.85
"""What a core adds when several share the products of one pass."""


@dataclass(frozen=True)
class Speed:
    """Seconds a unit on one machine for one model. call: one pass. padded: a token of it. squares: a token times the
    row's length. trained: a position through the output head. update: one optimiser step beside its passes. forward:
    share of a training pass that a pass without a backward takes. checkpoint: saving one. answer: one sample answer.
    start: from the process's start to the first step, the data aside. finish: from the last answer to the end.
    record_token: reading a token of the data. slower, evaluating: measured ÷ expected of steps and of evaluations.
    """

    call: float
    padded: float
    squares: float
    trained: float
    update: float
    forward: float
    checkpoint: float
    answer: float
    start: float
    finish: float
    record_token: float
    slower: float = 1.0
    evaluating: float = 1.0

    def training_pass(self, passes: Passes) -> float:
        return (
            passes.calls * self.call
            + passes.padded * self.padded
            + passes.squares * self.squares
            + passes.trained * self.trained
        )


def prior_speed(shape: Shape, values: Hyperparameters, machine: Machine) -> Speed:
    """What the analytic model expects of a machine that was never measured."""
    width = 2 if precision_of(values, machine, shape) == "bf16" else 4
    cores = 1 if machine.kind == "cpu" and shape.hidden < _ONE_THREAD_HIDDEN else machine.cores
    faster = 1.0 if machine.kind == "cuda" else 1.65 if width == 2 else 1.0
    slower = 2.0 if machine.kind == "cuda" and width == 4 else 1.0
    working = cores if cores == 1 else _SHARED * cores
    flops = machine.flops * working * faster / slower
    moved = machine.bytes_per_s * working
    adapter = shape.adapter_parameters(values.rank, values.target_modules)
    again = (1.5 if values.activation_checkpointing else 1.0) * _METHODS.get(values.method, 1.0)
    products = (4 * shape.linear_parameters + 6 * adapter) / flops
    # What a layer reads and writes beside its products: norms, rotary embedding, activations, residuals, adapters.
    elements = shape.layers * (30 * shape.hidden + 14 * shape.inner) * 4
    head = (4 * shape.hidden * shape.vocabulary / flops) + shape.vocabulary * 5 * 4 / moved
    on_cpu = machine.kind == "cpu"
    call = shape.layers * machine.call_s * 2 * again
    answer = _ANSWER_TOKENS * (shape.layers * machine.call_s * 0.5 + shape.parameters * width / moved)
    load = shape.parameters * (shape.stored_bytes / 1e9 + width / 2e9)
    return Speed(
        call=call,
        padded=(products + elements / moved) * again,
        squares=shape.layers * shape.hidden * 8 / flops,
        trained=head,
        update=0.002 + len(shape.adapted(values.target_modules)) * (4.5e-5 if on_cpu else 2e-5) + adapter * 40 / moved,
        forward=_FORWARD * (2 if values.method == "dpo" else 1) / again,
        checkpoint=0.02 + adapter * 12 / 4e8,
        answer=answer,
        start=(4.5 if on_cpu else 9.0) + load,
        finish=0.3 + adapter * 4 / 2e8,
        record_token=2e-6,
    )


def duration_parts(plan: Plan, speed: Speed, machine: Machine, *, dataset_tokens: float) -> dict[str, float]:
    """Seconds by part; their sum is from the start of the trainer's process to its end."""
    evaluation = speed.training_pass(plan.evaluation) * speed.forward * speed.evaluating
    parts = {
        "start_up": speed.start + dataset_tokens * speed.record_token,
        "training": _training_s(plan, speed),
        "evaluation": plan.held_passes * evaluation,
        "checkpoints": plan.checkpoints * speed.checkpoint,
        "answers": min(plan.answers * speed.answer, _answers_limit(speed, plan)),
        "finish": speed.finish,
    }
    if machine.rented_start_s:
        parts["machine"] = machine.rented_start_s
    return parts


def _training_s(plan: Plan, speed: Speed) -> float:
    return (speed.training_pass(plan.training) + plan.steps * speed.update) * speed.slower


def _answers_limit(speed: Speed, plan: Plan) -> float:
    """The trainer answers less often once answers have taken a tenth of the time, and ten seconds."""
    per_round = plan.answers / (plan.evaluations + 1) if plan.answers else 0.0
    return 2 * per_round * speed.answer + max(10.0, 0.1 * _training_s(plan, speed))
