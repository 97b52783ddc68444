"""`brightrun datasets issues` and `show` against a real server, and the same calls from Python."""

import asyncio
import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from brightrun.sdk import AsyncClient, Client
from brightrun.sdk.calls import ApiError
from datasets.dataset_steps import chat_file, lines_of, upload_and_validate
from live import Live, Member

BAD = {"messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": "Fine."}]}


@pytest.fixture
def dataset(owner: Member) -> dict[str, Any]:
    lines = chat_file(4).splitlines(keepends=True)
    return upload_and_validate(owner.client, b"".join((*lines, lines[0])) + lines_of(BAD))


def run(live: Live, owner: Member, *arguments: str) -> Any:
    command = [sys.executable, "-m", "brightrun", "datasets", *arguments, "--url", live.url, "--token", owner.token]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_issues_are_listed_filtered_and_written(live: Live, owner: Member, dataset: dict[str, Any], tmp_path: Path):
    listed = run(live, owner, "issues", dataset["id"])
    assert listed.returncode == 0, listed.stderr
    assert "error   line 6, messages[0].content" in listed.stdout
    warnings = json.loads(
        run(live, owner, "issues", dataset["id"], "--severity", "warning", "--line", "5", "--json").stdout
    )
    assert {issue["line"] for issue in warnings["items"]} == {5}
    everything = json.loads(run(live, owner, "issues", dataset["id"], "--limit", "100", "--json").stdout)
    for name in ("found.csv", "found.jsonl"):
        assert run(live, owner, "issues", dataset["id"], "--out", str(tmp_path / name)).returncode == 0
    with (tmp_path / "found.csv").open(encoding="utf-8-sig", newline="") as stream:
        codes = [row["code"] for row in csv.DictReader(stream)]
    assert codes == [issue["code"] for issue in everything["items"]]
    assert len((tmp_path / "found.jsonl").read_text().splitlines()) == everything["total"]
    both = run(live, owner, "issues", dataset["id"], "--code", "x", "--out", str(tmp_path / "no.csv"))
    assert both.returncode == 2
    assert not (tmp_path / "no.csv").exists()


def test_show_prints_what_is_advised_and_kinds_of_findings(live: Live, owner: Member, dataset: dict[str, Any]):
    shown = run(live, owner, "show", dataset["id"])
    assert shown.returncode == 0, shown.stderr
    assert "50 are advised: 45 missing" in shown.stdout
    assert "× duplicate_record" in shown.stdout


def test_python_dismisses_and_takes_back_reads_records_and_the_split(
    live: Live, owner: Member, dataset: dict[str, Any]
):
    with Client(live.url, owner.token) as client:
        assert client.datasets.validation(dataset["id"])["readiness"]["ready"] is False
        [made] = client.datasets.dismiss(dataset["id"], code="duplicate_record", reason="Meant twice", line=5)
        assert client.datasets.dismissals(dataset["id"]) == [made]
        assert client.datasets.issues(dataset["id"], dismissed=True)["items"][0]["dismissed"] == made
        assert "Meant twice" in run(live, owner, "issues", dataset["id"], "--dismissed").stdout
        assert client.datasets.take_back(dataset["id"], made["id"]) == made
        assert client.datasets.record(dataset["id"], 5)["issues_total"] >= 1
        assert client.datasets.mask(dataset["id"], 1)["eot_trained"] is True
        assert client.datasets.split(dataset["id"], fraction=0.5)["heldout"]["conversations"] >= 1
        with pytest.raises(ApiError, match="no record at line 99"):
            client.datasets.record(dataset["id"], 99)

    async def again() -> None:
        async with AsyncClient(live.url, owner.token) as client:
            assert (await client.datasets.issues(dataset["id"], line=6))["total"] >= 1
            assert (await client.datasets.record(dataset["id"], 1))["line"] == 1
            mask = await client.datasets.mask(dataset["id"], 1, model="tiny", max_length=5)
            assert (mask["line"], mask["tokens_kept"]) == (1, 5)
            assert await client.datasets.dismissals(dataset["id"]) == []

    asyncio.run(again())


def test_what_was_found_is_mended_dismissed_and_converted(live: Live, owner: Member, tmp_path: Path):
    lines = chat_file(4).splitlines(keepends=True)
    first = json.loads(lines[1])
    first["messages"][-1]["weight"] = True
    found = upload_and_validate(owner.client, lines[0] + lines_of(first) + b"".join((*lines[2:], lines[0])))["id"]
    shown = json.loads(run(live, owner, "repair", found, "--preview", "--json").stdout)
    assert {row["code"] for row in shown["items"]} == {"invalid_weight", "duplicate_record"}
    assert "- true" in run(live, owner, "repair", found, "--preview").stdout
    dismissed = run(live, owner, "dismiss", found, "--code", "duplicate_record", "--line", "5", "--reason", "Twice")
    assert dismissed.returncode == 0, dismissed.stderr
    listed = json.loads(run(live, owner, "dismissals", found, "--json").stdout)
    mended = run(live, owner, "repair", found, "--name", "Whole", "--json")
    assert mended.returncode == 0, mended.stderr
    version = json.loads(mended.stdout)
    assert (version["name"], version["status"], version["version"]) == ("Whole", "ready", 2)
    assert version["repair_counts"] == {"invalid_weight": 1}
    names = [row["version"] for row in json.loads(run(live, owner, "versions", found, "--json").stdout)]
    assert names == [1, 2]
    assert run(live, owner, "changes", version["id"], "--out", str(tmp_path / "log.jsonl")).returncode == 0
    assert json.loads((tmp_path / "log.jsonl").read_text())["code"] == "invalid_weight"
    assert run(live, owner, "take-back", found, listed[0]["id"]).returncode == 0
    again = json.loads(run(live, owner, "repair", found, "--code", "duplicate_record", "--json").stdout)
    assert again["repair_counts"] == {"duplicate_record": 1}
    out = tmp_path / "out.jsonl"
    converted = run(live, owner, "convert", version["id"], "--to", "sharegpt", "--out", str(out))
    assert converted.returncode in {0, 1}, converted.stderr
    assert len(out.read_text().splitlines()) == 5
    with Client(live.url, owner.token) as client:
        assert client.datasets.conversion(version["id"], "sharegpt")["written"] == 5
    assert run(live, owner, "repair", "nothing").returncode == 1
