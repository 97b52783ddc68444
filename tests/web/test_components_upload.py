"""The upload panel in a real browser against an API with faults: nothing is sent twice, nothing is lost."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_kit import Visit, chromium, visit, wait_until
from fake_uploads import PART
from gallery_app import Backend, build, serve
from playwright.sync_api import Browser, expect

from waiting import eventually

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import hatch_build

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    hatch_build.build()
    with chromium() as started:
        yield started


@pytest.fixture
def backend() -> Iterator[Backend]:
    made = Backend()
    with serve(build(made), made):
        yield made


@pytest.fixture
def panel(browser: Browser, backend: Backend) -> Iterator[Visit]:
    with visit(browser, backend.url) as made:
        made.page.goto("/")
        yield made


@pytest.fixture
def body() -> bytes:
    return os.urandom(PART * 9 + 123)


@pytest.fixture
def file(tmp_path: Path, body: bytes) -> Path:
    path = tmp_path / "turns of march.jsonl"
    path.write_bytes(body)
    return path


def choose(panel: Visit, file: Path) -> None:
    panel.page.locator("form[data-upload] input[type=file]").set_input_files(file)


def start(panel: Visit) -> None:
    panel.page.locator("[data-upload-action=start]").click()


def note(panel: Visit) -> str:
    return panel.page.locator("p[data-upload-note]").inner_text()


def test_a_file_goes_in_parts_and_is_confirmed(panel: Visit, backend: Backend, file: Path, body: bytes) -> None:
    choose(panel, file)
    expect(panel.page.get_by_label("Name", exact=True).last).to_have_value("turns of march")
    start(panel)
    panel.page.wait_for_url("**/datasets/d1")
    assert backend.uploads.whole == body
    assert backend.uploads.confirmed == 1
    assert backend.uploads.created == [
        {"name": "turns of march", "description": None, "file_name": file.name, "file_size": len(body)}
    ]
    assert panel.complaints == []


def test_without_parts_the_whole_file_goes_in_one_put(panel: Visit, backend: Backend, file: Path, body: bytes) -> None:
    backend.uploads.use_parts = False
    choose(panel, file)
    start(panel)
    panel.page.wait_for_url("**/datasets/d1")
    assert backend.uploads.whole == body


def test_a_server_that_stumbles_is_asked_again(panel: Visit, backend: Backend, file: Path, body: bytes) -> None:
    backend.uploads.fail_next = [503, 500, 429]
    choose(panel, file)
    start(panel)
    panel.page.wait_for_url("**/datasets/d1")
    assert backend.uploads.whole == body


def test_expired_addresses_are_renewed(panel: Visit, backend: Backend, file: Path, body: bytes) -> None:
    backend.uploads.hold_after = 3
    choose(panel, file)
    start(panel)
    expect(panel.page.locator("p[data-upload-note]")).to_contain_text("of 589.9 KB")
    wait_until(panel.page, "document.querySelector('[data-upload-progress]').value > 0.3")

    def expire() -> None:
        backend.uploads.generation += 1
        backend.uploads.hold_after = None
        backend.uploads.release.set()

    backend.on_loop(expire)
    panel.page.wait_for_url("**/datasets/d1")
    assert backend.uploads.whole == body


def test_parts_go_in_parallel_and_resume_sends_none_again(
    panel: Visit, backend: Backend, file: Path, body: bytes
) -> None:
    uploads = backend.uploads
    uploads.hold_after = 3
    choose(panel, file)
    start(panel)
    wait_until(panel.page, "document.querySelector('[data-upload-progress]').value > 0.3")
    panel.page.get_by_role("button", name="Pause").click()
    expect(panel.page.locator("p[data-upload-note]")).to_have_text(re.compile(r"^Paused at .* of 589\.9 KB\.$"))
    kept = dict(uploads.stored)
    assert uploads.confirmed == 0
    assert uploads.most_at_once == 4

    def open_gate() -> None:
        uploads.hold_after = None
        uploads.release.set()

    backend.on_loop(open_gate)
    panel.page.get_by_role("button", name="Resume").click()
    panel.page.wait_for_url("**/datasets/d1")
    assert uploads.whole == body
    assert all(uploads.stored[number] is part for number, part in kept.items()), "a stored part was sent again"
    assert len(uploads.created) == 1


def test_after_a_reload_the_same_file_goes_on(panel: Visit, backend: Backend, file: Path, body: bytes) -> None:
    uploads = backend.uploads
    uploads.hold_after = 4
    choose(panel, file)
    start(panel)
    wait_until(panel.page, "document.querySelector('[data-upload-progress]').value > 0.4")
    panel.page.on("dialog", lambda dialog: dialog.accept())
    panel.page.reload()
    expect(panel.page.locator("p[data-upload-note]")).to_contain_text("was interrupted. Choose the same file again")

    def open_gate() -> None:
        uploads.hold_after = None
        uploads.release.set()

    backend.on_loop(open_gate)
    choose(panel, file)
    expect(panel.page.locator("p[data-upload-note]")).to_contain_text("are stored already")
    panel.page.get_by_role("button", name="Resume").click()
    panel.page.wait_for_url("**/datasets/d1")
    assert uploads.whole == body
    assert len(uploads.created) == 1
    assert panel.page.evaluate("Object.keys(localStorage)") == []


def test_a_file_that_arrived_before_the_reload_is_only_confirmed(
    panel: Visit, backend: Backend, file: Path, body: bytes
) -> None:
    uploads = backend.uploads
    uploads.hold_confirm = True
    choose(panel, file)
    start(panel)
    wait_until(panel.page, "document.querySelector('[data-upload-progress]').value === 1")
    backend.wait_for(lambda: uploads.whole is not None)
    panel.page.on("dialog", lambda dialog: dialog.accept())
    panel.page.reload()
    uploads.hold_confirm = False
    sent = dict(uploads.stored)
    choose(panel, file)
    panel.page.get_by_role("button", name="Resume").click()
    panel.page.wait_for_url("**/datasets/d1")
    assert uploads.stored == sent
    assert uploads.whole == body
    assert uploads.confirmed == 1


def test_cancel_deletes_the_dataset_and_forgets_the_file(panel: Visit, backend: Backend, file: Path) -> None:
    backend.uploads.hold_after = 2
    choose(panel, file)
    start(panel)
    wait_until(panel.page, "document.querySelector('[data-upload-progress]').value > 0.2")
    panel.page.get_by_role("button", name="Cancel upload").click()
    expect(panel.page.locator("[data-dropzone]")).to_be_visible()
    wait_until(panel.page, "Object.keys(localStorage).length === 0")
    assert backend.uploads.deleted == 1
    backend.on_loop(backend.uploads.release.set)


def test_a_refused_field_is_marked_with_its_message(panel: Visit, backend: Backend, file: Path) -> None:
    backend.uploads.refuse_create = {
        "error": "name: is taken",
        "code": "validation_error",
        "details": {"name": ["is taken in this workspace"]},
    }
    choose(panel, file)
    start(panel)
    expect(panel.page.locator("form[data-upload] .field-error")).to_have_text("is taken in this workspace")
    assert note(panel) == "name: is taken"
    backend.uploads.refuse_create = None
    start(panel)
    panel.page.wait_for_url("**/datasets/d1")


@pytest.mark.parametrize(
    ("size", "message"), [(0, "This file is empty."), (500_000_001, "the largest that is accepted is 500.0 MB")]
)
def test_a_file_that_cannot_be_accepted_is_refused_before_anything_is_sent(
    panel: Visit, backend: Backend, tmp_path: Path, size: int, message: str
) -> None:
    path = tmp_path / "bad.jsonl"
    with path.open("wb") as stream:
        stream.truncate(size)
    choose(panel, path)
    expect(panel.page.locator("p[data-upload-note]")).to_contain_text(message)
    expect(panel.page.locator("[data-upload-action=start]")).to_be_disabled()
    assert backend.uploads.created == []


def test_a_dropped_file_is_taken_and_two_are_not(panel: Visit) -> None:
    drop = """(names) => {
      const data = new DataTransfer();
      for (const name of names) data.items.add(new File(["{}"], name));
      const zone = document.querySelector("[data-dropzone]");
      const send = (type) => zone.dispatchEvent(
        new DragEvent(type, {dataTransfer: data, bubbles: true, cancelable: true}));
      ["dragenter", "dragover"].forEach(send);
      const over = zone.hasAttribute("data-over");
      send("drop");
      return over && !zone.hasAttribute("data-over");
    }"""
    # Asked again until the module listens.
    eventually("two files dropped", lambda: panel.page.evaluate(drop, ["a.jsonl", "b.jsonl"]))
    expect(panel.page.locator("p[data-upload-note]")).to_contain_text("One file at a time")
    assert panel.page.evaluate(drop, ["a.jsonl"])
    expect(panel.page.locator("[data-upload-name]")).to_have_text("a.jsonl")
