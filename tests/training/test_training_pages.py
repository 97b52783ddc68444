"""Training pages without JavaScript: what they say of each state, and what their forms do."""

import re
import typing
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from job_steps import AddDataset, started

from brightrun.accounts.roles import Role
from brightrun.clock import utcnow
from brightrun.db.session import Database
from brightrun.errors import InvalidInputError
from brightrun.formats.hyperparameters import HYPERPARAMETERS
from brightrun.ids import uuid7
from brightrun.training.list_pages import statuses_of
from brightrun.training.new_pages import PRESET_ICONS
from brightrun.training.options import training_options
from brightrun.training.pages import REASON_WORDS, STAGE_WORDS
from brightrun.training.schemas import CancelReason
from brightrun.training.setting_words import LABELS, plain_number
from brightrun.training.tables import EventSource, JobEvent, JobStage, JobStatus, MetricsPoint, TrainingJob
from live import Live, Member
from page_client import PageClient, words


@pytest.fixture
def browser(quiet: Live, trainer_owner: Member) -> Iterator[PageClient]:
    with PageClient(quiet, trainer_owner) as made:
        yield made


def change(live: Live, member: Member, job_id: str, **values: Any) -> None:
    """Set columns of a job's row, as a supervisor would have."""

    async def work(database: Database) -> None:
        async with database.transaction(workspace_id=member.workspace_id) as session:
            job = await session.get_one(TrainingJob, UUID(job_id))
            for name, value in values.items():
                setattr(job, name, value)

    live.run(work)


def filled(page: str) -> dict[str, str]:
    """What the form that starts training would send as it stands: hidden fields, chosen options, texts."""
    form = page[page.index('id="new-job"') : page.index("</form>", page.index('id="new-job"'))]
    values = {
        name: value
        for name, value in re.findall(r'<input[^>]*?name="([^"]+)"[^>]*?value="([^"]*)"', form)
        if name not in {"preset_id", "ack"}
    }
    for name, body in re.findall(r'(?s)<select[^>]*name="([^"]+)"[^>]*>(.*?)</select>', form):
        chosen = re.search(r'value="([^"]*)"[^>]* selected', body) or re.search(r'value="([^"]*)"', body)
        values[name] = chosen[1] if chosen else ""
    preset = re.search(r'name="preset_id" value="([^"]+)" checked', form)
    return values | {"preset_id": preset[1] if preset else ""}


def promised(browser: PageClient, page: str, **changes: str) -> dict[str, str]:
    """The form with changes, and with the promise that the page shows for them."""
    fields = filled(browser.get(page)) | changes
    return fields | filled(browser.submit(page, "/training/estimate", **fields).text) | changes


# --- every word is there --------------------------------------------------------------------------------------------


def test_every_setting_stage_reason_and_preset_has_a_name_on_pages(quiet: Live):
    assert LABELS.keys() == {spec.name for spec in HYPERPARAMETERS}
    assert STAGE_WORDS.keys() == set(JobStage)
    assert REASON_WORDS.keys() == set(typing.get_args(CancelReason))
    assert PRESET_ICONS.keys() == {preset["id"] for preset in training_options(quiet.settings)["presets"]}


def test_numbers_are_written_without_exponents():
    assert [plain_number(value) for value in (1e-6, 0.0002, 0, 20, 4_194_304, 0.05)] == [
        "0.000001", "0.0002", "0", "20", "4,194,304", "0.05",
    ]  # fmt: skip


# --- the list -------------------------------------------------------------------------------------------------------


def test_an_empty_list_says_how_to_begin(browser: PageClient):
    page = words(browser.get("/training"))
    assert "No training yet" in page
    assert "Start training" in page


def test_the_list_finds_by_name_and_state(browser: PageClient, trainer_owner: Member, dataset_id: str):
    started(trainer_owner, dataset_id, name="Kiln talk")
    started(trainer_owner, dataset_id, name="Glaze <b>talk</b>")
    both = browser.get("/training")
    assert "Glaze &lt;b&gt;talk&lt;/b&gt;" in both
    found = words(browser.part("/training?search=kiln"))
    assert "Kiln talk" in found
    assert "Glaze" not in found
    assert "Kiln talk" in browser.get("/training?status=active")
    none = words(browser.get("/training?status=failed"))
    assert "No jobs match" in none
    assert "Clear filters" in none


@pytest.mark.parametrize("query", ["status=lost", "sort=owner", "sort=-"])
def test_a_filter_that_does_not_exist_is_told_with_a_way_out(browser: PageClient, query: str):
    answer = browser.client.get(f"/training?{query}")
    assert answer.status_code == 400
    assert "This list cannot be shown" in answer.text
    assert 'href="/training"' in answer.text


def test_the_filter_active_is_everything_that_has_not_ended():
    assert set(statuses_of("active")) == set(JobStatus) - {
        JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED,
    }  # fmt: skip
    with pytest.raises(InvalidInputError, match="No job is ever 'lost'"):
        statuses_of("lost")


# --- starting -------------------------------------------------------------------------------------------------------


def test_without_a_ready_dataset_the_page_leads_to_the_upload(browser: PageClient):
    page = browser.get("/training/new")
    assert "No dataset is ready for training" in page
    assert "/datasets/new" in page


def test_a_chosen_dataset_has_its_estimate_with_parts_and_sources(browser: PageClient, dataset_id: str):
    page = words(browser.get(f"/training/new?dataset_id={dataset_id}"))
    assert "Adviser · 24 training pairs" in page
    for part in (
        "Start-up",
        "Measuring",
        "Checkpoints",
        "Compute",
        "Storage",
        "Memory",
        "Where the numbers come from",
    ):
        assert part in page
    assert "24 (counted in the dataset)" in page
    assert "batch_size lowered from 8 to" in page


def test_the_estimate_alone_answers_the_script(browser: PageClient, dataset_id: str):
    page = f"/training/new?dataset_id={dataset_id}"
    fields = filled(browser.get(page)) | {"hp_epochs": "2", "csrf_token": browser.token(page)}
    answer = browser.client.post("/training/estimate", data=fields, headers={"HX-Request-Type": "partial"})
    assert answer.status_code == 200
    assert re.match(r'\s*<div [^>]*id="estimate"', answer.text)
    assert '<hx-partial hx-target="#advised"' in answer.text
    assert "× 2" in words(answer.text)


def test_all_problems_are_told_at_once_beside_their_fields(browser: PageClient, dataset_id: str):
    page = f"/training/new?dataset_id={dataset_id}"
    wrong = {"hp_rank": "900", "hp_dropout": "much", "gpu_count": "1"}
    answer = browser.submit(page, "/training/new", **(filled(browser.get(page)) | wrong))
    assert answer.status_code == 400
    assert 'id="hp_rank-error"' in answer.text
    assert 'id="hp_dropout-error"' in answer.text
    assert "allowed: 4 to 128" in words(answer.text)
    assert 'value="900"' in answer.text
    assert "<details" in answer.text[: answer.text.index("hp_dropout-error")]


def test_a_form_starts_one_job_however_often_it_is_sent(browser: PageClient, trainer_owner: Member, dataset_id: str):
    page = f"/training/new?dataset_id={dataset_id}"
    fields = promised(browser, page, name="Once", preset_id="conservative", hp_epochs="2")
    first = browser.submit(page, "/training/new", **fields)
    second = browser.submit(page, "/training/new", **fields)
    assert first.status_code == second.status_code == 303
    assert first.headers["location"] == second.headers["location"]
    [job] = trainer_owner.client.get("/api/jobs").json()["data"]["items"]
    assert (job["name"], job["preset_id"], job["overrides"]) == ("Once", "conservative", {"epochs": 2})
    changed = browser.submit(page, "/training/new", **(fields | {"hp_epochs": "3"}))
    assert changed.status_code == 400
    assert "has started a job already" in changed.text
    again = browser.submit(page, "/training/new", **(fields | filled(changed.text)))
    assert again.status_code == 303
    assert again.headers["location"] != first.headers["location"]


def test_a_dataset_that_is_not_ready_is_refused_at_its_field(
    quiet: Live, browser: PageClient, trainer_owner: Member, add_dataset: AddDataset
):
    ready, not_ready = (
        add_dataset(quiet, trainer_owner),
        add_dataset(quiet, trainer_owner, status="validating", training_ready=False, validation_heartbeat_at=utcnow()),
    )
    fields = filled(browser.get(f"/training/new?dataset_id={ready}")) | {"dataset_id": not_ready}
    answer = browser.submit(f"/training/new?dataset_id={ready}", "/training/new", **fields)
    assert answer.status_code == 409
    assert 'id="dataset_id-error"' in answer.text
    assert "it is being validated" in words(answer.text)


def test_a_device_that_is_not_connected_says_so(browser: PageClient, dataset_id: str):
    page = f"/training/new?dataset_id={dataset_id}"
    fields = filled(browser.get(page)) | {"gpu_type": "h100"}
    catalogue = re.findall(r'<option value="([^"]+)"[^>]*disabled', browser.get(page))
    assert catalogue, "the catalogue shows what is not connected"
    answer = browser.submit(page, "/training/new", **(fields | {"gpu_type": catalogue[0]}))
    assert answer.status_code == 409
    assert 'id="gpu_type-error"' in answer.text


def test_another_model_needs_its_name(browser: PageClient, dataset_id: str):
    page = f"/training/new?dataset_id={dataset_id}"
    fields = filled(browser.get(page)) | {"base_model": "other", "other_model": ""}
    answer = browser.submit(page, "/training/new", **fields)
    assert answer.status_code == 400
    assert 'id="other_model-error"' in answer.text


def test_a_similar_job_begins_with_the_same_settings(browser: PageClient, trainer_owner: Member, dataset_id: str):
    job = started(trainer_owner, dataset_id, preset_id="aggressive", hyperparameters={"rank": 8})
    fields = filled(browser.get(f"/training/new?again={job['id']}"))
    assert fields["preset_id"] == "aggressive"
    assert fields["dataset_id"] == dataset_id
    assert fields["base_model"] == "tiny-random"
    assert fields["hp_rank"] == "8"
    assert fields["hp_learning_rate"] == "0.001"


def test_who_only_looks_is_not_offered_to_start(quiet: Live, trainer_owner: Member, dataset_id: str):
    job = started(trainer_owner, dataset_id)
    with PageClient(quiet, quiet.new_member(trainer_owner.workspace_id, Role.VIEWER)) as viewer:
        assert "/training/new" not in viewer.get("/training")
        assert viewer.client.get("/training/new").status_code == 403
        page = viewer.get(f"/training/{job['id']}")
        assert "Cancel job" not in page
        assert viewer.submit("/settings", f"/training/{job['id']}/cancel").status_code == 403


# --- one job --------------------------------------------------------------------------------------------------------


def in_queue(job: dict[str, Any]) -> str:
    """Other tests' jobs wait on the same installation."""
    return "Next in the queue" if job["position"] == 1 else f"Number {job['position']} in the queue"


def test_a_waiting_job_says_what_it_waits_for_and_can_be_cancelled_with_a_reason(
    browser: PageClient, trainer_owner: Member, dataset_id: str
):
    first, second = started(trainer_owner, dataset_id), started(trainer_owner, dataset_id)
    assert in_queue(first) in browser.get(f"/training/{first['id']}")
    path = f"/training/{second['id']}"
    assert in_queue(second) in browser.get(path)
    answer = browser.submit(path, f"{path}/cancel", reason="wrong_configuration", note="Too <many> epochs")
    assert answer.status_code == 303
    page = browser.get(path)
    assert "Wrong settings" in page
    assert "Too &lt;many&gt; epochs" in page
    assert f'action="{path}/cancel"' not in page
    assert "Try again" in page


def test_a_running_job_shows_stage_step_time_left_and_cost(
    quiet: Live, browser: PageClient, trainer_owner: Member, dataset_id: str
):
    job = started(trainer_owner, dataset_id)
    change(
        quiet, trainer_owner, job["id"], status="running", stage="training", progress=Decimal("52.5"), current_step=12,
        total_steps=24, current_epoch=2.0, current_cost=Decimal("0.42"), started_at=utcnow(),
        current_metrics={"loss": 2.5, "tokens_per_s": 812.4},
    )  # fmt: skip
    part = browser.part(f"/training/{job['id']}?part=now")
    assert part.strip().startswith('<div id="job-now"')
    text = words(part)
    for expected in ("step 12 of 24", "Epoch 3 of 4", "52%", "2.500", "812 tokens/s", "$0.42", "Running"):
        assert expected in text
    assert part.count('data-state="done"') == 2
    assert part.count('data-state="active"') == 1


def test_a_failed_job_says_why_what_to_do_and_shows_the_lines(
    quiet: Live, browser: PageClient, trainer_owner: Member, dataset_id: str
):
    job = started(trainer_owner, dataset_id)
    change(
        quiet, trainer_owner, job["id"], status="failed", stage="training", completed_at=utcnow(), checkpoint_step=10,
        error_code="diverged", error_message="The loss grew without end.", error_advice="Lower the learning rate.",
        error_evidence="loss 812.0 at step 14",
    )  # fmt: skip
    path = f"/training/{job['id']}"
    page = words(browser.get(path))
    for expected in (
        "Training failed",
        "The loss grew without end.",
        "Lower the learning rate.",
        "loss 812.0 at step 14",
    ):
        assert expected in page
    assert "Learning rate 0.001 → 0.00033" in page
    assert "Try again with this change" in page
    assert "Go on from step 10" in page
    assert browser.submit(path, f"{path}/retry").status_code == 303
    assert "Queued" in words(browser.get(path))


def test_a_job_is_paused_and_goes_on_differently_from_the_page(
    quiet: Live, browser: PageClient, trainer_owner: Member, dataset_id: str
):
    job = started(trainer_owner, dataset_id)
    path = f"/training/{job['id']}"
    assert browser.submit(path, f"{path}/pause").status_code == 303
    page = browser.get(path)
    assert "It costs nothing while it is paused" in words(page)
    assert f'action="{path}/pause"' not in page
    change(
        quiet, trainer_owner, job["id"], run_dir="/somewhere", checkpoints=[10, 20], checkpoint_step=20, attempt=1
    )  # fmt: skip
    page = browser.get(path)
    assert "The newest checkpoint, step 20" in page
    assert '<option value="10">Step 10</option>' in page
    refused = browser.submit(path, f"{path}/resume", micro_batch_tokens="3")
    assert refused.status_code == 303
    text = words(browser.get(path))
    assert "is not allowed" in text
    assert "Paused" in text
    browser.submit(path, f"{path}/resume", checkpoint_step="10", micro_batch_tokens="512")
    text = words(browser.get(path))
    assert "It goes on from step 10" in text
    assert "with micro_batch_tokens 512" in text


def test_a_retry_that_is_not_possible_says_why(browser: PageClient, trainer_owner: Member, dataset_id: str):
    path = f"/training/{started(trainer_owner, dataset_id)['id']}"
    assert browser.submit(path, f"{path}/retry").status_code == 303
    assert "only a job that stopped can be retried" in words(browser.get(path))


def add_points_and_samples(live: Live, member: Member, job_id: str) -> None:
    async def work(database: Database) -> None:
        async with database.transaction(workspace_id=member.workspace_id) as session:
            common = {
                "job_id": UUID(job_id),
                "workspace_id": member.workspace_id,
                "epoch": 0.0,
                "recorded_at": utcnow(),
            }
            session.add(MetricsPoint(**common, kind="heldout", step=0, validation_loss=9.0, run=1, seq=1))
            for step in range(1, 6):
                session.add(
                    MetricsPoint(**common, kind="train", step=step, training_loss=9.0 - step, run=1, seq=step + 1)
                )
            for seq, (when, answer) in enumerate(
                [("before", "Umm"), ("during", "Rest it"), ("after", "Rest the dough")], start=20
            ):
                details = {
                    "when": when, "step": seq, "prompt": "Why <flat>?", "expected": "It needs rest", "answer": answer,
                    "conversation_id": "c1",
                }  # fmt: skip
                session.add(
                    JobEvent(
                        id=uuid7(), job_id=UUID(job_id), workspace_id=member.workspace_id, source=EventSource.TRAINER,
                        run=1, seq=seq, attempt=1, type="sample", message="sample", details=details,
                        recorded_at=utcnow(),
                    )
                )  # fmt: skip
            session.add(
                JobEvent(
                    id=uuid7(), job_id=UUID(job_id), workspace_id=member.workspace_id, source=EventSource.LOG, run=1,
                    seq=1, attempt=1, type="log", message="a line of the trainer", details={}, recorded_at=utcnow(),
                )
            )  # fmt: skip

    live.run(work)


def test_the_curve_is_given_whole_and_then_only_what_is_new(
    quiet: Live, browser: PageClient, trainer_owner: Member, dataset_id: str
):
    job = started(trainer_owner, dataset_id)
    add_points_and_samples(quiet, trainer_owner, job["id"])
    whole = browser.client.get(f"/training/{job['id']}/curve").json()["data"]
    losses = {"train": [[step, 9.0 - step] for step in range(1, 6)], "heldout": [[0, 9.0]]}
    assert {name: whole[name] for name in losses} == losses
    more = browser.client.get(f"/training/{job['id']}/curve?after=3").json()["data"]
    assert more["train"] == [[4, 5.0], [5, 4.0]]
    assert more["heldout"] == [[0, 9.0]], "an evaluation comes when the step that it is of is already drawn"


def test_samples_stand_side_by_side_and_the_trainers_own_lines_are_asked_for(
    quiet: Live, browser: PageClient, trainer_owner: Member, dataset_id: str
):
    job = started(trainer_owner, dataset_id)
    add_points_and_samples(quiet, trainer_owner, job["id"])
    page = browser.get(f"/training/{job['id']}")
    assert "Why &lt;flat&gt;?" in page
    assert words(page).index("Umm") < words(page).index("Rest the dough") < words(page).index("It needs rest")
    assert words(page).index("It needs rest") < words(page).index("On the way: 1 answer") < words(page).index("Rest it")
    assert "a line of the trainer" not in page
    assert "a line of the trainer" in browser.get(f"/training/{job['id']}?log=all")


def test_a_foreign_or_unknown_job_is_not_found(quiet: Live, browser: PageClient, add_dataset: AddDataset):
    stranger = quiet.new_workspace()
    foreign = started(stranger, add_dataset(quiet, stranger))["id"]
    for job_id in (foreign, str(uuid7())):
        assert browser.client.get(f"/training/{job_id}").status_code == 404
        assert browser.client.get(f"/training/{job_id}/curve").status_code == 404
        assert browser.client.get(f"/training/new?again={job_id}").status_code == 404
        assert browser.submit("/settings", f"/training/{job_id}/cancel").status_code == 404


# --- templates and comparisons --------------------------------------------------------------------------------------


def template_of(member: Member, name: str, **body: Any) -> str:
    answer = member.client.post("/api/training/templates", json={"name": name, **body})
    assert answer.status_code == 201, answer.text
    made: str = answer.json()["data"]["template"]["id"]
    return made


def test_a_job_is_saved_as_a_template_from_its_page_and_deleted_with_an_undo(
    browser: PageClient, trainer_owner: Member, dataset_id: str
):
    assert "No templates yet" in words(browser.get("/training/templates"))
    job = started(trainer_owner, dataset_id)
    page = f"/training/{job['id']}"
    answer = browser.submit(page, "/training/templates", job_id=job["id"], name="Kiln <i>")
    assert (answer.status_code, answer.headers["location"]) == (303, "/training/templates")
    shown = browser.get("/training/templates")
    assert "Kiln &lt;i&gt;" in shown
    assert "Learning rate: 0.001" in words(shown)
    again = browser.submit(page, "/training/templates", job_id=job["id"], name="kiln <i>")
    assert again.headers["location"] == page
    assert "already" in words(browser.get(page))
    [template] = re.findall(r'id="template-([0-9a-f-]{36})"', shown)
    browser.submit("/training/templates", f"/training/templates/{template}/edit", name="Kiln", description="Slow fire")
    assert "Slow fire" in words(browser.get("/training/templates"))
    browser.submit("/training/templates", f"/training/templates/{template}/delete")
    gone = browser.get("/training/templates")
    assert "No templates yet" in words(gone)
    assert f"/training/templates/{template}/restore" in gone, "the message has an undo"


def test_two_configurations_are_shown_side_by_side(browser: PageClient, trainer_owner: Member, dataset_id: str):
    job = started(trainer_owner, dataset_id, name="Kiln talk")
    template = template_of(trainer_owner, "Gentle", preset_id="conservative", base_model="tiny-random")
    assert "Choose two" in words(browser.get("/training/diff"))
    sides = f"left=job:{job['id']}&right=template:{template}"
    page = words(browser.get(f"/training/diff?{sides}"))
    assert "Rank 4 set by hand 8" in page
    assert "Base model tiny-random" not in page, "what is equal is left out"
    assert "Base model" in words(browser.part(f"/training/diff?{sides}&every=all"))
    wrong = browser.client.get("/training/diff?left=job:x&right=job:y")
    assert wrong.status_code == 400
    assert "names neither a job nor a template" in words(wrong.text)
