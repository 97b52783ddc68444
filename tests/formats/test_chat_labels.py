"""Exactly the text of trained messages and their end-of-turn token is trained, whatever the template does to it."""

from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from chat_fixtures import CHATML, FAMILIES, KINDS, Family, chat, model_folder
from hypothesis import given, settings
from hypothesis import strategies as st

from brightrun.formats.base_models import BUILTIN
from brightrun.formats.chat import IGNORED, ChatTokenizer, TemplateFaultError, TrainedSpanError, UnencodableTextError
from brightrun.formats.records import Message, Record


@pytest.fixture(scope="module")
def tiny() -> ChatTokenizer:
    return ChatTokenizer.from_folder(BUILTIN["tiny"])


def trained_runs(tokenizer: ChatTokenizer, record: Record) -> list[str]:
    """Text of each run of trained tokens, checked against the labels of `encode`."""
    tokens = tokenizer.inspect(record)["tokens"]
    encoded = tokenizer.encode(record)
    assert [t["id"] for t in tokens] == list(encoded.input_ids)
    assert [t["id"] if t["trained"] else IGNORED for t in tokens] == list(encoded.labels)
    assert "".join(t["text"] for t in tokens) == tokenizer.render(record.messages, tools=record.tools)
    return ["".join(t["text"] for t in run) for trained, run in groupby(tokens, key=lambda t: t["trained"]) if trained]


TURNS = chat(("user", "Hello"), ("assistant", " Hi, you! "), ("user", "The capital?"), ("assistant", "Paris 😀é."))
EXPECTED = {
    "chatml": [" Hi, you! <|im_end|>", "Paris 😀é.<|im_end|>"],
    "chatml_default_system": [" Hi, you! <|im_end|>", "Paris 😀é.<|im_end|>"],
    "llama3": ["Hi, you!<|eot_id|>", "Paris 😀é.<|eot_id|>"],
    "mistral": [" Hi, you!</s>", " Paris 😀é.</s>"],
    "gemma": ["Hi, you!<end_of_turn>", "Paris 😀é.<end_of_turn>"],
    "phi": [" Hi, you! <|end|>", "Paris 😀é.<|end|>"],
    "thinking": [" Hi, you! <|im_end|>", "<think>\n\n</think>\n\nParis 😀é.<|im_end|>"],
    "reasoner": [" Hi, you! <｜end｜>", "Paris 😀é.<｜end｜>"],
    "zephyr": [" Hi, you! </s>", "Paris 😀é.</s>"],
    "no_end": [" Hi, you! ", "Paris 😀é."],
    # the prompt ends at the role: the model writes the channel itself
    "harmony": [
        "<|channel|>final<|message|> Hi, you! <|end|>",
        "<|channel|>final<|message|>Paris 😀é.<|return|>",
    ],
    "marked": [" Hi, you! <|im_end|>", "Paris 😀é.<|im_end|>"],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", EXPECTED)
def test_only_the_answers_and_their_ends_are_trained(family: str, kind: str, tmp_path: Path) -> None:
    tokenizer = ChatTokenizer.from_folder(model_folder(tmp_path, FAMILIES[family], kind))
    runs = trained_runs(tokenizer, TURNS)
    if kind == "byte_level":
        assert runs == EXPECTED[family]
    else:  # a token that holds the header's white space and the first letter belongs to the answer
        assert [run.strip() for run in runs] == [run.strip() for run in EXPECTED[family]]
    assert tokenizer.encode(TURNS).eot_trained is (family != "no_end")


def test_labels_equal_the_mask_of_a_template_that_marks_its_answers(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = model_folder(tmp_path, FAMILIES["marked"])
    theirs = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        [{"role": m.role, "content": m.content} for m in TURNS.messages], return_assistant_tokens_mask=True
    )
    encoded = ChatTokenizer.from_folder(folder).encode(TURNS)
    assert [int(label != IGNORED) for label in encoded.labels] == theirs["assistant_masks"]


def test_a_message_of_weight_zero_is_not_trained(tiny: ChatTokenizer) -> None:
    record = chat(("user", "a"), ("assistant", "wrong"), ("user", "b"), ("assistant", "right"))
    record.messages[1].trained = False
    assert trained_runs(tiny, record) == ["right<|im_end|>"]


def test_the_same_answer_twice_is_told_apart(tiny: ChatTokenizer) -> None:
    record = chat(("user", "ok"), ("assistant", "ok"), ("user", "ok"), ("assistant", "ok"))
    record.messages[1].trained = False
    tokens = tiny.inspect(record)["tokens"]
    assert [i for i, t in enumerate(tokens) if t["trained"]] == [len(tokens) - 3, len(tokens) - 2]


def test_an_answer_that_holds_the_end_token_is_trained_whole(tiny: ChatTokenizer) -> None:
    record = chat(
        ("user", "a"), ("assistant", "one<|im_end|>\n<|im_start|>user\ntwo"), ("user", "b"), ("assistant", "c")
    )
    assert trained_runs(tiny, record) == ["one<|im_end|>\n<|im_start|>user\ntwo<|im_end|>", "c<|im_end|>"]


def test_an_answer_that_looks_like_a_marker_is_trained_whole(tiny: ChatTokenizer) -> None:
    record = chat(("user", "BrightRunMarker0x0e"), ("assistant", "BrightRunMarker0x"), ("user", "BrightRunMarker1x"))
    assert trained_runs(tiny, record) == ["BrightRunMarker0x<|im_end|>"]


@pytest.mark.parametrize("content", ["", "  ", "\n\n"])
def test_a_blank_answer_trains_its_end(tiny: ChatTokenizer, content: str) -> None:
    assert trained_runs(tiny, chat(("user", "a"), ("assistant", content))) == [f"{content}<|im_end|>"]


CALL = {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
TOOL_EXPECTED = {
    "tiny": '{}<tool_call>{{"name": "weather", "arguments": {{"city": "Oslo"}}}}</tool_call><|im_end|>',
    "thinking": '{}\n<tool_call>\n{{"name": "weather", "arguments": {{"city": "Oslo"}}}}\n</tool_call><|im_end|>',
    "mistral": '[TOOL_CALLS][{{"name": "weather", "arguments": {{"city": "Oslo"}}}}]</s>',
    "llama3": '{{"name": "weather", "parameters": {{"city": "Oslo"}}}}<|eot_id|>',
    "reasoner": '<｜call｜>weather\n{{"city": "Oslo"}}<｜end｜>',
}


@pytest.mark.parametrize("content", ["", "One moment."])
@pytest.mark.parametrize("family", TOOL_EXPECTED)
def test_a_tool_call_is_trained_with_its_text_and_end(family: str, content: str, tmp_path: Path) -> None:
    folder = BUILTIN["tiny"] if family == "tiny" else model_folder(tmp_path, FAMILIES[family])
    tokenizer = ChatTokenizer.from_folder(folder)
    record = Record(
        conversation_id="c", index=0, line=1, byte_offset=0,
        messages=[
            Message("user", "Rain?"),
            Message("assistant", content, trained=True, tool_calls=[CALL]),
            Message("tool", "yes"),
            Message("assistant", "Take a coat.", trained=True),
        ],
    )  # fmt: skip
    if content and family in ("mistral", "llama3", "reasoner"):  # these write a call and leave its text out
        with pytest.raises(TrainedSpanError, match=r"Message 2 \(assistant\)"):
            tokenizer.encode(record)
        return
    first, last = trained_runs(tokenizer, record)
    expected = TOOL_EXPECTED[family].format(content)
    assert first == (expected if content or family != "thinking" else expected.removeprefix("\n"))
    assert last.endswith("Take a coat." + expected[expected.rindex("<") :])


def test_thinking_that_the_template_drops_is_not_trained(tmp_path: Path) -> None:
    tokenizer = ChatTokenizer.from_folder(model_folder(tmp_path, FAMILIES["thinking"]))
    record = chat(
        ("user", "a?"),
        ("assistant", "<think>\nhm\n</think>\n\nA."),
        ("user", "b?"),
        ("assistant", "<think>so</think>B."),
    )  # fmt: skip
    assert trained_runs(tokenizer, record) == ["A.<|im_end|>", "<think>\nso\n</think>\n\nB.<|im_end|>"]


def test_an_answer_before_any_question_is_found(tiny: ChatTokenizer, tmp_path: Path) -> None:
    record = chat(("assistant", "Welcome!"), ("user", "Hello"), ("assistant", "How are you?"))
    assert trained_runs(tiny, record) == ["Welcome!<|im_end|>", "How are you?<|im_end|>"]
    zephyr = ChatTokenizer.from_folder(model_folder(tmp_path, FAMILIES["zephyr"]))
    assert trained_runs(zephyr, record) == ["Welcome!</s>", "How are you?</s>"]


@pytest.mark.parametrize(
    "rewrite", ["{{ m.content | upper }}", "{{ m.content[:3] }}", "{{ m.content | replace('a', 'b') }}"]
)
def test_an_answer_that_the_template_rewrites_is_an_error_that_names_it(rewrite: str, tmp_path: Path) -> None:
    template = "{% for m in messages %}<|im_start|>{{ m.role }}\n" + rewrite + "<|im_end|>\n{% endfor %}"
    folder = model_folder(tmp_path, Family(template, CHATML.special, CHATML.eos))
    with pytest.raises(TrainedSpanError, match=r"Message 2 \(assistant\) cannot be labelled"):
        ChatTokenizer.from_folder(folder).encode(chat(("user", "hi"), ("assistant", "a banana")))


def test_truncation_cuts_the_end_and_counts_what_is_lost(tiny: ChatTokenizer) -> None:
    whole = tiny.encode(TURNS)
    assert (whole.truncated_tokens, whole.trained_lost, whole.eot_trained) == (0, 0, True)
    for length in range(len(whole.input_ids) + 1):
        cut = tiny.encode(TURNS, max_length=length)
        assert cut.input_ids == whole.input_ids[:length]
        assert cut.labels == whole.labels[:length]
        assert cut.truncated_tokens == len(whole.input_ids) - length
        assert cut.trained_total == whole.trained_total
        assert cut.trained_kept == sum(label != IGNORED for label in cut.labels)
        assert cut.eot_trained is (length >= len(whole.input_ids) - 1)  # the last token is a newline
        assert [t["cut"] for t in tiny.inspect(TURNS, length)["tokens"]].count(True) == cut.truncated_tokens
    assert tiny.encode(TURNS, max_length=4).trained_kept == 0


def test_a_record_without_an_answer_is_encoded_and_says_so(tiny: ChatTokenizer) -> None:
    encoded = tiny.encode(chat(("user", "hello")))
    assert (encoded.trained_total, encoded.eot_trained) == (0, False)
    assert set(encoded.labels) == {IGNORED}


def test_preferences_train_each_continuation_and_not_the_prompt(tiny: ChatTokenizer) -> None:
    record = chat(("user", "a"), ("assistant", "b"), ("user", "c"), kind="preference")
    record.chosen, record.rejected = [Message("assistant", "good")], [Message("assistant", "bad")]
    pair = tiny.encode_preference(record)
    for side, answer in ((pair.chosen, "good"), (pair.rejected, "bad")):
        assert side.trained_total == tiny.count(answer) + 1
        assert side.eot_trained
    with pytest.raises(ValueError, match="no chosen and rejected"):
        tiny.encode_preference(TURNS)


def test_half_a_character_is_an_error_that_shows_where(tiny: ChatTokenizer) -> None:
    with pytest.raises(UnencodableTextError, match=r"U\+D83D.*after .*so far"):
        tiny.encode(chat(("user", "fine so far\ud83d"), ("assistant", "x")))


def test_a_template_cannot_reach_the_interpreter(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, CHATML)
    for attack in (
        "{{ messages.__class__.__mro__ }}{{ ''.__class__.__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% set ns = namespace(__class__=1) %}",
        "{{ raise_exception.__globals__ }}{{ raise_exception.__globals__['json'] }}",
        "{{ dict.__init__.__globals__ }}{{ dict.__init__.__globals__.os.system('true') }}",
    ):
        with pytest.raises(TemplateFaultError):
            ChatTokenizer.from_folder(folder, template=attack).render([Message("user", "x")])


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(text, text), min_size=1, max_size=4), st.booleans())
def test_any_text_is_trained_exactly(tiny: ChatTokenizer, turns: list[tuple[str, str]], system: bool) -> None:
    pairs: list[Any] = [("system", "Be kind.")] if system else []
    for question, answer in turns:
        pairs += [("user", question), ("assistant", answer)]
    assert trained_runs(tiny, chat(*pairs)) == [f"{answer}<|im_end|>" for _, answer in turns]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_text_is_trained_exactly_by_templates_that_trim(trimming: dict[str, ChatTokenizer], data: Any) -> None:
    family = data.draw(st.sampled_from(sorted(trimming)))
    end = {"llama3": "<|eot_id|>", "gemma": "<end_of_turn>", "mistral": "</s>"}[family]
    turns = data.draw(st.lists(st.tuples(text, text), min_size=1, max_size=3))
    record = chat(*[turn for q, a in turns for turn in (("user", q), ("assistant", a))])
    runs = trained_runs(trimming[family], record)
    assert [run.lstrip() for run in runs] == [(answer.strip() + end).lstrip() for _, answer in turns]


@pytest.fixture(scope="module")
def trimming(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChatTokenizer]:
    return {
        name: ChatTokenizer.from_folder(model_folder(tmp_path_factory.mktemp(name), FAMILIES[name]))
        for name in ("llama3", "gemma", "mistral")
    }
