# ruff: noqa: E501 - templates are one line each
"""Chat templates in the manner of popular model families, and small tokenizers of each kind to run them with.

All written for these tests. They show the habits that make labels hard: trimming, injected system prompts, merged or
refused system messages, thinking that is dropped from earlier turns, no end-of-turn token, tool calls in four shapes.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from brightrun.formats.records import Message, Record

TEXT = [
    "You are a patient adviser. Hello there, how can I help you with your savings today?",
    "The capital of France is Paris, and the river is called the Seine. Thank you, that is all I wanted to know.",
    "user assistant system model tool Human Question Answer Response Instruction thinking about 12 + 30 = 42, isn't it?",
]


@dataclass(frozen=True)
class Family:
    """template: Jinja text. special: its special tokens. ends: text that ends an assistant turn in the middle; last."""

    template: str
    special: tuple[str, ...]
    eos: str
    bos: str | None = None


CHATML = Family(
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    ("<|im_start|>", "<|im_end|>"),
    "<|im_end|>",
)
CHATML_DEFAULT_SYSTEM = Family(
    "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}" + CHATML.template,
    CHATML.special,
    CHATML.eos,
)
LLAMA3 = Family(
    "{{- bos_token }}\n"
    "{%- for m in messages %}\n"
    "    {{- '<|start_header_id|>' + ('ipython' if m.role == 'tool' else m.role) + '<|end_header_id|>\\n\\n' }}\n"
    "    {%- if m.tool_calls %}\n"
    "        {%- if m.tool_calls | length != 1 %}{{ raise_exception('One tool call at a time, please.') }}{% endif %}\n"
    "        {%- set f = m.tool_calls[0].function %}\n"
    "        {{- '{\"name\": \"' + f.name + '\", \"parameters\": ' + (f.arguments | tojson) + '}' }}\n"
    "    {%- else %}\n"
    "        {{- m.content | trim }}\n"
    "    {%- endif %}\n"
    "    {{- '<|eot_id|>' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}",
    ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "<|eot_id|>",
    "<|begin_of_text|>",
)
MISTRAL = Family(
    "{%- if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set turns = messages[1:] %}"
    "{%- else %}{% set system = none %}{% set turns = messages %}{% endif %}"
    "{{- bos_token }}"
    "{%- for m in turns if m.role in ('user', 'assistant') and not m.tool_calls %}"
    "{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{- raise_exception('After the optional system message, roles must alternate user/assistant/user/…') }}"
    "{%- endif %}{% endfor %}"
    "{%- for m in turns %}"
    "{%- if m.role == 'user' %}{{- '[INST] ' }}{% if loop.first and system %}{{- system + '\n\n' }}{% endif %}"
    "{{- m.content + ' [/INST]' }}"
    "{%- elif m.tool_calls %}{{- '[TOOL_CALLS][' }}{% for c in m.tool_calls %}"
    "{{- c.function | tojson }}{% if not loop.last %}{{- ', ' }}{% endif %}{% endfor %}{{- ']' + eos_token }}"
    "{%- elif m.role == 'tool' %}{{- '[TOOL_RESULTS]' + m.content + '[/TOOL_RESULTS]' }}"
    "{%- else %}{{- ' ' + m.content | trim + eos_token }}{% endif %}"
    "{%- endfor %}",
    ("<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
    "</s>",
    "<s>",
)
GEMMA = Family(
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
    ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
    "<eos>",
    "<bos>",
)
PHI = Family(
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
    ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"),
    "<|endoftext|>",
)
# Thinking of turns before the last question is dropped; the last answer gets an empty thinking block.
THINKING = Family(
    "{%- set ns = namespace(last=0) %}"
    "{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{%- if tools %}{{- '<|im_start|>system\n# Tools' }}{% for t in tools %}{{- '\n' + (t | tojson) }}{% endfor %}"
    "{{- '<|im_end|>\n' }}{% endif %}"
    "{%- for m in messages %}"
    "{%- if m.role == 'assistant' %}"
    "{%- set content, thought = m.content, '' %}"
    "{%- if '</think>' in content %}"
    "{%- set thought = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{- '<|im_start|>assistant\n' }}"
    "{%- if loop.index0 > ns.last and (loop.last or thought) %}{{- '<think>\n' + thought + '\n</think>\n\n' }}{% endif %}"
    "{{- content }}"
    "{%- for c in m.tool_calls or [] %}{% if content or not loop.first %}{{- '\n' }}{% endif %}"
    "{{- '<tool_call>\n{\"name\": \"' + c.function.name + '\", \"arguments\": ' + (c.function.arguments | tojson) + '}\n</tool_call>' }}"
    "{%- endfor %}{{- '<|im_end|>\n' }}"
    "{%- elif m.role == 'tool' %}{{- '<|im_start|>user\n<tool_response>\n' + m.content + '\n</tool_response><|im_end|>\n' }}"
    "{%- else %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %}",
    ("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
    "<|im_end|>",
)
# The generation prompt opens the thinking, the history does not hold it; arguments must be text.
REASONER = Family(
    "{{- bos_token }}{% for m in messages %}"
    "{%- if m.role == 'system' %}{{- m.content }}"
    "{%- elif m.role == 'user' %}{{- '<｜User｜>' + m.content }}"
    "{%- elif m.role == 'tool' %}{{- '<｜tool｜>' + m.content }}"
    "{%- elif m.tool_calls %}{{- '<｜Assistant｜>' }}{% for c in m.tool_calls %}"
    "{{- '<｜call｜>' + c['function']['name'] + '\n' + c['function']['arguments'] }}{% endfor %}{{- '<｜end｜>' }}"
    "{%- else %}{{- '<｜Assistant｜>' + m.content.split('</think>')[-1] + '<｜end｜>' }}{% endif %}"
    "{%- endfor %}{% if add_generation_prompt %}{{- '<｜Assistant｜><think>\n' }}{% endif %}",
    ("<｜begin｜>", "<｜end｜>", "<｜User｜>", "<｜Assistant｜>", "<｜tool｜>", "<｜call｜>"),
    "<｜end｜>",
    "<｜begin｜>",
)
ZEPHYR = Family(
    "{% for m in messages %}\n{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token }}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
    ("<s>", "</s>"),
    "</s>",
    "<s>",
)
NO_END = Family(
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ '### Response:\n' + m.content }}"
    "{% else %}{{ '### Instruction:\n' + m.content }}{% endif %}"
    "{% if not loop.last %}{{ '\n\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n\n### Response:\n' }}{% endif %}",
    ("</s>",),
    "</s>",
)
HARMONY = Family(
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|start|>assistant<|channel|>final<|message|>' + m.content }}"
    "{{ '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}"
    "{% else %}{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}",
    ("<|start|>", "<|end|>", "<|return|>", "<|message|>", "<|channel|>"),
    "<|return|>",
)
MARKED = Family(
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}{{ m['content'] + '<|im_end|>' }}"
    "{% endif %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    CHATML.special,
    CHATML.eos,
)

FAMILIES = {
    "chatml": CHATML,
    "chatml_default_system": CHATML_DEFAULT_SYSTEM,
    "llama3": LLAMA3,
    "mistral": MISTRAL,
    "gemma": GEMMA,
    "phi": PHI,
    "thinking": THINKING,
    "reasoner": REASONER,
    "zephyr": ZEPHYR,
    "no_end": NO_END,
    "harmony": HARMONY,
    "marked": MARKED,
}
KINDS = ("byte_level", "sentencepiece", "unigram")


def build_tokenizer(kind: str, special: tuple[str, ...]) -> Tokenizer:
    """A small tokenizer of a kind: GPT-like byte-level BPE, Llama-2-like BPE with byte fallback, Unigram."""
    tokens = [AddedToken(text, special=True, normalized=False) for text in special]
    if kind == "byte_level":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.NFC()
        split = Regex(r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(split, behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=700,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=tokens,
        )
    elif kind == "sentencepiece":
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        bytes_ = [f"<0x{i:02X}>" for i in range(256)]
        trainer = trainers.BpeTrainer(
            vocab_size=800, show_progress=False, special_tokens=["<unk>", *bytes_, *tokens], max_token_length=12
        )
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=300, show_progress=False, special_tokens=["<unk>", *tokens], unk_token="<unk>"
        )
    tokenizer.train_from_iterator(TEXT * 3, trainer)
    return tokenizer


def model_folder(folder: Path, family: Family, kind: str = "byte_level", **config: object) -> Path:
    """A folder with the tokenizer files that transformers and BrightRun read."""
    folder.mkdir(parents=True, exist_ok=True)
    build_tokenizer(kind, family.special).save(str(folder / "tokenizer.json"))
    settings: dict[str, object] = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": family.eos, **config}
    if family.bos is not None:
        settings["bos_token"] = family.bos
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(family.template, encoding="utf-8", newline="")
    return folder


def chat(*turns: tuple[str, str], trained: bool = True, **more: object) -> Record:
    """A record from (role, content) pairs; assistant turns are trained."""
    messages = [
        Message(role=role, content=content, trained=trained and role == "assistant")  # type: ignore[arg-type]
        for role, content in turns
    ]
    return Record(conversation_id="c", index=0, line=1, byte_offset=0, messages=messages, **more)  # type: ignore[arg-type]
