"""What a model learns from one record, token by token: the mask, as the trainer applies it."""

from itertools import takewhile
from typing import TypedDict

import msgspec

from brightrun.formats.chat import ChatTokenizer, InspectedToken, preference_sides
from brightrun.formats.fit import fit
from brightrun.formats.records import Record

SIDES = ("chosen", "rejected")


class Mask(TypedDict):
    """Every token of a record. The texts, joined, are the rendered chat.

    tokens: `trained` is what would be trained without a limit; `cut`, what the limit takes away: the end, or the
    oldest messages where leaving them out saves the answer (`formats.fit`). trained_total: trained tokens without the
    limit; trained_kept: those that are left. tokens_total, tokens_kept: all tokens. eot_trained: every trained message
    ends in an end-of-turn token that is trained and not cut. left_out: messages left out, after the system's.
    """

    tokens: list[InspectedToken]
    trained_total: int
    eot_trained: bool
    template_sha256: str
    trained_kept: int
    tokens_total: int
    tokens_kept: int
    left_out: int
    max_length: int | None


def mask_of(
    tokenizer: ChatTokenizer, record: Record, *, max_length: int | None = None, side: str | None = None
) -> Mask:
    """The mask of a record, within `max_length` tokens.

    side: of a preference pair, `chosen` (also when None) or `rejected`; such a pair is cut at its end only.
    Raises ChatError, ValueError for a side that there is not.
    """
    if record.kind != "preference" and side is not None:
        raise ValueError(f"The row is no preference pair: it has no {side} answer.")
    left_out, eot_trained = 0, None
    if record.kind == "preference":
        if side not in {None, *SIDES}:
            raise ValueError(f"A preference pair has a chosen and a rejected answer, not {side!r}.")
        messages = preference_sides(record)[SIDES.index(side or "chosen")]
        record = msgspec.structs.replace(record, kind="chat", messages=messages, chosen=None, rejected=None)
        whole = tokenizer.inspect(record, max_length)
    elif max_length is None:
        whole = tokenizer.inspect(record)
    else:
        whole = tokenizer.inspect(record, max_length)
        if any(token["trained"] and token["cut"] for token in whole["tokens"]):
            fitted = fit(tokenizer, record, max_length=max_length)
            left_out, eot_trained = fitted.left_out, fitted.encoded.eot_trained
            if left_out:
                whole["tokens"] = _without_oldest(tokenizer, record, left_out, whole["tokens"], max_length)
    tokens = whole["tokens"]
    kept = [token for token in tokens if not token["cut"]]
    return Mask(
        tokens=tokens,
        trained_total=sum(token["trained"] for token in tokens),
        eot_trained=whole["eot_trained"] if eot_trained is None else eot_trained,
        template_sha256=whole["template_sha256"],
        trained_kept=sum(token["trained"] for token in kept),
        tokens_total=len(tokens),
        tokens_kept=len(kept),
        left_out=left_out,
        max_length=max_length,
    )


def _without_oldest(
    tokenizer: ChatTokenizer, record: Record, left_out: int, whole: list[InspectedToken], max_length: int
) -> list[InspectedToken]:
    """The whole record's tokens, those of its oldest messages marked as cut.

    Where the template writes the shorter chat in other tokens than the same part of the longer one, those that the
    trainer sees are shown alone.
    """
    opening = len(list(takewhile(lambda message: message.role == "system", record.messages)))
    messages = [*record.messages[:opening], *record.messages[opening + left_out :]]
    seen = tokenizer.inspect(msgspec.structs.replace(record, messages=messages), max_length)["tokens"]
    removed = len(whole) - len(seen)
    same = sum(1 for _ in takewhile(lambda pair: pair[0]["id"] == pair[1]["id"], zip(whole, seen, strict=False)))
    rest = zip(whole[same + removed :], seen[same:], strict=False)
    if removed < 0 or any(a["id"] != b["id"] or a["trained"] != b["trained"] for a, b in rest):
        return seen
    gone: list[InspectedToken] = [{**token, "cut": True} for token in whole[same : same + removed]]
    return [*seen[:same], *gone, *seen[same:]]
