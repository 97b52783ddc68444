"""The tokenizer that a base model's name means, without its weights."""

import hashlib
from functools import lru_cache
from pathlib import Path

import tokenizers

from brightrun.formats.base_models import BaseModelNotFoundError, resolve
from brightrun.formats.chat import ChatTokenizer

_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
)


def load_tokenizer(name: str, base_model_dir: Path | None = None, *, allow_paths: bool = True) -> ChatTokenizer:
    """The tokenizer of a base model that is on this machine, loaded once for each state of its files.

    allow_paths: whether a name may be a folder (not where names come from users). Raises BaseModelNotFoundError,
    TokenizerFolderError, ChatTemplateMissingError, TemplateFaultError.
    """
    folder = tokenizer_folder_of(name, base_model_dir, allow_paths=allow_paths)
    return _loaded(folder, tokenizer_sha256(folder))


def tokenizer_folder_of(name: str, base_model_dir: Path | None = None, *, allow_paths: bool = True) -> Path:
    """Where a base model's tokenizer is. Raises BaseModelNotFoundError."""
    model = resolve(name, base_model_dir=base_model_dir, allow_hub=False, allow_paths=allow_paths)
    if model.folder is None:
        raise BaseModelNotFoundError(f"{name} is not on this machine.")
    return model.folder


@lru_cache(maxsize=8)
def _loaded(folder: Path, _sha256: str) -> ChatTokenizer:
    return ChatTokenizer.from_folder(folder)


def tokenizer_sha256(folder: Path) -> str:
    """What all files that shape tokens and templates hold, and the library that reads them, as one hash."""
    digest = hashlib.sha256(tokenizers.__version__.encode())
    templates = sorted((folder / "additional_chat_templates").glob("*.jinja"))
    for path in [*(folder / name for name in _FILES), *templates]:
        if path.is_file():
            digest.update(f"\n{path.name} {path.stat().st_size}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
