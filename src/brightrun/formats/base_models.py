"""Which base model a name means: one of ours, a folder, or one from a hub. Nothing is downloaded here."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from brightrun.formats.model_folder import (
    ModelFacts,
    ModelFolderError,
    UnsafeModelError,
    folder_sha256,
    has_whole_weights,
    hash_folder,
    inspect_folder,
)

__all__ = [
    "BUILTIN",
    "BaseModel",
    "BaseModelNotFoundError",
    "ModelFacts",
    "ModelFolderError",
    "UnsafeModelError",
    "folder_sha256",
    "hash_folder",
    "inspect_folder",
    "list_available",
    "resolve",
]

_HERE = Path(__file__).resolve().parent / "builtin"
BUILTIN = {"tiny": _HERE / "tiny", "tiny-random": _HERE / "tiny_random"}
"""Models in the package: `tiny` (pre-trained), and `tiny-random` (a configuration; whoever loads it makes weights)."""

_LONGEST_NAME = 200
_HUB_ID = re.compile(r"(?P<name>[\w][\w.-]*/[\w][\w.-]*)(?:@(?P<revision>[\w][\w./-]*))?")


class BaseModelNotFoundError(ModelFolderError):
    """No base model of that name; the message says where was looked."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """What a name means.

    folder: where its files are; None for kind `hub`, which is yet to be downloaded. revision: of a hub model, the
    commit found in the local cache, or the one that was asked for (`org/model@revision`).
    """

    name: str
    folder: Path | None
    kind: Literal["builtin", "folder", "hub_cache", "hub"]
    revision: str | None = None

    @property
    def random_weights(self) -> bool:
        """The folder holds a configuration and no weights: they are initialised by seed."""
        return self.name == "tiny-random" and self.kind == "builtin"


def resolve(
    name: str, *, base_model_dir: Path | None = None, allow_hub: bool = False, allow_paths: bool = True
) -> BaseModel:
    """Find a base model by its name.

    In this order: `tiny`, `tiny-random`; a folder below base_model_dir; a path, if allow_paths (a server that takes
    names from users should not); a hub id `org/model[@revision]` in the local Hugging Face cache; the same id on the
    hub, if allow_hub. Raises BaseModelNotFoundError.
    """
    name = name.strip()
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise BaseModelNotFoundError(
            f"A base model's name has at most {_LONGEST_NAME} printable characters, unlike {name[:60]!r}."
        )
    if name in BUILTIN:
        return BaseModel(name, BUILTIN[name], "builtin")
    tried = [f"built-in ({', '.join(BUILTIN)})"]
    if base_model_dir is not None and name:
        tried.append(f"{base_model_dir}/{name}")
        if (inside := _inside(base_model_dir, name)) is not None:
            return BaseModel(name, inside, "folder")
    looks_like_path = name.startswith(("/", "./", "../", "~")) or name in (".", "..")
    if allow_paths and name:
        path = Path(name).expanduser()
        if (path / "config.json").is_file():
            return BaseModel(name, path.resolve(), "folder")
        if looks_like_path:
            what = "has no config.json, so it is not a base model" if path.is_dir() else "is not a folder"
            raise BaseModelNotFoundError(f"The base model {name} {what}.")
        tried.append(f"the folder {path.absolute()}")
    hub = _HUB_ID.fullmatch(name)
    if hub and not looks_like_path:
        cached = _cached(hub["name"], hub["revision"])
        if cached is not None:
            return BaseModel(hub["name"], cached[0], "hub_cache", cached[1])
        if allow_hub:
            return BaseModel(hub["name"], None, "hub", hub["revision"])
        tried.append(f"the local Hugging Face cache {hub_cache()} (downloads from the hub are switched off)")
    folder_hint = (
        "a folder with config.json and safetensors weights"
        if allow_paths
        else "the name of a folder with config.json and safetensors weights below the folder of base models "
        "(BRIGHTRUN_BASE_MODEL_DIR)"
    )
    raise BaseModelNotFoundError(
        f"There is no base model called {name!r}. Looked for: {'; '.join(tried)}. Give one of the names above, "
        f"{folder_hint}, or the id of a model on the hub (org/model)."
    )


def list_available(base_model_dir: Path | None = None) -> list[BaseModel]:
    """Every base model that is there without a download: built in, below base_model_dir (two levels), in the cache."""
    models = [BaseModel(name, folder, "builtin") for name, folder in BUILTIN.items()]
    if base_model_dir is not None and base_model_dir.is_dir():
        for config in sorted([*base_model_dir.glob("*/config.json"), *base_model_dir.glob("*/*/config.json")]):
            name = config.parent.relative_to(base_model_dir).as_posix()
            models.append(BaseModel(name, config.parent, "folder"))
    for entry in sorted(hub_cache().glob("models--*--*")):
        name = entry.name.removeprefix("models--").replace("--", "/", 1)
        cached = _cached(name, None)
        if cached is not None:
            models.append(BaseModel(name, cached[0], "hub_cache", cached[1]))
    return models


def hub_cache() -> Path:
    """The folder in which Hugging Face's libraries keep what they downloaded, by the same variables as theirs."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if value := os.environ.get(variable):
            return Path(value).expanduser()
    if value := os.environ.get("HF_HOME"):
        return Path(value).expanduser() / "hub"
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "huggingface" / "hub"


def _inside(base_model_dir: Path, name: str) -> Path | None:
    """The model folder `name` below base_model_dir, whatever dots and links the name holds; None if not there."""
    root = base_model_dir.resolve()
    folder = (root / name).resolve()
    if folder == root or not folder.is_relative_to(root) or not (folder / "config.json").is_file():
        return None
    return folder


def _cached(name: str, revision: str | None) -> tuple[Path, str] | None:
    """(snapshot, commit) of a hub model in the local cache, if all of it is there."""
    entry = hub_cache() / f"models--{name.replace('/', '--')}"
    snapshots = entry / "snapshots"
    commit = revision or "main"
    if ".." in commit:
        return None
    reference = entry / "refs" / commit
    if reference.is_file():
        commit = reference.read_text(encoding="utf-8").strip()
    folder = snapshots / commit
    if not folder.resolve().is_relative_to(snapshots.resolve()) or not has_whole_weights(folder):
        return None
    return folder, commit
