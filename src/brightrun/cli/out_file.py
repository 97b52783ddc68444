"""Where a command writes a file: never over its input, and whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class OutRefusedError(ValueError):
    """The output cannot be written where it was asked for."""


def check_out(out: Path, *inputs: Path) -> None:
    """Raise OutRefusedError where `out` is one of the inputs under any name (a link, too), or no place for a file."""
    for source in inputs:
        same = out.exists() and source.exists() and out.samefile(source)
        if same or out.absolute() == source.absolute() or out.resolve() == source.resolve():
            raise OutRefusedError(f"{out} is the input itself; write to another file.")
    if out.is_dir():
        raise OutRefusedError(f"{out} is a folder; name a file.")
    if not out.absolute().parent.is_dir():
        raise OutRefusedError(f"The folder {out.absolute().parent} does not exist.")


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
