"""Faults and how to make them: each spoils one record of a clean file and says what must be found, where.

`OBJECT_FAULTS` change the fields of a record; `TEXT_FAULTS` change its bytes. Both name the kinds of
`clean_files.KINDS` that they fit, and return what is expected: (code, path within the record) and, for faults of the
bytes, the byte within the record. Warnings that follow from the fault are named as well, so that a report that says
one thing more or less is wrong.
"""

import json
import random
from collections.abc import Callable
from typing import Any

Object = dict[str, Any]
Expected = list[tuple[str, str]]
Change = Callable[[random.Random, Object], Expected]

CHATS = {"openai": "messages", "v3": "turns", "sharegpt": "conversations", "kto_of_messages": "messages"}
TEXT_FIELDS = {
    "v4": "target_response",
    "alpaca": "output",
    "completion": "completion",
    "preference": "chosen",
    "kto": "completion",
}
_LONG = "The clay is soft and the wheel turns. The kiln is warm by now, and the glaze has dried since morning. "

OBJECT_FAULTS: dict[str, tuple[str, Change]] = {}


def _fault(kinds: str) -> Callable[[Change], Change]:
    """Register a change under its function's name, for kinds separated by spaces."""

    def register(change: Change) -> Change:
        for kind in kinds.split():
            OBJECT_FAULTS[f"{change.__name__} in {kind}"] = (kind, change)
        return change

    return register


def _list(obj: Object) -> tuple[str, list[Object]]:
    key = next(key for key in ("messages", "turns", "conversations") if key in obj)
    return key, obj[key]


def _of(rng: random.Random, messages: list[Object], *roles: str) -> int:
    return rng.choice([n for n, m in enumerate(messages) if m.get("role", m.get("from")) in roles])


def _words(message: Object) -> str:
    return "value" if "value" in message else "content"


def _speaker(message: Object) -> str:
    return "from" if "from" in message else "role"


_ANY_CHAT = "openai v3 sharegpt kto_of_messages kto_sharegpt"


# Messages


@_fault(_ANY_CHAT)
def missing_content(rng: random.Random, obj: Object) -> Expected:
    key, messages = _list(obj)
    n = rng.randrange(len(messages))
    words = _words(messages[n])
    del messages[n][words]
    return [("missing_field", f"{key}[{n}].{words}")]


@_fault(_ANY_CHAT)
def null_content(rng: random.Random, obj: Object) -> Expected:
    key, messages = _list(obj)
    n = rng.randrange(len(messages))
    words = _words(messages[n])
    messages[n][words] = None
    return [("null_value", f"{key}[{n}].{words}")]


@_fault(_ANY_CHAT)
def content_of_another_type(rng: random.Random, obj: Object) -> Expected:
    key, messages = _list(obj)
    n = rng.randrange(len(messages))
    words = _words(messages[n])
    messages[n][words] = rng.choice((5, True, {"text": "a"}))
    return [("wrong_type", f"{key}[{n}].{words}")]


@_fault(_ANY_CHAT)
def blank_answer(rng: random.Random, obj: Object) -> Expected:
    key, messages = _list(obj)
    n = _of(rng, messages, "assistant", "gpt", "user", "human")
    words = _words(messages[n])
    messages[n][words] = rng.choice(("", " ", "\n\t"))
    return [("blank_content", f"{key}[{n}].{words}")]


@_fault(_ANY_CHAT)
def missing_speaker(rng: random.Random, obj: Object) -> Expected:
    key, messages = _list(obj)
    n = rng.randrange(len(messages))
    messages[n] = {"content": messages[n][_words(messages[n])]}
    return [("missing_field", f"{key}[{n}].role")]


@_fault(_ANY_CHAT)
def unknown_speaker(rng: random.Random, obj: Object) -> Expected:
    key, messages = _list(obj)
    n = rng.randrange(len(messages))
    who = _speaker(messages[n])
    messages[n][who] = rng.choice(("narrator", "", "asistant", "Sarah"))
    return [("unknown_role", f"{key}[{n}].{who}")]


@_fault(_ANY_CHAT)
def null_speaker(rng: random.Random, obj: Object) -> Expected:
    key, messages = _list(obj)
    n = rng.randrange(len(messages))
    who = _speaker(messages[n])
    messages[n][who] = None
    return [("null_value", f"{key}[{n}].{who}")]


@_fault(_ANY_CHAT)
def message_that_is_no_object(rng: random.Random, obj: Object) -> Expected:
    key, messages = _list(obj)
    n = rng.randrange(len(messages))
    messages[n] = rng.choice(("hello", 5, None, ["user", "hello"]))
    return [("wrong_type", f"{key}[{n}]")]


@_fault(_ANY_CHAT)
def no_messages_at_all(rng: random.Random, obj: Object) -> Expected:
    key, _ = _list(obj)
    obj[key] = []
    return [("empty_list", key)]


@_fault(_ANY_CHAT)
def list_of_messages_is_null(rng: random.Random, obj: Object) -> Expected:
    key, _ = _list(obj)
    obj[key] = None
    return [("null_value", key)]


@_fault(_ANY_CHAT)
def list_of_messages_is_a_text(rng: random.Random, obj: Object) -> Expected:
    key, _ = _list(obj)
    obj[key] = "user: hello"
    return [("wrong_type", key)]


@_fault(_ANY_CHAT)
def no_assistant(rng: random.Random, obj: Object) -> Expected:
    key, messages = _list(obj)
    obj[key] = messages[: _of(random.Random(0), messages[:2], "user", "human") + 1]
    return [("no_assistant_turn", key)]


@_fault(_ANY_CHAT)
def ends_with_the_user(rng: random.Random, obj: Object) -> Expected:
    key, messages = _list(obj)
    messages.append(dict(messages[_of(rng, messages, "user", "human")]))
    return [("last_turn_not_assistant", f"{key}[{len(messages) - 1}]")]


@_fault(_ANY_CHAT)
def two_questions_in_a_row(rng: random.Random, obj: Object) -> Expected:
    key, messages = _list(obj)
    n = _of(rng, messages, "user", "human")
    messages.insert(n, dict(messages[n]))
    return [("role_order", f"{key}[{n + 1}]")]


@_fault("v3 sharegpt kto_of_messages kto_sharegpt")
def begins_with_an_answer(rng: random.Random, obj: Object) -> Expected:
    key, messages = _list(obj)
    messages.pop(0)
    messages += [dict(m) for m in messages[:1]] and [{**messages[0], _speaker(messages[0]): "user"}, messages[0]]
    return [("role_order", f"{key}[0]")]


@_fault(_ANY_CHAT)
def second_system_message(rng: random.Random, obj: Object) -> Expected:
    key, messages = _list(obj)
    system = {_speaker(messages[0]): "system", _words(messages[0]): "Be brief."}
    if messages[0][_speaker(messages[0])] != "system":
        messages.insert(0, dict(system))
    n = rng.randrange(1, len(messages))
    messages.insert(n, system)
    return [("system_not_first", f"{key}[{n}]")]


@_fault("sharegpt kto_sharegpt")
def system_field_and_system_message(rng: random.Random, obj: Object) -> Expected:
    obj["system"] = "You teach."
    obj["conversations"].insert(0, {"from": "system", "value": "Be brief."})
    return [("system_not_first", "conversations[0]")]


@_fault(_ANY_CHAT)
def blank_system_message(rng: random.Random, obj: Object) -> Expected:
    key, messages = _list(obj)
    words = _words(messages[0])
    if messages[0][_speaker(messages[0])] == "system":
        messages.pop(0)
    messages.insert(0, {_speaker(messages[0]): "system", words: " "})
    return [("blank_context", f"{key}[0].{words}")]


@_fault("v3 openai")
def turn_numbers_with_a_gap(rng: random.Random, obj: Object) -> Expected:
    key, messages = _list(obj)
    n = rng.randrange(1, len(messages))
    for place, message in enumerate(messages):
        message["turn"] = place + (2 if place < n else 3)
    return [("turn_number_gap", f"{key}[{n}].turn")]


@_fault("openai v3")
def every_answer_switched_off(rng: random.Random, obj: Object) -> Expected:
    key, messages = _list(obj)
    for message in messages:
        if message["role"] == "assistant":
            message["weight"] = 0
    return [("all_weights_zero", key)]


@_fault("openai v3")
def weight_that_is_none(rng: random.Random, obj: Object) -> Expected:
    key, messages = _list(obj)
    n = _of(rng, messages, "assistant")
    messages[n]["weight"] = rng.choice((2, -1, 0.5, "1", True, [1]))
    return [("invalid_weight", f"{key}[{n}].weight")]


@_fault("openai v3")
def weight_of_the_user(rng: random.Random, obj: Object) -> Expected:
    key, messages = _list(obj)
    n = _of(rng, messages, "user")
    messages[n]["weight"] = 1
    return [("weight_ignored", f"{key}[{n}].weight")]


# Content parts and tools


@_fault("openai kto_of_messages v3")
def a_picture(rng: random.Random, obj: Object) -> Expected:
    key, messages = _list(obj)
    n = _of(rng, messages, "user")
    words = [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": "data:"}}]
    messages[n]["content"] = words
    return [("unsupported_content", f"{key}[{n}].content[1]")]


@_fault("openai v3")
def content_part_without_text(rng: random.Random, obj: Object) -> Expected:
    key, messages = _list(obj)
    n = _of(rng, messages, "user", "assistant")
    messages[n]["content"] = [{"type": "text"}, {"type": "text", "text": None}, {"type": "text", "text": 5}, 5]
    where = f"{key}[{n}].content"
    return [
        ("missing_field", f"{where}[0].text"),
        ("null_value", f"{where}[1].text"),
        ("wrong_type", f"{where}[2].text"),
        ("wrong_type", f"{where}[3]"),
    ]


@_fault("openai v3")
def no_content_parts(rng: random.Random, obj: Object) -> Expected:
    key, messages = _list(obj)
    n = rng.randrange(len(messages))
    messages[n]["content"] = []
    return [("empty_list", f"{key}[{n}].content")]


def _call(arguments: object, **more: object) -> Object:
    return {"type": "function", "id": "1", "function": {"name": "fire", "arguments": arguments, **more}}


@_fault("openai v3")
def tool_arguments_that_are_no_json(rng: random.Random, obj: Object) -> Expected:
    key, messages = _list(obj)
    n = _of(rng, messages, "assistant")
    arguments = rng.choice(("{temperature: 1240}", "1240", "[1]", '{"a": 1', 5, ["a"], True))
    messages[n]["tool_calls"] = [_call('{"a": 1}'), _call(arguments)]
    return [("tool_arguments_not_json", f"{key}[{n}].tool_calls[1].function.arguments")]


@_fault("openai v3")
def a_tool_without_a_name(rng: random.Random, obj: Object) -> Expected:
    key, messages = _list(obj)
    n = _of(rng, messages, "assistant")
    messages[n]["tool_calls"] = [_call("{}", name=None)]
    return [("missing_field", f"{key}[{n}].tool_calls[0].function.name")]


@_fault("openai v3")
def a_tool_call_without_function(rng: random.Random, obj: Object) -> Expected:
    key, messages = _list(obj)
    n = _of(rng, messages, "assistant")
    messages[n]["tool_calls"] = [{"id": "1"}]
    return [("wrong_type", f"{key}[{n}].tool_calls[0]")]


@_fault("sharegpt")
def a_sharegpt_call_that_is_no_json(rng: random.Random, obj: Object) -> Expected:
    key, messages = _list(obj)
    messages[-1:] = [{"from": "function_call", "value": "fire(1240)"}]
    return [("tool_arguments_not_json", f"{key}[{len(messages) - 1}].value")]


@_fault("openai v3 sharegpt completion")
def tools_that_are_none(rng: random.Random, obj: Object) -> Expected:
    obj["tools"] = rng.choice(("fire", 5, ["fire"], {"name": "fire"}))
    return [("invalid_tools", "tools")]


@_fault("openai")
def tools_nested_too_deeply(rng: random.Random, obj: Object) -> Expected:
    tool: Object = {}
    for _ in range(400):
        tool = {"a": tool}
    obj["tools"] = [tool]
    return [("nesting_too_deep", "tools")]


@_fault("openai v3")
def a_name_that_is_a_number(rng: random.Random, obj: Object) -> Expected:
    key, messages = _list(obj)
    n = rng.randrange(len(messages))
    messages[n]["name"] = 5
    return [("wrong_type", f"{key}[{n}].name")]


# v4


@_fault("v4")
def no_target(rng: random.Random, obj: Object) -> Expected:
    del obj["target_response"]
    return [("missing_field", "target_response")]


@_fault("v4")
def null_target(rng: random.Random, obj: Object) -> Expected:
    obj["target_response"] = None
    obj["turn_number"] -= 1
    return [("null_target", "target_response")]


@_fault("v4")
def no_input(rng: random.Random, obj: Object) -> Expected:
    del obj["current_user_input"]
    return [("missing_field", "current_user_input")]


@_fault("v4")
def null_input(rng: random.Random, obj: Object) -> Expected:
    obj["current_user_input"] = None
    return [("null_value", "current_user_input")]


@_fault("v4")
def no_system_prompt(rng: random.Random, obj: Object) -> Expected:
    obj["system_prompt"] = rng.choice(("", " "))  # null says that there is none
    if rng.random() < 0.5:
        del obj["system_prompt"]
    return [("blank_context", "system_prompt")]


@_fault("v4")
def system_prompt_of_another_type(rng: random.Random, obj: Object) -> Expected:
    obj["system_prompt"] = ["You teach."]
    return [("wrong_type", "system_prompt")]


@_fault("v4")
def history_of_another_type(rng: random.Random, obj: Object) -> Expected:
    obj["conversation_history"] = rng.choice(("hello", {"role": "user"}, 5))
    return [("wrong_type", "conversation_history")]


@_fault("v4")
def history_with_a_blank_message(rng: random.Random, obj: Object) -> Expected:
    n = rng.randrange(len(obj["conversation_history"]))
    obj["conversation_history"][n]["content"] = " "
    return [("blank_content", f"conversation_history[{n}].content")]


@_fault("v4")
def history_that_leaves_a_turn_out(rng: random.Random, obj: Object) -> Expected:
    last = len(obj["conversation_history"]) - 1
    obj["conversation_history"][last]["turn"] += 1
    return [("turn_number_gap", f"conversation_history[{last}].turn")]


@_fault("v4")
def history_that_ends_with_another_question(rng: random.Random, obj: Object) -> Expected:
    obj["conversation_history"].append({"role": "user", "content": "And the kiln?"})
    obj["turn_number"] += 1
    return [("history_input_differs", f"conversation_history[{len(obj['conversation_history']) - 1}]")]


@_fault("v4")
def a_wrong_turn_number(rng: random.Random, obj: Object) -> Expected:
    obj["turn_number"] += rng.choice((1, 2, 40))
    return [("turn_number_gap", "turn_number")]


@_fault("v4 v3")
def no_conversation_id(rng: random.Random, obj: Object) -> Expected:
    del obj["conversation_id"]
    return [("missing_field", "conversation_id")]


@_fault("v4 v3")
def a_null_conversation_id(rng: random.Random, obj: Object) -> Expected:
    obj["conversation_id"] = None
    return [("null_value", "conversation_id")]


@_fault("v4 v3")
def a_blank_conversation_id(rng: random.Random, obj: Object) -> Expected:
    obj["conversation_id"] = "  "
    return [("blank_content", "conversation_id")]


@_fault("v4 v3")
def a_conversation_id_of_another_type(rng: random.Random, obj: Object) -> Expected:
    obj["conversation_id"] = ["c1"]
    return [("wrong_type", "conversation_id")]


@_fault("v3")
def no_turns(rng: random.Random, obj: Object) -> Expected:
    del obj["turns"]
    return [("missing_field", "turns")]


@_fault("v4")
def a_placeholder_in_the_scaffolding(rng: random.Random, obj: Object) -> Expected:
    obj["conversation_metadata"]["client_persona"] = "[object Object]"
    return [("unfilled_placeholder", "conversation_metadata.client_persona")]


# Instructions, prompts, preferences


@_fault("alpaca completion preference kto")
def no_answer(rng: random.Random, obj: Object) -> Expected:
    key = next(key for key in ("output", "completion", "rejected") if key in obj)
    del obj[key]
    return [("missing_field", key)]


@_fault("alpaca completion preference kto v4")
def an_answer_of_another_type(rng: random.Random, obj: Object) -> Expected:
    key = next(key for key in ("output", "completion", "rejected", "target_response") if key in obj)
    obj[key] = rng.choice((5, True))
    return [("wrong_type", key)]


@_fault("alpaca completion preference kto")
def a_null_answer(rng: random.Random, obj: Object) -> Expected:
    key = next(key for key in ("output", "completion", "chosen") if key in obj)
    obj[key] = None
    return [("null_value", key)]


@_fault("alpaca completion preference kto v4")
def a_blank_answer(rng: random.Random, obj: Object) -> Expected:
    key = next(key for key in ("output", "completion", "chosen", "target_response") if key in obj)
    obj[key] = rng.choice(("", "\n "))
    return [("blank_content", key)]


@_fault("alpaca")
def nothing_asked(rng: random.Random, obj: Object) -> Expected:
    obj["instruction"] = obj["input"] = ""
    return [("blank_content", "instruction")]


@_fault("alpaca")
def a_broken_history(rng: random.Random, obj: Object) -> Expected:
    obj["history"] = [["q", "a"], ["q"]]
    return [("wrong_type", "history[1]")]


@_fault("alpaca")
def a_blank_question_in_the_history(rng: random.Random, obj: Object) -> Expected:
    obj["history"] = [["", "a."]]
    return [("blank_content", "history[0][0]")]


@_fault("alpaca")
def an_answer_in_the_history_cut_off(rng: random.Random, obj: Object) -> Expected:
    obj["history"] = [["q?", "a\\"]]
    return [("text_cut_off", "history[0][1]")]


@_fault("completion kto")
def a_blank_prompt(rng: random.Random, obj: Object) -> Expected:
    obj["prompt"] = " "
    return [("blank_context", "prompt"), *([("role_order", "completion")] if "label" in obj else [])]


@_fault("completion kto preference")
def a_prompt_of_another_type(rng: random.Random, obj: Object) -> Expected:
    obj["prompt"] = 5
    return [("wrong_type", "prompt")]


@_fault("preference")
def a_preference_without_a_prompt(rng: random.Random, obj: Object) -> Expected:
    del obj["prompt"]
    return [("missing_field", "prompt")]


@_fault("preference")
def a_preference_with_a_blank_prompt(rng: random.Random, obj: Object) -> Expected:
    obj["prompt"] = "\n"
    return [("blank_content", "prompt")]


@_fault("preference preference_of_messages preference_sharegpt preference_hh")
def two_equal_answers(rng: random.Random, obj: Object) -> Expected:
    obj["rejected"] = obj["chosen"]
    return [("identical_preference", "chosen")]


@_fault("preference_openai")
def an_unwanted_answer_that_is_a_question(rng: random.Random, obj: Object) -> Expected:
    obj["non_preferred_output"] = [{"role": "user", "content": "What?"}]
    return [("no_assistant_turn", "non_preferred_output")]


@_fault("preference_openai")
def a_preference_that_ends_with_a_question(rng: random.Random, obj: Object) -> Expected:
    obj["preferred_output"].append({"role": "user", "content": "And then?"})
    return [("last_turn_not_assistant", "preferred_output[1]")]


@_fault("preference_sharegpt")
def a_rejected_message_without_text(rng: random.Random, obj: Object) -> Expected:
    obj["rejected"] = {"from": "gpt"}
    return [("missing_field", "rejected.value")]


@_fault("preference_of_messages")
def a_chosen_answer_of_an_unknown_speaker(rng: random.Random, obj: Object) -> Expected:
    obj["chosen"][-1]["role"] = "narrator"
    return [("unknown_role", f"chosen[{len(obj['chosen']) - 1}].role")]


@_fault("preference_hh")
def a_dialogue_with_a_blank_answer(rng: random.Random, obj: Object) -> Expected:
    obj["chosen"] += "\n\nHuman: \n\nAssistant: Yes."
    return [("blank_content", "chosen")]


@_fault("kto kto_of_messages")
def no_label(rng: random.Random, obj: Object) -> Expected:
    del obj["label"]
    return [("missing_field", "label")]


@_fault("kto kto_of_messages")
def a_label_that_is_none(rng: random.Random, obj: Object) -> Expected:
    obj["label"] = rng.choice(("good", 1, 0, "true", None, 0.5))
    return [("invalid_label", "label")]


@_fault("completion_of_messages")
def a_completion_that_is_a_question(rng: random.Random, obj: Object) -> Expected:
    obj["completion"] = [{"role": "user", "content": "Why?"}]
    return [("no_assistant_turn", "completion")]


@_fault("kto")
def a_judged_question(rng: random.Random, obj: Object) -> Expected:
    obj["completion"] = [{"role": "user", "content": "Why?"}]
    return [("no_assistant_turn", "completion")]


# What a text holds


def _say(obj: Object, text: str) -> str:
    """Put a text where a model would learn it, and say where that is."""
    for key in ("target_response", "output", "completion", "chosen"):
        if isinstance(obj.get(key), str):
            obj[key] = text
            return key
    key, messages = _list(obj)
    words = _words(messages[-1])
    messages[-1][words] = text
    return f"{key}[{len(messages) - 1}].{words}"


_HOLDS = {
    "unfilled_placeholder": ("{{name}}", "{{ user.name }}", "{{#if x}}", "[object Object]", "{% if x %}", "<noinput>"),
    "control_character": ("\x07", "\x00", "\x1b[1m", "\x0b", "\x7f"),
    "replacement_character": ("na\ufffdve",),
    "garbled_characters": ("cafÃ©", "itâ€™s", "a\x92b", "NÂ°"),
    "doubled_escape": ("First.\\nSecond", "a\\n\\nb", "caf\\u00e9", 'so \\"called\\" clay'),
    "special_token_in_text": (
        *("<|im_end|>", "<|eot_id|>", "</s>", "[/INST]", "<end_of_turn>", "<｜User｜>", "[gMASK]", "<|end_of_text|>"),
    ),
    "text_cut_off": (),
}
_CUT = ("A lone \\", _LONG + "And that is why the", _LONG + "The potter then walks over to the ki", "```\ncode = 1")


def _holding(code: str) -> Change:
    def change(rng: random.Random, obj: Object) -> Expected:
        return [(code, _say(obj, f"It is {rng.choice(_HOLDS[code])} here."))]

    return change


def _cut_off(rng: random.Random, obj: Object) -> Expected:
    return [("text_cut_off", _say(obj, rng.choice(_CUT)))]


for _kind in ("v4", "v3", "openai", "sharegpt", "alpaca", "completion", "preference", "kto", "kto_of_messages"):
    for _code in _HOLDS:
        OBJECT_FAULTS[f"{_code} in {_kind}"] = (_kind, _cut_off if _code == "text_cut_off" else _holding(_code))


# Faults of the bytes: from a record's text to what stands there instead, the code, and the byte within the record.

TextFault = Callable[[random.Random, bytes], tuple[bytes, str, int]]


def _before_text(text: bytes) -> int:
    """Where the first letters of some text begin that stands in quotes as a value."""
    return text.index(b'": "') + 4


def cut_in_the_middle(rng: random.Random, text: bytes) -> tuple[bytes, str, int]:
    cut = rng.randrange(2, len(text))
    while text[cut - 1 : cut] == b"\\" or 0x80 <= text[cut] < 0xC0:
        cut -= 1
    return text[:cut], "broken_json", cut


def a_single_quote(rng: random.Random, text: bytes) -> tuple[bytes, str, int]:
    place = text.index(b'"')
    return text[:place] + b"'" + text[place + 1 :], "broken_json", place


def a_missing_colon(rng: random.Random, text: bytes) -> tuple[bytes, str, int]:
    place = text.index(b'":') + 1
    return text[:place] + text[place + 1 :], "broken_json", place + 1


def a_word_of_python(rng: random.Random, text: bytes) -> tuple[bytes, str, int]:
    return text[:-1] + b', "x": None}', "broken_json", len(text) + 6


def not_a_number(rng: random.Random, text: bytes) -> tuple[bytes, str, int]:
    return text[:-1] + b', "x": NaN}', "broken_json", len(text) + 6


def a_comment(rng: random.Random, text: bytes) -> tuple[bytes, str, int]:
    return text[:-1] + b" // why?}", "broken_json", len(text)


def a_comma_too_many(rng: random.Random, text: bytes) -> tuple[bytes, str, int]:
    return text[:-1] + b",}", "broken_json", len(text) - 1


def a_raw_tab(rng: random.Random, text: bytes) -> tuple[bytes, str, int]:
    place = _before_text(text)
    return text[:place] + b"\t" + text[place:], "broken_json", place


def a_nul_byte(rng: random.Random, text: bytes) -> tuple[bytes, str, int]:
    place = _before_text(text)
    return text[:place] + b"\0" + text[place:], "broken_json", place


def an_escape_that_is_none(rng: random.Random, text: bytes) -> tuple[bytes, str, int]:
    place = _before_text(text)
    return text[:place] + b"\\x41" + text[place:], "broken_json", place


def a_latin_1_letter(rng: random.Random, text: bytes) -> tuple[bytes, str, int]:
    place = _before_text(text)
    return text[:place] + b"\xe4" + text[place:], "invalid_utf8", place


def half_a_surrogate_pair_as_bytes(rng: random.Random, text: bytes) -> tuple[bytes, str, int]:
    place = _before_text(text)
    return text[:place] + b"\xed\xa0\xbd" + text[place:], "lone_surrogate", place


def too_many_brackets(rng: random.Random, text: bytes) -> tuple[bytes, str, int]:
    return text[:-1] + b', "x": ' + b"[" * 2_000 + b"]" * 2_000 + b"}", "nesting_too_deep", -1


TEXT_FAULTS: tuple[TextFault, ...] = (
    *(cut_in_the_middle, a_single_quote, a_missing_colon, a_word_of_python, not_a_number, a_comment, a_comma_too_many),
    *(a_raw_tab, a_nul_byte, an_escape_that_is_none, a_latin_1_letter, half_a_surrogate_pair_as_bytes),
    too_many_brackets,
)

# Records that are none, whatever the format.
NO_OBJECTS: tuple[bytes, ...] = (b"5", b'"hello"', b"null", b"true", b"[1, 2]", b"3.25")


def as_json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
