"""A suspicious sign is found wherever it stands, also where many harmless ones of its kind stand before it."""

import pytest

from brightrun.formats.texts import suspicious

HARMLESS = [b"", b"x" * 700, b"\\n" * 40, b"<b>" * 40, b"[x]" * 40, "ß é ".encode() * 40, "\u00a0".encode() * 40]
SUSPICIOUS = [
    *(b"\\b", b"\\f", b"\\u0007", b"\\u00c3", b"\\uFFFD", b"\\\\", b"\\u005c", b"\\u003c", b"\\uff5c"),
    *(b"<|im_end|>", b"</s>", b"<<SYS>>", b"<%=", b"<s>", b"<bos>", b"<eos>", b"<start_of_turn>", b"<noinput>"),
    *(b"[object Object]", b"[INSERT x]", b"[INST]", b"[/INST]", b"[TOOL_CALLS]", b"[gMASK]", b"[|user|]", b"{{", b"{%"),
    *("\ufffd".encode(), "\x85".encode(), b"\x7f", "Ã©".encode(), "Â«".encode(), "â€™".encode(), "ðŸ".encode()),
]


@pytest.mark.parametrize("sign", SUSPICIOUS)
def test_a_sign_is_found_behind_harmless_ones(sign: bytes) -> None:
    for before in HARMLESS:
        for after in (b"", b" ", b"x" * 700):
            assert suspicious(before + sign + after), (before[:10], sign)


@pytest.mark.parametrize("text", [*HARMLESS, *(text + sign for text in HARMLESS for sign in (b"\\", b"<", b"[", b"{"))])
def test_harmless_signs_are_not_suspicious(text: bytes) -> None:
    assert not suspicious(text)
