"""A running job under a person's hands, in a real browser: cancelled with a reason; failed, mended with one button."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from job_steps import AddDataset, at_step, ended, get, started
from playwright.sync_api import Browser, expect
from worker_processes import trainer_of

from brightrun.db.roles import DatabaseUrls
from brightrun.settings import Settings
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


def test_a_running_job_is_cancelled_with_a_reason(
    at_work: tuple[Live, Member], signed_in: Visit, add_dataset: AddDataset
) -> None:
    live, member = at_work
    page = signed_in.page
    job_id = started(member, add_dataset(live, member), hyperparameters=LONG)["id"]
    page.goto(f"/training/{job_id}")
    at_step(member, job_id, 3)
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
