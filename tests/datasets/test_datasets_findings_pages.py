"""The pages of findings, as a browser without JavaScript meets them: filters, one record, dismissing, coverage."""

import json
import re
from typing import Any

import httpx2
import pytest
from dataset_steps import chat_file, data, lines_of, upload_and_validate
from test_datasets_pages import csrf, sign_in, text_of

from brightrun.accounts.roles import Role
from live import Live, Member

LONG = "A long story. " * 100


def chat(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def pair(number: int, persona: str, arc: str, topic: str) -> dict[str, Any]:
    return {
        "conversation_id": f"c{number}",
        "system_prompt": "You are kind.",
        "conversation_history": [],
        "current_user_input": f"Question {number}, please?",
        "target_response": f"Answer {number}, gladly.",
        "conversation_metadata": {"client_persona": persona, "emotional_arc": arc, "training_topic": topic},
        "training_metadata": {"quality_score": 2.5},
    }


@pytest.fixture
def browser(live: Live, owner: Member) -> httpx2.Client:
    return sign_in(live, owner)


@pytest.fixture
def mixed(owner: Member) -> dict[str, Any]:
    """Lines 3 and 6 have an error, line 4 repeats line 1, line 5 is long."""
    lines = (
        chat("What is slip?", "Liquid clay."),
        chat("What is bisque?", "Clay after its first firing."),
        chat("What is glaze?", ""),
        chat("What is slip?", "Liquid clay."),
        chat("Tell me a story.", LONG),
        '{"messages": [{"role": "user" "content": "x"}]}',
    )
    return upload_and_validate(owner.client, lines_of(*lines), name="Mixed")


def dismiss(browser: httpx2.Client, dataset: dict[str, Any], **fields: str) -> httpx2.Response:
    page = browser.get(f"/datasets/{dataset['id']}")
    body = {"csrf_token": csrf(page), "code": "duplicate_record", "reason": "It is meant twice."} | fields
    return browser.post(f"/datasets/{dataset['id']}/dismiss", data=body)


def test_findings_are_searched_by_line_and_the_address_keeps_it(browser: httpx2.Client, mixed: dict[str, Any]):
    at = f"/datasets/{mixed['id']}"
    page = browser.get(at, params={"line": 3})
    assert re.findall(r"records/(\d+)\?", page.text) == ["3"]
    assert 'name="line" value="3"' in page.text
    for nonsense in ("0", "three", "999999999999999999999999"):
        shown = browser.get(at, params={"line": nonsense})
        assert shown.status_code == 200
        assert "No findings match" in shown.text
    both = browser.get(at, params={"code": "duplicate_record", "line": 4})
    assert re.findall(r"records/(\d+)\?", both.text) == ["4"]


def test_every_finding_leads_to_its_record_and_on_to_the_next(browser: httpx2.Client, mixed: dict[str, Any]):
    page = browser.get(f"/datasets/{mixed['id']}", params={"severity": "error"})
    first = re.findall(rf'href="(/datasets/{mixed["id"]}/records/3\?[^"]+)"', page.text)[0].replace("&amp;", "&")
    record = browser.get(first)
    assert record.status_code == 200
    assert "Line 3" in text_of(record)
    marked = re.findall(r"<li[^>]* data-marked>(.*?)</li>", record.text, flags=re.S)
    assert len(marked) == 1
    assert "content" in marked[0]
    assert "through errors only" in text_of(record)
    following = re.findall(r'href="([^"]+)"[^>]* rel="next"', record.text)[0].replace("&amp;", "&")
    assert following == f"/datasets/{mixed['id']}/records/6?severity=error"
    broken = browser.get(following)
    assert "It breaks at the marked place" in broken.text
    assert "<mark>&#34;</mark>content" in broken.text
    assert f'href="/datasets/{mixed["id"]}/records/3?severity=error"' in broken.text


def test_a_good_record_shows_its_chat_and_folds_long_texts(browser: httpx2.Client, mixed: dict[str, Any]):
    page = browser.get(f"/datasets/{mixed['id']}/records/5")
    assert "Tell me a story." in page.text
    assert re.search(r"<summary>… [\d,]+ more characters</summary>", page.text)
    assert 'data-role="assistant" data-trained' in page.text
    assert "begins at byte" in page.text
    assert f'href="/datasets/{mixed["id"]}/mask?line=5"' in page.text
    for line in (0, 7, 10**12):
        assert browser.get(f"/datasets/{mixed['id']}/records/{line}").status_code == 404


def test_what_a_record_says_is_text_on_the_page(owner: Member, browser: httpx2.Client):
    nasty = "<script>alert(1)</script>"
    dataset = upload_and_validate(owner.client, lines_of({**chat(nasty, nasty), nasty: {nasty: nasty}}, "{" + nasty))
    for line in (1, 2):
        page = browser.get(f"/datasets/{dataset['id']}/records/{line}")
        assert page.status_code == 200
        assert "<script>alert" not in page.text


def test_a_warning_is_dismissed_with_a_reason_and_undone(browser: httpx2.Client, mixed: dict[str, Any]):
    at = f"/datasets/{mixed['id']}"
    asked = re.findall(rf'href="({at}/dismiss\?[^"]*line=4[^"]*)"', browser.get(at).text)[0].replace("&amp;", "&")
    form = browser.get(asked)
    assert "Line 4: The record has exactly the messages of line 1." in text_of(form)
    without = dismiss(browser, mixed, line="4", path="", reason=" ")
    assert without.status_code == 400
    assert "Please fill this in" in without.text
    done = dismiss(browser, mixed, line="4", path="")
    assert done.headers["location"] == f"{at}#issues"
    page = browser.get(at)
    assert "<s>The record has exactly the messages of line 1.</s>" in page.text
    assert "1 dismissed" in text_of(page)
    assert "by Test owner" in text_of(page)
    assert "It is meant twice." in text_of(page)
    assert "No findings match" in browser.get(at, params={"code": "duplicate_record", "dismissed": "no"}).text
    assert re.findall(r"records/(\d+)", browser.get(at, params={"dismissed": "yes"}).text) == ["4"]
    undo = re.findall(r'action="(/datasets/[^"]+/take-back)"', page.text)[0]
    assert browser.post(undo, data={"csrf_token": csrf(page)}).status_code == 303
    assert "<s>" not in browser.get(at).text
    assert browser.post(undo, data={"csrf_token": csrf(page)}).status_code == 404


def test_all_of_a_kind_are_dismissed_and_errors_never(browser: httpx2.Client, mixed: dict[str, Any]):
    at = f"/datasets/{mixed['id']}"
    assert "All 1 place, and those that a later check of this file finds." in text_of(
        browser.get(f"{at}/dismiss", params={"code": "duplicate_record"})
    )
    assert dismiss(browser, mixed).status_code == 303
    page = browser.get(at)
    assert "Take “dismiss all” back" in page.text
    assert "dismiss?code=broken_json" not in page.text
    for code in ("broken_json", "no_such_code", "crlf_lines"):
        assert browser.get(f"{at}/dismiss", params={"code": code}).status_code == 404
        assert dismiss(browser, mixed, code=code).status_code in {303, 404}
    assert data(browser_api(browser, at))["dismissals"][0]["code"] == "duplicate_record"
    assert len(data(browser_api(browser, at))["dismissals"]) == 1


def browser_api(browser: httpx2.Client, at: str) -> httpx2.Response:
    return browser.get(f"/api{at}/dismissals")


def test_who_may_only_read_sees_reasons_and_no_ways_to_change(live: Live, owner: Member, mixed: dict[str, Any]):
    dismiss(sign_in(live, owner), mixed, line="4", path="")
    viewer = sign_in(live, live.new_member(owner.workspace_id, Role.VIEWER))
    page = viewer.get(f"/datasets/{mixed['id']}")
    assert "It is meant twice." in page.text
    assert "take-back" not in page.text
    assert "/dismiss?" not in page.text
    assert viewer.get(f"/datasets/{mixed['id']}/dismiss?code=duplicate_record").status_code == 403
    assert viewer.get(f"/datasets/{mixed['id']}/records/4").status_code == 200


def test_of_another_workspace_nothing_is_there(live: Live, mixed: dict[str, Any]):
    stranger = sign_in(live, live.new_workspace())
    for path in ("records/1", "dismiss?code=duplicate_record"):
        assert stranger.get(f"/datasets/{mixed['id']}/{path}").status_code == 404


def test_advice_says_how_much_is_missing_and_training_is_locked_with_the_reason(
    owner: Member, browser: httpx2.Client, mixed: dict[str, Any]
):
    page = browser.get(f"/datasets/{mixed['id']}")
    shown = text_of(page)
    assert "4 of 50 advised. 46 more are missing." in shown
    assert "The file does not say how good its answers are." in shown
    locked = re.findall(r"<button[^>]*>(?:(?!</button>).)*Start training</button>", page.text, flags=re.S)
    assert len(locked) == 1
    assert " disabled" in locked[0]
    assert 'aria-describedby="training-locked"' in locked[0]
    assert 'id="training-locked"' in page.text
    ready = browser.get(f"/datasets/{upload_and_validate(owner.client, chat_file(60))['id']}")
    assert "60 of 50 advised. Reached" in text_of(ready)
    assert "440 more are missing." in text_of(ready)
    assert "training-locked" not in ready.text


def test_coverage_shows_its_gaps_and_lengths_their_numbers(owner: Member, browser: httpx2.Client):
    rows = [
        pair(n, "planner" if n % 2 else "avoider", "calm" if n % 2 else "storm", f"topic_{n % 14}") for n in range(30)
    ]
    page = browser.get(f"/datasets/{upload_and_validate(owner.client, lines_of(*rows))['id']}")
    shown = text_of(page)
    assert "2 combinations without a conversation" in shown
    assert len(re.findall("data-empty", page.text)) == 2
    assert "topic 3" in shown
    assert "All 14 topics" in shown
    assert "2.5 of at least 3.0 advised, by the file’s own scores of 30 pairs" in shown
    bars = re.findall(r"<title>([\d,]+)–([\d,]+) tokens: ([\d,]+) records?</title>", page.text)
    assert sum(int(records.replace(",", "")) for _low, _high, records in bars) == 30
    assert 'role="img" aria-label="30 records by tokens' in page.text
    plain = browser.get(f"/datasets/{upload_and_validate(owner.client, chat_file(3))['id']}")
    assert "What is covered" not in plain.text


def test_a_thousand_findings_are_shown_quickly(
    owner: Member, browser: httpx2.Client, capfd: pytest.CaptureFixture[str]
):
    content = b"".join(lines_of(chat(f"Question {n}?", "")) for n in range(3_000))
    dataset = upload_and_validate(owner.client, content)
    for query in ("", "?page=40", "?code=empty_text&page=60", "?line=2500"):
        page = browser.get(f"/datasets/{dataset['id']}{query}")
        assert page.status_code == 200
    assert json.loads(browser.get(f"/api/datasets/{dataset['id']}/issues?line=2500").text)["data"]["total"] >= 1
