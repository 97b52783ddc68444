"""Where a command writes a file: never over its input, and whole or not at all."""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class OutRefusedError(ValueError):
    """The output cannot be written where it was asked for."""


def check_out(out: Path, source: Path, *others: Path) -> None:
    """Raise OutRefusedError where `out` is the input or another output under any name (a link, too), or no place for
    a file."""
    if _is_same(out, source):
        raise OutRefusedError(f"{out} is the input itself; write to another file.")
    if any(_is_same(out, other) for other in others):
        raise OutRefusedError(f"{out} is named for two outputs; write each to a file of its own.")
    if out.is_dir():
        raise OutRefusedError(f"{out} is a folder; name a file.")
    if not out.absolute().parent.is_dir():
        raise OutRefusedError(f"The folder {out.absolute().parent} does not exist.")


def _is_same(one: Path, other: Path) -> bool:
    same = one.exists() and other.exists() and one.samefile(other)
    return same or one.absolute() == other.absolute() or one.resolve() == other.resolve()


@contextmanager
def whole_file(out: Path) -> Iterator[Path]:
    """A temporary file beside `out` to write to; it takes `out`'s place, on the disk, when the block ends well."""
    handle, name = tempfile.mkstemp(dir=out.absolute().parent, prefix=f".{out.name[:100]}-", suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        yield part
        mask = os.umask(0)
        os.umask(mask)
        part.chmod(0o666 & ~mask)  # as any new file: a temporary one is for its owner alone
        _sync(part)
        part.replace(out)
        _sync(out.absolute().parent)
    finally:
        part.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def say_unwritten(file: Path, error: OSError | ValueError, *, as_json: bool) -> None:
    """Why nothing was written, for a person on stderr and, as one JSON object, for a program on stdout."""
    message = str(error)
    if isinstance(error, OSError) and error.strerror:
        message = f"{error.strerror}: {error.filename or file}"
    if as_json:
        code = "invalid_output" if isinstance(error, OutRefusedError) else "unreadable"
        print(json.dumps({"file": str(file), "error": message, "code": code}))
    print(f"brightrun: {message}", file=sys.stderr)
