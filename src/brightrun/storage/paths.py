"""Where an object lives: one of a few buckets, and a path `workspace/kind/id/name` inside it.

A path is checked wherever one enters this room, so that nothing outside the bucket can be named: not by `..`, not by
an absolute path, not by a byte that a file system or S3 reads differently from us.
"""

import re
import unicodedata
from enum import StrEnum
from uuid import UUID

from brightrun.errors import InvalidInputError

MAX_COMPONENT_BYTES = 200  # file systems take 255; the rest is room for temporary names
MAX_PATH_BYTES = 900  # S3 keys take 1,024; the rest is room for the bucket's name as first part


class Bucket(StrEnum):
    """The earlier application's buckets, by their earlier names."""

    LORA_DATASETS = "lora-datasets"
    TRAINING_FILES = "training-files"
    CONVERSATION_FILES = "conversation-files"
    LORA_MODELS = "lora-models"
    DOCUMENTS = "documents"
    EXPORTS = "exports"
    BACKUPS = "backups"


def check_bucket(bucket: str) -> Bucket:
    """`bucket` as a `Bucket`; InvalidInputError naming the ones there are."""
    try:
        return Bucket(bucket)
    except ValueError:
        raise InvalidInputError(
            f"There is no bucket {bucket!r}; there are {', '.join(Bucket)}.", code="invalid_object_path"
        ) from None


def check_path(path: str) -> str:
    """`path` unchanged if it is safe as an object's path; InvalidInputError saying what is wrong with it otherwise."""
    if len(_utf8(path)) > MAX_PATH_BYTES:
        raise _refused(path, f"it is longer than {MAX_PATH_BYTES} bytes")
    for component in path.split("/"):
        _check_component(component, path)
    return path


def check_folder(prefix: str) -> str:
    """Like `check_path`, for the folder of a listing: empty means the whole bucket, a trailing slash is dropped."""
    prefix = prefix.removesuffix("/")
    return check_path(prefix) if prefix else ""


def object_path(workspace_id: UUID | str, kind: str, item_id: UUID | str, name: str) -> str:
    """`workspace/kind/id/name`, with any file name a user brings made safe and kept readable.

    InvalidInputError when workspace, kind or id is not safe by itself: those are ours, not the user's.
    """
    return check_path("/".join((str(workspace_id), kind, str(item_id), safe_name(name))))


_KEPT_PUNCTUATION = frozenset(" .-_()+,=@")
_RUNS_OF_UNDERSCORES = re.compile(r"_{2,}")


def safe_name(name: str) -> str:
    """A user's file name as one path component: letters and digits of every script stay, the rest becomes `_`.

    Only the last part of a path is kept, and at most 200 bytes, shortened in front of the extension.
    """
    name = re.split(r"[/\\]", name.rstrip("/\\"))[-1]
    # NFC: the same name typed on two systems is one name. Surrogates cannot be UTF-8 and become `_` below.
    name = unicodedata.normalize("NFC", name)
    kept = "".join(c if c in _KEPT_PUNCTUATION or unicodedata.category(c)[0] in "LMN" else "_" for c in name)
    kept = _RUNS_OF_UNDERSCORES.sub("_", kept).strip(" .")
    if not kept.strip("_"):
        return "file"
    stem, dot, extension = kept.rpartition(".")
    if not dot or len(_utf8(extension)) > 20:
        stem, dot, extension = kept, "", ""
    room = MAX_COMPONENT_BYTES - len(_utf8(dot + extension))
    short = _utf8(stem)[:room].decode("utf-8", "ignore").strip(" .") or "file"
    return short + dot + extension


def _check_component(component: str, path: str) -> None:
    if component == "":
        raise _refused(path, "it is empty, absolute, or has an empty part between slashes")
    if component in {".", ".."}:
        raise _refused(path, f"{component!r} is not allowed as a part of it")
    if "\\" in component:
        raise _refused(path, "it has a backslash")
    if any(unicodedata.category(c) in {"Cc", "Zl", "Zp"} for c in component):
        raise _refused(path, "it has a control character")
    if len(_utf8(component)) > MAX_COMPONENT_BYTES:
        raise _refused(path, f"a part of it is longer than {MAX_COMPONENT_BYTES} bytes")


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise _refused(text, "it is not valid Unicode") from None


def _refused(path: str, reason: str) -> InvalidInputError:
    shown = path if len(path) <= 120 else path[:120] + "…"
    return InvalidInputError(f"The object path {shown!a} cannot be used: {reason}.", code="invalid_object_path")
