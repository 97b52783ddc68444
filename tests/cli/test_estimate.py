"""`brightrun estimate`: the promise of a file, without server or database, and by real steps where asked for."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from brightrun.cli.estimate import main

Here = Callable[..., tuple[int, dict[str, Any], str]]

LINES = "".join(
    json.dumps(
        {
            "messages": [
                {"role": "user", "content": f"I worry about debt number {n}. " * (n % 5 + 1)},
                {"role": "assistant", "content": "We look at it together, one small step first. " * (n % 3 + 1)},
            ]
        }
    )
    + "\n"
    for n in range(30)
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("estimate") / "adviser.jsonl"
    path.write_text(LINES)
    return path


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """The command in this process."""

    def call(*arguments: object) -> tuple[int, dict[str, Any], str]:
        status = main([*map(str, arguments), "--json"])
        told = capsys.readouterr()
        return status, json.loads(told.out), told.err

    return call


def run(*arguments: object) -> tuple[int, dict[str, Any], str]:
    """As a process of its own, as scripts call it."""
    done = subprocess.run(
        [sys.executable, "-m", "brightrun", "estimate", *map(str, arguments), "--json"],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout), done.stderr


def test_the_contract_memory_seconds_and_cost_with_intervals_and_parts(file: Path) -> None:
    code, promise, _errors = run("--dataset", file, "--base-model", "tiny", "--preset", "balanced")
    assert code == 0
    assert promise["method"] == "analytic"
    assert promise["level"] == 0.9
    assert promise["fits"] is True
    assert isinstance(promise["reasons"], list)
    assert promise["sources"]["tokens"] == "counted with the tokenizer of tiny"
    for name in ("memory_bytes", "seconds", "cost_usd"):
        figure = promise[name]
        assert figure["low"] <= figure["value"] <= figure["high"]
        assert sum(figure["parts"].values()) == pytest.approx(figure["value"], abs=1e-3)
    assert promise["inputs"]["tokens_exact"]
    assert promise["inputs"]["training_pairs"] == 30


def test_hyperparameters_and_devices_are_taken_and_change_it(file: Path, here: Here) -> None:
    _code, one, _ = here("--dataset", file, "--base-model", "tiny", "--preset", "custom", "--set", "epochs=2")
    _code, two, _ = here(
        "--dataset", file, "--base-model", "tiny", "--preset", "custom", "--set", "epochs=4", "--gpu", "A100-80GB",
        "--gpu-count", "2",
    )  # fmt: skip
    assert (one["hyperparameters"]["epochs"], two["hyperparameters"]["epochs"]) == (2, 4)
    assert one["cost_usd"]["value"] == 0
    assert two["cost_usd"]["value"] > 0.5
    assert two["inputs"]["gpu_count"] == 2


def test_the_documented_formula_is_a_method_without_interval(file: Path, here: Here) -> None:
    code, promise, _ = here("--dataset", file, "--base-model", "tiny", "--preset", "balanced", "--method", "documented")
    assert code == 0
    assert promise["method"] == "documented"
    assert promise["seconds"]["low"] is None
    assert promise["cost_usd"]["value"] == 0


def test_a_probe_runs_the_trainer_and_narrows_both_intervals(file: Path, here: Here) -> None:
    flags = ("--dataset", file, "--base-model", "tiny-random", "--preset", "conservative")
    _code, before, _ = here(*flags)
    code, after, errors = here(*flags, "--probe")
    assert code == 0, errors
    assert after["basis"] == "probe"
    assert "probe:" in errors, "progress is told beside the JSON"
    for name in ("memory_bytes", "seconds"):
        narrow, wide = after[name], before[name]
        assert (narrow["high"] - narrow["low"]) / narrow["value"] < (wide["high"] - wide["low"]) / wide["value"]
        assert sum(narrow["parts"].values()) == pytest.approx(narrow["value"], abs=1e-3)
    assert not list(file.parent.glob(".*")), "it leaves nothing behind"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--base-model", "tiny", "--set", "rank=9999"), "validation_error"),
        (("--base-model", "tiny", "--set", "rang=8"), "validation_error"),
        (("--base-model", "tiny", "--preset", "wild"), "validation_error"),
        (("--base-model", "no-such-model"), "validation_error"),
        (("--base-model", "tiny", "--gpu", "Z80"), "validation_error"),
        (("--base-model", "tiny", "--gpu", "H100", "--probe"), "probe_failed"),
        (("--base-model", "tiny", "--method", "documented", "--probe"), "validation_error"),
    ],
)
def test_what_cannot_be_estimated_is_told_as_json_and_by_the_exit_status(
    file: Path, here: Here, arguments: tuple[str, ...], code: str
) -> None:
    status, answer, errors = here("--dataset", file, *arguments)
    assert status == 2
    assert answer["code"] == code, answer
    assert answer["error"]
    assert answer["error"] in errors


def test_a_file_that_is_not_there_or_holds_nothing_to_train_is_named(here: Here, tmp_path: Path) -> None:
    status, answer, _ = here("--dataset", tmp_path / "none.jsonl", "--base-model", "tiny")
    assert (status, answer["code"]) == (2, "unreadable")
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"messages": [{"role": "user", "content": "Hello?"}]}\n')
    status, answer, _ = here("--dataset", empty, "--base-model", "tiny")
    assert (status, answer["code"]) == (2, "nothing_to_train")
