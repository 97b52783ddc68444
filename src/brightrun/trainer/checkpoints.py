"""Whole checkpoints: written aside, synced, hashed in a manifest, renamed. One that does not verify is never used.

`RUN_DIR/checkpoints/step-N/` holds the adapter in PEFT form, the optimiser, random states and `state.json`; its
`manifest.json` is `{file: sha256}`. What a crash left half-written is `.step-N.partial`; one that stopped verifying
is kept aside as `damaged-step-N`.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from brightrun.formats.run_directory import sha256_of

CHECKPOINTS = "checkpoints"
MANIFEST = "manifest.json"
_NAME = re.compile(r"step-(\d+)")


def save(run_dir: Path, step: int, write: Callable[[Path], None]) -> Path:
    """Have `write` fill a directory, and make it checkpoint `step`, whole or not at all. Returns its path."""
    root = run_dir / CHECKPOINTS
    root.mkdir(exist_ok=True)
    final, aside = root / f"step-{step}", root / f".step-{step}.partial"
    if aside.exists():
        shutil.rmtree(aside)
    aside.mkdir()
    try:
        write(aside)
        files = sorted(path for path in aside.iterdir() if path.is_file())
        for path in files:
            sync(path)
        manifest = {path.name: sha256_of(path) for path in files}
        (aside / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        sync(aside / MANIFEST)
        sync(aside)
        if final.exists():
            # The same step again, after a resume from an older one: the new one is as good, and known whole.
            shutil.rmtree(final)
        aside.rename(final)
        sync(root)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)  # the failure that brought us here is the one to report
        raise
    return final


def newest_whole(run_dir: Path, warn: Callable[[str], None]) -> tuple[int, Path] | None:
    """(step, path) of the newest checkpoint that verifies. Damaged ones are set aside, each with a warning."""
    for step, path in sorted(_all(run_dir), reverse=True):
        fault = fault_of(path)
        if fault is None:
            return step, path
        aside = _free_name(path.with_name(f"damaged-{path.name}"))
        path.rename(aside)
        warn(f"checkpoint {path.name} does not verify ({fault}); set aside as {aside.name}")
    return None


def fault_of(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None when every file is there and hashes as its manifest says."""
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        if not isinstance(manifest, dict) or "state.json" not in manifest:
            return f"{MANIFEST} names no state.json"
        for name, expected in manifest.items():
            if sha256_of(path / name) != expected:
                return f"{name} has changed"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError) as error:
        return str(error)
    return None


def kept(run_dir: Path, *, keep: int, protect: Iterable[int] = ()) -> list[int]:
    """Steps of the checkpoints that `prune` leaves: the newest `keep`, and those of `protect`."""
    steps = sorted(step for step, _path in _all(run_dir))
    return sorted({*steps[-keep:], *(step for step in protect if step in steps)})


def prune(run_dir: Path, *, keep: int, protect: Iterable[int] = ()) -> None:
    """Delete all but the newest `keep` checkpoints and those of the steps in `protect`; and half-written leftovers."""
    spared = set(kept(run_dir, keep=keep, protect=protect))
    for step, path in _all(run_dir):
        if step not in spared:
            # Renamed first: a crash half-way must not leave a checkpoint that looks whole but is not.
            doomed = path.with_name(f".{path.name}.partial")
            shutil.rmtree(doomed, ignore_errors=True)
            path.rename(doomed)
    for leftover in (run_dir / CHECKPOINTS).glob(".step-*.partial"):
        shutil.rmtree(leftover)


def sync(path: Path) -> None:
    """fsync a file, or a directory's entries."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _all(run_dir: Path) -> list[tuple[int, Path]]:
    root = run_dir / CHECKPOINTS
    if not root.is_dir():
        return []
    matches = ((_NAME.fullmatch(path.name), path) for path in root.iterdir())
    return [(int(match[1]), path) for match, path in matches if match]


def _free_name(path: Path) -> Path:
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate
