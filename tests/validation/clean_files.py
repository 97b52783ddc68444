"""Clean training files in every format and layout, small look-alikes of real ones, for faults to be put into."""

import json
import random
from collections.abc import Callable
from typing import Any, NamedTuple

Object = dict[str, Any]

_SUBJECTS = ("The clay", "A kiln", "This glaze", "Your wheel", "The slip", "An old mould", "Stoneware", "Porcelain")
_VERBS = ("dries", "shrinks", "cracks", "holds its form", "takes colour", "warms up", "softens", "settles")
_ENDS = (
    "slowly in the shade",
    "after two firings",
    "when the air is dry",
    "at 1,240 °C",
    "like café au lait",
    "in time",
)


def sentence(rng: random.Random) -> str:
    """A sentence with a little of what real texts hold: accents, digits, quotation marks, a line break."""
    end = rng.choice(_ENDS)
    text = f"{rng.choice(_SUBJECTS)} no. {rng.randrange(10**6)} {rng.choice(_VERBS)} {end}."
    return text if rng.random() < 0.8 else f"“{text}”\nSo it’s said."


def question(rng: random.Random) -> str:
    """A question."""
    return f"Why is it that {sentence(rng)[0].lower()}{sentence(rng)[1:-1]}?"


def _turns(rng: random.Random, keys: tuple[str, str] = ("role", "content")) -> list[Object]:
    names = ("user", "assistant") if keys[0] == "role" else ("human", "gpt")
    said = []
    for _ in range(rng.randrange(1, 4)):
        said += [{keys[0]: names[0], keys[1]: question(rng)}, {keys[0]: names[1], keys[1]: sentence(rng)}]
    return said


def v4(rng: random.Random, number: int = 0) -> Object:
    """A pair; its history does not repeat the current input."""
    history = [{"turn": n, **turn} for n, turn in enumerate(_turns(rng), start=1)]
    return {
        "id": f"pair-{number}",
        "conversation_id": f"c{number}",
        "turn_number": len(history) + 2,
        "conversation_metadata": {"client_persona": "Ann the Beginner", "emotional_arc": "doubt → ease"},
        "system_prompt": "You teach pottery, kindly.",
        "conversation_history": history,
        "current_user_input": question(rng),
        "emotional_context": {"primary": "doubt", "intensity": 0.5},
        "target_response": sentence(rng),
        "training_metadata": {"quality_score": 4.2},
    }


def v3(rng: random.Random, number: int = 0) -> Object:
    return {"conversation_id": f"c{number}", "turns": _turns(rng)}


def openai(rng: random.Random, number: int = 0) -> Object:
    return {"messages": [{"role": "system", "content": "You teach pottery."}, *_turns(rng)], "id": number}


def sharegpt(rng: random.Random, number: int = 0) -> Object:
    return {"id": f"s{number}", "conversations": _turns(rng, ("from", "value"))}


def alpaca(rng: random.Random, number: int = 0) -> Object:
    history = [[question(rng), sentence(rng)]] if number % 3 == 0 else []
    return {"instruction": question(rng), "input": "", "output": sentence(rng), "history": history}


def completion(rng: random.Random, number: int = 0) -> Object:
    return {"prompt": question(rng), "completion": sentence(rng)}


def completion_of_messages(rng: random.Random, number: int = 0) -> Object:
    *prompt, answer = _turns(rng)
    return {"prompt": prompt, "completion": [answer]}


def preference(rng: random.Random, number: int = 0) -> Object:
    return {"prompt": question(rng), "chosen": sentence(rng), "rejected": sentence(rng)}


def preference_of_messages(rng: random.Random, number: int = 0) -> Object:
    turns = _turns(rng)
    other = {**turns[-1], "content": sentence(rng)}
    return {"chosen": turns, "rejected": [*turns[:-1], other]}


def preference_sharegpt(rng: random.Random, number: int = 0) -> Object:
    *asked, answer = _turns(rng, ("from", "value"))
    return {"conversations": asked, "chosen": answer, "rejected": {"from": "gpt", "value": sentence(rng)}}


def preference_openai(rng: random.Random, number: int = 0) -> Object:
    *asked, answer = _turns(rng)
    other = {**answer, "content": sentence(rng)}
    return {"input": {"messages": asked}, "preferred_output": [answer], "non_preferred_output": [other]}


def preference_hh(rng: random.Random, number: int = 0) -> Object:
    asked = f"\n\nHuman: {question(rng)}\n\nAssistant:"
    return {"chosen": f"{asked} {sentence(rng)}", "rejected": f"{asked} {sentence(rng)}"}


def kto(rng: random.Random, number: int = 0) -> Object:
    return {"prompt": question(rng), "completion": sentence(rng), "label": rng.random() < 0.5}


def kto_of_messages(rng: random.Random, number: int = 0) -> Object:
    return {"messages": _turns(rng), "label": rng.random() < 0.5}


def kto_sharegpt(rng: random.Random, number: int = 0) -> Object:
    return {"conversations": _turns(rng, ("from", "value")), "kto_tag": rng.random() < 0.5}


def enriched(rng: random.Random, number: int = 0) -> Object:
    pairs = [v4(rng, n) for n in range(rng.randrange(1, 4))]
    metadata = {"dataset_name": f"fp_conversation_{number}", "version": "1.0.0", "total_turns": len(pairs)}
    return {"dataset_metadata": metadata, "consultant_profile": {"name": "Elena"}, "training_pairs": pairs}


KINDS: dict[str, tuple[str, Callable[[random.Random, int], Object]]] = {
    "v4": ("brightrun_lora_v4", v4),
    "v3": ("brightrun_lora_v3", v3),
    "openai": ("openai_messages", openai),
    "sharegpt": ("sharegpt", sharegpt),
    "alpaca": ("alpaca", alpaca),
    "completion": ("prompt_completion", completion),
    "completion_of_messages": ("prompt_completion", completion_of_messages),
    "preference": ("preference", preference),
    "preference_of_messages": ("preference", preference_of_messages),
    "preference_sharegpt": ("preference", preference_sharegpt),
    "preference_openai": ("preference", preference_openai),
    "preference_hh": ("preference", preference_hh),
    "kto": ("kto", kto),
    "kto_of_messages": ("kto", kto_of_messages),
    "kto_sharegpt": ("kto", kto_sharegpt),
    "enriched": ("enriched_conversation", enriched),
}
LAYOUTS = ("lines", "crlf", "escaped", "array", "array_of_lines", "pretty")


class Place(NamedTuple):
    """Where a record stands: what an issue about it must say."""

    line: int
    byte_offset: int
    path: str


class File(NamedTuple):
    """format: its id. places: one a record, in order. texts: the bytes of each."""

    format: str
    data: bytes
    places: list[Place]
    texts: list[bytes]


def render(format_id: str, objects: list[Object] | list[bytes], layout: str) -> File:
    """A file of records; given as bytes they are written as they are."""
    texts = [obj if isinstance(obj, bytes) else _written(obj, layout) for obj in objects]
    if layout in ("lines", "crlf", "escaped"):
        end = b"\r\n" if layout == "crlf" else b"\n"
        before, between, after = b"", end, end
    else:
        before, between, after = {
            "array": (b"[", b", ", b"]"),
            "array_of_lines": (b"[\n", b",\n", b"\n]\n"),
            "pretty": (b"[\n  ", b",\n  ", b"\n]\n"),
        }[layout]
    data, places = before, []
    for number, text in enumerate(texts):
        places.append(Place(number + 1, len(data), f"[{number}]" if before else ""))
        data += text + (between if number < len(texts) - 1 else after)
    return File(format_id, data, places, texts)


def _written(obj: Object, layout: str) -> bytes:
    indent = 2 if layout == "pretty" else None
    text = json.dumps(obj, ensure_ascii=layout == "escaped", indent=indent)
    return text.replace("\n", "\n  ").encode() if indent else text.encode()


def make(kind: str, layout: str, rng: random.Random, count: int = 8) -> File:
    """A clean file of one kind."""
    format_id, maker = KINDS[kind]
    return render(format_id, [maker(rng, number) for number in range(count)], layout)


def full_document(rng: random.Random, conversations: int = 3) -> Object:
    """The full v4 file as one object."""
    listed = []
    for number in range(conversations):
        pairs = [{**v4(rng, n), "conversation_id": "template"} for n in range(rng.randrange(2, 4))]
        about = {"conversation_id": f"conversation {number}", "total_turns": len(pairs)}
        listed.append({"conversation_metadata": about, "training_pairs": pairs})
    total = sum(len(entry["training_pairs"]) for entry in listed)
    metadata = {"version": "4.0.0", "total_conversations": conversations, "total_training_pairs": total}
    return {"training_file_metadata": metadata, "consultant_profile": {"name": "Elena"}, "conversations": listed}


def render_document(format_id: str, document: Object, indent: int | None) -> File:
    """A full v4 file or an enriched one, with the places of its pairs."""
    data = json.dumps(document, ensure_ascii=False, indent=indent).encode()
    places, texts, start = [], [], 0
    pairs = [(f"training_pairs[{n}]", pair) for n, pair in enumerate(document.get("training_pairs", []))]
    for number, conversation in enumerate(document.get("conversations", [])):
        if isinstance(conversation, dict) and isinstance(conversation.get("training_pairs"), list):
            where = f"conversations[{number}].training_pairs"
            pairs += [(f"{where}[{n}]", pair) for n, pair in enumerate(conversation["training_pairs"])]
    depth = 2 if format_id == "enriched_conversation" else 4
    for line, (path, pair) in enumerate(pairs, start=1):
        text = json.dumps(pair, ensure_ascii=False, indent=indent)
        text = text.replace("\n", "\n" + " " * (indent or 0) * depth)
        start = data.index(text.encode(), start)
        places.append(Place(line, start, path))
        texts.append(text.encode())
        start += len(texts[-1])
    return File(format_id, data, places, texts)
