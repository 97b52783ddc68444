"""What a model learns from a row: by API and on its page, for any row of any layout; what cannot be shown says why."""

import json

import httpx2
import pytest
from dataset_steps import chat_file, data, lines_of, upload_and_validate
from test_datasets_pages import sign_in, text_of

from live import Live, Member

LONG = "the kiln and the clay and the river " * 12
PAIR = {"conversation_id": "c", "system_prompt": "You are Ilse.", "current_user_input": "And now?"}
HISTORY = [{"role": ("user", "assistant")[i % 2], "content": f"{i}. {LONG}"} for i in range(4)]
PAIRS = lines_of(
    {"_meta": {"total_pairs": 4}},
    {**PAIR, "conversation_history": HISTORY, "target_response": "Now we fire the kiln."},
    {**PAIR, "conversation_history": [], "target_response": None},
    {**PAIR, "conversation_history": [], "target_response": "Wait 👍🏽.\nThen look."},
    {**PAIR, "conversation_id": "d", "conversation_history": [], "target_response": "a\x07b"},
)


@pytest.fixture
def dataset_id(owner: Member) -> str:
    return str(upload_and_validate(owner.client, PAIRS)["id"])


def mask_at(owner: Member, dataset_id: str, line: int, **query: object) -> httpx2.Response:
    return owner.client.get(
        f"/api/datasets/{dataset_id}/records/{line}/mask", params={k: str(v) for k, v in query.items()}
    )


def test_the_mask_of_a_row_by_api(owner: Member, dataset_id: str) -> None:
    mask = data(mask_at(owner, dataset_id, 4))["mask"]
    trained = "".join(token["text"] for token in mask["tokens"] if token["trained"])
    assert trained == "Wait 👍🏽.\nThen look.<|im_end|>"
    assert mask["model"] == "tiny"
    assert mask["eot_trained"] is True
    assert mask["trained_total"] == mask["trained_kept"] == sum(token["trained"] for token in mask["tokens"])
    assert (mask["line"], mask["part"], mask["parts"], mask["side"], mask["max_length"]) == (4, 1, 1, None, None)
    assert not any(token["cut"] for token in mask["tokens"])


def test_what_a_limit_cuts_is_what_the_trainer_cuts(owner: Member, dataset_id: str) -> None:
    mask = data(mask_at(owner, dataset_id, 2, max_length=120, model="tiny-random"))["mask"]
    assert mask["left_out"] == 4
    assert mask["trained_kept"] == mask["trained_total"]
    assert mask["tokens_kept"] <= 120 < mask["tokens_total"]
    assert mask["model"] == "tiny-random"


def test_rows_of_a_json_array_and_sides_of_a_pair(owner: Member) -> None:
    rows = [{"prompt": f"Clay {n}?", "chosen": f"Stoneware {n}.", "rejected": "No."} for n in range(3)]
    dataset_id = str(upload_and_validate(owner.client, json.dumps(rows).encode(), file_name="pairs.json")["id"])
    for side, text in (("chosen", "Stoneware 2."), ("rejected", "No.")):
        mask = data(mask_at(owner, dataset_id, 3, side=side))["mask"]
        assert "".join(token["text"] for token in mask["tokens"] if token["trained"]) == f"{text}<|im_end|>"
        assert mask["side"] == side


@pytest.mark.parametrize(
    ("line", "query", "status", "code", "words"),
    [
        (3, {}, 409, "nothing_to_show", "user turn"),
        (99, {}, 404, "no_such_record", "no record at line 99"),
        (2, {"model": "nobody"}, 400, "invalid_input", "no base model called"),
        (2, {"model": "/etc"}, 400, "invalid_input", "no base model called"),
        (2, {"max_length": 0}, 400, "validation_error", ""),
        (2, {"part": 2}, 400, "invalid_input", "no part 2"),
        (2, {"side": "rejected"}, 400, "invalid_input", "no preference pair"),
    ],
)
def test_what_cannot_be_shown_says_why(
    owner: Member, dataset_id: str, line: int, query: dict[str, object], status: int, code: str, words: str
) -> None:
    answer = mask_at(owner, dataset_id, line, **query)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]
    assert code in answer.json()["code"]


def test_a_row_that_the_template_refuses_says_so_in_its_words(owner: Member) -> None:
    turns = [("user", "a"), ("system", "b"), ("user", "c"), ("assistant", "d")]
    row = {"messages": [{"role": role, "content": content} for role, content in turns]}
    dataset_id = str(upload_and_validate(owner.client, lines_of(row))["id"])
    answer = mask_at(owner, dataset_id, 1)
    assert (answer.status_code, answer.json()["code"]) == (409, "template_refused")
    assert "A system message can only be the first message" in answer.json()["error"]


def test_base_models_are_listed_with_what_each_can_show(owner: Member) -> None:
    listed = data(owner.client.get("/api/base-models"))["base_models"]
    tiny = next(model for model in listed if model["name"] == "tiny")
    assert tiny == {
        "name": "tiny", "kind": "builtin", "default": True, "has_tokenizer": True, "has_chat_template": True,
    }  # fmt: skip


def test_a_validated_dataset_is_counted_exactly_with_its_lengths(owner: Member) -> None:
    dataset = upload_and_validate(owner.client, chat_file(5))
    report = data(owner.client.get(f"/api/datasets/{dataset['id']}/validation"))["validation"]
    assert report["tokens_source"] == "exact:tiny"
    assert report["lengths"]["of"] == "rendered chats"
    assert sum(bar["records"] for bar in report["lengths"]["histogram"]) == report["lengths"]["records"] == 5
    assert report["lengths"]["total"] > report["tokens"]


def test_the_page_shows_every_token_and_leads_to_the_rows_beside_it(live: Live, owner: Member, dataset_id: str) -> None:
    browser = sign_in(live, owner)
    detail = browser.get(f"/datasets/{dataset_id}")
    assert f"/datasets/{dataset_id}/mask?line=2" in detail.text
    page = browser.get(f"/datasets/{dataset_id}/mask?line=4")
    assert page.status_code == 200
    assert "[trained:Wait👍🏽.↵Thenlook.<|im_end|>]" in text_of(page).replace(" ", "")
    assert 'id="trained"' in page.text
    assert "line=3" in page.text
    assert "line=5" in page.text
    last = browser.get(f"/datasets/{dataset_id}/mask?line=5&model=tiny-random")
    assert "Next row" not in last.text
    assert "line=4&amp;model=tiny-random" in last.text or "model=tiny-random&amp;line=4" in last.text
    assert "\\x07" in last.text
    cut = browser.get(f"/datasets/{dataset_id}/mask?line=2&max_length=120")
    assert "The oldest 4 messages would be left out" in text_of(cut)
    assert "[cut: " in text_of(cut)


def test_the_page_says_what_it_cannot_show_and_still_leads_on(live: Live, owner: Member, dataset_id: str) -> None:
    browser = sign_in(live, owner)
    for line, words in ((3, "user turn"), (1, "header"), (99, "no record at line 99")):
        page = browser.get(f"/datasets/{dataset_id}/mask?line={line}")
        assert page.status_code == 200
        assert words in text_of(page)
        assert "Previous row" in page.text or line == 1
    wrong = browser.get(f"/datasets/{dataset_id}/mask?line=x&max_length=-1")
    assert wrong.status_code == 400
    assert text_of(wrong).count("A whole number from 1 to") == 2
    unknown = browser.get(f"/datasets/{dataset_id}/mask?line=2&model=nobody")
    assert "no base model called" in text_of(unknown)
