"""Answers that refuse, and sentences in which an assistant speaks of itself as the product of a provider.

A refusal is looked for where answers refuse, at their beginning; the rest of an answer may say "I can't" of other
things. What assistants say of themselves ("as an AI language model") is looked for everywhere.
"""

import re
from collections.abc import Iterable
from functools import cache

from brightrun.formats.masking import around
from brightrun.formats.records import Record
from brightrun.validation.checks import Remark
from brightrun.validation.content.places import Places, trained_replies

_BEGINNING = 240
_DO = (
    r"(?:assist|help|provide|comply|fulfill?|answer|respond|generate|create|write|produce|share|discuss|engage|support|"
    r"give|offer|do (?:that|this)|continue|participate|access|browse|open|view|perform|complete|retrieve|book|order|"
    r"place|make|translate|summari[sz]e|process|recommend|advise|disclose|reveal|promote|encourage)"
)
_UNABLE = (
    r"(?:i(?:'m| am) (?:not able|unable) to"
    r"|i (?:can(?:no|')t|can not|won't|will not|am not allowed to|must decline to))"
)
_REFUSALS = (
    # An apology and then the refusal, or the refusal as the first words.
    rf"(?:sorry|apologi[sz]e|apologies|regret|unfortunately|afraid)[^.!?\n]{{0,60}}?\b{_UNABLE} {_DO}\b",
    rf"^\W*{_UNABLE} (?:assist|comply|fulfil|help (?:you )?with|provide|participate|engage|generate|do that|answer)",
    (
        r"(?:sorry|apologi[sz]e|unfortunately)[^.!?\n]{0,40}\bi (?:do not|don't)(?: currently)? have"
        r" (?:the )?(?:capability|ability|access)"
    ),
    r"^\W*(?:i must (?:decline|refuse)|i have to decline|i will not be able to (?:help|assist))",
    r"(?:against|violates?) (?:my|openai's) (?:programming|guidelines|content policy|usage policies)",
    (
        r"(?:tut mir leid|entschuldigung|leider)[^.!?\n]{0,40}\bkann ich (?:\w+ ){0,4}nicht\b[^.!?\n]{0,30}"
        r"(?:helfen|beantworten|erfüllen|unterstützen|bereitstellen)"
    ),
    (
        r"(?:désolée?|excuse|malheureusement)[^.!?\n]{0,40}je ne (?:peux|suis) pas (?:en mesure )?[^.!?\n]{0,30}"
        r"(?:aider|répondre|fournir|assister)"
    ),
    r"(?:lo siento|lamento|disculpa)[^.!?\n]{0,40}\bno puedo (?:ayudar|asistir|responder|proporcionar|cumplir|ofrecer)",
    r"(?:mi dispiace|scus[ai])[^.!?\n]{0,40}\bnon posso (?:aiutar|assister|risponder|fornir)",
    r"(?:desculp\w+|sinto muito|lamento)[^.!?\n]{0,40}\bnão posso (?:ajudar|responder|fornecer|atender)",
    r"(?:het spijt me|sorry|helaas)[^.!?\n]{0,40}\bkan ik (?:\w+ ){0,4}niet\b[^.!?\n]{0,30}(?:helpen|beantwoorden)",
    r"(?:抱歉|对不起|很遗憾)[^。!?\n]{0,20}(?:无法|不能)(?:提供|回答|帮助|协助|满足)",
    r"(?:申し訳|すみません|ごめん)[^。\n]{0,30}(?:できません|お手伝いできません|お答えできません)",
)
# One of these is in every refusal above: most answers are cleared by them.
_HINTS = (
    *("sorry", "apolog", "unfortunately", "regret", "afraid", "i can't", "i cannot", "i can not", "unable", "i won't"),
    *("i will not", "i am not", "not able", "i must", "i have to decline", "against my", "against openai", "violate"),
)
_FOREIGN_HINTS = (
    *("leid", "entschuldigung", "désolé", "excuse", "malheureusement", "lo siento", "lamento", "disculpa", "dispiace"),
    *(
        "scus",
        "desculp",
        "sinto muito",
        "spijt",
        "helaas",
        "抱歉",
        "对不起",
        "很遗憾",
        "申し訳",
        "すみません",
        "ごめん",
    ),
)
_NO_REFUSAL = r"can't help (?:but|noticing|feeling|thinking|wondering)|can(?:'|no)t recommend"

# What an assistant says of itself: (one of these must be there, for this to be looked for).
_BOILERPLATE: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        (" an ai", "language model", "artificial int", " llm"),
        (
            r"\b(?:as|i am|i'm|being|just|only)(?: just)? an? (?:responsible |helpful |harmless )?(?:large )?"
            r"(?:ai|artificial intelligence|language model|ai language model|llm)"
            r"(?: (?:language )?(?:model|assistant|chatbot))?\b(?=[,. ;:!]|$)"
        ),
    ),
    (
        ("my knowledge", "my training"),
        r"\bmy (?:knowledge|training)(?: data)? (?:cut-?off|was last updated|only goes)",
    ),
    (
        ("openai", "anthropic", "by google", "by meta", "by mistral"),
        (
            r"\bi(?:'m| am| was|'ve been| have been)\b[^.!?\n]{0,60}\b(?:trained|developed|created|made|built) by"
            r" (?:openai|anthropic|google|meta|mistral)\b"
        ),
    ),
    (
        ("i'm c", "i'm g", "i'm b", "i am c", "i am g", "i am b"),
        r"\bi(?:'m| am) (?:chatgpt|claude|gemini|bard|gpt-?\d|copilot)\b(?=[,.!;]| an? | from| by)",
    ),
)
_FOREIGN_BOILERPLATE: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("als ki", "künstliche int", "sprachmodell"),
        (
            r"\bals (?:ki|künstliche intelligenz|großes sprachmodell|sprachmodell)"
            r"(?:[- ]?(?:sprach)?modell|[- ]assistent\w*)?\b(?=[, ](?:\w+ )?ich\b| \w+ ich\b)"
        ),
    ),
    (("en tant qu",), r"\ben tant qu(?:e |')(?:ia|intelligence artificielle|modèle de langage|assistant ia)\b"),
    (
        ("como ",),
        (
            r"\bcomo (?:un[ao]? |uma? )?(?:ia|inteligencia artificial|modelo de lenguaje|modelo de linguagem|"
            r"inteligência artificial),"
        ),
    ),
    (("in quanto",), r"\bin quanto (?:ia|intelligenza artificiale|modello linguistico)\b"),
    (("taalmodel",), r"\bals (?:ai-)?taalmodel\b"),
    (("作为",), r"作为(?:一个|一名)?(?:ai|人工智能)(?:语言)?(?:模型|助手)"),
    (("言語モデル",), r"(?:ai|人工知能)言語モデルとして"),
)


@cache
def _compiled(*patterns: str) -> re.Pattern[str]:
    """Alternatives in one pattern, made when first wanted: they would take a tenth of a second of every start."""
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns))


class Refusals:
    """Looks at the answers that are trained. Keeps nothing."""

    names = ("refusals",)

    def __init__(self, places: Places) -> None:
        self._places = places

    def look(self, record: Record) -> Iterable[Remark]:
        """At most one remark of each kind about an answer."""
        remarks = []
        for side, number, message in trained_replies(record):
            text = message.content
            for code, what, (start, end) in find_refusals(text):
                path = self._places.path(record, number, side)
                said = " ".join(text[start:end].split())[:80]
                remarks.append(Remark(code, path, f"`{path or side}` {what}: “{said}”.", around(text, start)))
        return remarks


def find_refusals(text: str) -> list[tuple[str, str, tuple[int, int]]]:
    """(code, what the answer does, where it says so)."""
    found = []
    # A typographic apostrophe is one character, too, so positions hold (but for the few that lower() makes longer).
    lower = text.lower().replace("’", "'")
    beginning = lower[:_BEGINNING]
    # Answers with this word are English, and so are nearly all answers: half of the looking is saved.
    foreign = " the " not in lower
    if _has(_HINTS, beginning) or (foreign and _has(_FOREIGN_HINTS, beginning)):
        match = _compiled(*_REFUSALS).search(beginning)
        if match is not None and not re.search(_NO_REFUSAL, match.group() + beginning[match.end() :][:20]):
            found.append(("refusal", "reads as a refusal", match.span()))
    for hints, pattern in (*_BOILERPLATE, *(_FOREIGN_BOILERPLATE if foreign else ())):
        if _has(hints, lower) and (match := _compiled(pattern).search(lower)):
            found.append(("provider_boilerplate", "speaks of itself as an AI assistant", match.span()))
            break
    return found


def _has(hints: tuple[str, ...], text: str) -> bool:
    for hint in hints:  # noqa: SIM110 - a generator takes twice as long
        if hint in text:
            return True
    return False
