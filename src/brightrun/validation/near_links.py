"""Which conversations a split must keep on one side, as `formats.split` takes it."""

from collections.abc import Iterable

from brightrun.formats.records import Record
from brightrun.validation.near_duplicates import NearDuplicates


def near_links(records: Iterable[Record]) -> dict[str, list[str]]:
    """Id of each conversation that is nearly or exactly like an earlier one, to the ids of those. records: in file
    order. Rows appended to a file add links and change none."""
    links: dict[str, list[str]] = {}
    check = NearDuplicates(on_link=lambda later, earlier: links.setdefault(later, []).append(earlier))
    try:
        for record in records:
            check.look(record)
        for _ in check.finish(None):
            pass
        return links
    finally:
        check.close()
