"""The mask view in a real browser: what is trained is underlined, what is cut is struck through, in every theme."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_kit import chromium, visit
from playwright.sync_api import Browser, expect

from live import Live, Member

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import hatch_build

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "datasets"))
from dataset_steps import upload_and_validate

pytestmark = pytest.mark.browser

CONTRAST = (Path(__file__).parent / "contrast.js").read_text()
LONG = "the kiln and the clay and the river " * 8
ROWS = [
    {"messages": [{"role": "user", "content": f"Bowl {n}?"}, {"role": "assistant", "content": f"{LONG}{n}."}]}
    for n in range(3)
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    hatch_build.build()
    with chromium() as started:
        yield started


@pytest.mark.parametrize(("theme", "width"), [("light", 1440), ("dark", 390)])
def test_a_row_is_read_token_by_token_and_one_goes_on_to_the_next(
    browser: Browser, live: Live, owner: Member, theme: str, width: int
) -> None:
    content = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    dataset_id = upload_and_validate(owner.client, content)["id"]
    with visit(browser, live.url, theme=theme, width=width, reduced_motion="reduce") as made:
        page = made.page
        page.goto(live.signin_link(owner.user_id))
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(lambda url: "signin" not in url)
        page.goto(f"/datasets/{dataset_id}")
        page.get_by_role("link", name="What the model learns").click()
        page.get_by_role("link", name="Next row").click()
        expect(page.get_by_label("Row", exact=True)).to_have_value("2")
        page.get_by_label("Maximum length").fill("60")
        page.get_by_role("button", name="Show").click()
        page.wait_for_url("**max_length=60**")
        text = page.get_by_role("region", name="The row as tiny reads it")
        trained, cut = text.locator("mark[data-trained]"), text.locator("del[data-trained][data-cut]")
        expect(trained).to_contain_text("the kiln and the clay")
        expect(cut).to_contain_text("1.<|im_end|>")
        assert trained.evaluate("e => getComputedStyle(e).borderBottomStyle") == "solid"
        assert "line-through" in str(cut.evaluate("e => getComputedStyle(e).textDecorationLine"))
        expect(page.locator("#mask-eot")).to_contain_text("Not trained")
        expect(page.locator("#mask-tokens .stat-value")).to_have_text("60")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate(CONTRAST) == []
        page.reload()
        expect(page.get_by_label("Maximum length")).to_have_value("60")
        assert made.complaints == []
