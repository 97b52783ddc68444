"""2,000 conversations written by `brightrun batches run` against the test provider, as ratios to the ideal.

    .venv/bin/python benchmarks/generate.py [--only NAME,…] [--items 2000] [--concurrency 64]

Every case is the whole command on a data directory of its own: ledger, storing, parsing, rows. The wall time is
measured from the first request that the server saw to the last row that was committed. The provider runs as a process
of its own on the same machine, and so does PostgreSQL: with 2 cores the three share them. Ideal: see `Case.ideal`.
"""

import argparse
import itertools
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import psycopg

from brightrun.cli.runtime import installation
from brightrun.db.roles import libpq
from brightrun.scaffolding.pack_files import builtin_pack
from brightrun.settings import Settings
from provider_server import Provider, running

SLOW_SHARE, SLOW_S = 0.05, 3.0
RATE, BURST = 100.0, 20


@dataclass(frozen=True)
class Case:
    """bar: the wall time may be this many times the ideal. options: of the provider server."""

    name: str
    bar: float
    options: dict[str, Any]

    def ideal(self, items: int, concurrency: int) -> float:
        latency = self.options["latency_s"]
        if "rate" in self.options:
            return (items - BURST) / RATE
        if self.options.get("tail_share"):
            return items / concurrency * (latency * (1 - SLOW_SHARE) + SLOW_S * SLOW_SHARE)
        if "every" in self.options:
            # A client that sends each refused one again at once: a tenth more, and the refusals answer at once.
            return math.ceil(items / concurrency) * latency
        return math.ceil(items / concurrency) * latency


CASES = (
    Case("1 s", 1.06, {"latency_s": 1.0}),
    Case("200 ms", 1.25, {"latency_s": 0.2}),
    Case("token bucket", 1.10, {"latency_s": 0.2, "rate": RATE, "burst": BURST, "retry_after_s": 1}),
    Case("every tenth 429", 1.40, {"latency_s": 0.2, "every": {"429": 10}, "retry_after_s": 1}),
    Case("5 % take 3 s", 1.30, {"latency_s": 0.2, "tail_share": SLOW_SHARE, "tail_s": SLOW_S}),
)


def plan_of(items: int, seed: int) -> dict[str, Any]:
    """Different cells of the built-in pack, drawn with `seed`."""
    pack = builtin_pack("financial_planning")
    cells = list(itertools.product(pack.personas, pack.arcs, pack.topics))
    random.Random(seed).shuffle(cells)
    chosen = itertools.islice(itertools.cycle(cells), items)
    return {
        "pack": pack.key,
        "model": "claude-sonnet-5-5",
        "seed": seed,
        "items": [{"persona": one.key, "arc": two.key, "topic": three.key} for one, two, three in chosen],
    }


def run(data: Path, plan: Path, provider: Provider, concurrency: int) -> dict[str, Any]:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "brightrun", "batches", "run", "--plan", str(plan), "--data", str(data), "--json",
         "--concurrency", str(concurrency)],
        env=os.environ | provider.environment() | {"BRIGHTRUN_LOG_LEVEL": "warning"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(f"the command failed ({done.returncode}): {done.stderr[-2000:]}{done.stdout[-500:]}")
    return json.loads(done.stdout.strip().splitlines()[-1]) | {"process_s": time.monotonic() - started}


def last_row(data: Path) -> tuple[float, Decimal]:
    """(when the last conversation was committed, epoch seconds; USD in the ledger)."""
    with (
        installation(Settings(data=data)) as installed,
        psycopg.connect(libpq(installed.urls.owner)) as connection,
    ):
        row = connection.execute(
            "select extract(epoch from max(updated_at)) from batch_items where status = 'written'"
        ).fetchone()
        spent = connection.execute("select coalesce(sum(cost), 0) from llm_requests").fetchone()
    assert row is not None
    assert spent is not None
    return float(row[0]), Decimal(spent[0])


def measure(case: Case, items: int, concurrency: int, root: Path) -> bool:
    data = root / case.name.replace(" ", "-").replace("%", "percent")
    data.mkdir(mode=0o755)
    plan = data / "plan.json"
    plan.write_text(json.dumps(plan_of(items, seed=1)))
    warm = data / "warm.json"
    with running() as provider:
        # Database made and migrated, packs loaded: the case begins on a directory that is there.
        warm.write_text(json.dumps(plan_of(1, seed=2)))
        run(data, warm, provider, 1)
        paid_before = last_row(data)[1]
        provider.reset(**case.options)
        result = run(data, plan, provider, concurrency)
        stats = provider.stats()
        ended, paid = last_row(data)
        wall, ideal = ended - stats["first_at"], case.ideal(items, concurrency)
        ratio = wall / ideal
        exact = paid - paid_before == Decimal(stats["usd"])
        refused = stats["throttled"] + stats["overloaded"]
        print(
            f"{case.name:16} ideal {ideal:6.2f} s  wall {wall:6.2f} s  ratio {ratio:5.3f} (bar {case.bar:.2f})  "
            f"sent {stats['requests']:,} of {stats['distinct']:,} distinct, {refused} refused, "
            f"at most {stats['peak_in_flight']} at once; ledger = server: {exact}"
        )
        again = run(data, plan, provider, concurrency)
        edited = json.loads(plan.read_text())
        edited["items"][items // 2]["source"] = {"text": "The limit for this year is 7,000 dollars."}
        plan.write_text(json.dumps(edited))
        one = run(data, plan, provider, concurrency)
    print(
        f"{'':16} again: {again['requests_sent']} requests, {again['seconds']:.2f} s by its own clock, "
        f"{again['process_s']:.2f} s as a process; one of {items:,} edited: {one['requests_sent']} request"
    )
    assert result["written"] + one["written"] == 2 * items
    return ratio <= case.bar and exact and again["requests_sent"] == 0 and one["requests_sent"] == 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="Names of cases, comma-separated")
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=64)
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else [case.name for case in CASES]
    print(f"{arguments.items:,} conversations, concurrency {arguments.concurrency}, load {os.getloadavg()[0]:.2f}")
    with tempfile.TemporaryDirectory(prefix="brightrun-generate-") as root:
        Path(root).chmod(0o755)
        held = [
            measure(case, arguments.items, arguments.concurrency, Path(root)) for case in CASES if case.name in names
        ]
    print("every bar is held" if all(held) else "a bar is not held")


if __name__ == "__main__":
    main()
