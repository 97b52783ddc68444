"""A model folder's tokenizer, special tokens and chat template, read as transformers reads them, without it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, processors

from brightrun.formats.chat_errors import ChatTemplateMissingError, TokenizerFolderError

# The names that transformers hands to a chat template; `additional`/`extra` tokens are not among them.
NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_ADDED_TOKEN_FIELDS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True)
class TokenizerFolder:
    """What a folder holds.

    tokenizer: cuts and pads nothing, adds no tokens of its own. special_tokens: name → text, for the template.
    templates: name → Jinja text; `default` is the one for chats, `tool_use` (if any) the one for chats with tools.
    stop_ids: token ids that end generation (generation_config.json, else the end-of-sequence token).
    """

    tokenizer: Tokenizer
    special_tokens: dict[str, str]
    templates: dict[str, str]
    stop_ids: tuple[int, ...]

    def template(self, name_or_text: str | None, *, tools: bool = False) -> str:
        """The Jinja text to use: given as text, by the name of one of the folder's, or the folder's default."""
        if name_or_text is not None:
            return self.templates.get(name_or_text, name_or_text)
        if tools and "tool_use" in self.templates:
            return self.templates["tool_use"]
        if "default" in self.templates:
            return self.templates["default"]
        if self.templates:
            raise ChatTemplateMissingError(
                f"The tokenizer has the chat templates {', '.join(sorted(self.templates))}, and none is the default. "
                "Name one of them."
            )
        raise ChatTemplateMissingError(
            "The tokenizer has no chat template (no chat_template.jinja, and no chat_template in "
            "tokenizer_config.json). Choose the instruction-tuned variant of this model, or give a template."
        )


def load(folder: Path) -> TokenizerFolder:
    """Read tokenizer.json, tokenizer_config.json, the chat templates and generation_config.json of a model folder.

    Raises TokenizerFolderError when there is no usable tokenizer.json.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise TokenizerFolderError(
            f"{folder} has no tokenizer.json. BrightRun needs the fast form of a tokenizer: load it once with "
            "transformers' AutoTokenizer and save_pretrained it into that folder."
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise TokenizerFolderError(f"{path} cannot be read as a tokenizer: {error}") from error
    config = read_json(folder / "tokenizer_config.json")
    special = _special_tokens(folder, config)
    _add_missing_tokens(tokenizer, config, special)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # Offsets must cover the white space of their token, or a trained space would seem to belong to nobody. No ids
    # depend on this: nothing is encoded with added special tokens.
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return TokenizerFolder(
        tokenizer, special, _templates(folder, config), _stop_ids(folder, tokenizer, special.get("eos_token"))
    )


def read_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file, or {} when there is no such file. Raises TokenizerFolderError."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TokenizerFolderError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise TokenizerFolderError(f"{path} must hold a JSON object.")
    return value


def _text(token: Any) -> str | None:
    """A token is written as a string or as an object with `content`."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _special_tokens(folder: Path, config: dict[str, Any]) -> dict[str, str]:
    tokens = {name: text for name in NAMED_TOKENS if (text := _text(config.get(name))) is not None}
    if "added_tokens_decoder" not in config:  # transformers reads the older file only then, and lets it win
        older = read_json(folder / "special_tokens_map.json")
        tokens |= {name: text for name in NAMED_TOKENS if (text := _text(older.get(name))) is not None}
    return tokens


def _add_missing_tokens(tokenizer: Tokenizer, config: dict[str, Any], special: dict[str, str]) -> None:
    """Tokens that tokenizer_config.json knows better, in the order of their ids, then named ones nobody defined."""
    known = {token.content: token for token in tokenizer.get_added_tokens_decoder().values()}
    decoder = config.get("added_tokens_decoder") or {}
    for _, entry in sorted(decoder.items(), key=lambda item: int(item[0])):
        if (text := _text(entry)) is None:
            continue
        flags = {name: bool(entry[name]) for name in _ADDED_TOKEN_FIELDS if name in entry}
        flags["special"] = flags.get("special", False) or text in special.values()
        token = AddedToken(text, **flags)
        if text not in known or repr(known[text]) != repr(token):
            tokenizer.add_tokens([token])
            known[text] = token
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    listed = list(extra.values()) if isinstance(extra, dict) else extra
    for text in [*special.values(), *(text for token in listed if (text := _text(token)) is not None)]:
        if text not in known:
            known[text] = AddedToken(text, special=True)
            tokenizer.add_special_tokens([known[text]])


def _templates(folder: Path, config: dict[str, Any]) -> dict[str, str]:
    """chat_template.jinja and additional_chat_templates/ win over the entry in tokenizer_config.json."""
    templates: dict[str, str] = {}
    main = folder / "chat_template.jinja"
    if main.is_file():
        templates["default"] = main.read_text(encoding="utf-8")
    for path in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        templates[path.stem] = path.read_text(encoding="utf-8")
    if templates:
        return templates
    written = config.get("chat_template")
    if isinstance(written, str):
        return {"default": written}
    if isinstance(written, list):
        return {
            entry["name"]: entry["template"]
            for entry in written
            if isinstance(entry, dict) and isinstance(entry.get("name"), str) and isinstance(entry.get("template"), str)
        }
    return {}


def _stop_ids(folder: Path, tokenizer: Tokenizer, eos_token: str | None) -> tuple[int, ...]:
    ends = read_json(folder / "generation_config.json").get("eos_token_id")
    ids = [ends] if isinstance(ends, int) else list(ends or [])
    eos_id = None if eos_token is None else tokenizer.token_to_id(eos_token)
    if eos_id is not None:
        ids.append(eos_id)
    return tuple(sorted({i for i in ids if isinstance(i, int) and tokenizer.id_to_token(i) is not None}))
