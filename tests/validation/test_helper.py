"""With a second process that compares the records, `full` makes the report that one process makes.

Each test has an interpreter of its own: processes are only forked where no library has threads yet.
"""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from brightrun.validation import pool

pytestmark = pytest.mark.skipif(not pool.can_fork(), reason="no process can be forked here")

_BEGIN = """
import json, os, signal, sys
from brightrun.validation import ValidationCancelled, validate
from brightrun.validation.helper import Helper
path = sys.argv[1]
processes = []
started = Helper.start
def start(self, *arguments):
    started(self, *arguments)
    processes.append(self._process)
Helper.start = start
def check(workers, **options):
    heard = []
    report = validate(path, checks="full", workers=workers, issue_sink=heard.append, **options)
    return report.to_dict(), [(issue.line, issue.path, issue.code, issue.message) for issue in heard]
def nothing_left():
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return True
"""


def run(script: str, path: Path) -> Any:
    done = subprocess.run([sys.executable, "-c", _BEGIN + script, str(path)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def chats(rng: random.Random) -> list[dict[str, Any]]:
    words = ["clay", "glaze", "kiln", "wheel", "slip", "bisque", "cone", "firing", "foot", "rim", "lid", "handle"]
    made = []
    for number in range(400):
        said = " ".join(rng.choices(words, k=40))
        answer = f"Of course, here is how you do it with the clay that is on the wheel. {said} {number}."
        if number % 9 == 0:
            answer = "Das ist nicht der Ton, den ich für die Schale und auf der Scheibe mit dir haben will. " * 2
        made.append({"messages": [{"role": "user", "content": f"Which? {number}"}]})
        made[-1]["messages"].append({"role": "assistant", "content": answer})
        if number % 7 == 0 and number:
            earlier = made[number - 3]["messages"]
            made[-1]["messages"] = [earlier[0], {**earlier[1], "content": earlier[1]["content"] + " Now"}]
    made[10]["messages"][1]["content"] = "Write to mia.berg@clay-and-glaze.de or call."
    return made


def pairs(rng: random.Random) -> list[dict[str, Any]]:
    return [
        {
            "id": f"p{number}",
            "conversation_id": f"c{number // 2}",
            "system_prompt": "You teach pottery.",
            "conversation_history": chat["messages"] if number % 2 else [],
            "current_user_input": chat["messages"][0]["content"],
            "target_response": chat["messages"][1]["content"],
        }
        for number, chat in enumerate(chats(rng))
    ]


def write(path: Path, kind: str) -> Path:
    rows = (pairs if kind == "pairs" else chats)(random.Random(5))
    if kind == "array":
        path.write_text(json.dumps(rows))
        return path
    lines = [json.dumps(row) for row in rows]
    lines[50:50] = ["{", "", '{"messages": []}']
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("kind", ["chats", "pairs", "array"])
def test_the_report_is_the_same(tmp_path: Path, kind: str) -> None:
    script = """
together, alone = check(2), check(1)  # in this order: afterwards there are threads
print(json.dumps([alone, together, len(processes), bool(nothing_left())]))
"""
    alone, together, processes, nothing_left = run(script, write(tmp_path / "file.json", kind))
    assert together == alone
    assert processes == 1
    assert nothing_left
    expected = {"second_language", "repeated_opening", "email_address"}
    if kind != "pairs":  # there two answers make a conversation
        expected.add("near_duplicate")
    assert alone[0]["by_code"].keys() >= expected


def test_a_process_that_dies_or_that_nobody_waits_for_is_no_riddle(tmp_path: Path) -> None:
    script = """
said = []
start_well = Helper.start
def killed(self, *arguments):
    start_well(self, *arguments)
    os.kill(self._process, signal.SIGKILL)
Helper.start = killed
try:
    check(2)
except ChildProcessError as error:
    said.append(str(error))
def failing(self, *arguments):
    raise OSError(28, "No space left on device")
Helper.start = start_well
work, Helper._work = Helper._work, failing
try:
    check(2)
except OSError as error:
    said.append(str(error))
Helper._work = work
asked = iter([False] * 3)
try:
    check(2, cancelled=lambda: next(asked, True))
except ValidationCancelled:
    said.append("cancelled")
print(json.dumps([said, bool(nothing_left())]))
"""
    said, nothing_left = run(script, write(tmp_path / "file.jsonl", "chats"))
    assert "killed" in said[0]
    assert "No space left" in said[1]
    assert said[2:] == ["cancelled"]
    assert nothing_left


def test_a_file_that_changes_while_it_is_read_gets_no_report(tmp_path: Path) -> None:
    script = """
from pathlib import Path
work = Helper._work
def of_another_file(self, *arguments):
    self._path = Path(sys.argv[1] + ".later")
    work(self, *arguments)
Helper._work = of_another_file
try:
    check(2)
except OSError as error:
    print(json.dumps(str(error)))
"""
    path = write(tmp_path / "file.jsonl", "chats")
    path.with_name("file.jsonl.later").write_bytes(path.read_bytes().rpartition(b"\n")[0])
    assert "changed while it was read" in run(script, path)
