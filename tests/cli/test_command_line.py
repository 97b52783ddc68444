"""The command line as careless people and scripts meet it: one sentence, the right exit status, no traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from brightrun.cli.main import COMMANDS
from brightrun.errors import ConfigurationError
from brightrun.platform import load_secret
from installation import make_settings


def run(
    *arguments: str, environment: dict[str, str] | None = None, **options: object
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "brightrun", *arguments],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **options,  # type: ignore[call-overload]
    )


def test_help_names_every_command_in_full_and_imports_nothing_heavy():
    shown = run("--help")
    assert shown.returncode == 0
    for name, (_module, _attribute, sentence) in COMMANDS.items():
        assert any(line.split() == [name, *sentence.split()] for line in shown.stdout.splitlines()), name
    probe = (
        "import sys; sys.argv = ['brightrun', '--help']\n"
        "from brightrun.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'fastapi', 'sqlalchemy', 'pydantic', 'torch', 'rich', 'httpx2'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str):
    shown = run(name, "--help")
    assert shown.returncode == 0, shown.stderr
    assert "…" not in shown.stdout, "nothing is cut off"


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (("nosuch",), {}, "nosuch"),
        (("up", "--port", "70000"), {}, "65535"),
        (("up", "--data", "/proc/nowhere"), {}, "/proc/nowhere"),
        (("up", "--data", "/dev/null/x", "--port", "0"), {}, "/dev/null"),
        (("up",), {"BRIGHTRUN_PORT": "abc"}, "BRIGHTRUN_PORT"),
        (
            ("server",),
            {"BRIGHTRUN_SECRET_KEY": "short", "DATABASE_URL": "postgresql://u@127.0.0.1:1/d"},
            "BRIGHTRUN_SECRET_KEY",
        ),
        (("server",), {"BRIGHTRUN_SECRET_KEY": "x" * 32, "DATABASE_URL": ""}, "DATABASE_URL"),
        (("migrate",), {"BRIGHTRUN_SECRET_KEY": "x" * 32, "DATABASE_URL": "mysql://u@h/d"}, "PostgreSQL only"),
        (("migrate",), {"BRIGHTRUN_SECRET_KEY": "x" * 32, "DATABASE_URL": "no url at all"}, "DATABASE_URL"),
        (
            ("migrate",),
            {"BRIGHTRUN_SECRET_KEY": "x" * 32, "DATABASE_URL": "postgresql://u:hidden@127.0.0.1:1/d"},
            "cannot connect",
        ),
        (("datasets", "list"), {}, "BRIGHTRUN_TOKEN"),
        (("datasets", "list", "--token", "x", "--url", "http://127.0.0.1:1"), {}, "brightrun up"),
        (("restore", "/nowhere"), {}, "/nowhere"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_not_a_traceback(
    tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str], words: str
):
    done = run(*arguments, environment={"BRIGHTRUN_DATA": str(tmp_path / "data"), **environment})
    assert done.returncode in {1, 2}
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "hidden" not in done.stderr, "no password in a message"
    assert done.stdout == ""


def test_a_script_that_wants_json_gets_json_alone(tmp_path: Path):
    done = run("doctor", "--json", environment={"BRIGHTRUN_DATA": str(tmp_path / "data")})
    assert json.loads(done.stdout)
    assert not (tmp_path / "data").exists(), "looking makes nothing"


def test_a_reader_who_has_seen_enough_ends_it_quietly():
    whole = subprocess.Popen(
        [sys.executable, "-m", "brightrun", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert whole.stdout is not None
    whole.stdout.close()
    assert whole.stderr is not None
    assert "Traceback" not in whole.stderr.read()
    whole.wait()


def test_a_secret_key_that_is_damaged_is_not_taken(tmp_path: Path):
    settings = make_settings(data=tmp_path)
    made = load_secret(settings)
    assert load_secret(settings) == made
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "secret_key").write_text("")
    with pytest.raises(ConfigurationError, match="secret_key is damaged"):
        load_secret(settings)


def test_a_table_in_a_pipe_has_one_line_a_row(capsys: pytest.CaptureFixture[str]):
    from brightrun.cli.remote import table

    rows = [{"id": "01a21f7d-fbcc-7b9e-a6d9-10e3c5f3e532", "name": "a long name of a dataset " * 10} for _ in range(2)]
    table({"id": lambda row: row["id"], "name": lambda row: row["name"], "again": lambda row: row["name"]}, rows)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(rows[0]["id"] in line for line in lines[1:])
