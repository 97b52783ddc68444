"""One case for each finding that can be mended: the faulty file, and what must come out of it."""
# ruff: noqa: E501 - one case a line

import json
from typing import Any, NamedTuple

OTHER = b'{"messages": [{"role": "user", "content": "Why wedge clay?"}, {"role": "assistant", "content": "Air."}]}'
ODD = (  # what a rewriting through a JSON library would not keep
    b'{ "extra":{"b":1.50,"a":1e3},"messages":[{"role":"user","content":"Wie hei\\u00dft das?", "x":null},'
    b'{"content":"Schlicker.","role":"assistant"}] }'
)


class Case(NamedTuple):
    """before: the faulty file. after: what must come out, to the byte."""

    code: str
    before: bytes
    after: bytes


def lines(*records: bytes) -> bytes:
    return b"".join(record + b"\n" for record in records)


def chat(user: str = "What is slip?", answer: str = "Clay and water.") -> bytes:
    return json.dumps(
        {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]}
    ).encode()


def pair(**more: Any) -> bytes:
    fields = {
        "conversation_id": "c1",
        "system_prompt": "You teach pottery.",
        "conversation_history": [],
        "current_user_input": "What is slip?",
        "target_response": "Clay and water.",
        **more,
    }
    return json.dumps(fields).encode()


SAID = [{"role": "user", "content": "What is slip?"}]
PREFERENCE = b'{"prompt": "What is slip?", "chosen": "Clay.", "rejected": "%b"}'
CASES = [
    Case("wrong_encoding", lines(chat(), OTHER).decode().encode("utf-16"), lines(chat(), OTHER)),
    Case("wrong_encoding", lines(chat("Größe?"), OTHER).decode().encode("utf-16-be"), lines(chat("Größe?"), OTHER)),
    Case("byte_order_mark", b"\xef\xbb\xbf" + lines(ODD, OTHER), lines(ODD, OTHER)),
    Case("crlf_lines", lines(ODD, OTHER).replace(b"\n", b"\r\n"), lines(ODD, OTHER)),
    Case("invalid_utf8", lines(OTHER, chat("cafXe").replace(b"X", b"\xe9")), lines(OTHER, chat("cafXe").replace(b"X", "é".encode()))),
    Case("lone_surrogate", lines(OTHER, chat("ok X").replace(b"X", rb"\ud83d")), lines(OTHER, chat("ok "))),
    Case("blank_context", b'{"messages": [{"role": "system", "content": " "}, ' + OTHER[14:] + b"\n", OTHER + b"\n"),
    Case("repeated_key", lines(b'{"id":1, "x": 1.50,' + ODD[2:], b'{"x": [1, 2],"x":[1,2], ' + OTHER[1:]), lines(b'{"id":1, "x": 1.50,' + ODD[2:], b'{"x":[1,2], ' + OTHER[1:])),
    Case("invalid_weight", lines(OTHER[:-3] + b', "weight": true}]}'), lines(OTHER[:-3] + b', "weight": 1}]}')),
    Case("invalid_weight", lines(OTHER[:-3] + b', "weight":"1"}]}'), lines(OTHER[:-3] + b', "weight":1}]}')),
    Case("last_turn_not_assistant", lines(OTHER[:-2] + b', {"role": "user", "content": "Thanks!"} ]}', ODD), lines(OTHER[:-2] + b" ]}", ODD)),
    Case("weight_ignored", lines(OTHER.replace(b'"user", ', b'"user", "weight": 1, ')), lines(OTHER)),
    Case("identical_preference", lines(PREFERENCE % b"Mud.", PREFERENCE % b"Clay."), lines(PREFERENCE % b"Mud.")),
    Case("identical_preference", lines(PREFERENCE % b"Clay.", PREFERENCE % b"Mud."), lines(PREFERENCE % b"Mud.")),
    Case("history_repeats_input", lines(pair(conversation_history=SAID, mood=1.50)), lines(pair(mood=1.50))),
    Case("control_character", lines(chat("a\x07b\x1b[31mred"), OTHER), lines(chat("abred"), OTHER)),
    Case("control_character", lines(chat("one\fpage"), OTHER), lines(chat("one\npage"), OTHER)),
    Case("control_character", lines(chat(r"So \(" + "\frac{1}{2} + \beta x\f."), OTHER), lines(chat(r"So \(\frac{1}{2} + \beta x" + "\n."), OTHER)),
    Case("doubled_escape", lines(chat(answer="First.\\n\\nSecond.\\n- a `\\n` stays"), OTHER), lines(chat(answer="First.\n\nSecond.\n- a `\\n` stays"), OTHER)),
    Case("special_token_in_text", lines(chat(answer="<|im_start|>assistant\nClay.<|im_end|>"), OTHER), lines(chat(answer="Clay."), OTHER)),
    Case("meta_count_mismatch", lines(b'{"_meta": {"a": 1.0, "total_pairs": 7}}', pair()), lines(b'{"_meta": {"a": 1.0, "total_pairs": 1}}', pair())),
    Case("misplaced_meta", lines(pair(), b'{"_meta": {"total_pairs": 7}}', pair(target_response="Mud.")), lines(pair(), pair(target_response="Mud."))),
    Case("duplicate_record", lines(OTHER, ODD, OTHER), lines(OTHER, ODD)),
    Case("duplicate_record", b"[" + OTHER + b",\n  " + OTHER + b" ,\n" + ODD + b"]", b"[" + OTHER + b" ,\n" + ODD + b"]"),
    Case("broken_json", lines(OTHER + b",", chat()), lines(OTHER, chat())),
    Case("broken_json", lines(OTHER, chat("a X b").replace(b"X", b"\t")), lines(OTHER, chat("a X b").replace(b"X", b"\\t"))),
    Case("broken_json", lines(OTHER, b"{'messages': [{'role': 'user', 'content': \"What's slip?\", 'x': None}, {'role': 'assistant', 'content': 'Clay.'}]}"), lines(OTHER, b'{"messages":[{"role":"user","content":"What\'s slip?","x":null},{"role":"assistant","content":"Clay."}]}')),
    Case("unknown_role", lines(OTHER.replace(b'"user"', b'"User:"')), lines(OTHER)),
    Case("system_not_first", b'{"messages": [{"role": "system", "content": "Be kind."}, {"role": "system", "content": "Be brief."}, ' + OTHER[14:] + b"\n", b'{"messages": [{"role": "system", "content": "Be kind.\\n\\nBe brief."}, ' + OTHER[14:] + b"\n"),
    Case("invalid_label", lines(b'{"prompt": "a?", "completion": "b", "label": "True"}'), lines(b'{"prompt": "a?", "completion": "b", "label": true}')),
]  # fmt: skip
