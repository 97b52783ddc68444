"""What a person changed between two attempts, brought into the run directory before the next one starts."""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from brightrun.formats.hyperparameters import ADJUSTABLE
from brightrun.formats.run import RUN_FILE, Budgets, RunConfig, read_run, write_run

_CHECKPOINT = re.compile(r"step-(\d+)")


def replace_run(run_dir: Path, config: RunConfig) -> None:
    """Write run.json anew; a crash leaves the earlier file or the new one."""
    aside = run_dir / f".{RUN_FILE}.new"
    aside.mkdir(exist_ok=True)
    write_run(config, aside)
    (aside / RUN_FILE).replace(run_dir / RUN_FILE)
    aside.rmdir()


def edit_run(
    run_dir: Path, *, changes: Mapping[str, Any], resume_step: int | None, budgets: Budgets | None = None
) -> RunConfig:
    """Change run.json, and put away what is newer than `resume_step`. Doing it twice changes nothing more.

    changes: of `ADJUSTABLE` hyperparameters, checked before. resume_step: the checkpoint to go on from; later ones
    are kept aside as `set-aside-step-N`, which a trainer never reads. None: the newest one.
    """
    if unknown := changes.keys() - ADJUSTABLE:
        raise ValueError(f"{', '.join(sorted(unknown))} cannot change on the way")
    config = read_run(run_dir)
    changed = msgspec.structs.replace(
        config,
        hyperparameters=msgspec.structs.replace(config.hyperparameters, **changes),
        set_by_user=sorted({*config.set_by_user, *changes}),
        budgets=budgets or config.budgets,
    )
    if changed != config:
        replace_run(run_dir, changed)
    if resume_step is not None:
        for path in list((run_dir / "checkpoints").glob("step-*")):
            match = _CHECKPOINT.fullmatch(path.name)
            if match is not None and int(match[1]) > resume_step:
                path.rename(_free_name(path.with_name(f"set-aside-{path.name}")))
    return changed


def budgets_for(run_dir: Path, *, price_per_hour: Decimal, max_cost: Decimal | None, left: Decimal | None) -> Budgets:
    """What the trainer may take until a job's cap: `left` USD by the ledger, beyond what it has worked for already.

    Told in seconds, because the ledger counts more than the trainer knows of: start-up, and directories that were lost.
    """
    if max_cost is None or left is None or price_per_hour == 0:
        return Budgets()
    try:
        spent = float(json.loads((run_dir / "heartbeat.json").read_bytes())["spent_seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        spent = 0.0
    seconds = max(0.001, spent + float(left * 3600 / price_per_hour))
    return Budgets(max_seconds=seconds, max_cost_usd=f"{max_cost:f}", price_per_hour_usd=f"{price_per_hour:f}")


def _free_name(path: Path) -> Path:
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate
