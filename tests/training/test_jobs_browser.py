"""A running job under a person's hands, in a real browser: cancelled with a reason; failed, mended with one button."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from job_steps import AddDataset, at_step, data, ended, get, started
from playwright.sync_api import Browser, expect
from worker_processes import trainer_of

from brightrun.db.roles import DatabaseUrls
from brightrun.settings import Settings
from brightrun.web.filters import duration
from live import Live, Member, live_server
from web.browser_kit import Visit, chromium, visit

pytestmark = pytest.mark.browser

LONG = {"batch_size": 1, "epochs": 20, "checkpoint_every_steps": 5, "eval_every_steps": 500}
# Loaded by Python itself in every trainer: the first four find no memory for a single step.
GREEDY = """
import importlib.util, pathlib, sys

HERE = pathlib.Path(__file__).parent

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name != "brightrun.trainer.objectives":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        def exec_module(module):
            execute(module)
            tries = len(list(HERE.glob("try-*")))
            if tries < 4:
                (HERE / f"try-{tries}").touch()
                import torch
                module.token_losses = lambda *_: torch.empty(1 << 60)
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def at_work(
    new_database: Callable[[], AbstractContextManager[DatabaseUrls]], tmp_path: Path
) -> Iterator[tuple[Live, Member]]:
    settings = Settings(
        database_role_prefix="brtest", data=tmp_path / "data", min_free_disk_bytes=0, worker_heartbeat_s=1
    )
    with new_database() as urls, live_server(urls, settings, b"the tests' secret key") as live:
        yield live, live.new_workspace()


@pytest.fixture
def signed_in(browser: Browser, at_work: tuple[Live, Member]) -> Iterator[Visit]:
    live, member = at_work
    with visit(browser, live.url) as made:
        made.page.goto(live.signin_link(member.user_id))
        made.page.get_by_role("button", name="Sign in").click()
        made.page.wait_for_url(lambda url: "signin" not in url)
        yield made


def test_from_the_form_over_a_probe_and_a_reload_to_a_run_that_is_cancelled_with_a_reason(
    at_work: tuple[Live, Member], signed_in: Visit, add_dataset: AddDataset
) -> None:
    live, member = at_work
    page = signed_in.page
    page.goto(f"/training/new?dataset_id={add_dataset(live, member)}")
    page.get_by_label("Base model", exact=True).select_option("tiny-random")
    steps, settled = page.locator("#promise-steps"), page.locator("#new-job:not([data-stale])")
    page.locator("[name=hp_batch_size]").fill("1")
    expect(page.locator("#estimate")).to_contain_text("learning_rate scaled from 0.0002")
    before = steps.inner_text()
    page.locator("[name=hp_epochs]").fill("20")
    expect(steps).not_to_have_text(before)  # without a reload, and without a button
    page.get_by_text("More settings, for engineers").click()
    for name in ("checkpoint_every_steps", "eval_every_steps"):
        page.locator(f"[name=hp_{name}]").fill(str(LONG[name]))
    expect(settled).to_be_visible()
    page.get_by_role("button", name="Run a probe").click()
    expect(page.locator("#probe")).to_contain_text("Measured by a probe", timeout=120_000)
    expect(settled).to_be_visible()
    promised = page.locator("#promise-time").inner_text()
    page.get_by_role("button", name="Start training").dblclick()
    page.wait_for_url(re.compile(r"/training/[0-9a-f-]{36}$"))
    [job] = data(member.client.get("/api/jobs"))["items"]  # a double click made one
    job_id = job["id"]
    assert job["promise"]["basis"] == "probe"
    assert duration(job["promise"]["seconds"]["value"]) in promised, "what was on screen is what is frozen"
    at_step(member, job_id, 3)
    page.reload()
    expect(page.locator("#promise")).to_contain_text("What was promised")
    expect(page.locator("#loss .chart-plot canvas")).to_be_visible()
    page.get_by_role("button", name="Cancel job").first.click()
    dialog = page.locator("#cancel-job")
    dialog.get_by_role("button", name="Cancel job").click()
    expect(dialog.get_by_label("Why")).to_be_visible()  # a reason has to be chosen first
    dialog.get_by_label("Why").select_option("wrong_configuration")
    dialog.get_by_label("Note").fill("The epochs were meant to be two.")
    dialog.get_by_role("button", name="Cancel job").click()
    now = page.locator("#job-now")
    expect(now).to_contain_text("Wrong settings", timeout=90_000)  # without a reload
    expect(now).to_contain_text("The epochs were meant to be two.")
    expect(page.locator("#job-story")).to_contain_text("all its processes were gone")
    assert trainer_of(live, job_id) is None
    assert signed_in.complaints == []


@pytest.mark.slow
def test_a_failed_run_says_what_would_help_and_one_button_makes_it_a_success(
    at_work: tuple[Live, Member],
    signed_in: Visit,
    add_dataset: AddDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    live, member = at_work
    place = tmp_path / "greedy"
    place.mkdir()
    (place / "sitecustomize.py").write_text(GREEDY)
    monkeypatch.setenv("PYTHONPATH", str(place))
    settings = {"epochs": 2, "micro_batch_tokens": 65_536, "eval_every_steps": 500}
    job_id = started(member, add_dataset(live, member), hyperparameters=settings)["id"]
    page = signed_in.page
    page.goto(f"/training/{job_id}")
    now = page.locator("#job-now")
    expect(now).to_contain_text("Training failed: Memory of the machine", timeout=240_000)
    expect(now).to_contain_text("can't allocate memory")
    expect(now).to_contain_text("Suggested change")
    before = get(member, job_id)["failure"]["fix"]["changes"]
    page.get_by_role("button", name="Try again with this change").click()
    expect(page.locator("#job-now .badge").first).to_have_text("Completed", timeout=240_000)
    job = ended(member, job_id)
    assert job["status"] == "completed"
    for change in before:
        assert job["hyperparameters"][change["field"]] == change["after"]
    assert job["interruptions"]["count"] == 4
    assert signed_in.complaints == []


def test_jobs_are_ticked_acted_on_and_stay_ticked_while_the_list_is_brought_up_to_date(
    browser: Browser, quiet: Live, trainer_owner: Member, dataset_id: str
):
    ids = [started(trainer_owner, dataset_id, name=name)["id"] for name in ("first", "second", "third")]
    with visit(browser, quiet.url) as seen:
        page = seen.page
        page.goto(quiet.signin_link(trainer_owner.user_id))
        page.get_by_role("button", name="Sign in").click()
        page.goto("/training?sort=name")
        page.get_by_label("first", exact=True).check()
        expect(page.get_by_text("1 ticked")).to_be_visible()
        expect(page.get_by_role("button", name="Compare")).to_be_disabled()
        page.get_by_label("Tick all jobs of this page").check()
        expect(page.get_by_text("3 ticked")).to_be_visible()
        expect(page.get_by_role("button", name="Compare")).to_be_enabled()
        page.get_by_label("third", exact=True).uncheck()
        page.get_by_role("searchbox").focus()
        trainer_owner.client.post(f"/api/jobs/{ids[2]}/pause")
        expect(page.locator(f"#job-{ids[2]}").get_by_text("Paused")).to_be_visible()
        expect(page.get_by_text("2 ticked")).to_be_visible()
        expect(page.get_by_label("second", exact=True)).to_be_checked()
        page.get_by_label("What to do").select_option("cancel")
        page.get_by_role("button", name="Apply").last.click()
        page.get_by_label("Why").select_option("testing")
        page.get_by_role("button", name="Cancel 2 jobs").click()
        expect(page.get_by_text("Cancel: 2 jobs done")).to_be_visible()
        page.get_by_role("link", name="Back to the list").click()
        expect(page).to_have_url(f"{quiet.url}/training?sort=name")
        assert [get(trainer_owner, job_id)["status"] for job_id in ids] == ["cancelled", "cancelled", "paused"]
        assert not seen.complaints
