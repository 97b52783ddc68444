"""What a finished run leaves for its model: which files, checked and hashed, and what they say of the run."""

import csv
import hashlib
import json
import zlib
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import RowMapping

from brightrun.errors import BrightRunError
from brightrun.models.repository import CURVE_COLUMNS

_BLOCK = 1024 * 1024
_ADAPTER = "adapter"
_REQUIRED = ("adapter_model.safetensors", "adapter_config.json")
METRICS_FILE = "metrics.csv"
HELDOUT_FILE = "heldout.json"
RUN_FILE = "run.json"


class RunFilesError(BrightRunError):
    """The run directory does not hold what the trainer said it wrote. Trying again does not help."""

    status = 409
    code = "run_files_damaged"


@dataclass(frozen=True)
class RunFile:
    """A file to store: at `path`, or `content` itself."""

    name: str
    size: int
    sha256: str
    crc32: int
    path: Path | None = None
    content: bytes | None = None

    def as_row(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name not in {"path", "content"}}


@dataclass(frozen=True)
class RunFacts:
    """result: the trainer's results. heldout: records of heldout.json. run: run.json. trainer: trainer.json, or {}."""

    result: dict[str, Any]
    heldout: list[dict[str, Any]]
    run: dict[str, Any]
    trainer: dict[str, Any]


def read_facts(run_dir: Path) -> RunFacts:
    """Raises RunFilesError naming the file that is missing or unreadable."""
    heldout = _json(run_dir / HELDOUT_FILE, optional=True)
    return RunFacts(
        result=_json(run_dir / "result.json"),
        heldout=list(heldout.get("records", [])),
        run=_json(run_dir / RUN_FILE),
        trainer=_json(run_dir / "trainer.json", optional=True),
    )


def files_of(run_dir: Path, facts: RunFacts) -> list[RunFile]:
    """Every file of the model, hashed. metrics.csv must be there already.

    Raises RunFilesError when the adapter is not the one that the trainer finished with.
    """
    adapter = run_dir / _ADAPTER
    entries = sorted(adapter.iterdir()) if adapter.is_dir() else []
    missing = [name for name in _REQUIRED if adapter / name not in entries]
    if missing:
        raise RunFilesError(f"The run directory {run_dir} has no {_ADAPTER}/{missing[0]}.")
    odd = [entry.name for entry in entries if not entry.is_file() or entry.is_symlink()]
    if odd:
        raise RunFilesError(f"{adapter / odd[0]} is not a plain file; an adapter holds nothing else.")
    files = [_hashed(entry) for entry in entries]
    weights = next(file for file in files if file.name == "adapter_model.safetensors")
    if weights.sha256 != facts.result.get("adapter_sha256"):
        raise RunFilesError(
            f"{weights.path} was changed after the training: the trainer wrote SHA-256 "
            f"{facts.result.get('adapter_sha256')}, the file has {weights.sha256}."
        )
    files.append(_hashed(run_dir / METRICS_FILE))
    if facts.heldout:
        files.append(_hashed(run_dir / HELDOUT_FILE))
    # Where the base model's folder was on the trainer's machine is nobody else's business.
    run = facts.run | {"base_model": facts.run["base_model"] | {"folder": None}}
    content = (json.dumps(run, indent=2, ensure_ascii=False) + "\n").encode()
    digest = hashlib.sha256(content).hexdigest()
    files.append(RunFile(RUN_FILE, len(content), digest, zlib.crc32(content), content=content))
    return files


async def write_curves(rows: AsyncIterator[RowMapping], run_dir: Path) -> Path:
    """RUN_DIR/metrics.csv, a row a step; it appears whole."""
    final, aside = run_dir / METRICS_FILE, run_dir / f".{METRICS_FILE}.partial"
    with aside.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(CURVE_COLUMNS)
        async for row in rows:
            writer.writerow([_cell(row[column]) for column in CURVE_COLUMNS])
    aside.replace(final)
    return final


def _cell(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


def _hashed(path: Path) -> RunFile:
    digest, crc, size = hashlib.sha256(), 0, 0
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
            crc = zlib.crc32(block, crc)
            size += len(block)
    if size == 0:
        raise RunFilesError(f"{path} is empty.")
    return RunFile(path.name, size, digest.hexdigest(), crc, path=path)


def _json(path: Path, *, optional: bool = False) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        if optional:
            return {}
        raise RunFilesError(f"The run directory {path.parent} has no {path.name}.") from None
    except ValueError as error:
        raise RunFilesError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise RunFilesError(f"{path} holds no JSON object.")
    return found
