"""`brightrun validate --model`: refusals and lengths of one model, exact counts, and a memory of both between runs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

GOOD = {"messages": [{"role": "user", "content": "Which clay?"}, {"role": "assistant", "content": "Stoneware."}]}
REFUSED = {
    "messages": [
        {"role": "user", "content": "a"},
        {"role": "system", "content": "b"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "the clay and the kiln " * 20},
    ]
}
LONG = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "the clay and the kiln " * 20}]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (GOOD, REFUSED, LONG)))
    return path


def start(file: Path, *arguments: str) -> "subprocess.Popen[str]":
    environment = os.environ | {"XDG_CACHE_HOME": str(file.parent / "cache")}
    command = [sys.executable, "-m", "brightrun", "validate", str(file), "--model", "tiny", "--json", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def report(file: Path, *arguments: str) -> dict[str, Any]:
    out, error = start(file, *arguments).communicate(timeout=60)
    assert error == ""
    answer: dict[str, Any] = json.loads(out)
    return answer


def test_a_model_names_the_rows_it_refuses_and_what_a_limit_cuts(file: Path) -> None:
    answer = report(file, "--max-length", "40")
    found = [(issue["line"], issue["code"]) for issue in answer["issues"]]
    assert (2, "template_refused") in found
    assert (3, "truncated") in found
    assert answer["training_ready"] is False
    assert answer["tokens_source"] == "exact:tiny"
    assert {"chat_template", "truncation"} <= set(answer["checks_run"])
    assert answer["lengths"]["max_length"] == 40
    assert (answer["lengths"]["records"], answer["lengths"]["refused"], answer["lengths"]["over"]) == (2, 1, 1)
    assert sum(bar["records"] for bar in answer["lengths"]["histogram"]) == 2


def test_the_second_run_answers_the_same_from_its_memory(file: Path) -> None:
    kept = file.parent / "cache" / "brightrun" / "tokens"
    uncached = report(file, "--max-length", "40", "--no-cache")
    assert not kept.exists()
    first = report(file, "--max-length", "40")
    entries = list(kept.iterdir())
    assert len(entries) == 1
    # What is read from the memory is what was put there, so another number in it comes out.
    entry = json.loads(entries[0].read_text())
    entry["value"]["tokens"] += 1_000
    entries[0].write_text(json.dumps(entry))
    second = report(file, "--max-length", "40")
    assert second["tokens"] == first["tokens"] + 1_000
    assert {**second, "tokens": first["tokens"]} == first == uncached
    assert report(file)["tokens"] == first["tokens"], "without the limit it is another question"


def test_two_runs_at_once_share_the_memory(file: Path) -> None:
    both = [start(file), start(file)]
    answers = [json.loads(running.communicate(timeout=60)[0]) for running in both]
    assert answers[0] == answers[1] == report(file, "--no-cache")
