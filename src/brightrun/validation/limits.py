"""Limits of a validation, and the environment variables that set them for a command without a server.

The server reads the same variables through `brightrun.settings`; a test compares names, defaults and bounds. This
module imports nothing, because the command starts faster than the settings of a server can be read.
"""

from collections.abc import Mapping
from typing import NamedTuple

MIB = 1 << 20


class Limits(NamedTuple):
    """max_record_bytes: a record above it is the error `record_too_long` and is passed over. compare_memory_bytes: what
    checks that compare records may hold in memory before they use a temporary file."""

    max_record_bytes: int = 16 * MIB
    compare_memory_bytes: int = 64 * MIB


BOUNDS: dict[str, tuple[int, int]] = {
    "max_record_bytes": (1024, 1024 * MIB),
    "compare_memory_bytes": (MIB, 64 * 1024 * MIB),
}
"""Least and greatest value of each limit."""


def limits_of(environment: Mapping[str, str]) -> Limits:
    """The limits that `BRIGHTRUN_MAX_RECORD_BYTES` and the like set. Raises ValueError, which names the variable."""
    values = {}
    for name, (least, greatest) in BOUNDS.items():
        variable = f"BRIGHTRUN_{name.upper()}"
        if text := environment.get(variable):
            if not text.isdigit() or not least <= int(text) <= greatest:
                raise ValueError(f"{variable} is {text!r}; it must be a whole number from {least:,} to {greatest:,}.")
            values[name] = int(text)
    return Limits(**values)
