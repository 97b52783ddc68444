"""What each level of checks looks for, by name, and the checks it is made of."""

from collections.abc import Sequence
from typing import NamedTuple

from brightrun.validation.checks import Checks, ComparingCheck, RecordCheck

# Names of checks as a report shows them in `checks_run` and `checks_skipped`.
STRUCTURE_CHECKS = (
    "file",
    "json",
    "format",
    "fields",
    "roles",
    "tool_calls",
    "declared_counts",
    "turn_numbers",
    "texts",
)
DUPLICATE_CHECKS = ("duplicate_ids", "exact_duplicates")
CONTENT_CHECKS = (
    "near_duplicates",
    "repeated_openings",
    "refusals",
    "language_mix",
    "reply_lengths",
    "personal_data",
    "secrets",
)
MODEL_CHECKS = ("chat_template", "truncation")


class LevelChecks(NamedTuple):
    """The checks beyond structure and exact duplicates that a level runs."""

    record: Sequence[RecordCheck] = ()
    comparing: Sequence[ComparingCheck] = ()


def checks_of(level: Checks) -> LevelChecks:
    """New checks, with empty memories, for one run at this level."""
    return LevelChecks()


def looked_for(
    level: Checks, used: Sequence[RecordCheck | ComparingCheck], *, readable: bool
) -> tuple[list[str], list[str]]:
    """Names of the checks that were run, and of those that were not. readable: False where no record could be read."""
    run: tuple[str, ...] = ("file", "format")
    if readable:
        own = (name for check in used for name in check.names)
        run = tuple(dict.fromkeys((*STRUCTURE_CHECKS, *(() if level == "structure" else DUPLICATE_CHECKS), *own)))
    everything = (*STRUCTURE_CHECKS, *DUPLICATE_CHECKS, *CONTENT_CHECKS, *MODEL_CHECKS)
    return list(run), [name for name in everything if name not in run]
