"""`brightrun packs`: a pack goes out, is edited, is checked, and comes back."""

import json
import os
import subprocess
import sys
from pathlib import Path

from live import Live


def brightrun(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "brightrun", *map(str, arguments)],
        capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environment},
    )  # fmt: skip


def test_a_pack_is_exported_edited_checked_and_imported(live: Live, tmp_path: Path):
    owner = live.new_workspace()
    there = {"BRIGHTRUN_URL": live.url, "BRIGHTRUN_TOKEN": owner.token}
    folder = tmp_path / "desk"
    done = brightrun("packs", "export", "it_help_desk", folder, **there)
    assert (done.returncode, done.stdout.strip()) == (0, str(folder)), done.stderr
    personas = folder / "personas.yaml"
    personas.write_text(personas.read_text().replace("Ruth Lindqvist", "Ruth Berg"))
    assert json.loads(brightrun("packs", "check", folder, "--json").stdout)["ok"] is True
    done = brightrun("packs", "import", folder, "--json", **there)
    assert json.loads(done.stdout) | {"unchanged": 0} == {
        "key": "it_help_desk", "name": "IT help desk", "added": 0, "changed": 1, "unchanged": 0,
    }  # fmt: skip
    shown = json.loads(brightrun("packs", "show", "it_help_desk", "--json", **there).stdout)
    assert "Ruth Berg, The Hurried Manager" in [one["name"] for one in shown["personas"]]


def test_check_names_every_fault_and_exits_1(tmp_path: Path):
    folder = tmp_path / "desk"
    assert brightrun("packs", "export", "it_help_desk", folder, "--builtin").returncode == 0
    arcs = folder / "arcs.yaml"
    arcs.write_text(arcs.read_text().replace("complexity: 6", "complexity: 66"))
    (folder / "topics.yaml").unlink()
    done = brightrun("packs", "check", folder, "--json")
    assert done.returncode == 1
    assert {(fault["file"], fault["path"]) for fault in json.loads(done.stdout)["faults"]} == {
        ("arcs.yaml", "[0].complexity"), ("topics.yaml", ""),
    }  # fmt: skip
    assert brightrun("packs", "check", tmp_path / "nothing").returncode == 1


def test_what_comes_with_brightrun_is_listed_without_a_server(tmp_path: Path):
    listed = json.loads(brightrun("packs", "list", "--builtin", "--json").stdout)
    assert [pack["key"] for pack in listed] == ["financial_planning", "it_help_desk"]
    zipped = tmp_path / "pack.zip"
    assert brightrun("packs", "export", "financial_planning", zipped, "--builtin").returncode == 0
    assert brightrun("packs", "check", zipped).stdout.startswith("Financial planning (financial_planning 1.0) is whole")
    assert brightrun("packs", "export", "financial_planning", zipped, "--builtin").returncode == 1
