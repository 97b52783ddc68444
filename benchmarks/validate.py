"""The validator against a bare `orjson.loads` loop over the same lines, in the same run.

    python benchmarks/validate.py [--megabytes 500] [--rounds 3] [--keep FOLDER] [--only WORDS]

Every contender runs in a process of its own, its start included; contenders of one row take turns, and the median is
what counts. Ratios above 1 mean faster than the baseline. Peak memory is that of the largest process. Nothing is
written into RESULTS.md: look at the load that is printed, and copy what was measured on an idle machine.

A row is a function that yields `Measured`; ROWS is the list of them. `--only` runs those whose name holds the words.
"""

import argparse
import importlib.util
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import token_counts
from validate_files import MB, chats, faulty, pairs, write

PYTHON = [sys.executable]
LOOP = "import sys, orjson\nwith open(sys.argv[1], 'rb') as f:\n    for line in f: orjson.loads(line)\n"
HUGGING_FACE = (
    "import sys, tempfile, datasets\n"
    "datasets.load_dataset('json', data_files=sys.argv[1], cache_dir=tempfile.mkdtemp(), split='train')\n"
)


class Run(NamedTuple):
    """seconds: of the clock. peak: MiB. work: seconds of processors, of all processes together."""

    seconds: float
    peak: float
    work: float


class Measured(NamedTuple):
    """One line of the table. bar: what must be shown; `–` where nothing must. value: what was."""

    what: str
    bar: str
    value: str


class Bench:
    """files: made when first asked for, in `folder`, about `megabytes` each."""

    def __init__(self, folder: Path, megabytes: int, rounds: int) -> None:
        self.folder, self.megabytes, self.rounds = folder, megabytes, rounds

    def file(self, kind: str, megabytes: int | None = None) -> Path:
        """The file of a kind, read once so that it is in the system's cache."""
        size = megabytes or self.megabytes
        path = self.folder / f"{kind}-{size}.jsonl"
        write(path, {"v4": pairs, "messages": chats, "faulty": faulty}[kind](), size * MB)
        with path.open("rb") as stream:
            while stream.read(MB):
                pass
        return path

    def compare(self, *contenders: list[str]) -> list[Run]:
        """The median of each contender's seconds, and its greatest memory; they take turns."""
        runs: list[list[Run]] = [[] for _ in contenders]
        for _ in range(self.rounds):
            for number, command in enumerate(contenders):
                runs[number].append(run(command))
        return [
            Run(
                statistics.median(r.seconds for r in each),
                max(r.peak for r in each),
                statistics.median(r.work for r in each),
            )
            for each in runs
        ]


def run(command: list[str]) -> Run:
    """One process from start to end. A validator's exit status 1 is an answer, not a failure."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1) or said:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {said.decode()}")
    return Run(seconds, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime)


def ratio(one: Run, other: Run, decimals: int = 2) -> str:
    """How many times as long `one` takes, by the clock and by the work of processors (which a loaded machine disturbs
    less, and which says nothing about processes side by side)."""
    return f"{one.seconds / other.seconds:.{decimals}f} × (by work {one.work / other.work:.{decimals}f} ×)"


def loop(path: Path) -> list[str]:
    """The baseline."""
    return [*PYTHON, "-c", LOOP, str(path)]


def validate(path: Path, checks: str = "structure", workers: int = 1, *further: str) -> list[str]:
    """The command that people run."""
    command = ["-m", "brightrun", "validate", str(path), "--json", "--checks", checks, "--workers", str(workers)]
    return [*PYTHON, *command, *further]


def structure(bench: Bench) -> Iterator[Measured]:
    """`--checks structure` with statistics, of clean files."""
    for kind, alone_bar, together_bar in (("v4", 1.2, 1.8), ("messages", 1.0, 1.0)):
        path = bench.file(kind)
        base, alone, together = bench.compare(loop(path), validate(path), validate(path, workers=2))
        yield Measured(f"{kind}: bare orjson loop", "baseline", f"{bench.megabytes / base.seconds:.0f} MiB/s")
        for what, bar, one in (("one process", alone_bar, alone), ("two", together_bar, together)):
            yield Measured(f"{kind}: structure, {what}", f"≥ {bar} × the loop", ratio(base, one))
            yield Measured(f"{kind}: peak memory, {what}", "< 120 MB", f"{one.peak:.0f} MiB")


def levels(bench: Bench) -> Iterator[Measured]:
    """The other levels; a tenth of the size, because they look at every word."""
    for kind in ("v4", "messages"):
        path = bench.file(kind, max(1, bench.megabytes // 10))
        base, default, full = bench.compare(loop(path), validate(path, "default"), validate(path, "full"))
        for level, one in (("default", default), ("full", full)):
            yield Measured(f"{kind}: {level}", "recorded", f"{ratio(base, one, 3)} the loop")
            yield Measured(f"{kind}: peak memory, {level}", "–", f"{one.peak:.0f} MiB")


def faults(bench: Bench) -> Iterator[Measured]:
    """A fault on every line, against a clean file of the same format and size."""
    clean, bad = bench.file("messages"), bench.file("faulty")
    for workers in (1, 2):
        fine, slow = bench.compare(validate(clean, workers=workers), validate(bad, workers=workers))
        what = f"a fault on every line, {workers} process{'es' if workers > 1 else ''}"
        yield Measured(what, "≤ 3 × slower than clean", f"{ratio(slow, fine, 1)} slower")
        yield Measured(f"{what}: peak memory", "bounded", f"{slow.peak:.0f} MiB")


def hugging_face(bench: Bench) -> Iterator[Measured]:
    """`datasets.load_dataset("json")`, where it is installed (it is no dependency of ours)."""
    if importlib.util.find_spec("datasets") is None:
        yield Measured('load_dataset("json")', "≥ 3 × as fast", "not measured: `datasets` is not installed here")
        return
    path = bench.file("v4")
    theirs, ours = bench.compare([*PYTHON, "-c", HUGGING_FACE, str(path)], validate(path))
    yield Measured('v4: structure against load_dataset("json")', "≥ 3 ×", ratio(theirs, ours, 1))


def start(bench: Bench) -> Iterator[Measured]:
    """A file of six lines."""
    path = bench.folder / "small.jsonl"
    write(path, chats(), 12_000)
    (one,) = bench.compare(validate(path))
    yield Measured("start-up, a small file", "< 0.5 s", f"{one.seconds:.2f} s (work {one.work:.2f} s)")


def everything(bench: Bench) -> Iterator[Measured]:
    """Ten thousand conversations, all there is, with the shipped tokenizer."""
    path = bench.file("messages", 30)
    conversations = int(path.with_suffix(".lines").read_text())
    commands = [validate(path, "full", workers, "--model", "tiny", "--no-cache") for workers in (1, 2)]
    for workers, one in zip((1, 2), bench.compare(*commands), strict=True):
        what = f"{conversations:,} conversations (30 MiB), full, exact tokens, {workers} at work"
        shown = f"{one.seconds:.1f} s (work {one.work:.1f} s), {one.peak:.0f} MiB"
        yield Measured(what, "< 10 s for 10,000", f"{shown}; for 10,000: {one.seconds / conversations * 10_000:.1f} s")


def near_duplicates(bench: Bench) -> Iterator[Measured]:
    """A hundred thousand conversations through `full`, of which near-duplicates are one part."""
    path = bench.file("messages", 240)
    conversations = int(path.with_suffix(".lines").read_text())
    (one,) = bench.compare(validate(path, "full"))
    what = f"{conversations:,} conversations (240 MiB), full: an upper bound for near-duplicates"
    yield Measured(
        what,
        "< 60 s for near-duplicates of 100,000",
        f"{one.seconds:.0f} s (work {one.work:.0f} s), {one.peak:.0f} MiB",
    )


def tokens(bench: Bench) -> Iterator[Measured]:
    """Exact token counting, in this process; `token_counts.py` says how."""
    for row in token_counts.rows(50, bench.rounds):
        yield Measured(*row)


ROWS: list[Callable[[Bench], Iterator[Measured]]] = [
    start,
    structure,
    faults,
    hugging_face,
    levels,
    everything,
    near_duplicates,
    tokens,
]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="folder where the files stay for the next time")
    parser.add_argument("--only", default="", help="words in the names of rows, comma-separated")
    options = parser.parse_args()
    wanted = [word for word in options.only.split(",") if word]
    with tempfile.TemporaryDirectory(prefix="brightrun-bench-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        bench = Bench(folder, options.megabytes, options.rounds)
        print(f"{platform.python_version()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the start")
        print(f"{options.megabytes} MB, median of {options.rounds}\n\n| | Bar | Measured |\n|---|---|---|")
        for row in ROWS:
            if not wanted or any(word in row.__name__ for word in wanted):
                for what, bar, value in row(bench):
                    print(f"| {what} | {bar} | {value} |", flush=True)
        print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
