"""Remembers what was counted in a file, by the hashes of its content and of the tokenizer: the second time is free."""

import contextlib
import hashlib
import json
import os
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent
MAX_ENTRIES = 512
_MAX_BYTES = 4 * 1024 * 1024  # of one entry; a larger one is not kept


class TokenCache:
    """A folder of small files, one an entry, at most `max_entries`; those used longest ago go first.

    Safe with several processes: an entry appears whole or not at all, and one that is gone or damaged is one that was
    never there. A folder that cannot be written keeps nothing, and nothing fails for it.
    """

    def __init__(self, folder: Path, *, max_entries: int = MAX_ENTRIES) -> None:
        self._folder, self._max_entries = folder, max_entries

    def get(self, *parts: object) -> dict[str, Any] | None:
        """What was kept under the key that the parts make, or None."""
        path = self._path(parts)
        try:
            entry = json.loads(path.read_bytes())
            os.utime(path)
        except (OSError, ValueError):
            return None
        if not isinstance(entry, dict) or entry.get("key") != list(map(str, parts)):
            return None
        value = entry.get("value")
        return value if isinstance(value, dict) else None

    def put(self, value: dict[str, Any], *parts: object) -> None:
        """Keep a JSON value under the key that the parts make."""
        content = json.dumps({"key": list(map(str, parts)), "value": value}, ensure_ascii=True).encode()
        if len(content) > _MAX_BYTES:
            return
        path = self._path(parts)
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor, aside = tempfile.mkstemp(prefix=".", suffix=".partial", dir=self._folder)
            try:
                with os.fdopen(descriptor, "wb") as stream:
                    stream.write(content)
                Path(aside).replace(path)
            except OSError:
                Path(aside).unlink(missing_ok=True)
                raise
            self._forget()

    def _path(self, parts: tuple[object, ...]) -> Path:
        key = json.dumps([_code_sha256(), *map(str, parts)])
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()}.json"

    def _forget(self) -> None:
        entries = [(entry.stat().st_mtime, entry.path) for entry in os.scandir(self._folder) if entry.is_file()]
        for _, path in sorted(entries)[: max(0, len(entries) - self._max_entries)]:
            Path(path).unlink(missing_ok=True)


@lru_cache(maxsize=1)
def _code_sha256() -> str:
    """Of the code that reads, renders and counts: another release, or one changed line of it, is another key."""
    digest = hashlib.sha256()
    for path in [*sorted(_HERE.glob("*.py")), *sorted(_HERE.parent.glob("validation/model_*.py"))]:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, hex. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
