"""Near-duplicates among 100,000 conversations with planted pairs, and what each content check costs.

python benchmarks/content_checks.py [conversations]

Recall: of the planted pairs whose word triples have a Jaccard similarity of at least 0.8, how many stand in one group.
Precision: of the pairs reported, how many have it. Both are computed here again, from the texts.
"""

import resource
import sys
import time
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import orjson

from brightrun.formats.reader import read_records
from brightrun.formats.records import Message, Record
from brightrun.validation.content.places import Places
from brightrun.validation.content.refusals import Refusals
from brightrun.validation.content.replies import Replies
from brightrun.validation.content.sensitive import SensitiveTexts
from brightrun.validation.near_duplicates import NearDuplicates, triples_of
from brightrun.validation.thresholds import Thresholds

COPIES_IN = 20  # one conversation in so many is a changed copy of an earlier one
THRESHOLD = 0.8


class Corpus:
    """Conversations of 150 to 450 words put together from common phrases, the same whenever they are asked for."""

    def __init__(self, size: int, seed: int = 3) -> None:
        chance = Random(seed)
        letters = "abcdefghijklmnopqrstuvwxyz"
        self._vocabulary = ["".join(chance.choices(letters, k=chance.randint(2, 9))) for _ in range(20_000)]
        weights = [1 / (rank + 1) ** 0.9 for rank in range(len(self._vocabulary))]
        self._stock = chance.choices(self._vocabulary, weights, k=2_000_000)
        self.size, self.originals = size, size - size // COPIES_IN

    def words(self, number: int) -> list[str]:
        """What is said in a conversation; a copy has up to one word in twenty changed."""
        if number >= self.originals:
            chance = Random(-number)
            said = self.words(self.original_of(number))
            for _ in range(chance.randint(1, max(1, len(said) // 20))):
                said[chance.randrange(len(said))] = chance.choice(self._vocabulary)
            return said
        chance = Random(number)
        said = []
        for _ in range(chance.randint(38, 112)):
            start = chance.randrange(len(self._stock) - 8)
            said += self._stock[start : start + chance.randint(2, 6)]
        return said

    def original_of(self, number: int) -> int:
        """Of which conversation a copy was made."""
        return Random(f"{number} is a copy").randrange(self.originals)

    def record(self, number: int) -> Record:
        """The conversation as a validator sees it."""
        said = self.words(number)
        third = len(said) // 3
        messages = [
            Message("system", "You are Rosa, who has run the workshop at Mill Bridge for twenty years."),
            Message("user", " ".join(said[:third])),
            Message("assistant", " ".join(said[third:]), True),
        ]
        return Record(f"c{number}", number, number + 1, 0, messages)

    def triples(self, number: int) -> set[int]:
        """What is compared, from the texts."""
        return triples_of(message.content for message in self.record(number).messages[1:])


def similarity(a: set[int], b: set[int]) -> float:
    return len(a & b) / len(a | b)


def near_duplicates(size: int) -> None:
    corpus = Corpus(size)
    check = NearDuplicates(THRESHOLD)
    looked = used = 0.0
    for number in range(size):
        record = corpus.record(number)
        start, cpu = time.perf_counter(), time.process_time()
        check.look(record)
        looked, used = looked + time.perf_counter() - start, used + time.process_time() - cpu
    start, cpu = time.perf_counter(), time.process_time()
    matches = list(check.matches())
    compared, used = time.perf_counter() - start, used + time.process_time() - cpu
    group_of = {id_: number for number, group in enumerate(check.groups()) for id_ in group}
    planted = found = 0
    for number in range(corpus.originals, size):
        original = corpus.original_of(number)
        if similarity(corpus.triples(number), corpus.triples(original)) >= THRESHOLD:
            planted += 1
            found += group_of.get(f"c{number}", -1) == group_of.get(f"c{original}", -2)
    right = sum(
        similarity(corpus.triples(match.earlier.line - 1), corpus.triples(match.later.line - 1)) >= THRESHOLD
        for match in matches
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"| near-duplicates, {size:,} conversations, one core | < 60 s for 100,000 | {looked + compared:.1f} s "
        f"(taking in {looked:.1f}, comparing {compared:.1f}; {used:.1f} s of processor time) |"
    )
    print(f"| recall of {planted:,} planted pairs at ≥ {THRESHOLD} | ≥ 95 % | {100 * found / planted:.2f} % |")
    print(f"| precision of {len(matches):,} reported pairs | ≥ 95 % | {100 * right / len(matches):.2f} % |")
    print(f"| peak memory, corpus and memo included | – | {peak:.0f} MB |")


def chats(size: int) -> Iterator[bytes]:
    """About 3 KB each: three questions, three answers."""
    corpus = Corpus(size)
    for number in range(corpus.originals):
        said = [*corpus.words(number), *corpus.words((number + 7) % corpus.originals)]
        sixth = len(said) // 6
        pieces = [" ".join(said[n : n + sixth]).capitalize() + "." for n in range(0, 6 * sixth, sixth)]
        roles = ("user", "assistant") * 3
        yield orjson.dumps({"messages": [{"role": r, "content": c} for r, c in zip(roles, pieces, strict=True)]})


def costs(size: int) -> None:
    import io

    lines = list(chats(size))
    data = b"\n".join(lines)
    records = [record for record in read_records(io.BytesIO(data)) if isinstance(record, Record)]
    places, limits = Places(), Thresholds()
    places.enter(None, "", "openai_messages")
    makers: dict[str, Callable[[], Any]] = {
        "refusals": lambda: Refusals(places),
        "secrets": lambda: SensitiveTexts(("secrets",), places),
        "secrets, personal_data": lambda: SensitiveTexts(("secrets", "personal_data"), places),
        "repeated_openings, reply_lengths": lambda: Replies(
            ("repeated_openings", "reply_lengths"), limits, places, 1 << 24
        ),
        "the same and language_mix": lambda: Replies(
            ("repeated_openings", "reply_lengths", "language_mix"), limits, places, 1 << 24
        ),
        "near_duplicates": NearDuplicates,
    }
    best: dict[str, float] = {}
    for _ in range(3):  # interleaved, the best of three
        start = time.process_time()
        for line in lines:
            orjson.loads(line)
        base = time.process_time() - start
        best["orjson.loads"] = min(best.get("orjson.loads", base), base)
        for name, make in makers.items():
            check = make()
            start = time.process_time()
            for record in records:
                list(check.look(record) or ())
            if hasattr(check, "finish"):
                list(check.finish(None))
            best[name] = min(best.get(name, 1e9), time.process_time() - start)
    megabytes = len(data) / 1e6
    for name, seconds in best.items():
        print(f"| {name} | {30 * seconds / megabytes:.2f} s | {seconds / best['orjson.loads']:.1f} × |")


if __name__ == "__main__":
    print("| Near-duplicates | Bar | Measured |\n|---|---|---|")
    near_duplicates(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
    print("\n| Check | for 30 MB, one core | of `orjson.loads` |\n|---|---|---|")
    costs(2_000)
