"""Before a trainer can start: the dataset on this machine's disk, and a run directory made from it."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

from brightrun.datasets.tables import Dataset
from brightrun.errors import BrightRunError, NotFoundError, StorageFullError, UnavailableError
from brightrun.formats.run import RUN_FILE, RunConfig, read_run
from brightrun.platform import Platform
from brightrun.storage import Bucket
from brightrun.training.configuration import may_be_pickled
from brightrun.training.supervisor.prepare import PreparationError, prepare, remove_leftovers
from brightrun.training.tables import TrainingJob


def is_prepared(job: TrainingJob) -> bool:
    """The run directory of an earlier attempt is there."""
    return job.run_dir is not None and (Path(job.run_dir) / RUN_FILE).is_file()


def run_dir_of(platform: Platform, job: TrainingJob) -> Path:
    return platform.runs_dir / str(job.id)


async def make_run_directory(platform: Platform, job: TrainingJob, dataset: Dataset) -> tuple[Path, RunConfig]:
    """Download the dataset and prepare the run. Raises PreparationError, with its class and whether to try again."""
    run_dir = run_dir_of(platform, job)
    staging = platform.runs_dir / ".staging" / str(job.id)
    await asyncio.to_thread(_clear, run_dir, staging)
    try:
        file = await asyncio.to_thread(_download, platform, dataset, job.dataset_sha256, staging)
        await prepare(_arguments(platform, job, dataset, file, run_dir))
        return run_dir, read_run(run_dir)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        remove_leftovers(run_dir)


def _clear(run_dir: Path, staging: Path) -> None:
    """What an earlier try left; a directory without run.json was never a run."""
    remove_leftovers(run_dir)
    if run_dir.exists() and not (run_dir / RUN_FILE).is_file():
        shutil.rmtree(run_dir)
    elif run_dir.exists():
        # Of another machine's turn, or of a database that was restored: kept, but out of the way.
        run_dir.rename(_free_name(run_dir))
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)


def _free_name(path: Path) -> Path:
    number = 1
    while (candidate := path.with_name(f"{path.name}.old-{number}")).exists():
        number += 1
    return candidate


def _download(platform: Platform, dataset: Dataset, sha256: str, staging: Path) -> Path:
    """The file that was validated when the job was created, and no other."""
    target = staging / Path(dataset.storage_path).name
    try:
        info = platform.store.download_to(Bucket(dataset.storage_bucket), dataset.storage_path, target)
    except NotFoundError as error:
        raise PreparationError("dataset_missing", f"The dataset's file is no longer stored: {error.message}") from error
    except StorageFullError as error:
        raise PreparationError("disk_full", error.message, retry=True) from error
    except UnavailableError as error:
        raise PreparationError("storage", error.message, retry=True) from error
    except (BrightRunError, OSError) as error:
        raise PreparationError("storage", f"The dataset could not be fetched: {error}", retry=True) from error
    if info.sha256 != sha256:
        raise PreparationError(
            "dataset_changed",
            f"The dataset's file has changed since the job was created: its SHA-256 was {sha256} and is {info.sha256}. "
            "Validate the dataset again and start a new job.",
        )
    return target


def _arguments(platform: Platform, job: TrainingJob, dataset: Dataset, file: Path, run_dir: Path) -> dict[str, Any]:
    settings = platform.settings
    return {
        "dataset": str(file),
        "out": str(run_dir),
        "base_model": job.base_model,
        "preset": job.preset_id,
        "overrides": job.overrides,
        "data_format": dataset.format or "auto",
        "base_model_dir": str(settings.base_model_dir.absolute()) if settings.base_model_dir is not None else None,
        "allow_hub": settings.allow_hub,
        "allow_pickle": may_be_pickled(settings, job.base_model),
        "run_id": str(job.id),
        "hash_cache": str(platform.runs_dir / ".base_model_hashes.json"),
    }
