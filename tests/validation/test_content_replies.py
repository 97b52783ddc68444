"""What the replies say: refusals, openings, lengths, languages; each speaks when it should, and only then."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from brightrun.validation import Report, validate
from brightrun.validation.content.languages import language_of
from brightrun.validation.content.refusals import find_refusals
from brightrun.validation.thresholds import MEANINGS, Thresholds, parse_thresholds

SUBJECTS = ("clay", "glaze", "kiln", "wheel", "slip", "handle", "bowl", "tile", "cup", "stain", "mould", "brush")
VERBS = ("dries", "cracks", "shrinks", "warps", "bends", "sticks", "fires", "drips", "settles", "flakes", "holds")


def answer(number: int) -> str:
    """No two begin alike; all are English and of about the same length."""
    subject, verb = SUBJECTS[number % len(SUBJECTS)], VERBS[number % len(VERBS)]
    return (
        f"{subject.title()} {verb} number {number} because the water leaves it, and that is what you will see "
        f"when it has been out for a day or two with nothing over it."
    )


def chats(*answers: str, **more: Any) -> bytes:
    return "".join(
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": f"Question {number}?"},
                    {"role": "assistant", "content": said},
                ],
                **more,
            }
        )
        + "\n"
        for number, said in enumerate(answers)
    ).encode()


def check(*answers: str, **options: Any) -> Report:
    return validate(io.BytesIO(chats(*answers)), **{"checks": "full", **options})


REFUSALS = (
    "I'm sorry, but I can't assist with that.",
    "I’m sorry, but I can’t help with that request.",
    "Unfortunately, I am unable to provide medical records.",
    "I cannot provide instructions for that.",
    "I apologize, but I'm not able to share personal details.",
    "I must decline to answer.",
    "Es tut mir leid, aber dabei kann ich dir leider nicht helfen.",
    "Je suis désolé, mais je ne peux pas vous aider avec cela.",
    "Lo siento, pero no puedo ayudar con eso.",
    "Mi dispiace, ma non posso aiutarti con questo.",
    "Desculpe, mas não posso ajudar com isso.",
    "Het spijt me, maar daar kan ik je niet mee helpen.",
    "抱歉,我无法提供这些信息。",
)
NO_REFUSALS = (
    "I can't help but notice how tired you sound.",
    "I'm sorry to hear that. Let us look at it together.",
    "I cannot recommend this kiln enough.",
    "Sorry for the wait! You can help yourself to the clay.",
    "I can't wait to see your bowl.",
    "Let me explain what they said: he was sorry, and later, in court, refused. He can't provide for them.",
    "Leider ist der Ton gerissen. Ich kann dir zeigen, warum.",
    "If you can't access the kiln, ask the keeper; I'm afraid of heights, so I use the lower shelf.",
)
BOILERPLATE = (
    "Well, as an AI language model, I have no hands.",
    "I was trained by OpenAI to answer.",
    "My knowledge cutoff is in 2023.",
    "I'm ChatGPT, a model.",
    "Als KI-Sprachmodell kann ich das nicht.",
    "En tant qu'IA, je n'ai pas de mains.",
    "作为一个AI语言模型，我没有手。",
)
NO_BOILERPLATE = (
    "The program uses an AI to sort tiles, as an AItken's rule would.",
    "GPT-3 is a program developed by OpenAI in 2020.",
    "Language models are trained on text; as a language, model citizens speak it.",
    "I'm Claudette, and Gemini is my sign.",
    "Think of the cut-off date for applications as an airtight rule.",
)


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals_are_found(text: str) -> None:
    assert "refusal" in [code for code, _, _ in find_refusals(text)]


@pytest.mark.parametrize("text", NO_REFUSALS)
def test_what_is_no_refusal_is_left_alone(text: str) -> None:
    assert find_refusals(text) == []


@pytest.mark.parametrize("text", BOILERPLATE)
def test_boilerplate_is_found(text: str) -> None:
    assert "provider_boilerplate" in [code for code, _, _ in find_refusals(text)]


@pytest.mark.parametrize("text", NO_BOILERPLATE)
def test_what_is_no_boilerplate_is_left_alone(text: str) -> None:
    assert find_refusals(text) == []


def test_only_answers_that_are_trained_count_as_refusals() -> None:
    refusal = "I'm sorry, but I can't assist with that."
    rows = [
        {"prompt": "Do it?", "chosen": "Yes, gladly so.", "rejected": refusal},
        {"prompt": "Do it now?", "chosen": refusal, "rejected": "Yes, gladly."},
    ]
    report = validate(io.BytesIO("".join(json.dumps(row) + "\n" for row in rows).encode()), checks="default")
    assert [(i.line, i.code, i.path) for i in report.issues] == [(2, "refusal", "chosen")]
    unwanted = [{"prompt": "Do it?", "completion": refusal, "label": label} for label in (False, True)]
    report = validate(io.BytesIO("".join(json.dumps(row) + "\n" for row in unwanted).encode()), checks="structure")
    assert report.by_code == {}
    report = validate(io.BytesIO("".join(json.dumps(row) + "\n" for row in unwanted).encode()), checks="default")
    assert [(i.line, i.code) for i in report.issues if i.code == "refusal"] == [(2, "refusal")]


def test_an_opening_of_many_replies_is_named_once_with_its_lines() -> None:
    answers = [answer(n) for n in range(60)]
    for number in range(0, 60, 3):
        answers[number] = "What a good question that is, said nobody about number " + answer(number)
    (issue,) = check(*answers).issues
    assert (issue.code, issue.line) == ("repeated_opening", 1)
    assert "20 of 60 replies (33 %) begin with “what a good question that”" in issue.message
    assert "lines 1, 4, 7, 10" in issue.message
    assert "12 more" in issue.message
    assert check(*answers, thresholds=Thresholds(repeated_opening_share=0.5)).issues == []


def test_few_replies_that_begin_alike_are_no_habit() -> None:
    same = ["What a good question that is, said nobody about number " + answer(n) for n in range(9)]
    assert check(*same).by_code.get("repeated_opening") is None


def test_openings_are_found_in_bounded_memory_among_many_others() -> None:
    answers = []
    for number in range(6_000):
        answers.append(answer(number).replace("because", f"b{number}"))
        if number % 8 == 0:
            answers.append(f"I hear how hard this is, and {answer(number)}")
    report = check(*answers, checks="default")
    (issue,) = [issue for issue in report.issues if issue.code == "repeated_opening"]
    assert "750 of 6,750 replies (11 %)" in issue.message


def test_replies_of_odd_length_are_named_with_what_is_usual() -> None:
    answers = [answer(n) for n in range(30)]
    answers[7], answers[20] = "Yes.", " ".join(answer(n) for n in range(100, 160))
    report = check(*answers, checks="default")
    assert [(i.line, i.code, i.path) for i in report.issues] == [
        (8, "short_reply", "messages[1].content"),
        (21, "long_reply", "messages[1].content"),
    ]
    assert "4 characters" in report.issues[0].message
    # Where all are short, none is odd.
    assert check(*(f"{word}." for word in SUBJECTS * 4)).by_code.get("short_reply") is None


LANGUAGES = {
    "English": "I hear how hard this week has been. Let's look at one thing you can do today.",
    "German": "Ich höre, wie schwer diese Woche war. Lass uns eine Sache ansehen, die du heute tun kannst.",
    "French": "J'entends combien cette semaine a été difficile. Regardons une chose que vous pouvez faire.",
    "Spanish": "Entiendo lo difícil que ha sido esta semana. Veamos una cosa que puede hacer hoy.",
    "Italian": "Capisco quanto sia stata difficile questa settimana. Vediamo una cosa che puoi fare, se ti va.",
    "Portuguese": "Entendo como esta semana foi difícil para você. Vamos ver uma coisa que pode fazer hoje.",
    "Dutch": "Ik hoor hoe zwaar deze week was. Laten we kijken naar iets wat je vandaag kunt doen.",
    "Polish": "Słyszę, jak trudny był ten tydzień. Przyjrzyjmy się temu, co możesz dziś zrobić, to nie jest trudne.",
    "Russian": "Я понимаю, как трудно было на этой неделе. Давайте посмотрим, что вы можете сделать.",
    "Danish or Norwegian": "Jeg hører, hvor svær denne uge har været. Lad os se på en ting, som du kan gøre i dag.",
    "Chinese": "我理解这周对你来说有多难。",
    "Japanese": "今週がどれほど大変だったか、よくわかります。",
    "Korean": "이번 주가 얼마나 힘들었는지 이해합니다.",
    "Greek": "Καταλαβαίνω πόσο δύσκολη ήταν αυτή η εβδομάδα.",
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_languages_are_told_by_script_and_small_words(language: str) -> None:
    assert language_of(LANGUAGES[language]) == language


@pytest.mark.parametrize(
    "text",
    [
        "Paris, Berlin, London, Madrid, Rome, Vienna, Lisbon, Dublin",
        "12 + 30 = 42, 42 * 2 = 84 so y(3) = i + e - a o a e i",
        "SELECT * FROM users WHERE id = 3 ORDER BY name LIMIT 10 OFFSET 3;",
        "def f(x):\n    for i in range(10):\n        if x is not None and i in x:\n            return (i, x)",
        "Yes, of course.",
        "",
    ],
)
def test_what_is_no_language_is_left_undecided(text: str) -> None:
    assert language_of(text) is None


def test_a_stray_reply_in_another_language_is_named() -> None:
    answers = [answer(n) for n in range(40)]
    answers[11] = LANGUAGES["German"]
    (issue,) = check(*answers).issues
    assert (issue.code, issue.line, issue.path) == ("other_language", 12, "messages[1].content")
    assert "in German" in issue.message
    assert "39 are in English" in issue.message


def test_a_second_language_is_named_once() -> None:
    answers = [answer(n) if n % 3 else f"{n}. {LANGUAGES['German']}" for n in range(30)]
    found = [issue for issue in check(*answers).issues if "language" in issue.code]
    assert [(issue.code, issue.line) for issue in found] == [("second_language", 1)]
    assert "10 replies" in found[0].message
    (one,) = [issue for issue in check(answer(1), LANGUAGES["German"]).issues if "language" in issue.code]
    assert one.message.startswith("One reply, this one, is in German")


def test_levels_look_for_what_they_name() -> None:
    answers = [answer(n) for n in range(30)]
    structure, default, full = (check(*answers, checks=level) for level in ("structure", "default", "full"))
    cheap = {"refusals", "reply_lengths", "repeated_openings", "secrets"}
    costly = {"near_duplicates", "language_mix", "personal_data"}
    assert not (cheap | costly) & set(structure.checks_run)
    assert cheap <= set(default.checks_run)
    assert costly <= set(default.checks_skipped)
    assert cheap | costly <= set(full.checks_run)
    assert structure.thresholds == {}
    assert set(default.thresholds) == set(MEANINGS) == set(Thresholds.__struct_fields__)


def test_thresholds_are_read_and_refused_by_name() -> None:
    given = parse_thresholds(["near-duplicate-similarity=0.9", "short_reply_characters=5"])
    assert (given.near_duplicate_similarity, given.short_reply_characters) == (0.9, 5)
    for wrong, said in (
        ("similarity=1", "no threshold"),
        ("language_share=2", "does not fit"),
        ("language_share=x", "number"),
    ):
        with pytest.raises(ValueError, match=said):
            parse_thresholds([wrong])


def test_the_command_applies_thresholds_and_says_so(tmp_path: Path) -> None:
    answers = [answer(n) for n in range(30)]
    answers[3] = "I'm sorry, but I can't assist with that."
    file = tmp_path / "chats.jsonl"
    file.write_bytes(chats(*answers))
    command = [sys.executable, "-m", "brightrun", "validate", str(file), "--checks", "full", "--json"]
    done = subprocess.run(
        [*command, "--threshold", "short_reply_characters=60", "--threshold", "short_reply_share=1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["by_code"] == {"refusal": 1, "short_reply": 1}
    assert report["thresholds"]["short_reply_characters"] == 60
    assert {"secrets", "personal_data", "near_duplicates"} <= set(report["checks_run"])
    shown = subprocess.run(
        [*command[:-1], "--threshold", "short_reply_characters=60"], capture_output=True, text=True, check=False
    )
    assert "thresholds other than usual: short_reply_characters 60" in shown.stdout
    done = subprocess.run([*command, "--threshold", "nonsense=1"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nonsense" in json.loads(done.stdout)["error"]


def test_the_command_names_held_out_conversations_that_training_sees(tmp_path: Path) -> None:
    rows = [
        {"conversation_id": f"c{n}", "messages": json.loads(line)["messages"]}
        for n, line in enumerate(chats(*(answer(n % 25) for n in range(30))).splitlines())
    ]
    for number in range(25, 30):
        rows[number]["messages"] = rows[number - 25]["messages"]
    file, ids, run = tmp_path / "chats.jsonl", tmp_path / "ids.txt", tmp_path / "run.json"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    ids.write_text("c3\nc26\nc7\nc20\n\n", encoding="utf-8")
    run.write_text(json.dumps({"split": {"heldout_ids": ["c3", "c26"]}}), encoding="utf-8")
    for held in (ids, run):
        command = [sys.executable, "-m", "brightrun", "validate", str(file), "--checks", "full", "--json"]
        done = subprocess.run([*command, "--heldout", str(held)], capture_output=True, text=True, check=False)
        report = json.loads(done.stdout)
        assert report["by_code"]["held_out_duplicate"] == 2, done.stderr
        assert [i["line"] for i in report["issues"] if i["code"] == "held_out_duplicate"] == [4, 27]
        assert "split_leakage" in report["checks_run"]
    done = subprocess.run([*command[:-3], "--heldout", str(ids)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--checks full" in done.stderr
