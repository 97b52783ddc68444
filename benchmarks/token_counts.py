"""How fast exact token counting is beside the tokenizer's own `encode_batch` on all cores.

    python benchmarks/token_counts.py [--mb 50] [--rounds 3] [--model tiny]

The corpus is prose from a seed with more than 50,000 distinct words in a Zipf-like distribution, capitals, commas, full
stops and paragraphs. Each round runs baseline and counter one after the other; what counts is the ratio within a round.
Counters begin empty in each round. The numbers of all texts are compared in each round.
"""

import argparse
import itertools
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from brightrun.formats import tokenizer_folder
from brightrun.formats.model_tokenizers import tokenizer_folder_of, tokenizer_sha256
from brightrun.formats.token_cache import TokenCache, file_sha256
from brightrun.formats.token_counts import token_counter

_ONSETS = ("b", "d", "f", "gr", "k", "l", "m", "n", "p", "pl", "s", "st", "t", "tr", "v", "w", "sh", "th", "h", "r")
_RIMES = ("a", "e", "i", "o", "u", "ai", "ou", "en", "an", "er", "ing", "ly", "ed", "est")
_COMMON = ("the", "of", "and", "to", "in", "a", "is", "that", "it", "was", "for", "on", "with", "as", "you", "not")


def prose(seed: int = 11) -> Iterator[str]:
    """Texts of 300 to 3,000 characters without end."""
    rng = random.Random(seed)
    made = {"".join(rng.choice(_ONSETS) + rng.choice(_RIMES) for _ in range(rng.randint(1, 4))) for _ in range(62_000)}
    words = [*_COMMON, *sorted(made)]
    rng.shuffle(words[len(_COMMON) :])
    weights = list(itertools.accumulate(1 / (rank + 3) ** 0.95 for rank in range(len(words))))
    while True:
        sentences = []
        for _ in range(rng.randint(4, 40)):
            chosen = rng.choices(words, cum_weights=weights, k=rng.randint(6, 16))
            if rng.random() < 0.5:
                chosen[len(chosen) // 2] += ","
            sentences.append(" ".join(chosen).capitalize() + rng.choices(".?!", weights=(10, 1, 1))[0])
        paragraphs = [" ".join(sentences[at : at + 6]) for at in range(0, len(sentences), 6)]
        yield "\n\n".join(paragraphs)


def corpus(size: int) -> list[str]:
    """Texts of `size` bytes in all."""
    texts, total = [], 0
    for text in prose():
        texts.append(text)
        total += len(text.encode())
        if total >= size:
            return texts
    raise AssertionError("prose never ends")


def timed(work: Callable[[], list[int]]) -> tuple[float, list[int]]:
    started = time.perf_counter()
    counted = work()
    return time.perf_counter() - started, counted


def rows(megabytes: float, rounds: int, model: str = "tiny") -> Iterator[tuple[str, str, str]]:
    """Name, bar and what was measured, for each way to count. AssertionError where one counts other tokens."""
    folder = tokenizer_folder_of(model)
    tokenizer = tokenizer_folder.load(folder).tokenizer
    texts = corpus(int(megabytes * 1_000_000))
    size = sum(len(text.encode()) for text in texts) / 1_000_000
    distinct = len({word for text in texts for word in text.replace(".", " ").replace(",", " ").lower().split()})
    base = f"tokens of {size:.0f} MB of prose, {distinct:,} distinct words, {model}"
    rates: dict[str, list[float]] = {name: [] for name in ("encode_batch", "counts", "count", "again")}
    for _ in range(rounds):
        seconds, wanted = timed(lambda: [len(e) for e in tokenizer.encode_batch(texts, add_special_tokens=False)])
        rates["encode_batch"].append(size / seconds)
        for name, work in (
            ("counts", lambda: token_counter(tokenizer).counts(texts)),
            ("count", lambda: list(map(token_counter(tokenizer).count, texts))),
        ):
            seconds, counted = timed(work)
            assert counted == wanted, f"{name} counts other tokens than encode_batch"
            rates[name].append(size / seconds)
        rates["again"].append(size / again(texts, sum(wanted), folder))
    for name, what, bar in (
        ("encode_batch", f"{base}: encode_batch on all cores", "baseline"),
        ("counts", f"the same, exact, all at once ({token_counter(tokenizer).method})", "≥ 2 ×"),
        ("count", "the same, exact, a text at a time", "≥ 2 ×"),
        ("again", "the same, the second time (two hashes and a look)", "nearly free"),
    ):
        ratios = [rate / first for rate, first in zip(rates[name], rates["encode_batch"], strict=True)]
        yield what, bar, f"{statistics.median(ratios):.2f} × ({statistics.median(rates[name]):.1f} MB/s)"


def again(texts: list[str], total: int, folder: Path) -> float:
    """Seconds of the second time: hash the file, hash the tokenizer, and look the number up."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "corpus.txt"
        file.write_text("\n".join(texts))
        cache = TokenCache(Path(scratch) / "cache")
        cache.put({"tokens": total}, file_sha256(file), tokenizer_sha256(folder))
        started = time.perf_counter()
        assert cache.get(file_sha256(file), tokenizer_sha256(folder)) == {"tokens": total}
        return time.perf_counter() - started


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--mb", type=float, default=50)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--model", default="tiny")
    chosen = options.parse_args()
    for what, bar, value in rows(chosen.mb, chosen.rounds, chosen.model):
        print(f"| {what} | {bar} | {value} |")


if __name__ == "__main__":
    main()
