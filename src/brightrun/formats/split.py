"""The held-out split: by conversation, stratified where the scaffolding is known, the same again for the same file.

Each conversation is decided once, in file order, from what came before it. So rows appended later never move an
earlier conversation to the other side, and the share stays near the fraction in the whole and in every stratum.
"""

import hashlib
from collections.abc import Iterable

from brightrun.formats.records import Scaffold

Stratum = tuple[str | None, str | None]


def stratum_of(scaffold: Scaffold | None) -> Stratum:
    """Persona and emotional arc: what a fair held-out set must not miss by chance."""
    return (None, None) if scaffold is None else (scaffold.persona, scaffold.emotional_arc)


def heldout_ids(conversations: Iterable[tuple[str, Stratum]], *, fraction: float, seed: int) -> list[str]:
    """Ids kept from training, in file order. At least one of any two or more, never all; none for fraction 0.

    conversations: (id, stratum), each id once, in order of first appearance.
    fraction: 0 … 0.5. A conversation is held out when its hash (uniform in 0 … 1) is below the fraction plus half
      of each deficit: of the whole and of its stratum.
    """
    if fraction <= 0:
        return []
    pairs = list(conversations)
    held: list[str] = []
    seen_in: dict[Stratum, int] = {}
    held_in: dict[Stratum, int] = {}
    # The first two decide between themselves, so that every split of two or more has both sides.
    first = min((id_ for id_, _ in pairs[:2]), key=lambda id_: _uniform(id_, seed)) if len(pairs) > 1 else None
    for position, (id_, stratum) in enumerate(pairs):
        if position < 2:
            take = id_ == first
        else:
            # What is owed before this conversation; negative when more was held out than its share.
            owed = fraction * position - len(held)
            owed_here = fraction * seen_in.get(stratum, 0) - held_in.get(stratum, 0)
            take = _uniform(id_, seed) < fraction + 0.5 * owed + 0.5 * owed_here
        seen_in[stratum] = seen_in.get(stratum, 0) + 1
        if take:
            held.append(id_)
            held_in[stratum] = held_in.get(stratum, 0) + 1
    return held


def _uniform(conversation_id: str, seed: int) -> float:
    digest = hashlib.blake2b(f"{seed}\x00{conversation_id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
