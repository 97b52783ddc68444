"""After the last step: measure base against adapter, answer the samples, store the adapter and prove that it loads."""

import hashlib
import math
from pathlib import Path
from typing import Any

import torch

from brightrun.trainer import adapter, checkpoints
from brightrun.trainer.context import say
from brightrun.trainer.data import Example, Item
from brightrun.trainer.hardware import peaks
from brightrun.trainer.heartbeat import write_json
from brightrun.trainer.loop import Loop
from brightrun.trainer.model import collate, token_losses
from brightrun.trainer.objectives import HeldoutLoss, evaluating
from brightrun.trainer.outcomes import ExitCode, TrainerStop

HELDOUT_FILE = "heldout.json"
RESULT_FILE = "result.json"
_PROBE_RECORDS = 4


def finalize(loop: Loop, base_folder: Path) -> dict[str, Any]:
    """Do all of the finalizing stage; returns the results, which are also the last event."""
    run, state = loop.run, loop.state
    run.stage("finalizing", 0.0, step=state.step)
    selected = _select(loop)
    base, tuned = _measure(loop, selected)
    run.stage("finalizing", 0.3, step=state.step)
    loop.sampler.answer("after", selected)
    run.stage("finalizing", 0.6, step=state.step)
    path, sha256 = adapter.save(run.run_dir, loop.model, base_folder)
    _check_reload(loop, path)
    run.stage("finalizing", 0.9, step=state.step)
    if base is not None and tuned is not None:
        _write_heldout(loop, base, tuned)
    result = {
        "method": loop.hp.method,
        "unit": loop.objective.unit,
        "heldout_loss_base": None if base is None else base.mean,
        "heldout_loss_adapter": None if tuned is None else tuned.mean,
        "heldout_perplexity_base": _perplexity(base),
        "heldout_perplexity_adapter": _perplexity(tuned),
        **({} if tuned is None else tuned.more),
        "heldout_tokens": 0 if base is None else sum(item.targets for item in loop.data.heldout),
        "heldout_records": len(loop.data.heldout),
        "heldout_conversations": len({example.conversation_id for example in loop.data.heldout}),
        "train_records": len(loop.data.train),
        "train_conversations": len({example.conversation_id for example in loop.data.train}),
        "train_loss_first": state.train_loss(last=False),
        "train_loss_last": state.train_loss(last=True),
        "trained_tokens_total": state.trained_tokens_total,
        "steps": state.step,
        "total_steps": state.total_steps,
        "stopped_early": state.stopped_early,
        "selected_step": selected,
        "best_step": None if state.best_evaluation is None else state.best_evaluation.step,
        "selected_on_heldout": loop.hp.early_stopping_patience > 0,
        "startup": loop.start_up.report,
        **peaks(loop.objective.numerics.device),
        "seconds": round(run.heartbeat.spent_seconds, 3),
        "adapter_path": adapter.ADAPTER,
        "adapter_sha256": sha256,
    }
    write_json(run.run_dir / RESULT_FILE, result)
    run.stage("finalizing", 1.0, step=state.step)
    run.events.emit("done", **result)
    run.events.sync()
    return result


def _select(loop: Loop) -> int:
    """Put the weights to deliver into the model: the last ones, or with early stopping the best. Returns their step."""
    state = loop.state
    best = state.best_evaluation
    if not loop.hp.early_stopping_patience or best is None or best.step == state.step:
        return state.step
    path = loop.run.run_dir / checkpoints.CHECKPOINTS / f"step-{best.step}"
    fault = checkpoints.fault_of(path)
    if fault is not None:
        loop.run.warn(
            "best_checkpoint_lost",
            f"The best checkpoint, {path.name}, cannot be used ({fault}); the last weights are delivered instead.",
        )
        return state.step
    adapter.read_weights(path, loop.model)
    state.heldout_latest = None  # of other weights
    return best.step


def _measure(loop: Loop, selected: int) -> tuple[HeldoutLoss | None, HeldoutLoss | None]:
    """Held-out loss of the base model and of the delivered adapter. The base is measured again, as a control."""
    if not loop.data.heldout:
        loop.run.warn("no_heldout", "Nothing was held out: no claim about this adapter can be proven from this run.")
        return None, None

    def measure(*, on: bool) -> HeldoutLoss:
        return loop.objective.heldout(loop.data.heldout, adapter=on, check_stop=loop.run.check_stop)

    state = loop.state
    latest = state.evaluations[-1].step if state.evaluations else None
    tuned = state.heldout_latest if state.heldout_latest is not None and latest == selected else measure(on=True)
    again = measure(on=False)
    base = state.heldout_base or again
    # Only rounding may differ: an out-of-memory retry forms other micro-batches.
    before, now = (loss.mean if loss.control is None else loss.control for loss in (base, again))
    rounded = loop.objective.numerics.precision == "bf16" or loop.hp.method == "qlora"
    if not math.isclose(before, now, rel_tol=1e-3 if rounded else 1e-5):
        loop.run.warn(
            "base_changed",
            f"The base model's held-out loss was {before:.6f} before training and is {now:.6f} now with the "
            "adapter off: something but the adapter has changed. Do not trust this run.",
        )
    say(f"held-out loss in {loop.objective.unit}: base {base.mean:.4f}, adapter {tuned.mean:.4f}")
    return base, tuned


def _perplexity(loss: HeldoutLoss | None) -> float | None:
    """exp(loss); None where the loss is not one of tokens."""
    return None if loss is None or loss.margins else math.exp(loss.mean)


def _check_reload(loop: Loop, path: Path) -> None:
    """Load the stored adapter beside the trained one: same tensors, same losses, and not those of the base."""
    items = (loop.data.heldout or loop.data.train)[:_PROBE_RECORDS]
    probe = [row for item in items for row in item.rows]
    trained = _losses(loop, probe)
    loaded = loop.model.load_adapter(str(path), adapter_name="reloaded", is_trainable=False)
    try:
        if loaded.missing_keys or loaded.unexpected_keys:
            odd = [*loaded.missing_keys, *loaded.unexpected_keys]
            raise _unloadable(f"{len(odd)} tensors do not match, first {odd[0]}")
        stored = adapter.weights(loop.model, "reloaded")
        odd = [name for name, tensor in adapter.weights(loop.model).items() if not torch.equal(tensor, stored[name])]
        if odd:
            raise _unloadable(f"{len(odd)} tensors have other values, first {odd[0]}")
        loop.model.set_adapter("reloaded")
        reloaded = _losses(loop, probe)
    finally:
        loop.model.set_adapter("default")
        loop.model.delete_adapter("reloaded")
    # Kernels for 4 bits may round otherwise from call to call; all others give the same bits.
    four_bit = loop.hp.method == "qlora"
    if not (torch.allclose(trained, reloaded, rtol=2e-2) if four_bit else torch.equal(trained, reloaded)):
        raise _unloadable(f"it gives other losses (largest difference {(trained - reloaded).abs().max():.2e})")
    untouched = _losses(loop, probe, on=False)
    if torch.equal(trained, untouched):
        loop.run.warn(
            "adapter_changes_nothing",
            "With the adapter on, the model answers exactly as with it off"
            + (": the learning rate is 0." if loop.hp.learning_rate == 0 else "."),
        )


def _losses(loop: Loop, probe: list[Example], *, on: bool = True) -> torch.Tensor:
    """Of each trained token, record by record, so that no pass is larger than one in training."""
    head, numerics = loop.objective.head, loop.objective.numerics
    with evaluating(loop.model, adapter=on):
        return torch.cat([token_losses(loop.model, head, collate([row], numerics), numerics) for row in probe])


def _unloadable(what: str) -> TrainerStop:
    return TrainerStop(
        ExitCode.BUG, "adapter_unloadable", f"The stored adapter does not load as it was trained: {what}."
    )


def _digest(item: Item) -> str:
    """Of the very tokens that are measured: two runs that have it in common measured the same, cut alike."""
    digest = hashlib.sha256()
    for row in item.rows:
        digest.update(row.ids.tobytes())
        digest.update(row.trained.tobytes())
    return digest.hexdigest()


def _write_heldout(loop: Loop, base: HeldoutLoss, tuned: HeldoutLoss) -> None:
    """Losses record by record, for the paired bootstrap of the evaluation."""
    rows = []
    for place, item in enumerate(loop.data.heldout):
        row: dict[str, Any] = {
            "conversation_id": item.conversation_id,
            "line": item.line,
            "digest": _digest(item),
            "tokens": item.targets,
            "loss_sum_base": base.loss_sums[place],
            "loss_sum_adapter": tuned.loss_sums[place],
        }
        if tuned.margins:
            row |= {"pairs": 1, "reward_margin": tuned.margins[place]}
        rows.append(row)
    unit = "nats, of a pair" if tuned.margins else "nats, summed over trained tokens"
    write_json(loop.run.run_dir / HELDOUT_FILE, {"unit": unit, "records": rows})
