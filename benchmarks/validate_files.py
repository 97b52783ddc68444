"""The files that `validate.py` measures on: made from a seed, the same everywhere."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MB = 1 << 20
_WORDS = [
    "clay",
    "glaze",
    "kiln",
    "wheel",
    "slip",
    "bisque",
    "cone",
    "firing",
    "foot",
    "rim",
    "lid",
    "handle",
    "trim",
    "wedge",
    "porcelain",
    "stoneware",
    "oxide",
    "ash",
    "celadon",
    "tenmoku",
    "shino",
    "raku",
    "salt",
    "soda",
    "wood",
    "gas",
    "electric",
    "thermocouple",
    "shelf",
    "prop",
    "wax",
    "resist",
    "sponge",
    "needle",
    "wire",
    "bat",
    "rib",
    "calipers",
    "you",
    "I",
    "we",
    "they",
    "should",
    "would",
    "might",
    "can",
    "try",
    "slowly",
    "again",
    "before",
    "after",
    "between",
    "until",
    "while",
    "because",
    "although",
    "the",
    "a",
    "this",
    "that",
    "every",
    "another",
    "softer",
    "harder",
    "thinner",
    "wetter",
    "drier",
    "warm",
    "cool",
    "patient",
    "careful",
    "honest",
    "steady",
    "small",
    "large",
    "first",
    "last",
]
# One or two escapes and characters beyond ASCII a kilobyte, as the real files of the project have, and some emoji.
_ENDS = {". ": 45, "? ": 4, "! ": 2, ".\n\n": 2, ".\n- ": 1, ' — "and so it is". ': 2, " 🏺. ": 1, ". Größe zählt. ": 2}


def _sentences(rng: random.Random, count: int) -> list[str]:
    made = []
    for _ in range(count):
        words = rng.choices(_WORDS, k=rng.randint(6, 22))
        made.append(" ".join([words[0].capitalize(), *words[1:]]) + rng.choices(list(_ENDS), list(_ENDS.values()))[0])
    return made


class _Author:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self._sentences = _sentences(self.rng, 20_000)

    def text(self, least: int, most: int) -> str:
        return "".join(self.rng.choices(self._sentences, k=self.rng.randint(least, most))).strip() + "."


def pairs(seed: int = 1) -> Iterator[dict[str, Any]]:
    """Clean v4 pairs without end: conversations of four answers, about 5.5 KB a line."""
    author = _Author(seed)
    rng, number = author.rng, 0
    system = author.text(10, 10)
    while True:
        number += 1
        history: list[dict[str, Any]] = []
        background = author.text(4, 6)
        for turn in range(4):
            asked, answered = f"{author.text(2, 4)} ({number}.{turn})", author.text(5, 11)
            conversation_id = f"{number:08x}-{number * 7919 % 65536:04x}-4e0f-8a19-93649ebe7eb6"
            mood = {"primary": "curious", "secondary": "tired", "intensity": round(rng.random(), 2)}
            yield {
                "id": f"conversation_turn{turn}_{number:08x}",
                "conversation_id": conversation_id,
                "turn_number": len(history) + 2,
                "conversation_metadata": {
                    "client_persona": "Mia Berg - The Hesitant Beginner",
                    "client_background": background,
                    "persona_archetype": f"persona_{number % 7}",
                    "emotional_arc_key": f"arc_{number % 5}",
                    "training_topic_key": f"topic_{number % 11}",
                },
                "system_prompt": system,
                "conversation_history": history[:],
                "current_user_input": asked,
                "emotional_context": {"detected_emotions": mood | {"valence": "mixed", "primary_confidence": 0.8}},
                "target_response": answered,
                "training_metadata": {
                    "difficulty_level": f"intermediate_conversation_turn_{turn}",
                    "key_learning_objective": "glazing",
                    "demonstrates_skills": ["patience", "clarity"],
                    "quality_score": rng.randint(3, 5),
                    "quality_criteria": {"empathy_score": 3.2, "clarity_score": 2.8},
                    "human_reviewed": False,
                    "reviewer_notes": None,
                },
            }
            history += [
                {"turn": len(history) + 1, "role": "user", "content": asked, "emotional_state": mood},
                {"turn": len(history) + 2, "role": "assistant", "content": answered, "emotional_state": mood},
            ]


def chats(seed: int = 2) -> Iterator[dict[str, Any]]:
    """Clean `openai_messages` without end: two to eight messages, about 3 KB a line."""
    author, number = _Author(seed), 0
    while True:
        number += 1
        messages = [{"role": "system", "content": f"You teach pottery. {author.text(1, 3)}"}] if number % 3 else []
        for turn in range(author.rng.randint(1, 4)):
            messages.append({"role": "user", "content": f"{author.text(1, 4)} ({number}.{turn})"})
            messages.append({"role": "assistant", "content": author.text(4, 10)})
        yield {"messages": messages}


def faulty(seed: int = 3) -> Iterator[dict[str, Any] | str]:
    """`openai_messages` with one fault on every line, of eight kinds in turn."""
    for number, chat in enumerate(chats(seed)):
        messages = chat["messages"]
        match number % 8:
            case 0:
                messages[-1]["content"] = " "
            case 1:
                messages[-1]["role"] = "oracle"
            case 2:
                del messages[-1]["content"]
            case 3:
                messages.append({"role": "user", "content": "And then?"})
            case 4:
                yield json.dumps(chat, ensure_ascii=False)[:-3]
                continue
            case 5:
                messages[-1]["content"] += " {{client_name}}"
            case 6:
                messages[-1]["content"] = None
            case 7:
                messages[-1]["weight"] = 2
        yield chat


def write(path: Path, records: Iterator[Any], size: int) -> int:
    """Lines until there are `size` bytes; how many. What is there already with that size is kept."""
    lines = path.with_suffix(".lines")
    if path.exists() and path.stat().st_size >= size and lines.exists():
        return int(lines.read_text())
    written = number = 0
    with path.open("wb") as stream:
        while written < size:
            record = next(records)
            text = record if isinstance(record, str) else json.dumps(record, ensure_ascii=False)
            written += stream.write(text.encode() + b"\n")
            number += 1
    lines.write_text(str(number))
    return number
