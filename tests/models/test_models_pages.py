"""Model pages without JavaScript: what was measured and how much it proves, files, use, and what their forms do."""

import io
import re
import zipfile
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from model_steps import Finished

from brightrun.accounts.roles import Role
from brightrun.models.pages import VERDICT_TITLES, VERDICTS
from brightrun.models.quality import Verdict
from live import Live, Member
from page_client import PageClient, words


@pytest.fixture
def browser(live: Live, owner: Member) -> Iterator[PageClient]:
    with PageClient(live, owner) as made:
        yield made


@pytest.fixture
def model(finished: Finished) -> dict[str, Any]:
    """A registered model of the workspace."""
    finished.hand_over()
    assert finished.ended()["status"] == "completed"
    return finished.model()


def test_every_verdict_has_a_look():
    assert VERDICTS.keys() == VERDICT_TITLES.keys() == set(Verdict)


def test_an_empty_list_says_where_models_come_from(browser: PageClient):
    page = words(browser.get("/models"))
    assert "No models yet" in page
    assert "Start training" in page
    assert "The trash is empty" in browser.get("/models/trash")


def test_the_list_finds_and_a_wrong_filter_is_told(browser: PageClient, model: dict[str, Any]):
    assert model["name"] in words(browser.get("/models"))
    assert model["name"] in words(browser.part(f"/models?search={model['dataset']['name']}"))
    assert "No models match" in words(browser.get("/models?search=nothing-like-it"))
    for query in ("verdict=great", "status=lost", "sort=secret"):
        answer = browser.client.get(f"/models?{query}")
        assert answer.status_code == 400
        assert "This list cannot be shown" in answer.text


def test_the_page_shows_what_was_measured_with_its_n_and_interval(browser: PageClient, model: dict[str, Any]):
    quality = model["quality_metrics"]
    page = words(browser.get(f"/models/{model['id']}"))
    assert quality["verdict_reason"] in page
    assert f"{quality['heldout_loss_base']:.4f}" in page
    assert f"{quality['heldout_loss_adapter']:.4f}" in page
    assert f"{quality['heldout_conversations']} conversations" in page
    low, high = quality["heldout_loss_difference_low"], quality["heldout_loss_difference_high"]
    assert f"{low:+.4f} to {high:+.4f}" in page
    assert "whether general knowledge was kept" in page


def test_the_page_gives_every_file_with_its_hash_and_a_link_that_works(browser: PageClient, model: dict[str, Any]):
    page = browser.get(f"/models/{model['id']}")
    for file in model["files"]:
        assert file["name"] in page
        assert file["sha256"] in page
    link = re.search(r'href="([^"]+adapter_config\.json[^"]*)"', page)
    assert link
    assert browser.client.get(link[1].replace("&amp;", "&")).status_code == 200


def test_the_zip_comes_with_the_browsers_own_session(browser: PageClient, model: dict[str, Any]):
    link = f"/api/models/{model['id']}/download"
    assert f'href="{link}"' in browser.get(f"/models/{model['id']}")
    names = zipfile.ZipFile(io.BytesIO(browser.client.get(link).content)).namelist()
    assert any(name.endswith("adapter_model.safetensors") for name in names)


def test_the_page_says_how_to_load_it(browser: PageClient, model: dict[str, Any]):
    page = words(browser.get(f"/models/{model['id']}"))
    assert 'PeftModel.from_pretrained(base, ".")' in page
    assert 'resolve("tiny")' in page


def test_a_model_is_renamed_and_a_wrong_name_is_told(browser: PageClient, model: dict[str, Any]):
    path = f"/models/{model['id']}"
    saved = browser.submit(path, f"{path}/edit", name="Kiln <helper>", description="For the <workshop>")
    assert saved.status_code == 303
    page = browser.get(path)
    assert "Kiln &lt;helper&gt;" in page
    assert "For the &lt;workshop&gt;" in page
    refused = browser.submit(path, f"{path}/edit", name=" ", description="")
    assert refused.status_code == 400
    assert "It was not saved" in refused.text


def test_a_deleted_model_is_in_the_trash_and_comes_back(browser: PageClient, model: dict[str, Any]):
    path = f"/models/{model['id']}"
    gone = browser.submit(path, f"{path}/delete")
    assert (gone.status_code, gone.headers["location"]) == (303, "/models")
    listed = browser.get("/models")
    assert f'action="{path}/restore"' in listed, "the message can be undone"
    assert browser.client.get(path).status_code == 404
    assert model["name"] in words(browser.get("/models/trash"))
    assert browser.submit("/models/trash", f"{path}/restore").status_code == 303
    assert browser.client.get(path).status_code == 200


def test_a_model_is_archived_and_taken_back(browser: PageClient, model: dict[str, Any]):
    path = f"/models/{model['id']}"
    assert browser.submit(path, f"{path}/archive").status_code == 303
    assert "Archived" in words(browser.get(path))
    assert browser.submit(path, f"{path}/unarchive").status_code == 303
    assert "Unarchive" not in words(browser.get(path))


def test_who_only_looks_may_download_and_change_nothing(live: Live, owner: Member, model: dict[str, Any]):
    with PageClient(live, live.new_member(owner.workspace_id, Role.VIEWER)) as viewer:
        path = f"/models/{model['id']}"
        page = viewer.get(path)
        assert "Download zip" in page
        assert "/delete" not in page
        assert viewer.submit("/settings", f"{path}/delete").status_code == 403
        assert viewer.submit("/settings", f"{path}/edit", name="Mine").status_code == 403


def test_a_foreign_or_unknown_model_is_not_found(live: Live, model: dict[str, Any]):
    with PageClient(live, live.new_workspace()) as stranger:
        for model_id in (model["id"], uuid4()):
            assert stranger.client.get(f"/models/{model_id}").status_code == 404
            assert stranger.submit("/settings", f"/models/{model_id}/delete").status_code == 404
