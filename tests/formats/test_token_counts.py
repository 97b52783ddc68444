"""Exact counts are those of the tokenizer itself, text by text, whatever the kind of tokenizer and the text."""

import sys
import unicodedata
from functools import cache
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from brightrun.formats import tokenizer_folder
from brightrun.formats.base_models import BUILTIN
from brightrun.formats.chat_errors import UnencodableTextError
from brightrun.formats.reader import read_records
from brightrun.formats.records import Record
from brightrun.formats.token_counts import Words, splits_at_spaces, token_counter

SAMPLES = Path(__file__).parents[2] / "src" / "brightrun" / "cli" / "samples"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN = LLAMA3.replace("{1,3}", "")
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = [
    AddedToken("<|im_start|>", special=True, normalized=False),
    AddedToken("<|im", special=True, normalized=False),
    AddedToken("<tool>", special=False, normalized=False),
]
TEXT = [
    "You are a patient adviser. Hello there, how can I help you with your savings today? It's 12 + 30 = 42, isn't it?",
    "naïve café — 你好 😀 größer: ½ ﬁn\n\n- one\n- two\r\n\tthree   four /five\nhttps://example.org/a_b?c=1 // x\n/y",
    'def f(x):\n    return "a b" + x  # ok\n\n\n',
]


def _byte_level(*parts: pre_tokenizers.PreTokenizer) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = parts[0] if len(parts) == 1 else pre_tokenizers.Sequence(list(parts))
    trainer = trainers.BpeTrainer(
        vocab_size=450,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=SPECIAL,
    )
    tokenizer.train_from_iterator(TEXT * 3, trainer)
    return tokenizer


def _split(expression: str, behavior: str = "isolated", invert: bool = False) -> Tokenizer:
    return _byte_level(
        pre_tokenizers.Split(Regex(expression), behavior=behavior, invert=invert),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    )


@cache
def fast(kind: str) -> Tokenizer:
    """Tokenizers that are counted by words."""
    match kind:
        case "tiny":
            return tokenizer_folder.load(BUILTIN["tiny"]).tokenizer
        case "gpt2":
            return _byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
        case "gpt2_prefix":
            return _byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True))
        case "llama3":
            tokenizer = _split(LLAMA3)
            tokenizer.model.ignore_merges = True
            return tokenizer
        case "qwen":
            tokenizer = _split(QWEN)
            tokenizer.normalizer = normalizers.NFC()
            return tokenizer
        case "o200k":
            return _split(O200K, "removed", invert=True)
        case "reaching_tokens":
            tokenizer = _split(LLAMA3)
            tokenizer.add_tokens(
                [
                    AddedToken("<eat>", lstrip=True, rstrip=True, normalized=False),
                    AddedToken("word", single_word=True, normalized=True),
                    AddedToken("two words", normalized=False),
                    AddedToken("\t\t", normalized=False),
                ]
            )
            return tokenizer
        case _:
            tokenizer = _byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
            tokenizer.add_tokens([AddedToken("<|im_start", normalized=True), AddedToken("tool", normalized=True)])
            return tokenizer


FAST = ("tiny", "gpt2", "gpt2_prefix", "llama3", "qwen", "o200k", "reaching_tokens", "normalized_tokens")


@cache
def slow(kind: str) -> Tokenizer:
    """Tokenizers whose texts are given to them whole."""
    match kind:
        case "unigram":
            tokenizer = Tokenizer(models.Unigram())
            tokenizer.normalizer = normalizers.NFKC()
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
            trainer: object = trainers.UnigramTrainer(
                vocab_size=120, show_progress=False, special_tokens=["<unk>"], unk_token="<unk>"
            )
        case "sentencepiece":
            tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
            tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
            trainer = trainers.BpeTrainer(vocab_size=300, show_progress=False, special_tokens=["<unk>"])
        case "metaspace":
            tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
            trainer = trainers.BpeTrainer(vocab_size=300, show_progress=False, special_tokens=["<unk>"])
        case "wordpiece":
            tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
            tokenizer.normalizer = normalizers.BertNormalizer()
            tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
            trainer = trainers.WordPieceTrainer(vocab_size=200, show_progress=False, special_tokens=["[UNK]"])
        case "lowercase":
            tokenizer = fast("gpt2")
            tokenizer = Tokenizer.from_str(tokenizer.to_str())
            tokenizer.normalizer = normalizers.Lowercase()
            return tokenizer
        case "digits":
            return _byte_level(
                pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
            )
        case "looks_back":
            return _split(r"(?<=a) b|\p{L}+|\s+(?!\S)|\s+")
        case _:
            tokenizer = Tokenizer.from_str(fast("gpt2").to_str())
            tokenizer.model.dropout = 0.5
            return tokenizer
    tokenizer.train_from_iterator(TEXT * 3, trainer)
    return tokenizer


SLOW = {
    "unigram": "Unigram",
    "sentencepiece": "normaliser",
    "metaspace": "Metaspace",
    "wordpiece": "WordPiece",
    "lowercase": "Lowercase",
    "digits": "Digits",
    "looks_back": "cannot prove",
    "dropout": "chance",
}

_PIECES = st.sampled_from(
    [
        *(" ", " ", " ", "  ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u2028", "\u3000", "\x1c", "\x85"),
        *("a", "word", "Words", "two words", "it's", "'S", "'", "12", "4567", "½", "word,", "Words."),
        *("\u180e", "\u200b", ",", ".", "!", "?", ";", ":", "...", "/", "//", "_", "<", "|>"),
        *("<|im_start|>", "<|im", "<|im_start", "<tool>", "tool", "<eat>", "\t\t", "<|im_end|>"),
        *("é", "e\u0301", "\u0301", "你好", "😀", "👩\u200d👩", "ſ", "İ", "ﬁ", "\u1100\u1161", "\ufeff", "\x00"),
    ]
)
_SOUP = st.one_of(st.lists(_PIECES, max_size=30).map("".join), st.text(st.characters(exclude_categories=["Cs"])))


def expected(tokenizer: Tokenizer, texts: list[str]) -> list[int]:
    return [len(encoding.ids) for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]


@pytest.mark.parametrize("kind", FAST)
def test_counting_by_words_equals_the_tokenizer_on_any_text(kind: str) -> None:
    tokenizer = fast(kind)
    remembering = token_counter(tokenizer)
    assert (remembering.method, remembering.reason) == ("words", "")

    @settings(max_examples=200, deadline=None)
    @given(st.lists(_SOUP, max_size=4))
    @example(["a  <tool> b", "a\t <|im_start|>  b \n", " ", "", "\n <tool>\n\nx", "x\n/y", ".\n/y", "a \n b", "\t\t x"])
    @example(["<|im_start|>user\nHello  there \n\n- x\n", "two words", " word", "words word", " <eat>  a", "a \u0301b"])
    def equal(texts: list[str]) -> None:
        wanted = expected(tokenizer, texts)
        assert [remembering.count(text) for text in texts] == wanted
        assert remembering.counts(texts) == wanted
        assert Words(tokenizer, remember=4).counts(texts) == wanted
        forgetful = Words(tokenizer, remember=1)
        assert [forgetful.count(text) for text in [*texts, *texts]] == [*wanted, *wanted]

    equal()


@pytest.mark.parametrize("kind", FAST)
def test_counting_by_words_equals_the_tokenizer_on_real_texts(kind: str) -> None:
    texts = [message.content for record in _records() for message in record.messages] + TEXT
    texts += ["\n".join(texts), "  ".join(texts), "<|im_start|>".join(texts)]
    counter = token_counter(fast(kind))
    assert counter.counts(texts) == expected(fast(kind), texts) == [counter.count(text) for text in texts]


def _records() -> list[Record]:
    files = sorted(path for path in SAMPLES.iterdir() if path.suffix in {".json", ".jsonl"})
    assert files
    return [item for path in files for item in read_records(path) if isinstance(item, Record)]


@pytest.mark.parametrize("kind", SLOW)
def test_other_tokenizers_count_whole_texts_and_say_why(kind: str) -> None:
    counter = token_counter(slow(kind))
    assert counter.method == "encode_batch"
    assert SLOW[kind] in counter.reason
    if kind != "dropout":
        assert counter.counts(TEXT) == expected(slow(kind), TEXT) == [counter.count(text) for text in TEXT]


@pytest.mark.parametrize(
    "expression",
    [
        r" ?\p{L}+|\s+|\s+(?!\S)",  # takes the space before a word away from it
        r" ?\p{L}+|\s+",
        r"\p{L}+ ?|\s+(?!\S)|\s+",
        r"[^\r\n]+|\s+(?!\S)|\s+",
        r"[a-z ]+|\s+(?!\S)|\s+",
        r"\p{L}+(?= b)|\s+(?!\S)|\s+",
        r"\p{L}+( \p{L}+)?|\s+(?!\S)|\s+",
        r".+|\s+(?!\S)|\s+",
        r"\s+\p{L}+|\s+(?!\S)|\s+",
        r"[!-~]+|[ -~]+|\s+(?!\S)|\s+",
        r"\S+|\w+|\s+(?!\S)|\s+",
        r"[^\p{L}]+|\s+(?!\S)|\s+",
        r"[^\p{L}]?[^\p{N}]?\p{L}+|\s+(?!\S)|\s+",
        "",
    ],
)
def test_an_expression_that_may_run_over_a_space_is_not_taken_as_proven(expression: str) -> None:
    assert not splits_at_spaces(expression)


@pytest.mark.parametrize("expression", [GPT2, LLAMA3, QWEN, O200K])
def test_the_expressions_of_common_models_are_proven(expression: str) -> None:
    assert splits_at_spaces(expression)


def test_all_that_tokenizers_take_for_white_space_python_takes_for_it_too() -> None:
    """The proof cuts before characters that Python calls visible; the expressions must call them so too."""
    space = pre_tokenizers.Split(Regex(r"\s"), behavior="removed")
    characters = [chr(i) for i in range(sys.maxunicode + 1) if not 0xD800 <= i < 0xE000]
    for begin in range(0, len(characters), 65_536):
        block = [c for c in characters[begin : begin + 65_536] if not c.isspace()]
        assert "".join(piece for piece, _ in space.pre_tokenize_str("".join(block))) == "".join(block)


def test_canonical_composition_never_crosses_a_space_or_a_line_end() -> None:
    for i in range(sys.maxunicode + 1):
        if 0xD800 <= i < 0xE000:
            continue
        c = chr(i)
        for edge in (" ", "\n"):
            assert unicodedata.normalize("NFC", edge + c) == edge + unicodedata.normalize("NFC", c)
            assert unicodedata.normalize("NFC", c + edge) == unicodedata.normalize("NFC", c) + edge


@pytest.mark.parametrize("tokenizer", [fast("tiny"), slow("unigram")], ids=["words", "encode_batch"])
def test_half_a_character_is_named_and_not_counted(tokenizer: Tokenizer) -> None:
    counter = token_counter(tokenizer)
    for text in ("Hello \ud83d there", "x" * 3_000 + "\udc00"):
        with pytest.raises(UnencodableTextError, match="lone surrogate"):
            counter.counts(["fine", text])
        with pytest.raises(UnencodableTextError, match="lone surrogate"):
            counter.count(text)
    assert counter.count("Hello") > 0
