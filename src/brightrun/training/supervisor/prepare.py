"""Make a run directory in a process of its own: a large file neither holds up the worker nor outlives a cancel.

`python -m brightrun.training.supervisor.prepare` reads the arguments of `prepare_run` as JSON on stdin and answers one
line of JSON: `{"ok": true}`, or `{"ok": false, "code", "message", "retry"}`.
"""

import asyncio
import json
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brightrun.formats import base_models
from brightrun.formats.hyperparameters import HyperparameterError
from brightrun.formats.run_directory import RunDirectoryError, prepare_run
from brightrun.validation.near_links import near_links


@dataclass
class PreparationError(Exception):
    """code: class of the failure. retry: it may go well another time."""

    code: str
    message: str
    retry: bool = False


async def prepare(arguments: dict[str, Any]) -> None:
    """Run `prepare_run` in a child. Raises PreparationError. Cancelled, it ends the child and what it left."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", __name__,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    try:
        output, errors = await process.communicate(json.dumps(arguments).encode())
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    try:
        answer = json.loads(output)
    except ValueError:
        said = errors.decode("utf-8", "replace").strip().splitlines()
        raise PreparationError(
            "preparation_crashed",
            f"Preparing the run ended with exit code {process.returncode}: {said[-1] if said else 'no message'}",
            retry=True,
        ) from None
    if not answer["ok"]:
        raise PreparationError(answer["code"], answer["message"], answer["retry"])


def remove_leftovers(run_dir: Path) -> None:
    """What a killed preparation left beside the directory that it was making."""
    for leftover in run_dir.parent.glob(f".{run_dir.name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _answer(arguments: dict[str, Any]) -> dict[str, Any]:
    for name in ("dataset", "out", "base_model_dir", "hash_cache"):
        arguments[name] = Path(arguments[name]) if arguments.get(name) is not None else None
    try:
        prepare_run(**arguments, near_links=near_links)
    except HyperparameterError as error:
        return _failed("bad_configuration", error)
    except RunDirectoryError as error:
        unusable = isinstance(error.__cause__, base_models.ModelFolderError)
        return _failed("base_model_unusable" if unusable else "bug", error)
    except base_models.ModelFolderError as error:
        return _failed("base_model_unusable", error)
    except OSError as error:
        code = "disk_full" if error.errno in {28, 122} else "disk"  # ENOSPC, EDQUOT
        return _failed(code, error, retry=True)
    except ValueError as error:  # a file that is no training file
        return _failed("data", error)
    return {"ok": True}


def _failed(code: str, error: Exception, *, retry: bool = False) -> dict[str, Any]:
    return {"ok": False, "code": code, "message": str(error), "retry": retry}


if __name__ == "__main__":
    print(json.dumps(_answer(json.load(sys.stdin))))
