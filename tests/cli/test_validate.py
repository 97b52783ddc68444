"""`brightrun validate`: the contract that scripts rely on."""

import csv
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

GOOD = [
    {"messages": [{"role": "user", "content": f"Which clay {n}?"}, {"role": "assistant", "content": f"Number {n}."}]}
    for n in range(6)
]
BLANK = {"messages": [{"role": "user", "content": "Which?"}, {"role": "assistant", "content": " "}]}
FIELDS = [
    *("file", "format", "format_reason", "lines", "records", "conversations", "training_pairs", "turns", "tokens"),
    *("tokens_source", "errors_total", "warnings_total", "by_code", "issues", "issues_truncated", "checks_run"),
    *("checks_skipped", "training_ready"),
]


def write(path: Path, *records: Any) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records))
    return path


def run(*arguments: object, environment: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "brightrun", "validate", *map(str, arguments)],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write(tmp_path / "good.jsonl", *GOOD)


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    return write(tmp_path / "bad.jsonl", *GOOD, *["=nope()", BLANK] * 600)


def test_a_good_file_is_one_json_object_and_exit_0(good: Path) -> None:
    done = run(good, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert list(report)[: len(FIELDS)] == FIELDS
    assert (report["lines"], report["records"], report["training_pairs"], report["turns"]) == (6, 6, 6, 12)
    assert (report["tokens"], report["tokens_source"]) == (None, "none")
    assert "repaired" not in report


def test_a_bad_file_is_exit_1_with_the_first_thousand_issues(bad: Path) -> None:
    done = run(bad, "--json")
    assert (done.returncode, done.stderr) == (1, "")
    report = json.loads(done.stdout)
    assert (report["errors_total"], report["training_ready"], report["issues_truncated"]) == (1200, False, True)
    assert report["by_code"] == {"blank_content": 600, "broken_json": 600}
    assert [issue["line"] for issue in report["issues"]] == list(range(7, 1007))
    everything = json.loads(run(bad, "--json", "--all-issues").stdout)
    assert (len(everything["issues"]), everything["issues_truncated"]) == (1200, False)


def test_the_complete_list_is_written_whole_as_jsonl_or_csv(bad: Path, tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    for name in ("all.jsonl", "all.csv"):
        assert run(bad, "--json", "--issues-out", lists / name).returncode == 1
    assert sorted(path.name for path in lists.iterdir()) == ["all.csv", "all.jsonl"]
    written = [json.loads(line) for line in (lists / "all.jsonl").read_text().splitlines()]
    assert [issue["line"] for issue in written] == list(range(7, 1207))
    with (lists / "all.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["line"]) for row in rows] == list(range(7, 1207))
    assert rows[0]["code"] == "broken_json"
    assert rows[0]["excerpt"] == "'=nope()", "a spreadsheet takes no excerpt for a formula"


def test_what_cannot_be_read_is_said_as_json_and_exit_2(tmp_path: Path) -> None:
    for file in (tmp_path / "nowhere.jsonl", tmp_path):
        done = run(file, "--json")
        assert done.returncode == 2
        answer = json.loads(done.stdout)
        assert set(answer) == {"file", "error", "code"}
        assert (answer["file"], answer["code"]) == (str(file), "unreadable")
        assert str(file) in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--checks", "everything"], "structure"),
        (["--all-issues", "--issues-out", "x"], "not allowed"),
        (["--max-length", "5"], "--model"),
        (["--model", "tiny", "--estimate-tokens"], "not allowed"),
        (["--model", "tiny", "--max-length", "0"], "whole number"),
        (["--nosuch"], "--nosuch"),
        (["--format", "nosuch"], "nosuch"),
        (["--model", "nosuch"], "nosuch"),
        (["--repair-log", "x"], "--repair"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_exit_2(good: Path, arguments: list[str], words: str) -> None:
    done = run(good, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_no_output_replaces_the_file_itself(bad: Path) -> None:
    before = bad.read_bytes()
    for option in ("--issues-out", "--repair"):
        done = run(bad, option, bad, "--json")
        assert (done.returncode, json.loads(done.stdout)["code"]) == (2, "invalid_output")
    assert bad.read_bytes() == before
    both = bad.with_name("both.jsonl")
    done = run(bad, "--repair", both, "--issues-out", both, "--json")
    assert (done.returncode, both.exists()) == (2, False)
    assert "named for two outputs" in json.loads(done.stdout)["error"]


def test_a_list_that_cannot_be_written_is_said_and_leaves_nothing(bad: Path, tmp_path: Path) -> None:
    done = run(bad, "--issues-out", "/proc/x.jsonl", "--json")
    assert done.returncode == 2
    assert "/proc" in json.loads(done.stdout)["error"]
    assert "Traceback" not in done.stderr


def test_repair_describes_the_input_and_says_what_was_mended(tmp_path: Path) -> None:
    file = tmp_path / "bom.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + b"".join(json.dumps(record).encode() + b"\n" for record in GOOD))
    out, log = tmp_path / "out.jsonl", tmp_path / "log.jsonl"
    report = json.loads(run(file, "--repair", out, "--repair-log", log, "--json").stdout)
    assert report["by_code"] == {"byte_order_mark": 1}
    assert (report["repaired"]["changes"], report["repaired"]["unfixed"]) == (1, 0)
    assert report["repaired"]["out"] == str(out)
    assert out.read_bytes() == file.read_bytes().removeprefix(b"\xef\xbb\xbf")
    assert len(log.read_text().splitlines()) == 1


def test_tokens_are_exact_with_a_model_and_labelled_as_an_estimate_without(good: Path) -> None:
    exact = json.loads(run(good, "--model", "tiny", "--max-length", "8", "--json").stdout)
    assert exact["tokens"] > 0
    assert exact["tokens_source"] == "exact:tiny"
    assert {"chat_template", "truncation"} <= set(exact["checks_run"])
    estimate = json.loads(run(good, "--estimate-tokens", "--json").stdout)
    assert (estimate["tokens"], estimate["tokens_source"]) == (39, "estimate:words×1.3")


def test_the_limit_of_a_record_is_a_setting_and_the_rest_is_still_checked(good: Path, tmp_path: Path) -> None:
    long = {"messages": [*GOOD[0]["messages"], {"role": "user", "content": "x" * 3000}]}
    file = write(tmp_path / "long.jsonl", GOOD[0], long, "nope", *GOOD[1:])
    report = json.loads(run(file, "--json", environment={"BRIGHTRUN_MAX_RECORD_BYTES": "2000"}).stdout)
    assert [(issue["line"], issue["code"]) for issue in report["issues"]] == [
        (2, "record_too_long"),
        (3, "broken_json"),
    ]
    assert report["records"] == 8
    done = run(good, "--json", environment={"BRIGHTRUN_MAX_RECORD_BYTES": "many"})
    assert (done.returncode, json.loads(done.stdout)["code"]) == (2, "invalid_setting")
    assert "BRIGHTRUN_MAX_RECORD_BYTES" in done.stderr


def test_people_read_it_without_json(bad: Path) -> None:
    done = run(bad)
    assert done.returncode == 1
    assert "line 7: " in done.stdout
    assert "[broken_json]" in done.stdout
    assert "--all-issues" in done.stdout
    assert "1,200 errors, 0 warnings: not ready to train on" in done.stdout


def test_it_starts_without_anything_heavy(good: Path) -> None:
    # Processor time, not the clock, which other processes share. The bar is half a second.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert run(good, "--json").returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
    probe = (
        "import sys; from brightrun.cli.main import main; sys.argv = ['brightrun', 'validate', sys.argv[1], '--json']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "sys.exit(str({'typer', 'pydantic', 'rich', 'sqlalchemy', 'tokenizers', 'jinja2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", probe, str(good)], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "set()"
