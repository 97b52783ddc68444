"""Near-duplicates: conversations that say nearly the same. MinHash and banding propose, exact comparison decides.

What is compared is the set of word triples of all that user, assistant and tools say in a conversation (system
prompts, which many conversations share on purpose, are left out). Two conversations are near-duplicates when the
Jaccard similarity of the two sets, |A ∩ B| / |A ∪ B|, reaches the threshold. No pair is reported on the strength of
its signature: each is verified on the sets themselves.

In memory stay 20 bytes a conversation; band keys and sets go to spills. Broder, "On the resemblance and containment of
documents" (1997); Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", chapter 3, has banding.
"""

import re
import struct
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator
from hashlib import blake2b
from typing import NamedTuple

from rensa import RMinHash

from brightrun.formats.records import Message, Record
from brightrun.validation.checks import LateRemark, Remark, Reread, percent
from brightrun.validation.spill import SPILL_BYTES, Spill

PERMUTATIONS = 128
_SEED = 7
# A banding is chosen that finds this share of the pairs that lie exactly on the threshold; above it, more.
_RECALL = 0.98
_BATCH, _BATCH_TRIPLES = 512, 1 << 20
# A conversation is held as one set up to this many triples; a longer one is compared in parts.
_PART_TRIPLES = 1 << 16
_PART_WORDS = 1 << 15
_MEMO_WORDS = 1 << 17
# Band keys are matched in portions of this many conversations' worth, so that memory stays the same.
_PORTION = 1 << 18
# In a crowd under one band key every newcomer is compared with so many that differ from one another.
_KEEPERS = 32
_NO_ONE = 0xFFFFFFFF
_SHAPE = struct.Struct("<QQqHI")
# Scripts written without spaces: there a character counts as a word.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_SPLIT_UNSPACED = re.compile(rf"{_UNSPACED.pattern}|[^\s{_UNSPACED.pattern[1:-1]}]+")
_PUNCTUATION = " \t.,;:!?…\"'`´’‘“”„«»()[]{}<>*_#|-–—/\\~。，、！？：；（）「」"


class Conversation(NamedTuple):
    """Where a conversation begins. id: of the conversation; said: a hash of all its messages, word for word."""

    id: str
    line: int
    byte_offset: int
    path: str
    said: int


class Match(NamedTuple):
    """Two conversations and the verified Jaccard similarity of their triples; 1 also where only case, punctuation or
    white space differ. exact: the same messages word for word."""

    earlier: Conversation
    later: Conversation
    similarity: float

    @property
    def exact(self) -> bool:
        """Whether the two say the same word for word."""
        return self.earlier.said == self.later.said


class _Words(dict[str, int]):
    """Word as written to a number of the word in lower case without punctuation; 0 for punctuation alone. Bounded."""

    def __missing__(self, written: str) -> int:
        word = written.strip(_PUNCTUATION).lower()
        number = int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=7).digest(), "big")
        if len(self) >= _MEMO_WORDS:
            self.clear()
        self[written] = number = number if word else 0
        return number


def triples_of(texts: Iterable[str], words: dict[str, int] | None = None) -> set[int]:
    """The word triples of texts as numbers, each text by itself; of a text with fewer words, all of them together."""
    triples = list[int]()
    known = _Words() if words is None else words
    for text in texts:
        for ids in _numbered(text, known):
            _add(triples, ids)
    return set(triples)


def _numbered(text: str, words: dict[str, int]) -> Iterator[list[int]]:
    """The words of a text, numbered; of a very long one in several lists."""
    spaced = text.isascii() or _UNSPACED.search(text) is None
    written = text.split() if spaced else _SPLIT_UNSPACED.findall(text)
    number = words.__getitem__
    for start in range(0, len(written), _PART_WORDS):
        part = written if len(written) <= _PART_WORDS else written[start : start + _PART_WORDS + 2]
        yield list(filter(None, map(number, part)))


def _add(triples: list[int], ids: list[int]) -> None:
    # Python's hash of a tuple of numbers is the same in every process, unlike that of texts.
    if len(ids) >= 3:
        triples.extend(map(hash, zip(ids, ids[1:], ids[2:], strict=False)))
    elif ids:
        triples.append(hash(tuple(ids)))


def banding(similarity: float) -> tuple[int, int]:
    """(bands, rows a band) of a signature for a threshold: the longest bands that still find what lies on it."""
    for rows in range(PERMUTATIONS // 4, 1, -1):
        bands = PERMUTATIONS // rows
        if 1 - (1 - similarity**rows) ** bands >= _RECALL:
            return bands, rows
    return PERMUTATIONS, 1


class NearDuplicates:
    """Takes records in file order, and finds the conversations that say nearly the same.

    Records of one conversation (v4 pairs, which repeat their history) that follow each other are one conversation;
    parts of the same conversation are never compared. similarity: the threshold. spill_bytes: memory before
    temporary files are used. heldout: ids of conversations kept from training; then `finish` also tells which of them
    have a near or exact duplicate that is trained on. on_step: called now and then while conversations are compared;
    what it raises ends that. on_link: told by `finish` of each conversation that is like an earlier one, exact copies
    included: (its id, the id of that one).
    """

    def __init__(
        self,
        similarity: float = 0.8,
        *,
        spill_bytes: int = SPILL_BYTES,
        heldout: Collection[str] | None = None,
        on_step: Callable[[], None] | None = None,
        on_link: Callable[[str, str], None] | None = None,
    ) -> None:
        self._similarity, self._on_link = similarity, on_link
        self._bands, self._rows = banding(similarity)
        self._heldout = None if heldout is None else frozenset(heldout)
        self._on_step = on_step or (lambda: None)
        self._words = _Words()
        self._sets, self._keys = Spill(spill_bytes * 3 // 4), Spill(spill_bytes // 4)
        self._at = array("Q")  # of each conversation, where its description begins in the spill of sets
        self._batches: list[tuple[int, int]] = []  # (conversations, where their keys begin)
        self._hashes, self._ends = array("Q"), array("Q", [0])
        self._open: Conversation | None = None
        self._triples, self._heard = list[int](), set[int]()  # triples: some more than once
        self._group, self._match, self._degree = array("I"), array("I"), array("f")

    @property
    def names(self) -> tuple[str, ...]:
        """`near_duplicates`, and `split_leakage` where the held-out ids are known."""
        return ("near_duplicates",) if self._heldout is None else ("near_duplicates", "split_leakage")

    def look(self, record: Record) -> None:
        """Take a record in."""
        current = self._open
        if current is None or current.id != record.conversation_id or self._is_full():
            self._close()
            current = Conversation(record.conversation_id, record.line, record.byte_offset, record.path, 0)
        said = current.said
        for message in (*record.messages, *(record.chosen or ()), *(record.rejected or ())):
            if message.role == "system":
                continue
            key = hash((message.role, message.content, str(message.tool_calls) if message.tool_calls else ""))
            said = hash((said, key))
            if key not in self._heard:
                self._heard.add(key)
                self._open = current._replace(said=said)
                self._hear(message)
        self._open = current._replace(said=hash((said, record.label)))

    def _is_full(self) -> bool:
        return len(self._triples) > _PART_TRIPLES or len(self._heard) > _PART_TRIPLES

    def _hear(self, message: Message) -> None:
        calls = [str(call.get("function")) for call in message.tool_calls or ()]
        for text in (message.content, *calls):
            for ids in _numbered(text, self._words):
                _add(self._triples, ids)
                if len(self._triples) > 2 * _PART_TRIPLES:
                    current = self._open
                    self._close()
                    self._open = current

    def _close(self) -> None:
        """Put the conversation aside."""
        current, triples = self._open, self._triples
        self._open, self._triples = None, []
        self._heard = set()
        if current is None or not triples:
            return
        wide = struct.pack(f"={len(triples)}q", *triples)  # (three times as fast as an array of them)
        self._hashes.frombytes(wide)
        self._ends.append(len(self._hashes))
        # Half of each number is enough to compare two sets, and halves the file.
        narrow = array("I", wide)[::2]
        path, id_ = current.path.encode(), current.id.encode("utf-8", "surrogatepass")
        head = _SHAPE.pack(current.line, current.byte_offset, current.said, len(path), len(id_))
        self._at.append(self._sets.append(b"".join((head, path, id_, narrow.tobytes()))))
        if len(self._ends) > _BATCH or len(self._hashes) > _BATCH_TRIPLES:
            self._sign()

    def _sign(self) -> None:
        """Signatures of the batch, and of each the key of every band; a band's keys of a batch stand together."""
        count, rows = len(self._ends) - 1, self._rows
        if not count:
            return
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(self._hashes, self._ends, PERMUTATIONS, _SEED)
        signatures: list[list[int]] = matrix.to_rows()
        keys = array("q")
        for start in range(0, rows * self._bands, rows):
            keys.extend(hash(tuple(signature[start : start + rows])) for signature in signatures)
        self._batches.append((count, self._keys.append(keys.tobytes())))
        self._hashes, self._ends = array("Q"), array("Q", [0])

    # --- when all were seen -------------------------------------------------------------------------------------------

    def matches(self) -> Iterator[Match]:
        """Of each conversation that is like an earlier one, one such pair. Every pair is verified."""
        self._compare()
        for later, earlier in enumerate(self._match):
            if earlier != _NO_ONE:
                yield Match(self._conversation(earlier), self._conversation(later), self._degree[later])

    def groups(self) -> list[list[str]]:
        """Ids of conversations that belong together because each is like another one, exact copies included. The first
        of a group stands first in the file. Conversations like no other are in no group."""
        self._compare()
        members: dict[int, dict[str, None]] = {}
        for number in range(len(self._group)):
            root = self._root(number)
            if root != number:
                ids = members.setdefault(root, {self._conversation(root).id: None})
                ids[self._conversation(number).id] = None
        return [list(ids) for ids in _joined(members.values()) if len(ids) > 1]

    def crossings(self) -> Iterator[Match]:
        """Of each held-out conversation that is like one that is trained on, the pair that is most alike."""
        self._compare()
        members: dict[int, list[int]] = {}
        for number in range(len(self._group)):
            if (root := self._root(number)) != number:
                members.setdefault(root, [root]).append(number)
        for group in members.values():
            held = {number: self._conversation(number) for number in group}
            trained = [number for number, one in held.items() if one.id not in (self._heldout or ())]
            for number, one in held.items():
                if one.id not in (self._heldout or ()):
                    continue
                near = [(self._jaccard(number, other), -other) for other in trained[:_KEEPERS]]
                similarity, other = max(near, default=(0.0, 0))
                if similarity >= self._similarity:
                    yield Match(self._conversation(-other), one, similarity)

    def finish(self, reread: Reread | None) -> Iterable[LateRemark]:
        """One remark about each conversation that is nearly, but not word for word, like an earlier one; and one about
        each that is held out and like one that is trained on."""
        try:
            for match in self.matches():
                if self._on_link is not None and match.earlier.id != match.later.id:
                    self._on_link(match.later.id, match.earlier.id)
                if not match.exact:
                    yield _late("near_duplicate", match.later, _nearly(match.earlier, match.similarity))
            if self._heldout is not None:
                for match in self.crossings():
                    message = f"This conversation is held out for the test, but training sees it: {_same(match)}."
                    yield _late("held_out_duplicate", match.later, message)
        finally:
            self.close()

    def close(self) -> None:
        """Remove temporary files."""
        self._sets.close()
        self._keys.close()

    def _compare(self) -> None:
        """Match the keys band by band, verify, and join what is alike into groups."""
        self._close()
        self._sign()
        count = len(self._at)
        if len(self._group) == count:
            return
        self._group, self._match = array("I", range(count)), array("I", [_NO_ONE]) * count
        self._degree = array("f", [0.0]) * count
        portions = -(-count // _PORTION)
        for band in range(self._bands):
            for portion in range(portions):
                self._on_step()
                first: dict[int, int] = {}
                crowds: dict[int, list[int]] = {}
                for number, key in self._keys_of(band):
                    if portions > 1 and key % portions != portion:
                        continue
                    earlier = first.setdefault(key, number)
                    if earlier != number:
                        self._meet(crowds.setdefault(key, [earlier]), number)

    def _keys_of(self, band: int) -> Iterator[tuple[int, int]]:
        number = 0
        for count, start in self._batches:
            for key in array("q", self._keys.read(start + 8 * count * band, 8 * count)):
                yield number, key
                number += 1

    def _meet(self, keepers: list[int], number: int) -> None:
        """Compare a conversation with those that came before it under the same key. A keeper stands for all that are
        like it."""
        for keeper in keepers:
            root, own_root = self._root(keeper), self._root(number)
            if root == own_root:
                return
            similarity = self._jaccard(keeper, number)
            if similarity >= self._similarity:
                self._group[max(root, own_root)] = min(root, own_root)
                if self._match[number] == _NO_ONE:
                    self._match[number], self._degree[number] = keeper, similarity
                return
        if len(keepers) < _KEEPERS:
            keepers.append(number)

    def _root(self, number: int) -> int:
        group = self._group
        while group[number] != number:
            group[number] = group[group[number]]
            number = group[number]
        return number

    def _jaccard(self, one: int, other: int) -> float:
        a, b = self._set(one), self._set(other)
        smaller, larger = sorted((len(a), len(b)))
        if smaller < self._similarity * larger:
            return 0.0  # the sizes alone rule it out
        common = len(a & b)
        similarity = common / (smaller + larger - common)
        if similarity >= self._similarity and self._conversation(one).id == self._conversation(other).id:
            return 0.0  # parts of one conversation
        return similarity

    def _set(self, number: int) -> set[int]:
        start = self._at[number]
        end = self._at[number + 1] if number + 1 < len(self._at) else self._sets.size
        data = self._sets.read(start, end - start)
        *_, path, id_ = _SHAPE.unpack_from(data)
        return set(array("I", data[_SHAPE.size + path + id_ :]))

    def _conversation(self, number: int) -> Conversation:
        start = self._at[number]
        line, offset, said, path, id_ = _SHAPE.unpack(self._sets.read(start, _SHAPE.size))
        names = self._sets.read(start + _SHAPE.size, path + id_)
        return Conversation(names[path:].decode("utf-8", "surrogatepass"), line, offset, names[:path].decode(), said)


def near_duplicate_groups(records: Iterable[Record], *, similarity: float = 0.8) -> list[list[str]]:
    """Groups of conversation ids that must stay on one side of a split: exact and near-duplicates, joined through one
    another. Each group in file order, its first being the one to keep. records: in file order."""
    check = NearDuplicates(similarity)
    try:
        for record in records:
            check.look(record)
        return check.groups()
    finally:
        check.close()


def _joined(groups: Iterable[dict[str, None]]) -> list[dict[str, None]]:
    """Groups that share an id made one: parts of a long conversation may lie in several."""
    joined: list[dict[str, None]] = []
    group_of: dict[str, dict[str, None]] = {}
    for group in groups:
        target = next((group_of[id_] for id_ in group if id_ in group_of), None)
        if target is None:
            target = {}
            joined.append(target)
        for id_ in group:
            other = group_of.get(id_)
            if other is not None and other is not target:
                for moved in other:
                    group_of[moved] = target
                target |= other
                joined.remove(other)
            target[id_] = None
            group_of[id_] = target
    return joined


def place_of(conversation: Conversation) -> str:
    """`line 12`, or what the record is called where lines do not count."""
    unit = "line" if not conversation.path else "record" if conversation.path.startswith("[") else "pair"
    return f"{unit} {conversation.line:,}"


def _nearly(earlier: Conversation, similarity: float) -> str:
    where = place_of(earlier)
    if similarity == 1:
        return f"The conversation says the same as the one at {where}, but for case, punctuation or order."
    return f"The conversation is nearly that at {where}: they share {percent(similarity)} of their word triples."


def _same(match: Match) -> str:
    degree = "exactly" if match.exact else f"to {percent(match.similarity)}"
    return f"it is {degree} the conversation {match.earlier.id[:80]!r} at {place_of(match.earlier)}"


def _late(code: str, conversation: Conversation, message: str) -> LateRemark:
    remark = Remark(code, "", message)
    return LateRemark(conversation.line, conversation.byte_offset, conversation.path, remark)
