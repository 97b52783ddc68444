"""The split shown before training is the one that training makes."""

import re
from pathlib import Path
from typing import Any

import pytest
from dataset_steps import chat_file, data, lines_of, upload_and_validate
from test_datasets_findings_pages import pair
from test_datasets_pages import sign_in, text_of

from brightrun.datasets.conversation_list import ConversationListWriter, read_conversations
from brightrun.formats.records import Message, Record, Scaffold
from brightrun.formats.run_directory import _split
from brightrun.validation.near_links import near_links
from live import Live, Member


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """60 conversations of two pairs each, the second pairs at the end of the file."""
    first = [pair(n, f"persona_{n % 3}", f"arc_{n % 2}", f"topic_{n % 5}") for n in range(60)]
    again = [row | {"current_user_input": "And then?", "target_response": f"Then {n}."} for n, row in enumerate(first)]
    return first + again


@pytest.mark.parametrize(("fraction", "seed"), [(0.1, 0), (0.25, 42), (0.0, 0)])
def test_the_split_is_the_one_that_a_run_makes(
    owner: Member, rows: list[dict[str, Any]], tmp_path: Path, fraction: float, seed: int
) -> None:
    content = lines_of(*rows)
    file = tmp_path / "rows.jsonl"
    file.write_bytes(content)
    at = f"/api/datasets/{upload_and_validate(owner.client, content)['id']}/split"
    shown = data(owner.client.get(at, params={"fraction": fraction, "seed": seed, "limit": 100}))["split"]
    made, _kinds = _split(file, "brightrun_lora_v4", fraction=fraction, seed=seed, near_links=near_links)
    assert [one["id"] for one in shown["items"]] == made.heldout_ids
    assert shown["train"] == {"conversations": made.train_conversations, "records": made.train_records}
    assert shown["heldout"] == {"conversations": len(made.heldout_ids), "records": made.heldout_records}
    for kind in ("personas", "arcs", "topics"):
        assert sum(share["train"] for share in shown[kind]) == made.train_conversations
        assert sum(share["heldout"] for share in shown[kind]) == len(made.heldout_ids)


def test_near_duplicates_are_shown_on_one_side(owner: Member, tmp_path: Path) -> None:
    words = " ".join(f"kiln {n} cools for {n * 7} hours with the door shut" for n in range(20))
    rows = [pair(n, "p", "a", "t") | {"current_user_input": f"{n}? {words}"} for n in range(12)]
    rows += [pair(n, "p", "a", "t") for n in range(12, 40)]
    content = lines_of(*rows)
    file = tmp_path / "rows.jsonl"
    file.write_bytes(content)
    at = f"/api/datasets/{upload_and_validate(owner.client, content)['id']}/split"
    shown = data(owner.client.get(at, params={"fraction": 0.3, "limit": 100}))["split"]
    made, _kinds = _split(file, "brightrun_lora_v4", fraction=0.3, seed=0, near_links=near_links)
    assert [one["id"] for one in shown["items"]] == made.heldout_ids
    alike = {row["conversation_id"] for row in rows[:12]}
    assert not alike & set(made.heldout_ids), "the first conversation is trained on, and so are those that are like it"


def test_chats_without_ids_are_split_like_a_run_does(owner: Member, tmp_path: Path) -> None:
    content = chat_file(30) + b"\n" + chat_file(40)[len(chat_file(30)) :]
    file = tmp_path / "chats.jsonl"
    file.write_bytes(content)
    at = f"/api/datasets/{upload_and_validate(owner.client, content)['id']}/split"
    shown = data(owner.client.get(at))["split"]
    made, _kinds = _split(file, "openai_messages", fraction=0.1, seed=0, near_links=near_links)
    assert [one["id"] for one in shown["items"]] == made.heldout_ids
    assert shown["personas"] == shown["topics"] == []
    assert owner.client.get(at, params={"fraction": 0.7}).status_code == 400


def test_the_page_shows_both_sides_and_leads_to_the_conversations(
    live: Live, owner: Member, rows: list[dict[str, Any]]
) -> None:
    dataset = upload_and_validate(owner.client, lines_of(*rows))
    browser = sign_in(live, owner)
    assert f'href="/datasets/{dataset["id"]}/split"' in browser.get(f"/datasets/{dataset['id']}").text
    page = browser.get(f"/datasets/{dataset['id']}/split", params={"fraction": 0.25, "seed": 42})
    shown = text_of(page)
    assert "asked for: 25%" in shown
    assert "persona 0" in shown
    assert re.search(r'<option value="42" selected>', page.text)
    line = re.findall(rf'href="/datasets/{dataset["id"]}/records/(\d+)"', page.text)[0]
    assert browser.get(f"/datasets/{dataset['id']}/records/{line}").status_code == 200
    none = text_of(browser.get(f"/datasets/{dataset['id']}/split", params={"fraction": 0}))
    assert "no improvement can be proven" in none
    stranger = sign_in(live, live.new_workspace())
    assert stranger.get(f"/datasets/{dataset['id']}/split").status_code == 404


def test_an_older_dataset_says_what_to_do(live: Live, owner: Member) -> None:
    dataset = upload_and_validate(owner.client, chat_file(4))
    for file in (live.settings.data / "objects").rglob("*.conversations"):
        if dataset["id"] in str(file):
            file.unlink()
    answer = owner.client.get(f"/api/datasets/{dataset['id']}/split")
    assert (answer.status_code, answer.json()["code"]) == (409, "list_outdated")
    page = sign_in(live, owner).get(f"/datasets/{dataset['id']}/split")
    assert page.status_code == 200
    assert "Validate it again" in page.text


def test_runs_of_one_conversation_are_one_conversation(tmp_path: Path) -> None:
    writer = ConversationListWriter(tmp_path / "x")
    messages = [Message("user", "x"), Message("assistant", "y", trained=True)]
    for index, name in enumerate(["a", "a", "b", "a", "\ud800"]):
        list(writer.look(Record(name, index, index + 1, 0, messages, scaffold=Scaffold(persona="p"))))
    writer.close()
    found = [(one.id, one.line, one.records) for one in read_conversations((tmp_path / "x").read_bytes())]
    assert found == [("a", 1, 3), ("b", 3, 1), ("'\\ud800'", 5, 1)]
