"""The dataset pages as a browser without JavaScript meets them: real HTTP, forms and links."""

import html
import re
from typing import Any

import httpx2
import pytest
from dataset_steps import CHAT, announce, chat_file, data, get, lines_of, upload, upload_and_validate
from sqlalchemy import Engine, event

from brightrun.accounts.roles import Role
from brightrun.datasets import service
from live import Live, Member

FAULTY = lines_of(
    {"conversation_id": "c1", "turns": [{"role": "user", "content": "Valid conversation"}]},
    {"conversation_id": "c2", "turns": []},
    {"invalid": "no conversation id"},
    {"conversation_id": "c3"},
    "This line is not even JSON",
    {"conversation_id": "c4", "turns": [{"role": "user"}]},
)


def sign_in(live: Live, member: Member) -> httpx2.Client:
    """A browser of `member`, signed in by link."""
    browser = live.client()
    link = live.signin_link(member.user_id)
    answer = browser.post(link, data={"csrf_token": csrf(browser.get(link))})
    assert answer.status_code == 303, answer.text
    return browser


def csrf(page: httpx2.Response) -> str:
    found = re.search(r'name="csrf_token" value="([0-9a-f]{64})"', page.text) or re.search(
        r'name="csrf-token" content="([0-9a-f]{64})"', page.text
    )
    assert found, page.text[:2000]
    return found[1]


def post(browser: httpx2.Client, path: str, **fields: str) -> httpx2.Response:
    return browser.post(path, data={"csrf_token": csrf(browser.get("/datasets")), **fields})


def text_of(page: httpx2.Response) -> str:
    """What a reader sees: no tags, one space between words."""
    shown = re.sub(r"<(script|style|svg)\b.*?</\1>", " ", page.text, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", shown)).split())


@pytest.fixture
def browser(live: Live, owner: Member) -> httpx2.Client:
    return sign_in(live, owner)


# --- the list -------------------------------------------------------------------------------------------------------


def test_an_empty_list_leads_to_the_upload(browser: httpx2.Client):
    page = browser.get("/datasets")
    assert page.status_code == 200
    assert "No datasets yet" in page.text
    assert 'href="/datasets/new"' in page.text


def test_what_the_filters_hide_is_told_apart_from_nothing_and_can_be_cleared(owner: Member, browser: httpx2.Client):
    upload(owner.client, chat_file(), name="Kiln talk")
    page = browser.get("/datasets", params={"search": "glaze"})
    assert "No datasets match" in page.text
    assert "No datasets yet" not in page.text
    assert "Clear filters" in page.text


def test_counts_are_of_the_workspace_and_not_of_the_page(owner: Member, browser: httpx2.Client):
    for number in range(14):
        announce(owner.client, b"x", name=f"Draft {number:02}")
    upload_and_validate(owner.client, chat_file(), name="Finished")
    for page in (browser.get("/datasets", params={"page": 2}), browser.get("/datasets", params={"search": "Finished"})):
        shown = text_of(page)
        assert "All datasets 15" in shown
        assert "Ready 1 " in shown
        assert "14 uploads not finished" in shown
    assert "13–15 of 15 datasets" in text_of(browser.get("/datasets", params={"page": 2}))


def test_search_status_format_and_sort_narrow_and_order_the_list(owner: Member, browser: httpx2.Client):
    upload_and_validate(owner.client, chat_file(2), name="Beta kiln")
    upload_and_validate(owner.client, FAULTY, name="Alpha kiln", file_name="turns.jsonl")

    def names(**params: str) -> list[str]:
        return re.findall(r'class="card-link"[^>]*>([^<]+)<', browser.get("/datasets", params=params).text)

    assert names() == ["Alpha kiln", "Beta kiln"]
    assert names(sort="-name") == ["Beta kiln", "Alpha kiln"]
    assert names(search="beta") == ["Beta kiln"]
    assert names(search="TURNS.jsonl") == ["Alpha kiln"]
    assert names(status="error") == ["Alpha kiln"]
    assert names(format="openai_messages") == ["Beta kiln"]


@pytest.mark.parametrize("wrong", ["status=sleeping", "format=csv", "sort=colour"])
def test_a_filter_that_does_not_exist_is_told_where_the_list_would_be(browser: httpx2.Client, wrong: str):
    page = browser.get(f"/datasets?{wrong}")
    assert page.status_code == 400
    assert "The list cannot be shown" in page.text
    assert wrong.partition("=")[2] in page.text
    assert "Try again" in page.text


def test_a_page_past_the_end_leads_back(owner: Member, browser: httpx2.Client):
    upload(owner.client, chat_file())
    page = browser.get("/datasets", params={"page": 7})
    assert page.status_code == 200
    assert "past the end" in page.text


def test_a_live_part_is_answered_alone(owner: Member, browser: httpx2.Client):
    upload(owner.client, chat_file(), name="Alone")
    headers = {"HX-Request": "true", "HX-Request-Type": "partial"}
    part = browser.get("/datasets", headers=headers, params={"search": "alone"})
    assert "<html" not in part.text
    assert 'id="dataset-list"' in part.text
    assert 'data-live-url="/datasets?search=alone"' in part.text
    assert browser.get("/datasets/counts", headers=headers).text.lstrip().startswith('<div class="stat-grid')


def test_every_live_part_of_every_page_answers_itself(owner: Member, browser: httpx2.Client):
    ready = upload_and_validate(owner.client, chat_file(2))["id"]
    faulty = upload_and_validate(owner.client, FAULTY, file_name="turns.jsonl")["id"]
    unfinished = data(announce(owner.client, b"x" * 10))["dataset"]["id"]
    deleted = upload(owner.client, chat_file())
    owner.client.delete(f"/api/datasets/{deleted}")
    pages = ["/", "/datasets", "/datasets/trash", "/notifications", "/notifications?show=unread"]
    pages += [f"/datasets/{key}" for key in (ready, faulty, unfinished, deleted)]
    for page in pages:
        parts = re.findall(r'id="([^"]+)"[^>]* data-live-topic="[^"]+" data-live-url="([^"]+)"', browser.get(page).text)
        assert len(parts) >= 2, f"{page} has its header and its own part"
        for key, url in parts:
            part = browser.get(html.unescape(url), headers={"HX-Request": "true", "HX-Request-Type": "partial"})
            assert part.status_code == 200, (page, url)
            assert "<html" not in part.text, (page, url)
            assert f'id="{key}"' in part.text, (page, url)


def test_names_and_texts_of_users_are_text(owner: Member, browser: httpx2.Client):
    nasty = "<script>alert(1)</script>\"'&"
    sample = {"messages": [{"role": "user", "content": nasty}, {"role": "assistant", "content": "`<b>x</b>`"}]}
    dataset = upload_and_validate(owner.client, lines_of(sample), name=nasty, description="`<i>`" + nasty)
    for path in ("/datasets", "/", "/notifications", f"/datasets/{dataset['id']}", f"/datasets/{dataset['id']}/edit"):
        page = browser.get(path)
        assert page.status_code == 200
        assert "<script>alert" not in page.text, path
        assert "<b>x</b>" not in page.text, path
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text, path


# --- one dataset ----------------------------------------------------------------------------------------------------


def test_a_ready_dataset_shows_its_numbers_with_their_source_and_can_be_trained_on(
    owner: Member, browser: httpx2.Client
):
    dataset = upload_and_validate(owner.client, chat_file(3))
    page = browser.get(f"/datasets/{dataset['id']}")
    shown = text_of(page)
    assert "Ready to train on Every line was read, and none has an error." in shown
    assert "Conversations 3 counted in the whole file" in shown
    assert "Training pairs 3 answers that a model learns from" in shown
    assert "exact: tiny" in shown
    assert f'href="/training/new?dataset_id={dataset["id"]}"' in page.text
    assert dataset["sha256"] in page.text
    assert "Thresholds applied language letters 40, language share 0.1" in shown


def test_samples_show_what_is_trained_and_each_has_an_address(owner: Member, browser: httpx2.Client):
    dataset = upload_and_validate(owner.client, chat_file(5))
    first = browser.get(f"/datasets/{dataset['id']}")
    assert "How long does kiln 0 cool?" in first.text
    assert len(re.findall(r'data-role="assistant" data-trained', first.text)) == 1
    assert 'data-role="user" data-trained' not in first.text
    second = browser.get(f"/datasets/{dataset['id']}", params={"sample": 2})
    assert "How long does kiln 1 cool?" in second.text
    assert "How long does kiln 0 cool?" not in second.text


def test_every_faulty_line_is_named_and_nothing_can_be_started(owner: Member, browser: httpx2.Client):
    dataset = upload_and_validate(owner.client, FAULTY, file_name="turns.jsonl")
    page = browser.get(f"/datasets/{dataset['id']}")
    assert re.findall(r'<td class="num[^"]*"><a [^>]+>(\d+)</a></td>', page.text) == ["1", "2", "3", "4", "5", "6"]
    shown = text_of(page)
    assert "This dataset cannot be trained on yet" in shown
    assert "Missing field Error 3 places" in shown
    assert "1–6 of 6 findings" in shown
    assert "/training/new" not in page.text


def test_findings_are_filtered_by_kind_and_severity(owner: Member, browser: httpx2.Client):
    dataset = upload_and_validate(owner.client, FAULTY, file_name="turns.jsonl")
    path = f"/datasets/{dataset['id']}"
    broken = text_of(browser.get(path, params={"code": "broken_json"}))
    assert "1–1 of 1 findings" in broken
    assert "Missing field Error" not in broken
    assert "No findings match" in browser.get(path, params={"severity": "warning"}).text
    odd = browser.get(path, params={"code": "no_such_code", "severity": "no_such"})
    assert "1–6 of 6 findings" in text_of(odd), "an unknown filter narrows nothing"


def test_the_complete_list_of_findings_and_the_file_can_be_downloaded(owner: Member, browser: httpx2.Client):
    dataset = upload_and_validate(owner.client, FAULTY, file_name="turns.jsonl")
    listed = browser.get(f"/datasets/{dataset['id']}/issues/download", follow_redirects=True)
    assert len(listed.text.splitlines()) == 6
    assert browser.get(f"/datasets/{dataset['id']}/download", follow_redirects=True).content == FAULTY


def test_a_preference_dataset_can_be_trained_on_and_only_the_better_answer_is_learned(
    owner: Member, browser: httpx2.Client
):
    pair = {"prompt": "What is slip?", "chosen": "Liquid clay, thin enough to pour.", "rejected": "A mistake."}
    dataset = upload_and_validate(owner.client, lines_of(pair), file_name="pairs.jsonl")
    page = browser.get(f"/datasets/{dataset['id']}")
    assert "/training/new" in page.text
    assert "The better answer" in page.text
    assert "The worse answer" in page.text
    assert len(re.findall("data-trained", page.text)) == 1, "nobody learns the worse answer"


def test_a_dataset_of_another_workspace_is_not_there(live: Live, browser: httpx2.Client):
    stranger = live.new_workspace()
    dataset_id = upload(stranger.client, chat_file())
    for path in ("", "/edit", "/delete", "/download", "/issues/download"):
        page = browser.get(f"/datasets/{dataset_id}{path}")
        assert page.status_code == 404, path
        assert "There is no such dataset" in page.text
    for action in ("edit", "validate", "delete", "restore", "cancel-upload"):
        assert post(browser, f"/datasets/{dataset_id}/{action}", name="x").status_code == 404, action


# --- changes --------------------------------------------------------------------------------------------------------


def test_name_and_description_are_changed(owner: Member, browser: httpx2.Client):
    dataset_id = upload(owner.client, chat_file())
    answer = post(browser, f"/datasets/{dataset_id}/edit", name="  Kiln, spring ", description="First line\nsecond")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/datasets/{dataset_id}")
    dataset = get(owner.client, dataset_id)
    assert (dataset["name"], dataset["description"]) == ("Kiln, spring", "First line\nsecond")
    assert "Saved" in browser.get(f"/datasets/{dataset_id}").text, "the toast"
    post(browser, f"/datasets/{dataset_id}/edit", name="Kiln, spring", description="")
    assert get(owner.client, dataset_id)["description"] is None


@pytest.mark.parametrize(
    ("name", "message"), [("  ", "Please fill this in"), ("x" * 256, "At most 255 characters"), ("a\x07b", "control")]
)
def test_a_name_that_cannot_be_is_said_beside_its_field_and_kept(
    owner: Member, browser: httpx2.Client, name: str, message: str
):
    dataset_id = upload(owner.client, chat_file(), name="Before")
    page = post(browser, f"/datasets/{dataset_id}/edit", name=name, description="kept words")
    assert page.status_code == 400
    assert message in page.text
    assert "kept words" in page.text
    assert get(owner.client, dataset_id)["name"] == "Before"


def test_deleting_asks_offers_undo_and_can_be_undone(owner: Member, browser: httpx2.Client):
    dataset = upload_and_validate(owner.client, chat_file(), name="Regretted")
    path = f"/datasets/{dataset['id']}"
    assert "can be restored from the trash for 30 days" in text_of(browser.get(f"{path}/delete"))
    answer = post(browser, f"{path}/delete")
    assert (answer.status_code, answer.headers["location"]) == (303, "/datasets")
    page = browser.get("/datasets")
    assert f'action="{path}/restore"' in page.text, "Undo in the toast"
    assert "No datasets yet" in page.text
    assert "Regretted" in browser.get("/datasets/trash").text
    assert "This dataset is in the trash" in browser.get(path).text
    answer = post(browser, f"{path}/restore")
    assert (answer.status_code, answer.headers["location"]) == (303, path)
    assert "Ready to train on" in browser.get(path).text
    assert "The trash is empty" in browser.get("/datasets/trash").text


def test_a_dataset_in_use_stays_and_the_page_says_why(
    owner: Member, browser: httpx2.Client, monkeypatch: pytest.MonkeyPatch
):
    dataset_id = upload(owner.client, chat_file())

    async def guard(_session: object, dataset: object) -> str | None:
        return "A training job uses it." if str(dataset.id) == dataset_id else None  # type: ignore[attr-defined]

    monkeypatch.setattr(service, "deletion_guards", [*service.deletion_guards, guard])
    answer = post(browser, f"/datasets/{dataset_id}/delete")
    assert answer.headers["location"] == f"/datasets/{dataset_id}"
    page = browser.get(f"/datasets/{dataset_id}")
    assert "It was not deleted" in page.text
    assert "A training job uses it." in page.text


def test_a_dataset_is_validated_again(owner: Member, browser: httpx2.Client):
    dataset = upload_and_validate(owner.client, chat_file())
    answer = post(browser, f"/datasets/{dataset['id']}/validate")
    assert answer.status_code == 303
    assert get(owner.client, dataset["id"])["validation_attempt"] == 2


def test_an_unfinished_upload_says_how_to_go_on_and_can_be_cancelled(owner: Member, browser: httpx2.Client):
    dataset_id = data(announce(owner.client, b"x" * 10))["dataset"]["id"]
    page = browser.get(f"/datasets/{dataset_id}")
    assert "The upload is not finished" in page.text
    assert "kept for 24 hours" in text_of(page)
    assert f'action="/datasets/{dataset_id}/cancel-upload"' in browser.get(f"/datasets/{dataset_id}/delete").text
    assert post(browser, f"/datasets/{dataset_id}/cancel-upload").headers["location"] == "/datasets"
    trash = browser.get("/datasets/trash")
    assert "The file is gone: it cannot be restored" in text_of(trash)
    assert "Its file is gone" in text_of(browser.get(f"/datasets/{dataset_id}"))
    answer = post(browser, f"/datasets/{dataset_id}/restore")
    assert answer.headers["location"] == "/datasets/trash"
    assert "It cannot be restored" in browser.get("/datasets/trash").text


def test_the_upload_page_names_limits_and_formats_and_what_to_do_without_javascript(browser: httpx2.Client):
    shown = text_of(browser.get("/datasets/new"))
    assert "Largest file 524.3 MB" in shown
    assert "Only the upload itself needs JavaScript" in shown
    assert "brightrun datasets upload FILE" in shown
    for name in ("OpenAI messages", "BrightRun LoRA v4", "ShareGPT", "Alpaca"):
        assert name in shown


# --- rights ---------------------------------------------------------------------------------------------------------


def test_a_viewer_looks_and_changes_nothing(live: Live, owner: Member):
    dataset = upload_and_validate(owner.client, chat_file())
    viewer = sign_in(live, live.new_member(owner.workspace_id, Role.VIEWER))
    path = f"/datasets/{dataset['id']}"
    for page in (viewer.get("/datasets"), viewer.get(path), viewer.get("/")):
        assert page.status_code == 200
        assert "/datasets/new" not in page.text
        assert "/training/new" not in page.text
        assert f"{path}/delete" not in page.text
    assert "this month" not in viewer.get("/").text.split("<main")[0], "who may not see costs sees no number for them"
    for action in ("edit", "validate", "delete", "restore", "cancel-upload"):
        assert post(viewer, f"{path}/{action}", name="x").status_code == 403, action
    assert viewer.get("/datasets/new").status_code == 403


def test_a_post_without_the_form_token_is_refused(owner: Member, browser: httpx2.Client):
    dataset_id = upload(owner.client, lines_of(CHAT))
    assert browser.post(f"/datasets/{dataset_id}/delete").status_code == 403
    assert get(owner.client, dataset_id)["deleted_at"] is None


def test_the_list_asks_the_database_few_questions(live: Live, owner: Member) -> None:
    """Each is a round of the event loop, and waits for whatever else it does: uploads, most of all."""
    asked: list[str] = []

    def before(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        # Of the server: not the worker's, and not those of live pages that others of this run have open.
        if connection.engine.url.username == live.urls.app_role and "from events" not in statement:
            asked.append(statement)

    browser = sign_in(live, owner)
    browser.get("/datasets")
    event.listen(Engine, "before_cursor_execute", before)
    try:
        assert browser.get("/datasets").status_code == 200
    finally:
        event.remove(Engine, "before_cursor_execute", before)
    assert 5 < len(asked) <= 12, "\n".join(asked)
