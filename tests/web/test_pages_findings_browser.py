"""From a finding to its record and on, narrowed as the address says; dismissing by keyboard; training unlocks live."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_kit import Visit, chromium, visit
from playwright.sync_api import Browser, expect

from datasets.dataset_steps import chat_file, upload, upload_and_validate
from live import Live, Member

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import hatch_build

pytestmark = pytest.mark.browser

CHECKED = 60_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
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


@pytest.fixture
def mixed(owner: Member) -> dict[str, Any]:
    """Lines 7 and 9 are errors, lines 8 and 10 repeat the first two."""
    lines = chat_file(6).splitlines(keepends=True)
    blank = {"messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": "Fine."}]}
    bad = json.dumps(blank).encode() + b"\n"
    return upload_and_validate(owner.client, b"".join((*lines, bad, lines[0], b"{broken\n", lines[1])))


def test_findings_are_narrowed_in_place_and_lead_from_record_to_record(signed_in: Visit, mixed: dict[str, Any]) -> None:
    page = signed_in.page
    page.goto(f"/datasets/{mixed['id']}")
    found = page.locator("#findings tbody tr")
    expect(found.filter(has_text="exactly the messages")).to_have_count(2)
    page.get_by_label("Kind", exact=True).select_option("duplicate_record")
    page.wait_for_url("**code=duplicate_record*")
    expect(found).to_have_count(2)
    page.reload()
    expect(found).to_have_count(2)
    found.first.get_by_role("link", name="8", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Line 8")
    page.get_by_role("link", name="Next finding").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Line 10")
    expect(page.get_by_role("link", name="Next finding")).to_have_count(0)
    expect(page.locator("#chat-1")).to_contain_text("How long does kiln 1 cool?")
    assert signed_in.complaints == []


def test_a_warning_is_dismissed_by_keyboard_and_taken_back(signed_in: Visit, mixed: dict[str, Any]) -> None:
    page = signed_in.page
    page.goto(f"/datasets/{mixed['id']}?code=duplicate_record&line=8")
    page.get_by_role("link", name=re.compile(r"Dismiss\s*: line 8")).focus()
    page.keyboard.press("Enter")
    page.get_by_label("Why may it stay?").fill("It is meant twice.")
    page.get_by_role("button", name="Dismiss").press("Enter")
    struck = page.locator("#findings tr[data-dismissed]")
    expect(struck).to_have_count(1)
    expect(struck).to_contain_text("It is meant twice.")
    expect(page.locator("#issues")).to_contain_text("1 dismissed")
    struck.get_by_role("button", name="Take back").click()
    expect(page.locator("#findings tr[data-dismissed]")).to_have_count(0)
    assert signed_in.complaints == []


def test_training_is_locked_with_the_reason_and_unlocks_without_a_reload(signed_in: Visit, owner: Member) -> None:
    page = signed_in.page
    dataset_id = upload(owner.client, chat_file(12))
    page.goto(f"/datasets/{dataset_id}")
    locked = page.get_by_role("button", name="Start training")
    expect(locked).to_be_disabled()
    expect(page.locator("#training-locked")).to_contain_text("The upload is not finished")
    owner.client.post(f"/api/datasets/{dataset_id}/confirm")
    expect(page.get_by_role("link", name="Start training")).to_be_visible(timeout=CHECKED)
    expect(page.locator("#readiness")).to_contain_text("38 more are missing")
    assert signed_in.complaints == []
