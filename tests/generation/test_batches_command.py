"""`brightrun batches run` as a process: its contract on an empty directory, and that killing it loses nothing."""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from brightrun.cli.runtime import installation
from brightrun.db.roles import libpq
from brightrun.settings import Settings
from generation.generation_steps import plan_of
from provider_server import Provider

KEYS = {
    "planned", "written", "pending", "failed_by_class", "requests_sent", "requests_reused", "requests_unknown",
    "cost_usd", "cost_unknown_max_usd", "cost_quoted_usd", "seconds", "stopped_reason",
}  # fmt: skip


@pytest.fixture
def data() -> Iterator[Path]:
    """A data directory that PostgreSQL's account can enter when the tests run as root."""
    with tempfile.TemporaryDirectory(prefix="brightrun-batches-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


def command(data: Path, plan: Path, provider: Provider, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "brightrun", "batches", "run", "--plan", str(plan), "--data", str(data), "--json",
         *options],
        env=os.environ | provider.environment() | {"BRIGHTRUN_LOG_LEVEL": "warning"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    out, err = process.communicate(timeout=240)
    assert out.strip(), err
    return process.returncode, json.loads(out.strip().splitlines()[-1])


def written(path: Path, plan: dict[str, Any]) -> Path:
    path.write_text(json.dumps(plan))
    return path


def test_the_command_keeps_its_contract_on_an_empty_directory(data: Path, tmp_path: Path, provider: Provider):
    plan = written(tmp_path / "plan.json", plan_of(5))
    status, result = finish(command(data, plan, provider, "--concurrency", "4"))
    assert (status, set(result)) == (0, KEYS)
    assert (result["written"], result["requests_sent"], result["stopped_reason"]) == (5, 5, "finished")
    status, again = finish(command(data, plan, provider, "--concurrency", "4"))
    assert (status, again["requests_sent"], again["requests_reused"]) == (0, 0, 5)
    assert again["seconds"] < 2  # 1 on a machine that does nothing else
    bad = plan_of(5)
    bad["items"][3]["arc"] = "confusion_to_clarty"
    status, told = finish(command(data, written(tmp_path / "bad.json", bad), provider))
    assert status == 2
    assert "items[3].arc" in told["error"]
    assert "confusion_to_clarty" in told["error"]
    status, capped = finish(command(data, written(tmp_path / "more.json", plan_of(9)), provider, "--max-cost", "0.05"))
    assert (status, capped["stopped_reason"], capped["requests_sent"]) == (3, "cap", 0)
    status, told = finish(command(data, plan, provider, "--max-cost", "a lot"))
    assert status == 2
    assert provider.stats()["requests"] == 5


def kill_and_finish(
    data: Path, tmp_path: Path, provider: Provider, *, items: int, kills: int, concurrency: int
) -> None:
    rng = random.Random(7)
    provider.reset(latency_s=0.15)
    plan = written(tmp_path / "plan.json", plan_of(items))
    options = ("--concurrency", str(concurrency))
    unknown = 0
    for _ in range(kills):
        before = provider.stats()["admitted"]
        process = command(data, plan, provider, *options)
        wanted = before + rng.randrange(concurrency, items // kills)
        while provider.stats()["admitted"] < wanted and process.poll() is None:
            time.sleep(0.01)  # The server's own count says when; there is nothing to wait on.
        process.send_signal(signal.SIGKILL)
        process.communicate()
    status, result = finish(command(data, plan, provider, *options))
    assert (status, result["stopped_reason"]) == (0, "finished")
    assert result["written"] + sum(result["failed_by_class"].values()) + result["pending"] == items
    assert result["written"] == items
    stats = provider.stats()
    assert stats["distinct"] == items
    assert stats["requests"] - stats["distinct"] <= kills * concurrency
    with (
        installation(Settings(data=data)) as installed,
        psycopg.connect(libpq(installed.urls.owner)) as connection,
    ):
        settled, bound, unknown = connection.execute(
            "select coalesce(sum(cost) filter (where status = 'answered'), 0),"
            " coalesce(sum(bound) filter (where status = 'unknown'), 0), count(*) filter (where status = 'unknown')"
            " from llm_requests"
        ).fetchone()  # type: ignore[misc]
        assert connection.execute("select count(*) from llm_requests where status = 'sent'").fetchone() == (0,)
        assert connection.execute("select count(*), count(distinct work_key) from conversations").fetchone() == (
            items,
            items,
        )
    assert unknown <= kills * concurrency
    charged = Decimal(stats["usd"])
    assert settled <= charged <= settled + bound
    assert Decimal(str(result["cost_usd"])) == pytest.approx(settled, abs=Decimal("0.000001"))
    assert Decimal(str(result["cost_unknown_max_usd"])) == pytest.approx(bound, abs=Decimal("0.000001"))


def test_a_killed_run_goes_on_and_buys_nothing_twice_that_was_received(data: Path, tmp_path: Path, provider: Provider):
    kill_and_finish(data, tmp_path, provider, items=60, kills=1, concurrency=8)


@pytest.mark.slow
def test_five_kills_at_random_points(data: Path, tmp_path: Path, provider: Provider):
    kill_and_finish(data, tmp_path, provider, items=1000, kills=5, concurrency=32)
