"""Secrets and personal data: found where they are, not where something only looks like them, and never shown."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brightrun.formats.masking import around, mask, mask_piece
from brightrun.formats.personal_data import CARD, EMAIL, IBAN, PHONE, SSN, find_personal_data
from brightrun.formats.secrets import find_secrets
from brightrun.validation import validate
from brightrun.validation.content.refusals import find_refusals
from brightrun.validation.repair import Choice, repair
from brightrun.validation.repair_records import Change

# Put together here, so that no scanner takes this file for a leak.
RANDOM = "q7Zk2Vw9Xt4Rb8Nc1Lp6Md3Hs5Jf0Gy7Tu2Ea9Wq4"
SECRETS = {
    "an AWS access key": "AKIA" + "Q7ZK2VW9XT4RB8NC",
    "a GitHub token": "ghp_" + RANDOM[:36],
    "a GitLab token": "glpat-" + RANDOM[:20],
    "a Slack token": "xoxb-" + "2417389012-" + RANDOM[:24],
    "an Anthropic API key": "sk-ant-" + "api03-" + RANDOM,
    "an OpenAI API key": "sk-" + "proj-" + RANDOM,
    "a Google API key": "AIza" + RANDOM[:35],
    "a Stripe key": "sk_live_" + RANDOM[:24],
    "a Hugging Face token": "hf_" + RANDOM[:34],
    "an npm token": "npm_" + RANDOM[:36],
    "a BrightRun API token": "br_" + (RANDOM * 2)[:43],
    "a JSON Web Token": "eyJhbGciOiJIUzI1NiJ9." + "eyJ1c2VyIjoiNDIifQ." + RANDOM,
    "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----\n" + RANDOM * 3 + "\n-----END RSA " + "PRIVATE KEY-----",
    "a password": "rT8$" + "jLpZ9w",
    "a secret key or token": RANDOM[:32],
    "a bearer token": RANDOM[:40],
    "a password in an address": "Vb7" + "nQ2xLw",
}
WRITTEN = {
    "a password": "The password is {}, keep it safe.",
    "a secret key or token": "client_secret = '{}'",
    "a bearer token": "Authorization: Bearer {}",
    "a password in an address": "postgres://app:{}@db.internal:5432/app",
}
NO_SECRETS = (
    "This is a task-force for risk-averse people: sk-etches, desk-tops and a secret garden.",
    "password: your_password, PASSWORD = os.environ['DB_PASSWORD'], password=changeme",
    "token = request.headers.get('X-Token'); api_key=process.env.API_KEY2; secret: ${{ secrets.GITHUB_TOKEN }}",
    "The secret is 550e8400-e29b-41d4-a716-446655440000, said the token ring.",
    "AKIAIOSFODNN7" + "EXAMPLE and sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx1 are examples.",
    "The password must have 8 characters, a digit and a sign. Your password is: ********",
    "ftp://username:password@ftp.example.com/ and https://en.wikipedia.org/wiki/Token_(coin)",
    "Bearer bonds are a thing; the bearer of-this-letter-is-my-friend-and-ally.",
    "The token economy: reward tokens=12345678901234567890 for good behaviour.",
    "Use the passphrase correct-horse-battery-staple only in comics.",
)
PERSONAL = (
    ("Write to maria.lopez@gmail.com today.", EMAIL, "maria.lopez@gmail.com"),
    ("Mail: o'neil+news@sub.firma.co.uk!", EMAIL, "neil+news@sub.firma.co.uk"),
    ("Call me at (212) 736-5000.", PHONE, "(212) 736-5000"),
    ("Call +1 212-736-5000 now.", PHONE, "+1 212-736-5000"),
    ("Meine Handynummer ist 0171 2390185.", PHONE, "0171 2390185"),
    ("Reach me on +44 20 7946 1859", PHONE, "+44 20 7946 1859"),
    ("Mon portable : 06 71 93 45 82.", PHONE, "06 71 93 45 82"),
    ("card 4539 1488 0343 6467 exp 12/27", CARD, "4539 1488 0343 6467"),
    ("Amex 379354508162306 please", CARD, "379354508162306"),
    ("IBAN: DE89 3704 0044 0532 0130 00.", IBAN, "DE89 3704 0044 0532 0130 00"),
    ("to GB33BUKB20201555555555 by Friday", IBAN, "GB33BUKB20201555555555"),
    ("SSN 536-90-4399 on file", SSN, "536-90-4399"),
)
NOTHING_PERSONAL = (
    "Write to jane@example.com, you@yourdomain.com, noreply@github.com or boss@company.com.",
    "uses: devcontainers/ci@v0.2, git@github.com:me/repo.git, @maria on the forum, 3@5",
    "Call 555-0123 or (212) 555-0187; free: 1-800-273-8255 and (888) 736-5000.",
    "Call 988, the Suicide & Crisis Lifeline, or 911.",
    "4600 - 1286 + 4983 + 1010 - 3622 = 5463; 355909190063-746 = 355909189317",
    "472547338\n+1006938584366\n------------\n1007411131704",
    "The tracking number is 2345678901, order 4539148803436468, invoice 1234567890123456.",
    "Test with 4242 4242 4242 4242 or 4111111111111111.",
    "Born 1990-05-15, 2011-2015, IPs 192.168.100.200, pi 3.14159265358979, 275.43397884615385",
    "SSN 123-45-6789, 000-12-3456, 666-12-3456, 900-12-3456, 536-00-4399",
    "DE89 3704 0044 0532 0130 01 has the wrong check digits.",
    "Part DE8937040044053201300012 is longer than any IBAN of its country.",
    "uuid f95aa9fb-5202-4691-99f8-aa480f9cfb8f, ISBN 978-3-16-148410-0, 1,234,567,890",
    "Phone 123 456 7890 or 0123456789 or 000 000 0000.",
)


@pytest.mark.parametrize("kind", SECRETS)
def test_each_kind_of_secret_is_found_and_masked(kind: str) -> None:
    secret = SECRETS[kind]
    text = f"Sure. {WRITTEN.get(kind, 'Here it is: {} .').format(secret)} Bye."
    (found,) = find_secrets(text)
    assert found.kind == kind
    assert text[found.start : found.end] == secret
    masked = mask(text)
    assert len(masked) == len(text)
    assert secret not in masked
    assert secret[6:] not in masked
    assert masked.startswith("Sure.")
    assert masked.endswith("Bye.")


@pytest.mark.parametrize("text", NO_SECRETS)
def test_what_is_no_secret_is_left_alone(text: str) -> None:
    assert find_secrets(text) == []


@pytest.mark.parametrize(("text", "kind", "value"), PERSONAL)
def test_personal_data_is_found_whole(text: str, kind: str, value: str) -> None:
    (found,) = find_personal_data(text)
    assert (found.kind, text[found.start : found.end]) == (kind, value)
    digits = "".join(c for c in mask(text) if c.isdigit())
    assert value not in mask(text)
    if kind in (CARD, SSN):
        assert "".join(c for c in value if c.isdigit())[:-4] not in digits


@pytest.mark.parametrize("text", NOTHING_PERSONAL)
def test_what_belongs_to_nobody_is_left_alone(text: str) -> None:
    assert find_personal_data(text) == []


@given(st.text(alphabet=st.sampled_from("0123456789 -.@+()aAZ_/:=sk\n"), max_size=80))
def test_masking_keeps_the_length_and_is_stable(text: str) -> None:
    once = mask(text)
    assert len(once) == len(text)
    assert len(mask(once)) == len(text)


@given(st.integers(min_value=0, max_value=400), st.integers(min_value=0, max_value=400))
def test_no_window_shows_a_piece_of_a_secret(before: int, position: int) -> None:
    secret = SECRETS["a GitHub token"]
    text = "x " * (before // 2) + secret + " y" * 200
    shown = around(text, min(position, len(text)))
    assert all(secret[n : n + 8] not in shown for n in range(4, len(secret) - 8))


@pytest.mark.parametrize(
    "piece",
    [
        *("a", "1 ", "AB12", "sk-", "eyJ-", "xoxb-", "a.b@c.", "x@", "-----BEGIN PRIVATE KEY-----\n", "password: "),
        *("token=", "api key ", "a://b:c@", "+1 ", "(2", "gh_", "Bearer ", "DE89 3704 ", "123-45-", "4539 1488 "),
        *("secret secret ", 'secret""""', "1.1.", "1-", "i'm sorry, but i can't ", "i am an ai ", "i was ", "como "),
    ],
)
def test_no_repetition_makes_the_looking_long(piece: str) -> None:
    text = piece * (100_000 // len(piece))  # what takes the square of this in steps never ends
    assert len(find_secrets(text)) + len(find_personal_data(text)) >= 0
    assert len(find_refusals(text)) <= 2


def chat(number: int, question: str, answer: str, **more: Any) -> dict[str, Any]:
    return {
        "conversation_id": f"c{number}",
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
        **more,
    }


def write(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_findings_name_the_field_and_never_the_secret(tmp_path: Path) -> None:
    key, card = SECRETS["an OpenAI API key"], "4539 1488 0343 6467"
    file = write(
        tmp_path / "chats.jsonl",
        *(chat(n, f"Question {n}?", f"Answer number {n}.") for n in range(4)),
        chat(4, "My card is " + card, f"Use {key} then."),
        # A fault of another kind beside the secret: its excerpt must not show it either.
        chat(5, "Why?", f"Hello {{{{name}}}}, your key is {key}."),
        {"messages": [{"role": f"{key}", "content": "x"}]},
    )
    with file.open("a") as stream:
        stream.write(f'{{"messages": [{{"role": "user", "content": "Use {key}"}}}} ]}}\n')
    heard: list[Any] = []
    report = validate(file, checks="full", issue_sink=heard.append)
    assert sorted((i.line, i.code, i.path) for i in report.issues) == [
        (5, "payment_card", "messages[0].content"),
        (5, "secret", "messages[1].content"),
        (6, "secret", "messages[1].content"),
        (6, "unfilled_placeholder", "messages[1].content"),
        (7, "unknown_role", "messages[0].role"),
        (8, "broken_json", ""),
    ]
    issues = json.dumps([i.message + i.excerpt for i in (*report.issues, *heard)])
    assert key not in issues
    assert key[12:30] not in issues
    assert "1488 0343" not in issues
    assert "6467" in issues


def test_each_text_of_a_conversation_is_reported_once(tmp_path: Path) -> None:
    first, second = "My mail is maria.lopez@gmail.com.", "Thank you, I noted maria.lopez@gmail.com."

    def pair(number: int, history: list[dict[str, str]], user: str, target: str) -> dict[str, Any]:
        return {
            "id": f"p{number}",
            "conversation_id": "c",
            "system_prompt": "You are Rosa. In need call +49 171 2390185.",
            "conversation_history": history,
            "current_user_input": user,
            "target_response": target,
        }

    history = [{"role": "user", "content": first}, {"role": "assistant", "content": second}]
    more = [{"role": "user", "content": "And now?"}, {"role": "assistant", "content": "Now we wait."}]
    file = write(
        tmp_path / "pairs.jsonl",
        pair(1, [], first, second),
        pair(2, history, "And now?", "Now we wait."),
        pair(3, history + more, "How long?", "A day, no longer than that."),
    )
    found = [(issue.line, issue.code, issue.path) for issue in validate(file, checks="full").issues]
    assert sorted(found) == [
        (1, "email_address", "current_user_input"),
        (1, "email_address", "target_response"),
        (1, "phone_number", "system_prompt"),
    ]


def test_arguments_of_tool_calls_are_looked_at(tmp_path: Path) -> None:
    call = {"type": "function", "function": {"name": "mail", "arguments": json.dumps({"to": "maria.lopez@gmail.com"})}}
    record = {
        "messages": [
            {"role": "user", "content": "Send it."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
        ]
    }
    (issue,) = validate(write(tmp_path / "tools.jsonl", record), checks="full").issues
    assert (issue.code, issue.path) == ("email_address", "messages[1].tool_calls[0].function.arguments")


def test_fields_are_named_in_every_spelling(tmp_path: Path) -> None:
    mail = "Write to maria.lopez@gmail.com, she knows."
    cases: dict[str, tuple[Any, str]] = {
        "alpaca": ([{"instruction": "Who knows?", "input": "", "output": mail}], "[0].output"),
        "alpaca input": ([{"instruction": "Who?", "input": mail, "output": "Maria, as you say."}], "[0].input"),
        "sharegpt": (
            [{"conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": mail}]}],
            "[0].conversations[1].value",
        ),
        "preference": (
            [{"prompt": "Who knows?", "chosen": "Maria does.", "rejected": mail}],
            "[0].rejected",
        ),
    }
    for name, (value, path) in cases.items():
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(value), encoding="utf-8")
        found = [i.path for i in validate(file, checks="full").issues if i.code == "email_address"]
        assert found == [path], name


def test_what_a_fault_leaves_of_a_key_is_masked(tmp_path: Path) -> None:
    """A key that a fault cuts in two has no beginning, or no end, by which it could be known."""
    body = "\n".join(RANDOM[n:] + RANDOM[:n] for n in range(30))
    key = "-----BEGIN RSA " + f"PRIVATE KEY-----\n{body}\n-----END RSA " + "PRIVATE KEY-----"
    row = json.dumps({"messages": [{"role": "user", "content": "Key?"}, {"role": "assistant", "content": key}]})
    middle = len(row) // 2
    rows = (row, row[:middle], row[:middle] + '"' + row[middle:], row[:middle] + "\\u0001" + row[middle:])
    file = tmp_path / "keys.jsonl"
    file.write_text("\n".join(rows) + "\n")
    issues = validate(file).issues
    assert {"broken_json", "control_character"} <= {issue.code for issue in issues}
    shown = " ".join(issue.message + issue.excerpt for issue in issues)
    pieces = {RANDOM[n:] + RANDOM[:n] for n in range(len(RANDOM))}
    assert not any(piece[:16] in shown for piece in pieces)


@pytest.mark.parametrize(
    "text",
    [
        "reports/2024/12/Some-Title-Here and TestCaseNumber2024Version3OfThisClass",
        "550e8400-e29b-41d4-a716-446655440000",
        "fp_conversation_turn4_85d3e584",
    ],
)
def test_paths_names_and_ids_are_no_keys(text: str) -> None:
    assert mask_piece(text) == text


@pytest.mark.parametrize("kind", ["a GitHub token", "an OpenAI API key", "an AWS access key", "a Stripe key"])
def test_a_secret_after_a_line_break_of_raw_json_is_masked(kind: str) -> None:
    shown = mask(json.dumps({"content": f"The key:\n{SECRETS[kind]}\nKeep it."}))

    assert SECRETS[kind][8:] not in shown
    assert json.loads(shown)["content"].endswith("\nKeep it.")


def test_a_window_that_cuts_a_long_private_key_shows_nothing_of_it() -> None:
    line = (RANDOM * 2)[:64]
    key = SECRETS["a private key"].replace(RANDOM * 3, "\n".join([line] * 26))
    text = f"{key}\n{{{{name}}}} and {key}"

    for shown in (around(text, position) for position in range(0, len(text), 50)):
        assert line[:12] not in shown


def test_the_log_of_repairs_and_ids_that_stand_twice_hide_secrets(tmp_path: Path) -> None:
    key, jwt = SECRETS["a private key"], SECRETS["a JSON Web Token"].replace("eyJ1c2VyIjoiNDIifQ", "eyJ" + RANDOM)
    answers = (f"<|im_end|>{key}<|im_end|>", f"{key}\\n\\nThat is all.", "It is fine today.")
    rows = [[{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": one}] for one in answers]
    source, changes = tmp_path / "rows.jsonl", list[Change]()
    source.write_text("".join(json.dumps({"messages": row, "id": jwt}) + "\n" for row in rows))

    repair(source, tmp_path / "out.jsonl", Choice(), log=changes.append)
    issues = validate(source, checks="full").issues

    assert {"special_token_in_text", "doubled_escape"} <= {change.code for change in changes}
    assert "duplicate_id" in {issue.code for issue in issues}
    shown = json.dumps([[str(one) for one in changes], [str(one) for one in issues]])
    assert RANDOM[:12] not in shown
