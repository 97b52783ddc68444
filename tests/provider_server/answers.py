"""Answers that obey the JSON schema they were asked for, with words of the prompt in them; and the faults."""

import json
import random
import re
from typing import Any

import orjson

EMOTIONS = ("anxiety", "confusion", "shame", "relief", "curiosity", "determination", "calm", "hope", "clarity")
USER_OPENERS = (
    "I have been putting this off for months, and",
    "Honestly, I do not know where to start:",
    "My partner keeps asking me about this, and",
    "I read three articles last night, and",
    "That helps, but there is one more thing:",
)
REPLY_OPENERS = (
    "Thank you for telling me that; it takes courage to say it out loud.",
    "That is a fair question, and it has a clear answer.",
    "Let us take this one step at a time.",
    "I can see why that feels heavy.",
    "You already did the hardest part by looking at it.",
)
DECODER = json.JSONDecoder()
WORD = re.compile(r"[A-Za-z][A-Za-z'-]{3,}")
TURNS = re.compile(r"(\d+)\s*(?:-|–|to|and)\s*(\d+)\s+turns|(?:exactly\s+)?(\d+)\s+turns", re.IGNORECASE)


def words_of(prompt: str, rng: random.Random, most: int = 160) -> list[str]:
    """Words from a few places of the prompt, in their order there."""
    if len(prompt) > 4000:
        starts = sorted(rng.randrange(0, len(prompt) - 800) for _ in range(4))
        prompt = " ".join(prompt[start : start + 800] for start in starts)
    return WORD.findall(prompt)[-most:] or ["question", "answer"]


def turns_wanted(prompt: str, rng: random.Random) -> int:
    """As many as the prompt asks for; an even number, so that the conversation ends on the assistant."""
    if (found := TURNS.search(prompt)) is None:
        return 6
    low = int(found[1] or found[3])
    high = int(found[2] or found[3])
    even = [number for number in range(low, max(low, high) + 1) if number % 2 == 0 and number > 0]
    return rng.choice(even) if even else max(2, low + low % 2)


class Writer:
    """One answer. Everything follows from the seed: the same body is answered the same way."""

    def __init__(self, prompt: str, seed: int, *, reply_chars: int, turns: int | None) -> None:
        self.rng = random.Random(seed)
        self.words = words_of(prompt, self.rng)
        self.reply_chars = reply_chars
        self.turns = turns or turns_wanted(prompt, self.rng)
        self.role = "user"

    def sentence(self, opener: str, chars: int) -> str:
        parts, size = [opener], len(opener)
        while size < chars:
            start = self.rng.randrange(len(self.words))
            piece = " ".join(self.words[start : start + 9]).lower()
            parts.append(piece[0].upper() + piece[1:] + ".")
            size += len(parts[-1]) + 1
        return " ".join(parts)

    def text(self, name: str) -> str:
        if name == "content":
            if self.role == "user":
                return self.sentence(self.rng.choice(USER_OPENERS), self.reply_chars // 2)
            return self.sentence(self.rng.choice(REPLY_OPENERS), self.reply_chars)
        if "emotion" in name:
            return self.rng.choice(EMOTIONS)
        start = self.rng.randrange(len(self.words))
        return " ".join(self.words[start : start + 6])

    def value(self, schema: dict[str, Any], name: str = "", index: int = 0) -> Any:
        if "const" in schema:
            return schema["const"]
        if name == "role" and set(schema.get("enum", ())) >= {"user", "assistant"}:
            self.role = "user" if index % 2 == 0 else "assistant"
            return self.role
        if "enum" in schema:
            return self.rng.choice(schema["enum"])
        if "anyOf" in schema:
            return self.value(schema["anyOf"][0], name, index)
        match schema.get("type"):
            case "object":
                return {key: self.value(part, key, index) for key, part in schema.get("properties", {}).items()}
            case "array":
                count = self.turns if name == "turns" else self.rng.randint(1, 3)
                return [self.value(schema["items"], name.rstrip("s"), position) for position in range(count)]
            case "integer":
                return index + 1 if "number" in name or "index" in name else self.rng.randint(1, 5)
            case "number":
                return round(self.rng.uniform(0.3, 0.9), 2)
            case "boolean":
                return self.rng.random() < 0.5
            case "null":
                return None
            case _:
                return self.text(name)


def write(prompt: str, schema: dict[str, Any] | None, seed: int, fault: str | None, options: Any) -> str:
    """The text of an answer; with a fault of content, the text that has it."""
    writer = Writer(prompt, seed, reply_chars=options.reply_chars, turns=options.turns)
    if schema is None or fault == "not_json":
        return writer.sentence("Certainly.", options.reply_chars)
    value = writer.value(schema)
    turns = value.get("turns") if isinstance(value, dict) else None
    if isinstance(turns, list) and turns and isinstance(turns[-1], dict) and "content" in turns[-1]:
        last = turns[-1]
        match fault:
            case "cut_word":
                last["content"] = last["content"].rstrip(".")[:-3].rstrip() + " and then we will reconsid"
            case "cut_backslash":
                last["content"] = last["content"] + " As I said, \\"
            case "roles":
                turns[-2]["role"] = last["role"]
            case "empty":
                last["content"] = "  "
            case "user_last":
                del turns[-1]
            case "escapes":
                last["content"] = last["content"].replace(". ", ".\\n\\n")
    if fault == "schema":
        value = dict(value) if isinstance(value, dict) else {}
        if turns:
            turns[0]["role"] = "narrator"
        else:
            value = {"unexpected": True}
    text = orjson.dumps(value).decode()
    return text[: int(len(text) * 0.7)] if fault == "truncated" else text


def schema_in(prompt: str) -> dict[str, Any] | None:
    """A JSON schema that stands in the prompt itself, as a client writes it for servers that take none."""
    position = prompt.find('{"')
    while position >= 0:
        try:
            value, _ = DECODER.raw_decode(prompt, position)
        except ValueError:
            value = None
        if isinstance(value, dict) and isinstance(value.get("properties"), dict):
            return value
        position = prompt.find('{"', position + 1)
    return None
