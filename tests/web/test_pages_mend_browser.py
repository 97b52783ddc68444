"""A person who writes no code mends a faulty file in the browser until it can be trained on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_kit import Visit, chromium, visit
from dataset_files import FIVE_FAULTS
from playwright.sync_api import Browser, expect
from test_pages_datasets_browser import upload

from live import Live, Member

pytestmark = pytest.mark.browser

CHECKED = 60_000
"""Milliseconds that a check of a small file may take on a busy machine."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    import hatch_build

    hatch_build.build()
    with chromium() as started:
        yield started


@pytest.fixture
def signed_in(browser: Browser, live: Live, owner: Member) -> Iterator[Visit]:
    with visit(browser, live.url) as made:
        made.page.goto(live.signin_link(owner.user_id))
        made.page.get_by_role("button", name="Sign in").click()
        made.page.wait_for_url(lambda url: "signin" not in url)
        yield made


def test_five_planted_faults_are_mended_until_training_unlocks(signed_in: Visit, tmp_path: Path) -> None:
    page = signed_in.page
    file = tmp_path / "kiln talk.jsonl"
    file.write_bytes(FIVE_FAULTS)
    path = upload(page, file)
    expect(page.get_by_text("This dataset cannot be trained on yet")).to_be_visible(timeout=CHECKED)
    expect(page.get_by_role("link", name="Start training")).to_have_count(0)

    page.get_by_role("link", name="See what can be mended").click()
    page.wait_for_url(f"**{path}/mend")
    weights = page.get_by_role("list", name="What mending Invalid weight changes")
    expect(weights.get_by_text("true", exact=True)).to_be_visible()
    expect(weights.get_by_text("1", exact=True)).to_be_visible()
    page.get_by_role("button", name="Mend what is ticked").click()
    expect(page.get_by_text("Tick what is to be mended")).to_be_visible()

    page.get_by_role("button", name="Mend everything").click()
    expect(page.get_by_role("link", name="Start training")).to_be_visible(timeout=CHECKED)
    expect(page.get_by_role("row", name="kiln talk (version 2) (this one)")).to_contain_text("5 changes")
    page.get_by_role("link", name="kiln talk", exact=True).click()
    page.wait_for_url(f"**{path}")
    expect(page.get_by_text("This dataset cannot be trained on yet")).to_be_visible()


def test_single_places_are_ticked(signed_in: Visit, tmp_path: Path) -> None:
    page = signed_in.page
    file = tmp_path / "kiln talk.jsonl"
    file.write_bytes(FIVE_FAULTS)
    path = upload(page, file)
    expect(page.get_by_role("link", name="See what can be mended")).to_be_visible(timeout=CHECKED)
    page.goto(f"{path}/mend")
    page.get_by_label("Name of the new version").fill("Only the weight")
    page.get_by_role("checkbox", name="Mend Line 3 · messages[1].weight").check()
    page.get_by_role("button", name="Mend what is ticked").click()
    expect(page.get_by_role("row", name="Only the weight (this one)")).to_contain_text("1 change", timeout=CHECKED)
