"""Make a run directory: the dataset, and a run.json that freezes everything the trainer will read."""

import hashlib
import os
import platform
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from brightrun.formats import base_models, hyperparameters
from brightrun.formats.hyperparameter_rules import adapt
from brightrun.formats.methods import data_fault
from brightrun.formats.reader import read_records
from brightrun.formats.records import Kind, Record
from brightrun.formats.run import BaseModelRef, Budgets, DataFile, RunConfig, Split, write_run
from brightrun.formats.split import NearLinks, Stratum, heldout_ids, stratum_of

_BLOCK = 1024 * 1024
FindLinks = Callable[[Iterable[Record]], NearLinks]


class RunDirectoryError(ValueError):
    """The run directory cannot be made; the message names the path and what to do."""


def prepare_run(
    dataset: Path,
    out: Path,
    *,
    base_model: str = "tiny",
    preset: str = "balanced",
    seed: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    data_format: str = "auto",
    budgets: Budgets | None = None,
    base_model_dir: Path | None = None,
    allow_hub: bool = False,
    allow_pickle: bool = False,
    on_bad_row: str = "fail",
    run_id: str | None = None,
    sample_prompts: int = 3,
    sample_questions: Iterable[str] = (),
    hash_cache: Path | None = None,
    near_links: FindLinks | None = None,
) -> RunConfig:
    """Make `out` with the dataset (hard link where possible, else copy) and run.json; returns what was written.

    dataset: any format of the formats table. Bad rows do not stop the preparation: the trainer names each of them.
    out: must not exist, or be empty. It appears whole or not at all.
    overrides: hyperparameters on top of the preset, as JSON values or strings; `seed` wins over one in there.
    sample_questions: answered as training goes on, instead of `sample_prompts` held-out ones.
    hash_cache: a file of your own that remembers hashes of large base models between calls.
    near_links: finds, in all records, the conversations that a split must keep together
      (`brightrun.validation.near_links`); without it none are.

    Raises hyperparameters.HyperparameterError (all problems at once), RunDirectoryError (a path, or the base model:
    its cause says which), UnknownFormatError, all of them ValueErrors; OSError.
    """
    given = dict(overrides or {})
    if seed is not None:
        given["seed"] = seed
    values = hyperparameters.build(preset, given)
    if on_bad_row not in {"fail", "skip"}:
        raise RunDirectoryError(f"on_bad_row {on_bad_row!r} is not one of fail, skip.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunDirectoryError(f"{out} exists and is not an empty directory; choose another path.")
    if not dataset.is_file():
        raise RunDirectoryError(f"{dataset} is not a file.")
    try:
        model = base_models.resolve(base_model, base_model_dir=base_model_dir, allow_hub=allow_hub)
        if model.folder is not None:
            base_models.inspect_folder(model.folder, allow_pickle=allow_pickle)
    except base_models.ModelFolderError as error:
        raise RunDirectoryError(str(error)) from error

    out.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        (aside / "data").mkdir()
        file = Path("data") / _safe_name(dataset.name)
        _link_or_copy(dataset, aside / file)
        split, kinds = _split(
            aside / file, data_format, fraction=values.heldout_fraction, seed=values.seed, near_links=near_links
        )
        faults = [data_fault(values.method, kind) for kind in sorted(kinds)]
        if faults and all(faults):  # of a mixed file the trainer names each row that does not fit
            raise hyperparameters.HyperparameterError({"method": [f"it does not fit {dataset.name}: {faults[0]}"]})
        values, fired = adapt(values, preset=preset, train_records=split.train_records, explicit=given)
        config = RunConfig(
            run_id=run_id or uuid.uuid4().hex,
            created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            method=values.method,
            data=DataFile(
                file=file.as_posix(),
                sha256=sha256_of(aside / file),
                size_bytes=(aside / file).stat().st_size,
                format=data_format,
                on_bad_row="skip" if on_bad_row == "skip" else "fail",
            ),
            split=split,
            base_model=BaseModelRef(
                name=model.name,
                kind=model.kind,
                folder=str(model.folder) if model.folder is not None and model.kind == "folder" else None,
                revision=model.revision,
                sha256=None if model.folder is None else base_models.folder_sha256(model.folder, cache=hash_cache),
                allow_pickle=allow_pickle,
            ),
            preset=hyperparameters.preset_named(preset).id,
            hyperparameters=values,
            set_by_user=sorted(given),
            rules_fired=fired,
            budgets=budgets or Budgets(),
            sample_prompts=sample_prompts,
            sample_questions=list(sample_questions),
            allow_hub=allow_hub,
            versions=versions("brightrun", "tokenizers", "msgspec"),
        )
        write_run(config, aside)
        # mkdtemp makes 0700; a trainer may run as another user of the group.
        aside.chmod(0o755)
        if out.exists():
            out.rmdir()
        aside.rename(out)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return config


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of these packages, and Python's."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _split(
    path: Path, data_format: str, *, fraction: float, seed: int, near_links: FindLinks | None
) -> tuple[Split, set[Kind]]:
    """The split over all readable records, and which kinds of them there are."""
    kinds: set[Kind] = set()
    strata: dict[str, Stratum] = {}
    counts: dict[str, int] = {}

    def counted() -> Iterator[Record]:
        for item in read_records(path, data_format):
            if isinstance(item, Record):
                kinds.add(item.kind)
                strata.setdefault(item.conversation_id, stratum_of(item.scaffold))
                counts[item.conversation_id] = counts.get(item.conversation_id, 0) + 1
                yield item

    near = (near_links if near_links and fraction > 0 else _no_links)(counted())
    held = heldout_ids(strata.items(), fraction=fraction, seed=seed, near=near)
    heldout_records = sum(counts[id_] for id_ in held)
    split = Split(
        seed=seed,
        fraction=fraction,
        heldout_ids=held,
        train_conversations=len(counts) - len(held),
        train_records=sum(counts.values()) - heldout_records,
        heldout_records=heldout_records,
    )
    return split, kinds


def _no_links(records: Iterable[Record]) -> NearLinks:
    for _ in records:
        pass
    return {}


def _link_or_copy(source: Path, target: Path) -> None:
    """A hard link costs no room; the trainer notices by hash when the original is changed in place."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _safe_name(name: str) -> str:
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".")
    return cleaned[-100:] or "dataset"
