"""`brightrun jobs` with saved configurations, against a real server."""

import json
import subprocess
import sys
from typing import Any

import pytest

from datasets.dataset_steps import chat_file, upload_and_validate
from live import Live, Member


@pytest.fixture
def jobs(live: Live, owner: Member) -> Any:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "brightrun", "jobs", *arguments, "--url", live.url, "--token", owner.token]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    return run


def test_a_job_is_started_with_a_template_by_its_name_and_compared_with_it(owner: Member, jobs: Any):
    dataset_id = upload_and_validate(owner.client, chat_file(6))["id"]
    body = {
        "name": "Slow fire", "preset_id": "conservative", "hyperparameters": {"epochs": 2, "max_steps": 2},
        "base_model": "tiny-random",
    }  # fmt: skip
    assert owner.client.post("/api/training/templates", json=body).status_code == 201
    assert "Slow fire" in jobs("templates").stdout
    started = jobs("start", dataset_id, "--template", "slow FIRE", "--set", "epochs=1", "--json")
    assert started.returncode == 0, started.stderr
    job = json.loads(started.stdout)
    jobs("cancel", job["id"])
    assert (job["preset_id"], job["overrides"]) == ("conservative", {"epochs": 1, "max_steps": 2})
    compared = jobs("diff", job["id"], "template:Slow fire")
    assert compared.returncode == 0, compared.stderr
    assert any(line.split()[:1] == ["epochs"] for line in compared.stdout.splitlines())
    saved = jobs("save-template", job["id"], "--name", "As it ran", "--json")
    assert json.loads(saved.stdout)["source_job_id"] == job["id"]
    unknown = jobs("start", dataset_id, "--template", "slow")
    assert unknown.returncode == 1
    assert "Similar: 'Slow fire'" in unknown.stderr
