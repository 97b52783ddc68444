"""The first complete run as a newcomer makes it, in a real browser: a file goes in, an adapter that loads comes out."""

import json
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_kit import Visit, chromium, visit
from playwright.sync_api import Browser, Page, expect

from live import Live, Member

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import hatch_build

pytestmark = pytest.mark.browser

CHECKED_MS = 60_000
TRAINED_MS = 180_000
"""What a check of a small file, and a short run, may take on a busy machine."""
STEPS = 16
"""Sixteen conversations, four at a time, four times over."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    hatch_build.build()
    with chromium() as started:
        yield started


@pytest.fixture
def signed_in(browser: Browser, live: Live, owner: Member) -> Iterator[Visit]:
    with visit(browser, live.url, accept_downloads=True) as made:
        made.page.goto(live.signin_link(owner.user_id))
        made.page.get_by_role("button", name="Sign in").click()
        made.page.wait_for_url(lambda url: "signin" not in url)
        yield made


@pytest.fixture
def bakery_file(tmp_path: Path) -> Path:
    """Twenty short conversations of a baker, no two alike."""
    loaves = ["rye", "spelt", "oat", "wheat"]
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"My {loaves[number % 4]} loaf number {number} is flat. What now?"},
                {"role": "assistant", "content": f"Let dough {number} rest an hour longer, then bake it hot."},
            ]
        }
        for number in range(20)
    ]
    path = tmp_path / "bakery.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def upload(page: Page, file: Path) -> None:
    """Through the page; ends on the dataset's page."""
    page.goto("/datasets/new")
    page.locator("form[data-upload] input[type=file]").set_input_files(file)
    page.locator("[data-upload-action=start]").click()
    page.wait_for_url(re.compile(r"/datasets/[0-9a-f-]{36}"))


def set_expert(page: Page, **values: str) -> None:
    page.get_by_text("More settings, for engineers").click()
    for name, value in values.items():
        page.locator(f"[name=hp_{name}]").fill(value)


def launch(page: Page) -> None:
    """Confirm what is to be confirmed, look at the promise for all that, and start."""
    expect(page.locator("#new-job:not([data-stale])")).to_be_visible()
    for box in page.locator("[name=ack]").all():
        box.check()
        expect(page.locator("#new-job:not([data-stale])")).to_be_visible()
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url(re.compile(r"/training/[0-9a-f-]{36}$"))


# Every value that the bar has shown, in order: the page must not be reloaded, and the bar must not go back.
WATCH_PROGRESS = """() => {
  window.shownProgress = [];
  const note = () => {
    const bar = document.getElementById("job-progress");
    if (bar) window.shownProgress.push(bar.value);
  };
  new MutationObserver(note).observe(document.body, {subtree: true, childList: true, attributes: true});
  note();
}"""


def test_a_file_becomes_an_adapter_that_loads(signed_in: Visit, bakery_file: Path, tmp_path: Path) -> None:
    page = signed_in.page
    upload(page, bakery_file)
    train = page.get_by_role("link", name="Start training").first
    expect(train).to_be_visible(timeout=CHECKED_MS)  # ready, without a reload
    train.click()

    expect(page.locator("#advised")).to_contain_text("Careful is advised for this dataset")
    page.locator("[name=preset_id][value=conservative]").check(force=True)
    page.locator("[name=hp_epochs]").fill("4")
    set_expert(page, min_steps="0", heldout_fraction="0.2", checkpoint_every_steps="8")
    expect(page.locator("#promise-steps")).to_contain_text(str(STEPS))
    expect(page.locator("#promise-cost")).to_contain_text("$0.00")
    launch(page)
    page.evaluate(WATCH_PROGRESS)

    curve = page.locator("#loss")
    expect(curve.locator(".chart-plot canvas")).to_be_visible(timeout=TRAINED_MS)
    curve.get_by_text("Show the numbers").click()
    expect(curve.locator("details tbody tr td").first).to_have_text(str(STEPS), timeout=TRAINED_MS)
    model = page.get_by_role("link", name="Open the model")
    expect(model).to_be_visible(timeout=TRAINED_MS)
    expect(page.locator("#job-now .badge").first).to_have_text("Completed")
    expect(page.locator("#job-story")).to_contain_text("Sample answers")
    shown = page.evaluate("window.shownProgress")
    assert len(set(shown)) > 2, "it moved, on a page that was never reloaded"
    assert shown == sorted(shown), "it never went back"
    page.reload()
    expect(curve.locator(".chart-plot canvas")).to_be_visible()

    page.get_by_role("link", name="Open the model").click()
    expect(page.locator("#quality")).to_contain_text("Not proven")
    expect(page.locator("#quality")).to_contain_text("4 conversations were held out")
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Download zip").click()
    package = tmp_path / "package.zip"
    waiting.value.save_as(package)
    assert signed_in.complaints == []
    load_adapter(package, tmp_path / "adapter")


def load_adapter(package: Path, folder: Path) -> None:
    """As the README in the package says."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from brightrun.formats.base_models import resolve

    with zipfile.ZipFile(package) as archive:
        assert archive.testzip() is None
        archive.extractall(folder)
    [config] = folder.rglob("adapter_config.json")
    base = AutoModelForCausalLM.from_pretrained(resolve("tiny").folder)
    model = PeftModel.from_pretrained(base, str(config.parent))
    lora_b = [value for name, value in model.state_dict().items() if "lora_B" in name]
    assert lora_b
    assert any(value.abs().max() > 0 for value in lora_b), "training changed it"


def test_cancelling_asks_and_then_says_what_became_of_it(signed_in: Visit, bakery_file: Path) -> None:
    page = signed_in.page
    upload(page, bakery_file)
    train = page.get_by_role("link", name="Start training").first
    expect(train).to_be_visible(timeout=CHECKED_MS)
    train.click()
    set_expert(page, max_steps="5000", epochs="20", min_steps="0")
    launch(page)
    page.get_by_role("button", name="Cancel job").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Why").select_option("testing")
    dialog.get_by_role("button", name="Cancel job").click()
    expect(page.locator("#job-now .badge").first).to_have_text("Cancelled", timeout=CHECKED_MS)
    expect(page.locator("#job-now")).to_contain_text("It was only a test")
    expect(page.get_by_role("link", name="Start a similar job")).to_be_visible()
    assert signed_in.complaints == []


def test_the_estimate_follows_the_form_and_names_what_is_wrong(signed_in: Visit, bakery_file: Path) -> None:
    page = signed_in.page
    upload(page, bakery_file)
    train = page.get_by_role("link", name="Start training").first
    expect(train).to_be_visible(timeout=CHECKED_MS)
    train.click()
    rate = page.locator("[name=hp_learning_rate]")
    rate.fill("0")
    expect(page.locator("#checklist")).to_contain_text("this run is a control")
    rate.fill("5")
    expect(page.locator("#estimate")).to_contain_text("'5' is not allowed; allowed: 0 or 1e-06 to 0.01")
    expect(page.locator("#new-job:not([data-stale])")).to_be_visible()
    page.get_by_role("button", name="Start training").click()
    expect(page.locator(".field[data-invalid] [name=hp_learning_rate]")).to_have_value("5")
    expect(page.locator("#hp_learning_rate-error")).to_contain_text("is not allowed")
