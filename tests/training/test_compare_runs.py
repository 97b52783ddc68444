"""Real runs of the tiny model side by side: two seeds are not different, a learning rate of 0 is proven worse."""

import json
import os
import subprocess
import sys

import pytest
from job_steps import adviser_file, data, ended, started

from brightrun.accounts.roles import Role
from conftest import Working
from page_client import PageClient, words


@pytest.mark.timeout(400)
def test_runs_are_compared_on_the_conversations_that_both_held_out(working: Working) -> None:
    member, client = working.member, working.member.client
    dataset_id = working.dataset(adviser_file(80), total_conversations=80, total_training_pairs=160)
    common = {"epochs": 3, "batch_size": 8, "heldout_fraction": 0.3, "eval_every_steps": 5}

    def run(name: str, **options: object) -> str:
        hyperparameters = common | options.pop("set", {})  # type: ignore[operator]
        job = started(member, dataset_id, name=name, base_model="tiny", hyperparameters=hyperparameters, **options)
        return str(job["id"])

    ids = [run("learns"), run("control", set={"learning_rate": 0}), run("other seed", seed=8)]
    assert [ended(member, job_id)["status"] for job_id in ids] == ["completed"] * 3
    query = "&".join(f"ids={job_id}" for job_id in ids)
    found = data(client.get(f"/api/jobs/compare?{query}&points=50"))["comparison"]
    assert [run["job"]["name"] for run in found["runs"]] == ["learns", "control", "other seed"]
    assert all(run["seconds"] > 0 and len(run["series"]["train"]["points"]) > 3 for run in found["runs"])
    learns, seeds, _third = found["pairs"]
    assert learns["verdict"] == "first", learns
    assert learns["conversations"] == found["runs"][0]["job"]["heldout_conversations"] >= 10
    assert learns["low"] > 0, "the control's loss is higher"
    assert seeds["verdict"] == "no_difference_proven", seeds
    assert "seed" in seeds["reason"]
    differs = {line["field"]: line["values"] for line in found["lines"] if not line["equal"]}
    assert differs["hyperparameters.learning_rate"] == [1e-3, 0, 1e-3]
    assert differs["hyperparameters.seed"] == [7, 7, 8]
    assert "hyperparameters.rank" not in differs
    assert found["different"] == len(differs)

    same = data(client.get(f"/api/jobs/compare?ids={ids[0]}&ids={ids[0]}"))["comparison"]
    assert same["pairs"][0]["verdict"] == "no_difference_proven"
    for wrong in (f"ids={ids[0]}", "&".join([query, query]), "ids=x&ids=y", ""):
        assert client.get(f"/api/jobs/compare?{wrong}").status_code == 400, wrong
    stranger = working.live.new_workspace()
    assert stranger.client.get(f"/api/jobs/compare?{query}").status_code == 404

    with PageClient(working.live, member) as browser:
        page = words(browser.get(f"/training/compare?{query}"))
        for said in ("learns is better", "no difference proven", "Learning rate", "lines differ"):
            assert said in page
        assert "Rank" not in page
        assert "Rank" in words(browser.get(f"/training/compare?{query}&all=yes"))
        curves = browser.client.get(f"/training/compare/curves?{query}").json()["data"]["runs"]
        assert [curve["name"] for curve in curves] == ["learns", "control", "other seed"]
        assert curves[0]["heldout"][0][0] == 0, "step 0 is the untouched base model"
        refused = browser.client.get(f"/training/compare?ids={ids[0]}")
        assert refused.status_code == 400
        assert "2 to 4 runs" in words(refused.text)
    viewer = working.live.new_member(member.workspace_id, Role.VIEWER)
    assert viewer.client.get(f"/api/jobs/compare?{query}").status_code == 200

    environment = os.environ | {"BRIGHTRUN_URL": working.live.url, "BRIGHTRUN_TOKEN": member.token}
    command = [sys.executable, "-m", "brightrun", "jobs", "compare", *ids[:2]]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "learns / control: first." in told
    answer = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, check=True).stdout
    assert json.loads(answer)["pairs"][0]["verdict"] == "first"
