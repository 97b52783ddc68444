"""The mask view shows what the trainer does: the same tokens, the same labels, the same messages left out."""

from pathlib import Path

import pytest
from chat_fixtures import CHATML, LLAMA3, chat, model_folder

from brightrun.formats.base_models import BUILTIN
from brightrun.formats.chat import ChatTokenizer
from brightrun.formats.mask import mask_of
from brightrun.formats.records import Message, Record


@pytest.fixture(scope="module")
def tiny() -> ChatTokenizer:
    return ChatTokenizer.from_folder(BUILTIN["tiny"])


LONG = Record(
    "c", 0, 1, 0,
    [
        Message("system", "Be kind."),
        *(Message(("user", "assistant")[i % 2], f"Message {i}: " + "clay and water " * 12) for i in range(6)),
        Message("user", "And now?"),
        Message("assistant", "Now we fire the kiln.", trained=True),
    ],
)  # fmt: skip


def test_without_a_limit_nothing_is_cut_and_the_texts_are_the_chat(tiny: ChatTokenizer) -> None:
    mask = mask_of(tiny, LONG)
    assert "".join(token["text"] for token in mask["tokens"]) == tiny.render(LONG.messages)
    assert "".join(token["text"] for token in mask["tokens"] if token["trained"]) == "Now we fire the kiln.<|im_end|>"
    assert not any(token["cut"] for token in mask["tokens"])
    assert mask["trained_total"] == mask["trained_kept"] > 0
    assert mask["tokens_total"] == mask["tokens_kept"] == len(mask["tokens"])
    assert mask["eot_trained"]
    assert mask["left_out"] == 0


def test_messages_that_the_trainer_leaves_out_are_marked_as_cut_in_place(tiny: ChatTokenizer) -> None:
    mask = mask_of(tiny, LONG, max_length=120)
    assert mask["left_out"] in {2, 4, 6}
    assert "".join(token["text"] for token in mask["tokens"]) == tiny.render(LONG.messages)
    kept = [message for i, message in enumerate(LONG.messages) if not 1 <= i <= mask["left_out"]]
    assert "".join(token["text"] for token in mask["tokens"] if not token["cut"]) == tiny.render(kept)
    assert mask["trained_kept"] == mask["trained_total"]
    assert mask["eot_trained"]
    assert mask["tokens_kept"] <= 120


def test_an_answer_too_long_for_the_limit_is_cut_at_its_end(tiny: ChatTokenizer) -> None:
    record = chat(("user", "Tell me."), ("assistant", "the river and the sea " * 40))
    mask = mask_of(tiny, record, max_length=50)
    assert [token["cut"] for token in mask["tokens"]] == [i >= 50 for i in range(mask["tokens_total"])]
    assert 0 < mask["trained_kept"] < mask["trained_total"]
    assert not mask["eot_trained"]


def test_a_template_that_writes_a_shorter_chat_otherwise_shows_what_the_trainer_sees(tmp_path: Path) -> None:
    counting = "{{ messages | length }} messages\n" + CHATML.template
    folder = model_folder(tmp_path / "m", type(CHATML)(counting, CHATML.special, CHATML.eos))
    tokenizer = ChatTokenizer.from_folder(folder)
    limit = len(tokenizer.encode(LONG).input_ids) // 2
    mask = mask_of(tokenizer, LONG, max_length=limit)
    kept = [message for i, message in enumerate(LONG.messages) if not 1 <= i <= mask["left_out"]]
    assert mask["left_out"]
    assert "".join(token["text"] for token in mask["tokens"] if not token["cut"]) == tokenizer.render(kept)


def test_the_first_token_is_never_trained_because_nothing_predicts_it(tmp_path: Path) -> None:
    bare = type(CHATML)("{% for m in messages %}{{ m.content + '<|im_end|>' }}{% endfor %}", CHATML.special, CHATML.eos)
    tokenizer = ChatTokenizer.from_folder(model_folder(tmp_path / "m", bare))
    mask = mask_of(tokenizer, chat(("assistant", "Hello there"), ("user", "x")))
    assert [token["trained"] for token in mask["tokens"]][:2] == [False, True]


def test_both_sides_of_a_preference_pair(tiny: ChatTokenizer) -> None:
    record = Record(
        "c", 0, 1, 0, [Message("user", "Tea?")], kind="preference",
        chosen=[Message("assistant", "Yes, please.")], rejected=[Message("assistant", "No.")],
    )  # fmt: skip
    for side, text in (("chosen", "Yes, please."), ("rejected", "No."), (None, "Yes, please.")):
        mask = mask_of(tiny, record, side=side)
        assert "".join(token["text"] for token in mask["tokens"] if token["trained"]) == f"{text}<|im_end|>"
    with pytest.raises(ValueError, match="chosen and a rejected"):
        mask_of(tiny, record, side="middle")
    with pytest.raises(ValueError, match="no preference pair"):
        mask_of(tiny, LONG, side="rejected")


def test_the_template_of_the_row_is_named(tmp_path: Path) -> None:
    tokenizer = ChatTokenizer.from_folder(model_folder(tmp_path / "m", LLAMA3))
    assert mask_of(tokenizer, chat(("user", "a"), ("assistant", "b")))["template_sha256"] == tokenizer.template_sha256
