"""Several processes make the report that one makes, down to the last line number."""

import io
import json
import os
import random
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest

from brightrun.formats.issues import Issue
from brightrun.validation import Report, ValidationCancelled, pool, stretches, validate
from brightrun.validation.pool import WorkerDiedError, side_by_side

needs_fork = pytest.mark.skipif(sys.platform != "linux", reason="no process can be forked here")
U, A = {"role": "user", "content": "Which clay?"}, {"role": "assistant", "content": "Stoneware."}


def pair(rng: random.Random, number: int) -> dict[str, Any]:
    turns = rng.choice([0, 1, 2, 3])
    history = ([U, A] * 2)[:turns]
    return {
        "id": f"p{number}",
        "conversation_id": f"c{number // 50}",  # many go on over a boundary
        "system_prompt": "You teach pottery.",
        "conversation_history": history,
        "current_user_input": "Which clay?",
        "target_response": None if rng.random() < 0.02 else f"Stoneware {number}.",
    }


def chat(rng: random.Random, number: int) -> dict[str, Any]:
    said = [U, {**A, "content": f"Stoneware {number}. " + "Wedge it well. " * rng.randrange(20)}]
    return {"messages": said * rng.randint(1, 3), **({"id": f"x{number}"} if number % 3 else {})}


def alpaca(rng: random.Random, number: int) -> dict[str, Any]:
    return {"instruction": f"Explain {number}.", "output": "Like so."}


def damaged(line: str, rng: random.Random) -> str:
    match rng.randrange(40):
        case 0:
            return line[: rng.randrange(len(line))]
        case 1:
            return line.replace("Stoneware", "{{clay}}")
        case 2:
            return rng.choice(["", "  ", "[]", '{"_meta": {"total_pairs": 3}}', "{}"])
        case 3:
            return line.replace("Stoneware", "St\\u0007")
    return line


def make(path: Path, kind: str, seed: int, *, end: str = "\n", last: str = "\n") -> Path:
    rng = random.Random(seed)
    makes = {"pairs": pair, "chats": chat, "alpaca": alpaca}[kind]
    lines = ['{"_meta": {"total_pairs": 5}}'] if kind == "pairs" else []
    lines += [json.dumps(makes(rng, number)) for number in range(10)]
    lines += [damaged(json.dumps(makes(rng, number), ensure_ascii=number % 2 == 0), rng) for number in range(10, 900)]
    path.write_bytes((end.join(lines) + last).encode())
    return path


def check(path: Path, workers: int, **options: Any) -> tuple[Report, list[Issue]]:
    heard: list[Issue] = []
    return validate(path, checks="structure", workers=workers, issue_sink=heard.append, **options), heard


@pytest.fixture(autouse=True)
def short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stretches, "_LEAST", 4_000)
    monkeypatch.setattr(stretches, "_MOST", 4_000)
    # Tests of other rooms leave idle threads in this process, beside which a real one would not fork.
    monkeypatch.setattr(pool, "can_fork", lambda: sys.platform == "linux")


@needs_fork
@pytest.mark.parametrize("kind", ["pairs", "chats", "alpaca"])
@pytest.mark.parametrize(("end", "last"), [("\n", "\n"), ("\r\n", ""), ("\n", "\n\n\n")])
@pytest.mark.parametrize("options", [{}, {"estimate_tokens": True, "max_issues": 9}, {"max_issues": None}])
def test_the_report_is_the_same(tmp_path: Path, kind: str, end: str, last: str, options: dict[str, Any]) -> None:
    path = make(tmp_path / "file.jsonl", kind, 1, end=end, last=last)
    alone, together = check(path, 1, **options), check(path, 3, **options)
    assert together == alone
    assert sum(alone[0].by_code.values()) > 30
    assert [issue.line for issue in alone[1]] == sorted(issue.line for issue in alone[1])


@needs_fork
def test_several_processes_really_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    serve = pool._in_order

    def watching(children: dict[int, int], tasks: int) -> Any:
        seen.extend([len(children), tasks])
        return serve(children, tasks)

    monkeypatch.setattr(pool, "_in_order", watching)
    path = make(tmp_path / "file.jsonl", "chats", 2)
    check(path, 2)
    assert seen[0] == 2
    assert seen[1] > 20
    # Where records are compared, one process sees them all.
    validate(path, checks="default", workers=2)
    assert len(seen) == 2


@needs_fork
def test_a_line_longer_than_many_stretches_is_one_line(tmp_path: Path) -> None:
    path = make(tmp_path / "file.jsonl", "chats", 3)
    lines = path.read_bytes().split(b"\n")
    lines[400:400] = [b'{"messages": [' + b" " * 100_000 + b"]}", b"x" * 300_000]
    path.write_bytes(b"\n".join(lines))
    for limit in (50_000, 1 << 24):
        assert check(path, 3, max_record_bytes=limit) == check(path, 1, max_record_bytes=limit)


@needs_fork
def test_no_temporary_file_and_no_process_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    path = make(tmp_path / "file.jsonl", "chats", 4)
    before = set(psutil.Process().children())
    check(path, 3)
    asked = iter([False] * 12)
    with pytest.raises(ValidationCancelled):
        check(path, 3, cancelled=lambda: next(asked, True))
    assert list(temporary.iterdir()) == []
    assert set(psutil.Process().children()) <= before


@needs_fork
def test_a_process_that_is_killed_or_fails_is_said() -> None:
    parent = os.getpid()

    def killed(number: int) -> int:
        if number == 3:
            assert os.getpid() != parent
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    def failing(number: int) -> int:
        if number == 3:
            raise OSError(5, "Input/output error", "file.jsonl")
        return number

    assert list(side_by_side(lambda number: number * 2, 9, 2)) == list(range(0, 18, 2))
    with pytest.raises(WorkerDiedError, match="killed"):
        list(side_by_side(killed, 9, 2))
    with pytest.raises(OSError, match=r"file\.jsonl"):
        list(side_by_side(failing, 9, 2))


def test_a_stream_is_read_by_one_process(tmp_path: Path) -> None:
    path = make(tmp_path / "file.jsonl", "chats", 5)
    report = validate(io.BytesIO(path.read_bytes()), checks="structure", workers=4, file_name=path.name)
    assert report == check(path, 1)[0]
