"""One attempt, top to bottom: read the data, load the model, go on from the newest checkpoint, train, finish."""

import hashlib
import json
import os
import warnings
from datetime import datetime
from typing import Any

import msgspec

from brightrun.formats.chat import ChatTokenizer
from brightrun.formats.chat_errors import ChatError
from brightrun.formats.hyperparameters import ADJUSTABLE, Hyperparameters, advice, total_steps
from brightrun.formats.run import RunConfig
from brightrun.formats.run_directory import versions
from brightrun.trainer import base_folder, checkpoints, data
from brightrun.trainer.batches import Order
from brightrun.trainer.context import RunContext, say
from brightrun.trainer.heartbeat import TRAINER_FILE, write_json
from brightrun.trainer.outcomes import bad_configuration
from brightrun.trainer.startup import StartUp, collector_at_rest

# Beside what may be adjusted: what counts only while a run is prepared.
_FREE = ADJUSTABLE | {"min_steps", "heldout_fraction"}


def run(context: RunContext) -> dict[str, Any]:
    """Run or resume; returns the results. Raises TrainerStop, StopAsked, or whatever went wrong."""
    config, hp = context.config, context.config.hyperparameters
    context.check_budget()
    start_up = StartUp()
    start_up.reached("interpreter")

    # --- preprocessing: no torch yet, so bad data is told within a second ---------------------------------------
    context.stage("preprocessing", 0.0)
    for text in advice(hp).values():
        context.warn("advice", text)
    folder, facts = base_folder.locate(config, context.run_dir)
    try:
        tokenizer = ChatTokenizer.from_folder(folder, now=datetime.fromisoformat(config.created_at))
    except ChatError as error:
        raise bad_configuration(f"The tokenizer in {folder} cannot be used: {error}", code="tokenizer") from error
    dataset = data.load(
        config, context.run_dir, tokenizer, context.events,
        max_length=_max_length(context, facts.max_positions), progress=_progress(context),
    )  # fmt: skip
    order = Order(len(dataset.train), hp.batch_size, hp.seed)
    context.stage(
        "preprocessing", 1.0, train_records=len(dataset.train), heldout_records=len(dataset.heldout),
        trained_tokens=sum(example.targets for example in dataset.train),
    )  # fmt: skip
    start_up.reached("data")
    say(f"{len(dataset.train)} training and {len(dataset.heldout)} held-out records")

    # --- model loading ------------------------------------------------------------------------------------------
    context.check_stop()
    context.stage("model_loading", 0.0)
    # PEFT still uses names that transformers renames; nothing a user can act on.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")
    with collector_at_rest():
        import torch

        from brightrun.trainer import model as models
        from brightrun.trainer import quantization
        from brightrun.trainer.loop import Loop
        from brightrun.trainer.objectives import Supervised
        from brightrun.trainer.preference import Preference
        from brightrun.trainer.samples import Sampler, prompts_of
        from brightrun.trainer.state import State, read_state, restore

    start_up.reached("imports")
    context.stage("model_loading", 0.4)
    context.check_stop()
    if hp.method == "qlora":
        quantization.require()
    torch.use_deterministic_algorithms(True, warn_only=True)
    # With it every new tensor would be filled first, against bugs that read memory nobody wrote.
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010
    device = models.choose_device()
    torch.set_num_threads(models.choose_threads(torch.get_num_threads(), facts.hidden_size or 0))
    numerics = models.Numerics(
        device, models.choose_precision(hp.precision, device, facts.hidden_size or 0), tokenizer.pad_id
    )
    base = models.load_base(
        config.base_model, folder, device=device, precision=numerics.precision, seed=hp.seed,
        four_bit=hp.method == "qlora",
    )  # fmt: skip
    _check_vocabulary(dataset, models.embedding_rows(base))
    model = models.add_adapter(base, hp, name=config.base_model.folder or config.base_model.name)
    head = models.TrainedHead(base)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=hp.learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=hp.weight_decay, fused=True
    )
    steps = total_steps(hp, len(dataset.train))
    state = State(
        run_id=config.run_id,
        fingerprint=_fingerprint(config, dataset.fingerprint, numerics.precision, device.type, base),
        total_steps=steps,
        window=max(5, steps // 10),
        threads=torch.get_num_threads(),
    )

    # --- go on where an earlier attempt stopped -----------------------------------------------------------------
    found = checkpoints.newest_whole(context.run_dir, lambda text: context.warn("checkpoint_damaged", text))
    if found is not None:
        _, path = found
        earlier = read_state(path)
        _check_same_run(earlier.fingerprint, state.fingerprint)
        restore(path, earlier, model, optimizer)
        state = earlier
        context.heartbeat.at_least(earlier.spent_seconds)
        torch.set_num_threads(state.threads)  # another number of threads may round differently
        say(f"resuming after step {state.step} of {state.total_steps}")
    _describe(context, numerics.precision, str(device), torch.get_num_threads(), len(parameters), resumed=state.step)
    context.stage(
        "model_loading", 1.0, resumed_from_step=state.step, precision=numerics.precision, device=str(device),
        trainable_parameters=sum(parameter.numel() for parameter in parameters),
    )  # fmt: skip

    start_up.reached("model")

    # --- training and finalizing --------------------------------------------------------------------------------
    objective = (Preference if hp.method == "dpo" else Supervised)(model, head, numerics, hp)
    sampler = Sampler(context, model, tokenizer, numerics, prompts_of(config.sample_questions, dataset.prompts))
    loop = Loop(
        context, dataset, order, model, objective, optimizer, sampler, start_up, state, saved_step=state.step
    )  # fmt: skip
    loop.train()
    from brightrun.trainer.finalize import finalize

    return finalize(loop, folder)


def _max_length(context: RunContext, limit: int | None) -> int:
    """The run's sequence limit, or the model's where that is lower."""
    wanted = context.config.hyperparameters.max_seq_length
    if limit is not None and limit < wanted:
        context.warn(
            "max_seq_length", f"max_seq_length {wanted} is beyond the base model's {limit} positions; {limit} is used."
        )
        return limit
    return wanted


def _progress(context: RunContext) -> Any:
    """Reports preprocessing in steps of 5 %, and lets a stop through at every record."""
    reported = 0.0

    def progress(fraction: float) -> None:
        nonlocal reported
        context.check_stop()
        if fraction >= reported + 0.05:
            reported = fraction
            context.stage("preprocessing", fraction)

    return progress


def _check_vocabulary(dataset: data.TrainingData, rows: int) -> None:
    largest = max(int(row.ids.max()) for item in [*dataset.train, *dataset.heldout] for row in item.rows)
    if largest >= rows:
        raise bad_configuration(
            f"The tokenizer makes token {largest}, and the base model knows only {rows}: they do not belong together.",
            code="tokenizer",
        )


def _fingerprint(config: RunConfig, tokens: str, precision: str, device: str, base: Any) -> dict[str, Any]:
    """What must be the same when a run goes on, by name."""
    kept = {key: value for key, value in msgspec.to_builtins(config.hyperparameters).items() if key not in _FREE}
    shapes = sorted((name, list(parameter.shape)) for name, parameter in base.named_parameters())
    return {
        **kept,
        "precision": precision,
        "device": device,
        "data": config.data.sha256,
        "tokens": tokens,
        "base_model": config.base_model.name,
        "base_model_revision": config.base_model.revision,
        "base_model_shapes": hashlib.sha256(json.dumps(shapes).encode()).hexdigest(),
    }


def _check_same_run(earlier: dict[str, Any], current: dict[str, Any]) -> None:
    # A hyperparameter that was not there yet when the checkpoint was written had what is its default now.
    earlier = msgspec.to_builtins(Hyperparameters()) | earlier
    names = (earlier.keys() | current.keys()) - _FREE
    changed = sorted(name for name in names if earlier.get(name) != current.get(name))
    if changed:
        raise bad_configuration(
            f"Since the last checkpoint these have changed: {', '.join(changed)}. Going on would mix two runs.",
            code="changed_since_checkpoint",
            advice="Put run.json back as it was, or prepare a new run.",
        )


def _describe(context: RunContext, precision: str, device: str, threads: int, parameters: int, *, resumed: int) -> None:
    """Complete trainer.json with what this attempt turned out to run on."""
    path = context.run_dir / TRAINER_FILE
    known = json.loads(path.read_bytes())
    packages = versions("brightrun", "torch", "transformers", "peft", "tokenizers", "safetensors", "numpy")
    write_json(
        path,
        known
        | {
            "precision": precision,
            "device": device,
            "threads": threads,
            "cpus": os.cpu_count(),
            "adapted_tensors": parameters,
            "resumed_from_step": resumed,
            "versions": packages,
        },
    )
