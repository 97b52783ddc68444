"""Finds passwords, keys and tokens in a text: those that services mark with a prefix, and values named as secret.

Most texts are cleared by looking for a literal each pattern needs: that is fifty times as fast as the patterns.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple


class Found(NamedTuple):
    """A piece of text that should not be learned. kind: what it is, in words (`an AWS access key`). start, end: in
    characters. keep_start, keep_end: how many of its characters may be shown."""

    kind: str
    start: int
    end: int
    keep_start: int = 0
    keep_end: int = 0


class _Marked(NamedTuple):
    """anchor: a literal that every match holds, if any text does without it none is looked for."""

    kind: str
    anchor: str
    pattern: re.Pattern[str]


def _marked(kind: str, anchor: str, pattern: str) -> _Marked:
    return _Marked(kind, anchor, re.compile(pattern))


_MARKED = (
    _marked("an AWS access key", "AKIA", r"\bAKIA[0-9A-Z]{16}\b"),
    _marked("an AWS access key", "ASIA", r"\bASIA[0-9A-Z]{16}\b"),
    _marked("a GitHub token", "_", r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{40,255})\b"),
    _marked("a GitLab token", "glpat-", r"\bglpat-[\w-]{20,64}"),
    _marked("a Slack token", "xox", r"\bxox[abeoprs]-[A-Za-z0-9-]{16,250}"),
    _marked("a Slack webhook", "hooks.slack.com/", r"hooks\.slack\.com/services/T\w{8,12}/B\w{8,12}/\w{20,30}"),
    _marked("an Anthropic API key", "sk-ant-", r"\bsk-ant-[\w-]{24,250}"),
    _marked("an OpenAI API key", "sk-", r"\bsk-(?!ant-)(?:(?:proj|svcacct|admin)-)?(?=[\w-]{0,200}\d)[\w-]{32,250}"),
    _marked("a Google API key", "AIza", r"\bAIza[0-9A-Za-z_-]{35}(?![\w-])"),
    _marked("a Google client secret", "GOCSPX-", r"\bGOCSPX-[\w-]{20,40}"),
    _marked("a Stripe key", "k_", r"\b[sr]k_(?:live|test)_[0-9A-Za-z]{16,250}\b"),
    _marked("a Hugging Face token", "hf_", r"\bhf_[A-Za-z0-9]{30,64}\b"),
    _marked("a BrightRun API token", "br_", r"\bbr_[A-Za-z0-9_-]{43}(?![\w-])"),
    _marked("an npm token", "npm_", r"\bnpm_[A-Za-z0-9]{36}\b"),
    _marked("a PyPI token", "pypi-", r"\bpypi-AgE[\w-]{40,300}"),
    _marked("a SendGrid key", "SG.", r"\bSG\.[\w-]{20,24}\.[\w-]{40,46}"),
    _marked("a DigitalOcean token", "_v1_", r"\bdo[opr]_v1_[a-f0-9]{64}\b"),
    _marked("a JSON Web Token", "eyJ", r"\beyJ[\w-]{10,400}\.eyJ[\w-]{10,4000}\.[\w-]{20,1000}"),
    _marked(
        "a private key",
        "PRIVATE KEY",
        r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----[\s\\n]+(?:[A-Za-z-]+: [^\n]{0,200}\n){0,5}"
        r"[A-Za-z0-9+/=\s\\]{40,}"
        r"(?:-----END (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----)?",
    ),
)
_BY_SIGN = {
    sign: [mark for mark in _MARKED if next((s for s in "_-" if s in mark.anchor), "") == sign]
    for sign in ("_", "-", "")
}
# `postgres://user:password@host`
_URL_PASSWORD = re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@]{1,64}:([^\s/@]{6,128})@[\w.-]+")

# What a value is called that is secret, each beginning with one of the anchors.
_NAMES = ("pass", "pwd", "kennwort", "contrase", "secret", "token")
_NAMES_OF_KEYS = ("api", "access")
_NAMED = re.compile(
    r"(?:(?P<password>passw(?:or)?d|passwort|passcode|passphrase|pwd|kennwort|contraseña)"
    r"|(?:secret|token|api[ _-]?key|access[ _-]?key)(?:[ _-]?(?:(?:access[ _-]?)?key|token))?)"
    r"[\"'*`]{0,3}\s{0,3}(?:(?:is|was|ist|es)\b\s{0,3}:?|:=|=>|[:=])\s{0,3}[\"'*`]{0,3}"
    r"(?P<value>[^\s\"'`,;<>{}()\[\]|]{8,200})",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\bbearer\s+(?P<value>[A-Za-z0-9._~+/-]{20,500}={0,2})", re.IGNORECASE)
_PLACEHOLDER = re.compile(
    r"your|example|changeme|change_me|placeholder|dummy|sample|xxx|\*\*\*|•|\.\.\.|…|passw|secret|token|insert|redacted"
    r"|environ|getenv|process\.env|abc123|0123|1234|^test|https?:|^/|\$\{|\$\(|%s|^\$[A-Za-z_]",
    re.IGNORECASE,
)
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_CODE = re.compile(
    r"^[A-Za-z_$][\w$]*(?:[.:]{1,2}[A-Za-z_$][\w$]*)+$|^[a-z]+(?:[A-Z][a-z]+)+\d?$|^[A-Z]+(?:_[A-Z0-9]+)+$"
)
# Published as examples in the documentation of those who made the format.
_KNOWN_EXAMPLES = ("EXAMPLE", "eyJzdWIiOiIxMjM0NTY3ODkw", "000000000", "XXXXXXXX", "xxxxxxxx", "aaaaaaaa", "abcdefgh")


def find_secrets(text: str) -> list[Found]:
    """Every secret in a text, in order."""
    found = list(_find_marked(text))
    if "://" in text and "@" in text:
        found += [
            Found("a password in an address", *match.span(1), 1)
            for match in _URL_PASSWORD.finditer(text)
            if not _PLACEHOLDER.search(match[1]) and not _CODE.match(match[1]) and len(set(match[1])) > 4
        ]
    lower = text.lower()
    found += _find_named(text, lower)
    if "bearer " in lower:
        found += [
            Found("a bearer token", *match.span("value"), 3)
            for match in _BEARER.finditer(text)
            if _is_random(match["value"], bits=3.5) and any(c.isdigit() for c in match["value"])
        ]
    return _without_overlaps(found) if len(found) > 1 else found


def _find_marked(text: str) -> Iterator[Found]:
    # One character is found thirty times as fast as two: `_` and `-` decide whether half of the anchors are looked for.
    possible = [marks for sign, marks in _BY_SIGN.items() if sign in text]
    for kind, anchor, pattern in chain.from_iterable(possible):
        if anchor in text:
            for match in pattern.finditer(text):
                token = match.group()
                if not any(example in token for example in _KNOWN_EXAMPLES):
                    yield Found(kind, *match.span(), 4 if kind != "a private key" else 0)


def _named(text: str, lower: str) -> Iterator[re.Match[str]]:
    """Values that are named as secret. Looked for where a name begins, which is quick to find."""
    for name in (*_NAMES, *_NAMES_OF_KEYS) if "key" in lower else _NAMES:
        position = lower.find(name)
        while position >= 0:
            if match := _NAMED.match(text, position):
                yield match
            position = lower.find(name, position + 1)


def _find_named(text: str, lower: str) -> Iterator[Found]:
    for match in _named(text, lower):
        is_password = match["password"] is not None
        value = match["value"].rstrip(".!?:*_") if is_password else match["value"].rstrip(".*")
        if _PLACEHOLDER.search(value) or _CODE.match(value) or _UUID.fullmatch(value):
            continue
        # A password is short and of many kinds of characters; a key or token is long and random.
        likely = _kinds(value) >= 3 and len(value) <= 64 if is_password else _is_random(value, bits=3.2, length=16)
        if likely and any(c.isdigit() for c in value):
            start = match.start("value")
            kind = "a password" if is_password else "a secret key or token"
            yield Found(kind, start, start + len(value), 1 if len(value) < 16 else 3)


def _kinds(value: str) -> int:
    """How many of lower case, upper case, digits and signs a value has; marks of names and numbers are no signs."""
    return sum(
        (
            any(c.islower() for c in value),
            any(c.isupper() for c in value),
            any(c.isdigit() for c in value),
            any(not c.isalnum() and c not in "._-/:" for c in value),
        )
    )


def _is_random(value: str, *, bits: float, length: int = 20) -> bool:
    """Whether a value is long and varied. bits: Shannon entropy a character, from its own letters; words in a row have
    about 3.5 with their separators, so a digit among letters is asked for as well."""
    if len(value) < length or _PLACEHOLDER.search(value) or _CODE.match(value) or _UUID.fullmatch(value):
        return False
    counts = Counter(value).values()
    entropy = -sum(count / len(value) * math.log2(count / len(value)) for count in counts)
    letters = sum(c.isalpha() for c in value)
    return entropy >= bits and 0 < letters < len(value) and "-" not in value.strip("-")[:3]


def _without_overlaps(found: list[Found]) -> list[Found]:
    kept: list[Found] = []
    for one in sorted(found, key=lambda one: (one.start, -one.end)):
        if not kept or one.start >= kept[-1].end:
            kept.append(one)
    return kept
