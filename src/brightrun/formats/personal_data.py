"""Finds e-mail addresses, phone numbers, payment cards, bank accounts (IBAN) and US social security numbers in a text.

Where a number has a checksum it must be right; where it has ranges that are never given out, it must lie in none.
What documentation reserves for examples (example.com, 555-0100) is nobody's, and not found.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

from brightrun.formats.secrets import Found

EMAIL, PHONE, CARD, IBAN, SSN = "an e-mail address", "a phone number", "a payment card number", "an IBAN", "a US SSN"

_EMAIL = re.compile(
    r"(?<![\w.+/:@-])[A-Za-z0-9][\w.+-]{0,63}@(?P<domain>(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24})(?![\w@-])"
)
# Reserved by RFC 2606 and 6761, and what people write when they mean nobody.
_RESERVED = re.compile(
    r"(?:^|\.)(?:example|test|invalid|localhost|local)$|example|your|(?:^|\.)(?:domain|company|email|mail|abc|xyz|acme"
    r"|somewhere|website|business|test|sample|placeholder|mycompany|site|server|host|provider|organization)\.[a-z]+$",
    re.IGNORECASE,
)
_NOBODY = re.compile(
    r"^(?:no-?reply|do-?not-?reply|user(?:name)?|your[._-]?\w*|name|someone|email|recipient|sender|git"
    r"|(?:john|jane)[._-]?(?:doe|smith)?\d*|foo|bar|alice|bob|test\w*|example)$",
    re.IGNORECASE,
)

# What all of the numbers below have somewhere: a quick look.
_DIGITS = re.compile(r"\d(?:[ .()/-]{0,2}\d){5}").search
# A run of digits in groups: what every number below looks like.
_NUMBER = re.compile(r"(?<![\w.,$€£#/=%@&+-])(?:\+|\()?\d(?:[ .()/-]{0,2}\d){7,21}(?![\w]|[.,/-]\d|%)")
_IBAN = re.compile(r"[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,28}")
# Country and length (the registry of SWIFT).
_IBANS = """
AD:24 AE:23 AL:28 AT:20 AZ:28 BA:20 BE:16 BG:22 BH:22 BR:29 BY:28 CH:21 CR:22 CY:28 CZ:24 DE:22 DK:18 DO:28
EE:20 EG:29 ES:24 FI:18 FO:18 FR:27 GB:22 GE:22 GI:23 GL:18 GR:27 GT:28 HR:21 HU:28 IE:22 IL:23 IQ:23 IS:26
IT:27 JO:30 KW:30 KZ:20 LB:28 LC:32 LI:21 LT:20 LU:20 LV:21 LY:25 MC:27 MD:24 ME:22 MK:19 MR:27 MT:31 MU:30
NL:18 NO:15 PK:24 PL:28 PS:29 PT:25 QA:29 RO:24 RS:22 SA:24 SC:31 SE:24 SI:19 SK:24 SM:27 ST:25 SV:28 TL:23
TN:24 TR:26 UA:29 VA:22 VG:24 XK:20
"""
_IBAN_LENGTHS = {pair[:2]: int(pair[3:]) for pair in _IBANS.split()}
_SSN = re.compile(r"(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}")
# Printed on cards, in advertisements and in documentation for decades: they belong to nobody.
_KNOWN_SSN = frozenset({"078-05-1120", "219-09-9999", "123-45-6789", "111-11-1111", "123-12-1234"})
_CARD = re.compile(
    r"4\d{15}|4\d{18}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}"
    r"|6(?:011|5\d\d|4[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14,17}"
)
_CARD_GROUPS = re.compile(r"\d{4}[ -]\d{4}[ -]\d{4}[ -]\d{4}|\d{4}[ -]\d{6}[ -]\d{4,5}|\d{14,19}")
# Numbers that payment services publish for tests.
_TEST_CARDS = """
4242424242424242 4111111111111111 4012888888881881 4000056655665556 5555555555554444 5105105105105100
2223003122003222 378282246310005 371449635398431 6011111111111117 6011000990139424 30569309025904
38520000023237 3530111333300000 3566002020360505 4000000000000002 1234567812345670
"""
_NORTH_AMERICAN = re.compile(r"(?:\+?1[ .-]?)?(?:\(([2-9]\d\d)\) ?|([2-9]\d\d)[.-])([2-9]\d\d)[ .-](\d{4})")
_INTERNATIONAL = re.compile(r"\+[1-9]\d{0,2}[ ().\d/-]{7,18}\d")
_NATIONAL = re.compile(r"\(?0\d[\d ()./-]{7,16}\d|[2-9]\d{2} \d{3} ?\d{4}|[2-9]\d{9}")
_PHONE_WORDS = re.compile(
    r"\b(?:phones?|telephone|call|cell|cellphone|mobile|text me|reach me|tel|fax|whatsapp|telefon(?:nummer)?|handy\w*"
    r"|mobil|anrufen|t[ée]l[ée]phone|portable|appele[rz]|tel[ée]fono|m[óo]vil|ll[áa]m\w+|cellulare|telefoon\w*|telefone|celular)"
    r"\b[^\n\d]{0,24}$",
    re.IGNORECASE,
)
_FREE_OF_CHARGE = frozenset({"800", "822", "833", "844", "855", "866", "877", "880", "888", "900"})


def find_personal_data(text: str) -> list[Found]:
    """Every piece of personal data in a text, in order."""
    found = list(_emails(text)) if "@" in text else []
    if not _DIGITS(text):
        return found
    ibans = list(_ibans(text))
    found += ibans
    for match in _NUMBER.finditer(text):
        if not any(iban.start < match.end() and match.start() < iban.end for iban in ibans):
            found += _number(text, match.group(), match.start())
    found.sort(key=lambda one: one.start)
    return found


def _emails(text: str) -> Iterator[Found]:
    for match in _EMAIL.finditer(text):
        name = match.group().partition("@")[0]
        if not _RESERVED.search(match["domain"]) and not _NOBODY.match(name):
            yield Found(EMAIL, *match.span(), 1, len(match["domain"]) + 1)


def _ibans(text: str) -> Iterator[Found]:
    for match in _IBAN.finditer(text):
        country, before = match.group()[:2], text[match.start() - 1 : match.start()]
        if (
            not before.isalnum()
            and (length := _IBAN_LENGTHS.get(country, 0))
            and (end := _end_of(match.group(), length))
        ):
            letters = re.sub(r"[ -]", "", match.group()[:end])
            if text[match.start() + end : match.start() + end + 1].isalnum():
                continue
            if int("".join(str(int(c, 36)) for c in letters[4:] + letters[:4])) % 97 == 1 and len(set(letters[4:])) > 3:
                yield Found(IBAN, match.start(), match.start() + end, 4, 2)


def _end_of(written: str, length: int) -> int:
    """Where the first `length` letters and digits of `written` end; 0 when it has fewer."""
    for position, character in enumerate(written, 1):
        length -= character not in " -"
        if not length:
            return position
    return 0


def _number(text: str, written: str, start: int) -> Iterator[Found]:
    digits = re.sub(r"\D", "", written)
    if match := _SSN.fullmatch(written):
        if written not in _KNOWN_SSN and text[start - 1 : start] not in ("-", "+"):
            yield Found(SSN, *_span(match, start), 0, 2)
    elif 14 <= len(digits) <= 19 and _CARD_GROUPS.fullmatch(written):
        if _CARD.fullmatch(digits) and _luhn(digits) and digits not in _TEST_CARDS and len(set(digits)) > 3:
            yield Found(CARD, start, start + len(written), 0, 4)
    elif 8 <= len(digits) <= 15 and _is_phone(text, written, start, digits):
        yield Found(PHONE, start, start + len(written), 0, 2)


def _span(match: re.Match[str], offset: int) -> tuple[int, int]:
    return match.start() + offset, match.end() + offset


def _luhn(digits: str) -> bool:
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + position % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _is_phone(text: str, written: str, start: int, digits: str) -> bool:
    if match := _NORTH_AMERICAN.fullmatch(written):
        area, exchange, line = match[1] or match[2], match[3], match[4]
        # 555-01xx is reserved for fiction, other 555 numbers and free-of-charge ones are nobody's own.
        return area not in _FREE_OF_CHARGE and "555" not in (area, exchange) and f"{exchange}{line}" not in digits[:7]
    if _counts_up(digits) or len(set(digits)) < 4:
        return False
    if text[:start].rstrip()[-1:].isdigit() and written.startswith("+"):
        return False  # a sum
    if len(digits) <= 13 and _INTERNATIONAL.fullmatch(written):
        return not digits.startswith("1") or (digits[4:7] != "555" and len(digits) == 11 and digits[1] not in "01")
    if _NATIONAL.fullmatch(written) and _PHONE_WORDS.search(text[max(0, start - 60) : start]):
        return 9 <= len(digits) <= 12 and not re.search(r"555|7700900|\d{4}-\d\d-\d\d", written)
    return False


def _counts_up(digits: str) -> bool:
    """`0123456789`, `98765432`: written by somebody who wanted any number."""
    steps = [int(b) - int(a) for a, b in pairwise(digits)]
    return max(steps.count(1), steps.count(-1)) >= len(steps) - 2
