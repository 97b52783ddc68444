"""A dataset in another format: the loss is shown first, then the file comes."""

import json

from dataset_steps import data, lines_of, upload_and_validate
from test_datasets_pages import sign_in, text_of

from live import Live, Member

SAID = [{"role": "user", "content": "What is slip?"}, {"role": "assistant", "content": "Liquid clay."}]


def test_the_loss_is_named_and_the_file_is_sent(owner: Member) -> None:
    dataset = upload_and_validate(owner.client, lines_of({"messages": SAID, "source": "forum"}))
    at = f"/api/datasets/{dataset['id']}/convert"
    lost = data(owner.client.get(at, params={"to": "sharegpt"}))["conversion"]
    assert (lost["written"], lost["dropped_fields"]) == (1, [{"path": "source", "n": 1}])
    sent = owner.client.get(f"{at}/download", params={"to": "sharegpt"})
    assert 'filename="kiln.sharegpt.jsonl"' in sent.headers["content-disposition"]
    (line,) = sent.text.splitlines()
    assert json.loads(line)["conversations"][0] == {"from": "human", "value": "What is slip?"}
    refused = owner.client.get(at, params={"to": "enriched_conversation"})
    assert (refused.status_code, list(refused.json()["details"])) == (400, ["to"])


def test_the_page_lists_what_is_lost(live: Live, owner: Member) -> None:
    dataset = upload_and_validate(owner.client, lines_of({"messages": SAID, "source": "forum"}))
    browser = sign_in(live, owner)
    at = f"/datasets/{dataset['id']}/convert"
    assert "Download as…" in text_of(browser.get(f"/datasets/{dataset['id']}"))
    assert "Nothing is lost" not in text_of(browser.get(at))
    assert "source 1" in text_of(browser.get(at, params={"to": "sharegpt"}))
    assert "Nothing is lost" in text_of(browser.get(at, params={"to": "openai_messages"}))
    assert browser.get(f"{at}/download", params={"to": "sharegpt"}).status_code == 200
