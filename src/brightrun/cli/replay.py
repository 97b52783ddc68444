"""`brightrun replay RUN_DIR --out NEW`: train a finished run once more, and say whether the same adapter comes out."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

EQUAL, DIFFERENT, NOT_DONE = 0, 1, 2
_ADAPTER = Path("adapter") / "adapter_model.safetensors"


class _Failure(Exception):
    """Nothing can be said about the run; the message says why."""


def replay(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A finished run directory. It is only read.")],
    out: Annotated[Path, typer.Option(help="The new run directory; must not exist, or be empty.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Train a finished run again from its own run.json, and compare the adapters' bytes.

    On the same machine with the same versions a CPU gives the same bytes. Exit 0: equal. 1: different.
    2: the run is not finished, its files have changed, or it could not be trained again.
    """
    try:
        old, why = _again(run_dir.resolve(), out.absolute())
    except (_Failure, ValueError, OSError) as error:
        print(f"brightrun: {error}", file=sys.stderr)
        raise typer.Exit(NOT_DONE) from None
    new = _sha256(out / _ADAPTER)
    answer = {"equal": old == new, "sha256_old": old, "sha256_new": new}
    if as_json:
        print(json.dumps(answer))
    else:
        print(f"{'equal' if old == new else 'different'}\n  {run_dir}: {old}\n  {out}: {new}")
    if old != new:
        for reason in why:
            print(f"  {reason}", file=sys.stderr)
        raise typer.Exit(DIFFERENT)


def _again(run_dir: Path, out: Path) -> tuple[str, list[str]]:
    """(hash of the old adapter, what may explain a difference). Raises _Failure, RunConfigError, OSError."""
    from brightrun.formats.run import read_run

    config = read_run(run_dir)
    if not (run_dir / _ADAPTER).is_file():
        raise _Failure(f"{run_dir} has no {_ADAPTER}: only a finished run can be replayed.")
    data = run_dir / config.data.file
    if not data.is_file() or _sha256(data) != config.data.sha256:
        raise _Failure(f"{data} is not the file that the run was trained on: its SHA-256 must be {config.data.sha256}.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise _Failure(f"{out} exists and is not an empty directory; choose another path.")
    old, before = _sha256(run_dir / _ADAPTER), _trainer_of(run_dir)
    _copy(run_dir, out)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "brightrun.trainer", str(out)], env=_environment(before), stdout=sys.stderr,
        check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise _Failure(f"The run could not be trained again: the trainer ended with exit code {done.returncode}.")
    return old, _explanations(config.rules_fired, before, _trainer_of(out))


def _copy(run_dir: Path, out: Path) -> None:
    """A fresh run directory with the same run.json, but for its limits; whole or not at all."""
    import msgspec

    from brightrun.formats.run import Budgets, read_run, write_run

    config = read_run(run_dir)
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        target = aside / config.data.file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run_dir / config.data.file, target)
        write_run(msgspec.structs.replace(config, budgets=Budgets()), aside)
        aside.chmod(0o755)
        if out.exists():
            out.rmdir()
        aside.rename(out)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def _environment(before: dict[str, Any]) -> dict[str, str]:
    """As many threads and the same kind of device as the last attempt had: both decide how sums are rounded."""
    environment = dict(os.environ)
    if before.get("threads"):
        environment["OMP_NUM_THREADS"] = str(before["threads"])
    if before.get("device") == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return environment


def _trainer_of(run_dir: Path) -> dict[str, Any]:
    try:
        told = json.loads((run_dir / "trainer.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _explanations(rules: list[str], before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What was not the same, in words."""
    found = [
        f"{name} was {before.get(name)} and is {after.get(name)}"
        for name in ("host", "device", "precision", "threads", "python")
        if before.get(name) != after.get(name)
    ]
    earlier, now = before.get("versions") or {}, after.get("versions") or {}
    found += [
        f"{name} was {earlier.get(name)} and is {now.get(name)}"
        for name in sorted(earlier.keys() | now.keys())
        if earlier.get(name) != now.get(name)
    ]
    found += [f"in the first run, on the way: {rule}" for rule in rules if "memory had run out" in rule]
    return found


def _sha256(path: Path) -> str:
    from brightrun.formats.run_directory import sha256_of

    return sha256_of(path)
