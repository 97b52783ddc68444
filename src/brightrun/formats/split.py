"""The held-out split: by conversation, stratified where the scaffolding is known, near-duplicates kept together, the
same again for the same file.

Each conversation is decided once, in file order, from what came before it. So rows appended later never move an
earlier conversation to the other side, and the share stays near the fraction in the whole and in every stratum. A
conversation that is like an earlier one goes where that one went. One that is like two of which one is trained on and
the other is held out can only follow one of them, the first in the file: the earlier two stay where they are, and the
check `split_leakage` names what is then on both sides.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from brightrun.formats.records import Scaffold

Stratum = tuple[str | None, str | None, str | None]
NearLinks = Mapping[str, Collection[str]]
"""Id of a conversation to those of the earlier ones that say nearly the same."""


def stratum_of(scaffold: Scaffold | None) -> Stratum:
    """Persona, emotional arc and topic: what a fair held-out set must not miss by chance."""
    return (None, None, None) if scaffold is None else (scaffold.persona, scaffold.emotional_arc, scaffold.topic)


def heldout_ids(
    conversations: Iterable[tuple[str, Stratum]], *, fraction: float, seed: int, near: NearLinks | None = None
) -> list[str]:
    """Ids kept from training, in file order. None for fraction 0, and none where all conversations say nearly the same;
    else at least one, and never all.

    conversations: (id, stratum), each id once, in order of first appearance.
    fraction: 0 … 0.5. The first conversation is trained on, the next that is not like it is held out. After them one is
      held out when its hash (uniform in 0 … 1) is below the fraction plus half of each deficit: of the whole, and the
      mean of those of its stratum, persona, emotional arc and topic.
    near: see `NearLinks`. Links to later or unknown conversations are not followed.
    """
    if fraction <= 0:
        return []
    held: list[str] = []
    is_held: dict[str, bool] = {}
    order: dict[str, int] = {}
    tally = _Tally(fraction)
    leaders = 0
    for position, (id_, stratum) in enumerate(conversations):
        earlier = [other for other in (near or {}).get(id_, ()) if other in is_held and other != id_]
        if earlier:
            take = is_held[min(earlier, key=order.__getitem__)]
        else:
            leaders += 1
            take = leaders == 2 or (leaders > 2 and _uniform(id_, seed) < fraction + tally.owed(stratum))
        tally.add(stratum, held=take)
        is_held[id_], order[id_] = take, position
        if take:
            held.append(id_)
    return held


class _Tally:
    """What was held out so far, in the whole and by everything that should be fair."""

    def __init__(self, fraction: float) -> None:
        self._fraction = fraction
        self._seen: dict[tuple[str, object], int] = {}
        self._held: dict[tuple[str, object], int] = {}

    def owed(self, stratum: Stratum) -> float:
        """Half of the deficit of the whole, and half of the mean deficit of the parts."""
        whole, *parts = (self._deficit(part) for part in _parts(stratum))
        return 0.5 * whole + 0.5 * sum(parts) / len(parts)

    def _deficit(self, part: tuple[str, object]) -> float:
        """Conversations that should have been held out and were not; negative when there were too many."""
        return self._fraction * self._seen.get(part, 0) - self._held.get(part, 0)

    def add(self, stratum: Stratum, *, held: bool) -> None:
        """Count a conversation."""
        for part in _parts(stratum):
            self._seen[part] = self._seen.get(part, 0) + 1
            if held:
                self._held[part] = self._held.get(part, 0) + 1


def _parts(stratum: Stratum) -> list[tuple[str, object]]:
    named = zip(("persona", "emotional_arc", "topic"), stratum, strict=True)
    return [("whole", None), ("stratum", stratum), *((name, value) for name, value in named if value is not None)]


def _uniform(conversation_id: str, seed: int) -> float:
    digest = hashlib.blake2b(f"{seed}\x00{conversation_id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


class Share(NamedTuple):
    """How many conversations of one value are trained on, and how many are held out. kind: `persona`, `emotional_arc`
    or `topic`; value: None for those without."""

    kind: str
    value: str | None
    train: int
    heldout: int


def shares_of(conversations: Iterable[tuple[str, Stratum]], held: Collection[str]) -> list[Share]:
    """Both sides of a split by persona, emotional arc and topic, the most frequent first; kinds that no conversation
    has are left out."""
    kept = frozenset(held)
    counts: dict[tuple[str, str | None], list[int]] = {}
    for id_, stratum in conversations:
        for kind, value in zip(("persona", "emotional_arc", "topic"), stratum, strict=True):
            counts.setdefault((kind, value), [0, 0])[id_ in kept] += 1
    known = {kind for kind, value in counts if value is not None}
    shares = [Share(kind, value, *both) for (kind, value), both in counts.items() if kind in known]
    return sorted(shares, key=lambda share: (share.kind, -share.train - share.heldout, share.value or ""))
