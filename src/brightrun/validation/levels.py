"""What each level of checks looks for, by name, and the checks it is made of."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol

from brightrun.validation.checks import Checks, ComparingCheck, RecordCheck
from brightrun.validation.content.places import Places
from brightrun.validation.spill import SPILL_BYTES
from brightrun.validation.thresholds import Thresholds

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
    "split_leakage",
)
MODEL_CHECKS = ("chat_template", "truncation")


class _Closable(ComparingCheck, Protocol):
    def close(self) -> None: ...


class LevelChecks(NamedTuple):
    """The checks beyond structure and exact duplicates that a level runs."""

    record: Sequence[RecordCheck] = ()
    comparing: Sequence["_Closable"] = ()

    def close(self) -> None:
        """Remove what the checks put aside, also where they were not asked for it."""
        for check in self.comparing:
            check.close()


def checks_of(
    level: Checks,
    places: Places,
    thresholds: Thresholds,
    *,
    heldout: Collection[str] | None = None,
    memory_bytes: int = SPILL_BYTES,
    on_step: Callable[[], None] | None = None,
    on_link: Callable[[str, str], None] | None = None,
) -> LevelChecks:
    """New checks, with empty memories, for one run at this level.

    places: told by the validator what is being read. heldout: ids of conversations kept from training; without them
    `split_leakage` is not looked for. memory_bytes: what may be put aside in memory before temporary files are used.
    on_step: called now and then while records are compared; what it raises ends that. on_link: told by `full` of each
    conversation that is like an earlier one: (its id, the id of that one).
    """
    if level == "structure":
        return LevelChecks()
    # Imported only here: structure is checked in less time than these take to load.
    from brightrun.validation.content.refusals import Refusals
    from brightrun.validation.content.replies import Replies
    from brightrun.validation.content.sensitive import SensitiveTexts

    match level:
        case "default":
            return LevelChecks(
                (Refusals(places), SensitiveTexts(("secrets",), places)),
                (Replies(("repeated_openings", "reply_lengths"), thresholds, places, memory_bytes // 4),),
            )
        case "full":
            from brightrun.validation.near_duplicates import NearDuplicates

            near = NearDuplicates(
                thresholds.near_duplicate_similarity,
                spill_bytes=memory_bytes * 3 // 4,
                heldout=heldout,
                on_step=on_step,
                on_link=on_link,
            )
            return LevelChecks(
                (Refusals(places), SensitiveTexts(("secrets", "personal_data"), places)),
                (
                    Replies(
                        ("repeated_openings", "reply_lengths", "language_mix"), thresholds, places, memory_bytes // 4
                    ),
                    near,
                ),
            )


def looked_for(
    level: Checks, used: Sequence[RecordCheck | ComparingCheck], *, readable: bool
) -> tuple[list[str], list[str]]:
    """Names of the checks that were run, and of those that were not. readable: False where no record could be read."""
    run: tuple[str, ...] = ("file", "format")
    if readable:
        own = (name for check in used for name in check.names)
        run = tuple(dict.fromkeys((*STRUCTURE_CHECKS, *(() if level == "structure" else DUPLICATE_CHECKS), *own)))
    everything = (*STRUCTURE_CHECKS, *DUPLICATE_CHECKS, *CONTENT_CHECKS, *MODEL_CHECKS)
    run = (*(name for name in everything if name in run), *(name for name in run if name not in everything))
    return list(run), [name for name in everything if name not in run]
