"""The training loop: evaluate, save, stop or step, in that order, so that it can be cut and continued anywhere."""

import math
import time
from dataclasses import dataclass

import torch
from peft import PeftModel

from brightrun.trainer import checkpoints
from brightrun.trainer.batches import Order
from brightrun.trainer.context import RunContext, StopAsked, say
from brightrun.trainer.data import TrainingData
from brightrun.trainer.hardware import Hardware
from brightrun.trainer.objectives import Objective, StepResult
from brightrun.trainer.outcomes import ExitCode, TrainerStop
from brightrun.trainer.samples import Sampler
from brightrun.trainer.startup import StartUp
from brightrun.trainer.state import Evaluation, State, StepLoss, write_checkpoint


def learning_rate(step: int, *, total: int, peak: float, warmup_ratio: float, schedule: str) -> float:
    """For optimiser step `step` (0-based): linear warm-up, then cosine or linear to 0 at `total`, or constant."""
    warmup = math.ceil(total * warmup_ratio)
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    match schedule:
        case "cosine":
            return peak * 0.5 * (1 + math.cos(math.pi * done))
        case "linear":
            return peak * (1 - done)
        case "constant":
            return peak
    raise ValueError(f"unknown schedule {schedule!r}")


@dataclass
class Loop:
    """One attempt's way through the steps. `saved_step`: the step of the newest whole checkpoint, 0 for none."""

    run: RunContext
    data: TrainingData
    order: Order
    model: PeftModel
    objective: Objective
    optimizer: torch.optim.Optimizer
    sampler: Sampler
    start_up: StartUp
    state: State
    saved_step: int = 0
    longest_step_s: float = 0.0
    _percent: int = -1

    def __post_init__(self) -> None:
        self.hp = self.run.config.hyperparameters
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.eval_every = self.hp.eval_every_steps or self.order.steps_per_epoch
        self.hardware = Hardware(self.objective.numerics.device)
        items = [*self.data.train, *self.data.heldout]
        self.run.heartbeat.longest_record_tokens = max(item.width * len(item.rows) for item in items)

    def train(self) -> None:
        """Go on until all steps are done, or early stopping says enough.

        Raises TrainerStop: 75 asked to stop, 77 budget, 78 diverged. What was reached is saved before the first two.
        """
        self.model.train()
        try:
            while True:
                self.run.check_stop()
                if self._samples_due():
                    self._sample()
                if self._evaluation_due():
                    self._evaluate()
                if self._checkpoint_due():
                    self.save()
                if self.state.step >= self.state.total_steps or self.state.stopped_early:
                    return
                self.run.check_budget(self.longest_step_s)
                self._step()
        except StopAsked as stop:
            if stop.request.checkpoint:
                self._save_unsaved()
            raise
        except TrainerStop as stop:
            if stop.exit_code is ExitCode.BUDGET:
                self._save_unsaved()
            raise
        finally:
            self.hardware.close()

    # --- one optimiser step -----------------------------------------------------------------------------------

    def _step(self) -> None:
        started = time.perf_counter()
        state, hp = self.state, self.hp
        rate = learning_rate(
            state.step, total=state.total_steps, peak=hp.learning_rate, warmup_ratio=hp.warmup_ratio,
            schedule=hp.schedule,
        )  # fmt: skip
        for settings in self.optimizer.param_groups:
            settings["lr"] = rate
        items = [self.data.train[index] for index in self.order.step(state.step)]
        self.optimizer.zero_grad(set_to_none=True)
        result = self.objective.step(items, saw_pass=self.run.heartbeat.saw_pass)
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, hp.max_grad_norm or math.inf))
        self._refuse_divergence(result.loss, norm)
        self.optimizer.step()

        state.step += 1
        state.epoch, state.step_in_epoch = divmod(state.step, self.order.steps_per_epoch)
        state.learning_rate = rate
        state.trained_tokens_total += result.trained_tokens
        state.record(StepLoss(result.loss_sum, result.weight))
        seconds = time.perf_counter() - started
        self.longest_step_s = max(self.longest_step_s, seconds)
        self._report(result, rate, norm, result.tokens / seconds)

    def _report(self, result: StepResult, rate: float, norm: float, tokens_per_s: float) -> None:
        state = self.state
        metric = {
            "step": state.step,
            "total_steps": state.total_steps,
            "epoch": round(state.step / self.order.steps_per_epoch, 4),
            "loss": result.loss,
            "learning_rate": rate,
            "grad_norm": norm,
            **result.more,
            "trained_tokens": result.trained_tokens,
            "trained_tokens_total": state.trained_tokens_total,
            "tokens_per_s": round(tokens_per_s, 1),
            **self.hardware.sample(),
        }
        state.last_metric = metric
        self.run.events.emit("metric", **metric)
        self.run.heartbeat.progress("training", state.step)
        more = {}
        if "first_step" not in self.start_up.parts:
            self.start_up.reached("first_step")
            more["startup"] = self.start_up.report
            say("first step " + self.start_up.words)
        percent = 100 * state.step // state.total_steps
        if percent != self._percent or more:
            self._percent = percent
            self.run.stage(
                "training", state.step / state.total_steps, step=state.step, total_steps=state.total_steps, **more
            )
            if percent % 10 == 0:
                say(f"step {state.step}/{state.total_steps}  loss {result.loss:.4f}  {tokens_per_s:,.0f} tokens/s")

    def _refuse_divergence(self, loss: float, norm: float) -> None:
        """Before the weights are touched: a step that is not finite would spoil them for good."""
        limit = self.hp.divergence_loss or self.objective.divergence_limit
        last = [*(item.loss_sum / item.tokens for item in self.state.recent[-4:]), loss]
        if not (math.isfinite(loss) and math.isfinite(norm)):
            what = f"loss {loss}, gradient norm {norm}"
        elif len(last) == 5 and sum(last) / 5 > limit:
            what = f"mean loss of the last five steps {sum(last) / 5:.2f}, above {limit:.2f}"
        else:
            return
        raise TrainerStop(
            ExitCode.DIVERGED,
            "diverged",
            f"Training diverged at step {self.state.step + 1}: {what}.",
            advice=f"Lower learning_rate (now {self.hp.learning_rate:g}); a third of it is a good next try.",
        )

    # --- held-out loss ----------------------------------------------------------------------------------------

    def _evaluation_due(self) -> bool:
        if not self.data.heldout:
            return False
        state = self.state
        if state.step == 0:
            return state.heldout_base is None
        known = state.evaluations[-1].step if state.evaluations else 0
        return known != state.step and (state.step % self.eval_every == 0 or state.step == state.total_steps)

    def _evaluate(self) -> None:
        state = self.state
        self.run.heartbeat.progress("training", state.step)
        result = self.objective.heldout(
            self.data.heldout, adapter=state.step > 0, check_stop=self.run.check_stop,
            saw_pass=self.run.heartbeat.saw_pass,
        )  # fmt: skip
        if state.step == 0:
            state.heldout_base = result
            self.run.stage("training", 0.0, step=0, total_steps=state.total_steps, heldout_loss=result.mean)
            say(f"held-out loss of the base model {result.mean:.4f}")
            self.start_up.reached("baseline")
            return
        state.heldout_latest = result
        state.evaluations.append(Evaluation(state.step, result.mean))
        self.run.events.emit("metric", **(state.last_metric | {"heldout_loss": result.mean} | result.more))
        say(f"step {state.step}/{state.total_steps}  held-out loss {result.mean:.4f}")
        self._consider_early_stop(result.mean)

    def _consider_early_stop(self, loss: float) -> None:
        state, patience = self.state, self.hp.early_stopping_patience
        best = state.best_evaluation
        if best is None or loss < best.loss:
            state.best, state.patience_used = len(state.evaluations) - 1, 0
            return
        state.patience_used += 1
        if patience and state.patience_used >= patience and state.step < state.total_steps:
            state.stopped_early = True
            self.run.warn(
                "stopped_early",
                f"Stopped after step {state.step}: no better held-out loss in {patience} evaluations since step "
                f"{best.step}.",
                step=state.step,
                best_step=best.step,
            )

    # --- sample answers -----------------------------------------------------------------------------------------

    def _samples_due(self) -> bool:
        """At the start and at every evaluation point but the last, where the delivered adapter answers."""
        state = self.state
        if state.step == 0:
            return state.sampled_step < 0
        ending = state.step == state.total_steps or state.stopped_early
        return not ending and state.step != state.sampled_step and state.step % self.eval_every == 0

    def _sample(self) -> None:
        state = self.state
        self.run.heartbeat.progress("training", state.step)
        self.sampler.answer("during" if state.step else "before", state.step)
        state.sampled_step = state.step

    # --- checkpoints ------------------------------------------------------------------------------------------

    def _checkpoint_due(self) -> bool:
        state = self.state
        if state.step in {0, self.saved_step}:
            return False
        ending = state.step == state.total_steps or state.stopped_early
        return ending or state.step % self.hp.checkpoint_every_steps == 0 or self._best_step() == state.step

    def _best_step(self) -> int | None:
        """The step with the lowest held-out loss so far; None before the first evaluation."""
        best = self.state.best_evaluation
        return None if best is None else best.step

    def _save_unsaved(self) -> None:
        if self.state.step > 0 and self.state.step != self.saved_step:
            self.save()

    def save(self) -> None:
        """Write a whole checkpoint of this moment, say so, and delete what the policy no longer keeps."""
        state = self.state
        state.spent_seconds = round(self.run.heartbeat.spent_seconds, 3)
        path = checkpoints.save(
            self.run.run_dir,
            state.step,
            lambda directory: write_checkpoint(directory, state, self.model, self.optimizer),
        )
        self.saved_step = state.step
        latest = state.evaluations[-1] if state.evaluations else None
        best = self._best_step()
        protect = [] if best is None else [best]
        self.run.events.emit(
            "checkpoint",
            step=state.step,
            path=path.relative_to(self.run.run_dir).as_posix(),
            heldout_loss=latest.loss if latest is not None and latest.step == state.step else None,
            best=best == state.step,
            kept=checkpoints.kept(self.run.run_dir, keep=self.hp.keep_checkpoints, protect=protect),
        )
        self.run.events.sync()
        checkpoints.prune(self.run.run_dir, keep=self.hp.keep_checkpoints, protect=protect)
