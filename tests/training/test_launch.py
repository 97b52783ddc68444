"""Between a look and a start: the promise that is shown is the one that is frozen, and nothing starts unseen."""

import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from job_steps import AddDataset, data, get
from test_training_pages import change, filled, promised

from brightrun.accounts.roles import Role
from brightrun.clock import utcnow
from brightrun.db.session import Database
from live import Live, Member
from page_client import PageClient, words

WARNED = {"issue_counts": {"near_duplicate": 3, "refusal": 2, "invalid_json": 0}, "warnings_total": 5}


@pytest.fixture
def browser(quiet: Live, trainer_owner: Member) -> Iterator[PageClient]:
    with PageClient(quiet, trainer_owner) as made:
        yield made


def estimated(member: Member, **body: Any) -> dict[str, Any]:
    promise: dict[str, Any] = data(member.client.post("/api/jobs/estimate", json=body))
    return promise


# --- the promise ----------------------------------------------------------------------------------------------------


def test_the_promise_that_was_shown_is_the_one_that_is_frozen(trainer_owner: Member, dataset_id: str):
    asked = {"dataset_id": dataset_id, "hyperparameters": {"epochs": 2}, "base_model": "tiny-random"}
    shown = estimated(trainer_owner, **asked)
    body = asked | {"promise_digest": shown["digest"]}
    job = data(trainer_owner.client.post("/api/jobs", json=body))["job"]
    beside = {"recommended_preset", "warnings", "checks"}
    assert job["promise"] == {name: value for name, value in shown.items() if name not in beside}


@pytest.mark.parametrize(
    "change", [{"hyperparameters": {"epochs": 3}}, {"preset_id": "aggressive"}, {"base_model": "tiny"}, {"seed": 5}]
)
def test_a_promise_is_not_frozen_into_something_else(trainer_owner: Member, dataset_id: str, change: dict[str, Any]):
    asked = {"dataset_id": dataset_id, "hyperparameters": {"epochs": 2}, "base_model": "tiny-random"}
    digest = estimated(trainer_owner, **asked)["digest"]
    answer = trainer_owner.client.post("/api/jobs", json=asked | change | {"promise_digest": digest})
    assert (answer.status_code, answer.json()["code"]) == (409, "promise_changed")


def test_a_form_that_changed_after_its_promise_shows_the_new_one_first(
    browser: PageClient, trainer_owner: Member, dataset_id: str
):
    page = f"/training/new?dataset_id={dataset_id}"
    fields = filled(browser.get(page)) | {"hp_epochs": "7"}
    first = browser.submit(page, "/training/new", **fields)
    assert first.status_code == 409
    assert "The promise has changed since it was shown" in words(first.text)
    assert data(trainer_owner.client.get("/api/jobs"))["total"] == 0
    second = browser.submit(page, "/training/new", **(fields | filled(first.text)))
    assert second.status_code == 303, "the second time it has been seen"
    job = get(trainer_owner, second.headers["location"].rsplit("/", 1)[1])
    assert job["hyperparameters"]["epochs"] == 7
    assert job["promise"]["inputs"]["epochs"] == 7


# --- the list before the launch -------------------------------------------------------------------------------------


def test_warnings_are_confirmed_before_the_start_and_kept_with_the_job(
    quiet: Live, browser: PageClient, trainer_owner: Member, add_dataset: AddDataset
):
    page = f"/training/new?dataset_id={add_dataset(quiet, trainer_owner, **WARNED)}"
    fields = promised(browser, page, preset_id="aggressive")
    shown = words(browser.submit(page, "/training/estimate", **fields).text)
    assert "2 to confirm below" in shown
    assert "5 warnings of 2 kinds about the dataset" in shown
    refused = browser.submit(page, "/training/new", **fields)
    assert refused.status_code == 409
    assert "2 warnings have to be confirmed first" in words(refused.text)
    half = browser.submit(page, "/training/new", **fields, ack="dataset_warnings")
    assert half.status_code == 409
    assert 'value="dataset_warnings" id="ack-dataset_warnings" checked' in half.text, "a tick is not lost"
    both = ["dataset_warnings", "stronger_than_advised"]
    started = browser.submit(page, "/training/new", **fields, ack=both)
    assert started.status_code == 303
    job = get(trainer_owner, started.headers["location"].rsplit("/", 1)[1])
    assert sorted(each["code"] for each in job["acknowledged"]) == both
    assert "nobody has mended or dismissed" in str(job["acknowledged"])


def test_what_was_dismissed_is_not_warned_of_again(quiet: Live, trainer_owner: Member, add_dataset: AddDataset):
    from brightrun.datasets.tables import Dismissal

    dataset_id = add_dataset(quiet, trainer_owner, **WARNED)

    async def dismiss(database: Database) -> None:
        async with database.transaction(workspace_id=trainer_owner.workspace_id) as session:
            common = {"workspace_id": trainer_owner.workspace_id, "dataset_id": UUID(dataset_id), "reason": "Meant."}
            session.add(Dismissal(**common, code="near_duplicate"))
            session.add(Dismissal(**common, code="refusal", line=1, path="", fingerprint="x"))

    quiet.run(dismiss)
    found = {each["code"]: each["text"] for each in estimated(trainer_owner, dataset_id=dataset_id)["warnings"]}
    assert found["dataset_warnings"].startswith("1 warning of 1 kind")


def test_a_script_may_start_without_confirming_and_may_say_what_it_has_read(
    quiet: Live, trainer_owner: Member, add_dataset: AddDataset
):
    body = {"dataset_id": add_dataset(quiet, trainer_owner, **WARNED)}
    silent = data(trainer_owner.client.post("/api/jobs", json=body))["job"]
    assert silent["acknowledged"] == []
    told = {"acknowledged": ["dataset_warnings", "made_up"]}
    job = data(trainer_owner.client.post("/api/jobs", json=body | told))["job"]
    assert [each["code"] for each in job["acknowledged"]] == ["dataset_warnings"], "only what there was to read"


def states(promise: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["state"] for check in promise["checks"]}


def test_the_list_says_what_is_in_the_way(quiet: Live, trainer_owner: Member, dataset_id: str, add_dataset: AddDataset):
    fine = estimated(trainer_owner, dataset_id=dataset_id, preset_id="conservative")
    assert states(fine) == {"data": "ok", "device": "ok", "fits": "ok", "budget": "ok", "warnings": "ok"}
    assert fine["recommended_preset"]["preset_id"] == "conservative"
    rented = estimated(trainer_owner, dataset_id=dataset_id, gpu_config={"type": "A100-80GB", "count": 1})
    assert states(rented)["device"] == "blocked"
    trainer_owner.client.put("/api/budget", json={"monthly_limit_usd": "0.10", "reason": "A small month."})
    assert (
        states(estimated(trainer_owner, dataset_id=dataset_id, gpu_config={"type": "A100-80GB", "count": 1}))["budget"]
        == "blocked"
    )
    faulty = add_dataset(quiet, trainer_owner, training_ready=False, total_training_pairs=0)
    assert states(estimated(trainer_owner, dataset_id=faulty))["data"] == "blocked"
    control = estimated(
        trainer_owner, dataset_id=dataset_id, hyperparameters={"learning_rate": 0, "heldout_fraction": 0}
    )
    assert {"advice:learning_rate", "nothing_held_out"} <= {each["code"] for each in control["warnings"]}


def test_a_blocked_form_cannot_be_sent_and_says_why(browser: PageClient, dataset_id: str):
    page = f"/training/new?dataset_id={dataset_id}"
    assert not re.search(r"<button[^>]*disabled[^>]*>.*?Start training", browser.get(page), re.DOTALL)
    fields = filled(browser.get(page)) | {"gpu_type": "A100-80GB"}
    shown = browser.submit(page, "/training/estimate", **fields).text
    assert re.search(r"<button[^>]*disabled[^>]*>(?:(?!</button>).)*Start training", shown, re.DOTALL)
    assert "Something is in the way" in words(shown)


# --- where it fits, and templates ------------------------------------------------------------------------------------


def test_every_goal_on_every_machine_says_whether_it_fits(browser: PageClient, dataset_id: str):
    page = f"/training/new?dataset_id={dataset_id}"
    shown = words(browser.submit(page, "/training/fits", **filled(browser.get(page))).text)
    for title in ("Careful", "Balanced", "Strong", "This machine, processor only", "NVIDIA A100, 80 GB"):
        assert title in shown
    assert "fits" in shown
    assert "Custom" not in shown
    wrong = browser.submit(page, "/training/fits", **(filled(browser.get(page)) | {"hp_rank": "900"}))
    assert "allowed: 4 to 128" in words(wrong.text)
    gpu_only = browser.submit(page, "/training/fits", **(filled(browser.get(page)) | {"hp_method": "qlora"}))
    assert "needs an NVIDIA GPU" in words(gpu_only.text)


def test_a_form_is_kept_as_a_template_and_the_next_one_begins_with_it(
    browser: PageClient, trainer_owner: Member, dataset_id: str
):
    page = f"/training/new?dataset_id={dataset_id}"
    fields = filled(browser.get(page)) | {"hp_rank": "8", "preset_id": "conservative", "template_name": "Mine"}
    saved = browser.submit(page, "/training/new/template", **fields)
    assert saved.status_code == 303
    taken = browser.submit(page, "/training/new/template", **fields)
    assert taken.status_code == 409
    assert 'id="template_name-error"' in taken.text
    nameless = browser.submit(page, "/training/new/template", **(fields | {"template_name": ""}))
    assert 'id="template_name-error"' in nameless.text
    begun = filled(browser.get(saved.headers["location"]))
    assert (begun["hp_rank"], begun["preset_id"], begun["dataset_id"]) == ("8", "conservative", dataset_id)
    started = browser.submit(page, "/training/new", **(begun | {"hp_rank": ""} | {"hp_rank": "8"}))
    assert started.status_code == 303, started.text
    job = get(trainer_owner, started.headers["location"].rsplit("/", 1)[1])
    assert job["template_id"] == begun["template_id"]
    cleared = promised(browser, saved.headers["location"], hp_rank="")
    second = browser.submit(page, "/training/new", **cleared)
    assert get(trainer_owner, second.headers["location"].rsplit("/", 1)[1])["overrides"] == {}, (
        "the form has the last word"
    )


def test_a_template_of_another_workspace_is_not_named_by_a_form(
    quiet: Live, browser: PageClient, trainer_owner: Member, dataset_id: str
):
    other = quiet.new_workspace()
    theirs = data(other.client.post("/api/training/templates", json={"name": "Theirs"}))["template"]["id"]
    assert browser.client.get(f"/training/new?template={theirs}").status_code == 404
    page = f"/training/new?dataset_id={dataset_id}"
    started = browser.submit(
        page, "/training/new", **(promised(browser, page, preset_id="conservative") | {"template_id": theirs})
    )
    assert get(trainer_owner, started.headers["location"].rsplit("/", 1)[1])["template_id"] is None


def test_only_who_may_start_sees_the_form_and_its_parts(quiet: Live, trainer_owner: Member):
    with PageClient(quiet, quiet.new_member(trainer_owner.workspace_id, Role.VIEWER)) as viewer:
        for path in ("/training/fits", "/training/new/template", "/training/estimate"):
            assert viewer.submit("/settings", path).status_code == 403
        assert "Rename" not in viewer.get("/training/templates")


# --- after the run --------------------------------------------------------------------------------------------------


def test_a_finished_run_shows_what_was_promised_beside_what_happened(
    quiet: Live, browser: PageClient, trainer_owner: Member, dataset_id: str
):
    assert "No run to compare yet" in words(browser.get("/training/calibration"))
    job = data(trainer_owner.client.post("/api/jobs", json={"dataset_id": dataset_id, "name": "Kiln"}))["job"]
    path, promise = f"/training/{job['id']}", job["promise"]
    assert "What was promised" in words(browser.get(path))
    seconds, memory = promise["seconds"]["value"] * 1.25, promise["memory_bytes"]["high"] * 3
    actual = {
        "seconds": seconds, "cost_usd": 0.0, "memory_bytes": int(memory), "attempts": 1, "comparable": True,
        "why_not": None, "inside": {"memory": False, "seconds": True, "cost": True},
        "errors": {"memory": -0.8, "seconds": -0.2, "cost": None},
    }  # fmt: skip
    change(
        quiet, trainer_owner, job["id"], status="completed", progress=100, actual=actual, completed_at=utcnow(),
        trained_at=utcnow(),
    )  # fmt: skip
    page = words(browser.get(path))
    assert "Promised against actual" in page
    assert "20 % too little promised" in page
    assert "80 % too little promised" in page
    report = words(browser.get("/training/calibration"))
    assert "Kiln" in report
    assert "0 of 1" in report
    assert "1 of 1" in report
    with PageClient(quiet, quiet.new_workspace()) as stranger:
        assert "Kiln" not in stranger.get("/training/calibration")
