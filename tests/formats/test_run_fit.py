"""A record that is too long keeps its answer: the oldest exchanges go first, and it is said how many."""

import pytest

from brightrun.formats.base_models import BUILTIN
from brightrun.formats.chat import ChatTokenizer
from brightrun.formats.fit import fit
from brightrun.formats.records import Message, Record


@pytest.fixture(scope="module")
def tokenizer() -> ChatTokenizer:
    return ChatTokenizer.from_folder(BUILTIN["tiny-random"])


def pair(exchanges: int) -> Record:
    """A system prompt, some untrained exchanges, and one trained answer."""
    messages = [Message("system", "You are kind.")]
    for number in range(exchanges):
        messages.append(Message("user", f"Question {number}? " + "word " * 20))
        messages.append(Message("assistant", f"Answer {number}. " + "word " * 20))
    messages += [Message("user", "And now?"), Message("assistant", "Now we rest.", trained=True)]
    return Record("c", 0, 1, 0, messages)


def test_a_record_that_fits_is_left_alone(tokenizer: ChatTokenizer) -> None:
    fitted = fit(tokenizer, pair(3), max_length=4096)
    assert fitted.left_out == 0
    assert fitted.encoded == tokenizer.encode(pair(3), max_length=4096)


def test_the_oldest_exchanges_are_left_out_until_the_answer_fits(tokenizer: ChatTokenizer) -> None:
    whole = tokenizer.encode(pair(10))
    fitted = fit(tokenizer, pair(10), max_length=len(whole.input_ids) // 2)
    assert fitted.left_out > 0
    assert fitted.left_out % 2 == 0
    assert fitted.encoded.trained_lost == 0
    assert fitted.encoded.trained_total == whole.trained_total
    assert len(fitted.encoded.input_ids) <= len(whole.input_ids) // 2
    text = tokenizer.decode(fitted.encoded.input_ids)
    assert "You are kind." in text
    assert "Question 0?" not in text
    assert "Question 9?" in text
    assert "Now we rest." in text


def test_no_more_is_left_out_than_needed(tokenizer: ChatTokenizer) -> None:
    whole = len(tokenizer.encode(pair(10)).input_ids)
    assert fit(tokenizer, pair(10), max_length=whole - 1).left_out == 0  # only a newline after the answer is cut
    assert fit(tokenizer, pair(10), max_length=whole - 2).left_out == 2


def test_what_still_does_not_fit_is_cut_and_counted(tokenizer: ChatTokenizer) -> None:
    record = pair(0)
    record.messages[-1].content = "word " * 200
    fitted = fit(tokenizer, record, max_length=64)
    assert fitted.left_out == 0
    assert fitted.encoded.trained_lost > 0
    assert len(fitted.encoded.input_ids) == 64


def test_trained_answers_are_never_left_out(tokenizer: ChatTokenizer) -> None:
    record = pair(6)
    for message in record.messages:
        message.trained = message.role == "assistant"
    fitted = fit(tokenizer, record, max_length=100)
    assert fitted.left_out == 0
    assert fitted.encoded.truncated_tokens > 0
