"""`run.json`: everything that decides a training run, frozen before it starts. The trainer reads nothing else."""

import json
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Literal

import msgspec

from brightrun.formats import hyperparameters
from brightrun.formats.hyperparameters import HyperparameterError, Hyperparameters
from brightrun.formats.methods import MethodId

RUN_FILE = "run.json"
SCHEMA_VERSION = 1


class RunConfigError(ValueError):
    """run.json is missing, unreadable or holds a value that is not allowed; the message says which and where."""


class DataFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The training file, inside the run directory.

    file: relative to the run directory. format: an id of the formats table, or `auto`.
    on_bad_row: `fail` ends the run with exit code 65 and every bad row named; `skip` trains on the rest and names
      every skipped row in a warning and in `problems.jsonl`.
    """

    file: str
    sha256: str
    size_bytes: int
    format: str = "auto"
    on_bad_row: Literal["fail", "skip"] = "fail"


class Split(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which conversations are kept from training. Counts are those of the file when the run was prepared."""

    seed: int
    fraction: float
    heldout_ids: list[str]
    train_conversations: int
    train_records: int
    heldout_records: int


class BaseModelRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The untouched model.

    name: `tiny`, `tiny-random`, a hub id, or a folder's name. folder: absolute path, null for built-in and hub models.
    revision: hub commit. sha256: over the model's files when it was resolved; checked again at the start when set.
    allow_pickle: load weights that are not safetensors. Such files can run code: only for models you trust.
    """

    name: str
    kind: str
    folder: str | None = None
    revision: str | None = None
    sha256: str | None = None
    allow_pickle: bool = False


class Budgets(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits over all attempts together; the run stops at a checkpoint before passing one (exit code 77).

    max_cost_usd, price_per_hour_usd: decimal strings; the price is of the whole machine.
    """

    max_seconds: float | None = None
    max_cost_usd: str | None = None
    price_per_hour_usd: str | None = None


class RunConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of run.json.

    method: the same as in `hyperparameters`, for whoever reads the file; `lora_sft` is how earlier versions wrote
      `lora`.
    set_by_user: names of the hyperparameters that the user set; rules_fired: what a rule changed, in words.
    versions: of what prepared the run; what ran it is in `trainer.json`.
    sample_prompts: how many held-out prompts are answered before, during and after training. 0: none.
    sample_questions: questions of your own that are answered instead of held-out prompts.
    """

    schema_version: int = SCHEMA_VERSION
    run_id: str
    created_at: str
    method: MethodId | Literal["lora_sft"] = "lora_sft"
    data: DataFile
    split: Split
    base_model: BaseModelRef
    preset: str
    hyperparameters: Hyperparameters
    set_by_user: list[str] = []
    rules_fired: list[str] = []
    budgets: Budgets = Budgets()
    sample_prompts: int = 3
    sample_questions: list[str] = []
    allow_hub: bool = False
    versions: dict[str, str] = {}


def write_run(config: RunConfig, run_dir: Path) -> None:
    """Write run.json, readable by people too."""
    text = json.dumps(msgspec.to_builtins(config), indent=2, ensure_ascii=False)
    (run_dir / RUN_FILE).write_text(text + "\n", encoding="utf-8")


def read_run(run_dir: Path) -> RunConfig:
    """Read and check run.json. Raises RunConfigError, in words for the person who wrote the file."""
    path = run_dir / RUN_FILE
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise RunConfigError(
            f"cannot read {path}: {error.strerror}. A run directory is made by `brightrun trainer prepare`."
        ) from error
    try:
        # `schema_version` first: a newer file is not a mistake of its writer.
        version = msgspec.json.decode(raw, type=dict[str, msgspec.Raw]).get("schema_version")
        if version is not None and msgspec.json.decode(version) != SCHEMA_VERSION:
            raise RunConfigError(
                f"{path}: schema_version {bytes(version).decode()} is not {SCHEMA_VERSION}: "
                "the run was prepared by another version of BrightRun; prepare it again."
            )
        config = msgspec.json.decode(raw, type=RunConfig)
        hyperparameters.check(config.hyperparameters)
        hyperparameters.preset_named(config.preset)
    except HyperparameterError as error:
        raise RunConfigError(f"{path}: hyperparameters: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RunConfigError(f"{path}: {error}") from error
    _check_paths(config, path)
    if config.method not in {config.hyperparameters.method, "lora_sft"}:
        raise RunConfigError(
            f"{path}: method is {config.method!r} and hyperparameters.method {config.hyperparameters.method!r}; give "
            "both the same."
        )
    _check_budgets(config.budgets, path)
    return config


def _check_paths(config: RunConfig, path: Path) -> None:
    file = Path(config.data.file)
    if file.is_absolute() or ".." in file.parts or not file.parts:
        raise RunConfigError(f"{path}: data.file {config.data.file!r} must lie inside the run directory.")
    if not 0 <= config.split.fraction <= 0.5:
        raise RunConfigError(f"{path}: split.fraction {config.split.fraction} is not in 0 to 0.5.")


def _check_budgets(budgets: Budgets, path: Path) -> None:
    for name in ("max_cost_usd", "price_per_hour_usd"):
        text = getattr(budgets, name)
        if text is not None:
            try:
                amount = Decimal(text)
                usable = amount.is_finite() and amount >= 0
            except InvalidOperation:
                usable = False
            if not usable:
                raise RunConfigError(f"{path}: budgets.{name} {text!r} is not an amount in US dollars such as '2.50'.")
    if budgets.max_seconds is not None and budgets.max_seconds <= 0:
        raise RunConfigError(f"{path}: budgets.max_seconds {budgets.max_seconds} must be above 0.")
    if budgets.max_cost_usd is not None and budgets.price_per_hour_usd is None:
        raise RunConfigError(f"{path}: budgets.max_cost_usd needs budgets.price_per_hour_usd.")
