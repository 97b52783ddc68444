"""The training methods: what each is for, in plain words, what data it learns from and what it needs. Pure data."""

from typing import Literal, get_args

import msgspec

from brightrun.formats.records import Kind

MethodId = Literal["lora", "rslora", "dora", "qlora", "dpo"]
METHOD_IDS: tuple[MethodId, ...] = get_args(MethodId)


class Method(msgspec.Struct, frozen=True, kw_only=True):
    """One way to train.

    data: the kind of record that it learns from. needs_cuda: it runs on a GPU of NVIDIA with bitsandbytes only.
    """

    id: MethodId
    title: str
    explanation: str
    data: Kind = "chat"
    needs_cuda: bool = False


METHODS: dict[str, Method] = {
    method.id: method
    for method in (
        Method(
            id="lora",
            title="LoRA",
            explanation="Small matrices beside every linear layer learn the expert's answers; the model itself stays "
            "as it is. The right choice unless you know why not.",
        ),
        Method(
            id="rslora",
            title="rsLoRA",
            explanation="LoRA scaled by alpha ÷ √rank instead of alpha ÷ rank, so that a high rank is not held back. "
            "Worth a try from rank 64; it learns more and forgets more.",
        ),
        Method(
            id="dora",
            title="DoRA",
            explanation="LoRA that learns direction and length of the weights apart. About a quarter slower and larger "
            "in memory, seldom better; some servers (vLLM) cannot load it.",
        ),
        Method(
            id="qlora",
            title="QLoRA",
            explanation="LoRA on a base model that is kept in 4 bits (NF4): a quarter of its memory, a little slower "
            "and a little less exact. For models that do not fit otherwise. Needs an NVIDIA GPU.",
            needs_cuda=True,
        ),
        Method(
            id="dpo",
            title="DPO",
            explanation="Learns from pairs of answers, one preferred to the other, to make the better one more likely "
            "than the worse one. Needs a preference file. The adapter is a plain LoRA.",
            data="preference",
        ),
    )
}


def data_fault(method: str, kind: Kind) -> str | None:
    """Why records of this kind cannot be learned from by this method, as a sentence; None when they can."""
    wanted = METHODS[method].data
    if kind == wanted:
        return None
    if kind == "preference":
        return "pairs of a chosen and a rejected answer are learned with the method dpo, not with " + method
    if wanted == "preference":
        return (
            f"{method} learns from pairs of a chosen and a rejected answer (a preference file), not from {_PLAIN[kind]}"
        )
    return f"{method} learns from conversations, not from {_PLAIN[kind]}"


_PLAIN: dict[Kind, str] = {
    "chat": "conversations",
    "preference": "pairs of answers",
    "kto": "answers that are labelled good or bad (KTO), which no method of this version learns from",
}
