"""`brightrun inspect`: the mask of a row on a terminal and as JSON; what cannot be shown, with the reason."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROWS = [
    {"messages": [{"role": "user", "content": "Which clay?"}, {"role": "assistant", "content": "Stoneware \x1b[2J."}]},
    {"messages": [{"role": "assistant", "content": "x"}, {"role": "system", "content": "y"}, {"role": "user",
     "content": "z"}, {"role": "assistant", "content": "w"}]},
    {"messages": [{"role": "user", "content": "q"}]},
]  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    return path


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "brightrun", "inspect", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def shown(*arguments: object) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_json_holds_every_token_with_its_text_and_mask(file: Path) -> None:
    mask = shown(file, "--line", 1, "--model", "tiny", "--max-length", 12)
    assert {"tokens", "trained_total", "eot_trained", "template_sha256"} <= set(mask)
    assert set(mask["tokens"][0]) == {"id", "text", "trained", "cut"}
    text = "".join(token["text"] for token in mask["tokens"])
    assert text.startswith("<|im_start|>user\nWhich clay?<|im_end|>\n")
    assert sum(token["trained"] for token in mask["tokens"]) == mask["trained_total"] > 0
    assert sum(not token["cut"] for token in mask["tokens"]) == 12
    assert mask["eot_trained"] is False
    assert shown(file, "--model", "tiny")["eot_trained"] is True


def test_without_colour_signs_show_what_is_trained_and_cut(file: Path) -> None:
    done = run(file, "--line", 1, "--model", "tiny")
    assert done.returncode == 0, done.stderr
    assert "⟦Stoneware \\x1b[2J.<|im_end|>⟧" in done.stdout
    assert "the end of the turn is trained" in done.stdout
    assert "\x1b" not in done.stdout, "neither colour on a pipe nor what the text would do to a terminal"
    cut = run(file, "--line", 1, "--model", "tiny", "--max-length", 12)
    assert "✂{" in cut.stdout
    assert "NOT trained" in cut.stdout
    colored = run(file, "--line", 1, "--model", "tiny", "--color")
    assert "\x1b[" in colored.stdout
    assert "⟦" not in colored.stdout
    assert "\x1b[2J" not in colored.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "code", "words"),
    [
        (["--line", "2"], 1, "template_refused", "system message"),
        (["--line", "3"], 1, "broken_row", "no assistant"),
        (["--line", "4"], 1, "blank_line", "blank"),
        (["--line", "9"], 1, "no_such_line", "ends at line 4"),
        (["--line", "1", "--part", "2"], 1, "no_such_part", "no part 2"),
        (["--model", "nobody"], 2, "no_tokenizer", "no base model called"),
        (["--format", "nonsense"], 2, "unreadable", "nonsense"),
        (["--side", "rejected"], 2, "invalid_option", "no preference pair"),
    ],
)
def test_what_cannot_be_shown_is_said_with_a_code_and_a_status(
    file: Path, arguments: list[str], status: int, code: str, words: str
) -> None:
    model = [] if "--model" in arguments else ["--model", "tiny"]
    done = run(file, *model, *arguments, "--json")
    assert done.returncode == status
    answer = json.loads(done.stdout)
    assert answer["code"] == code
    assert words in answer["error"]
    assert answer["error"] in done.stderr


def test_a_missing_file_and_a_wrong_command_line_are_status_2(tmp_path: Path, file: Path) -> None:
    done = run(tmp_path / "nope.jsonl", "--model", "tiny", "--json")
    assert (done.returncode, json.loads(done.stdout)["code"]) == (2, "unreadable")
    assert run(file, "--line", 0, "--model", "tiny").returncode == 2
    assert run(file).returncode == 2
