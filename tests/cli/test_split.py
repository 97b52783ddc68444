"""`brightrun split`: two files, no conversation on both sides, every row in one of them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "brightrun", "split", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def pair(conversation: int, turn: int, **more: Any) -> dict[str, Any]:
    return {
        "conversation_id": f"c{conversation}",
        "system_prompt": "You teach pottery.",
        "conversation_history": [],
        "current_user_input": f"What about kiln {conversation} on day {turn}?",
        "target_response": f"It cools for {conversation + 10} hours, and then for {turn} more.",
        "conversation_metadata": {"persona_archetype": f"p{conversation % 2}"},
        "odd": 1.50,
        **more,
    }


def test_every_row_is_on_one_side_and_no_conversation_on_both(tmp_path: Path) -> None:
    file, train, heldout = (tmp_path / name for name in ("in.jsonl", "train.jsonl", "heldout.jsonl"))
    rows = [pair(c, t) for c in range(20) for t in range(2)] + [pair(0, 3, target_response=None)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run(file, "--train", train, "--heldout", heldout, "--fraction", 0.2, "--seed", 3, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    sides = [path.read_text().splitlines() for path in (train, heldout)]
    assert sorted(sides[0] + sides[1]) == sorted(json.dumps(row) for row in rows)
    ids = [{json.loads(line)["conversation_id"] for line in side} for side in sides]
    assert not ids[0] & ids[1]
    assert [len(one) for one in ids] == [answer["train"]["conversations"], answer["heldout"]["conversations"]]
    assert 3 <= len(ids[1]) <= 5
    assert {(share["kind"], share["value"]) for share in answer["shares"]} == {("persona", "p0"), ("persona", "p1")}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["heldout.jsonl", "in.jsonl", "train.jsonl"]


def test_rows_that_cannot_be_read_are_on_neither_side_and_named(tmp_path: Path) -> None:
    file, train, heldout = (tmp_path / name for name in ("in.jsonl", "train.jsonl", "heldout.jsonl"))
    file.write_text("".join(json.dumps(pair(c, 1)) + "\n" for c in range(4)) + "broken\n")
    done = run(file, "--train", train, "--heldout", heldout, "--json")
    assert done.returncode == 1
    assert [one["line"] for one in json.loads(done.stdout)["unwritten"]] == [5]


def test_wrong_command_lines_write_nothing(tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text(json.dumps(pair(0, 1)) + "\n")
    for arguments in (
        ("--train", file, "--heldout", tmp_path / "h"),
        ("--train", tmp_path / "t", "--heldout", tmp_path / "t"),
        ("--train", tmp_path / "t", "--heldout", tmp_path / "h", "--fraction", "0.9"),
    ):
        assert run(file, *arguments).returncode == 2
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
