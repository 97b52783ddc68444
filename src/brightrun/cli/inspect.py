"""`brightrun inspect FILE --line N --model M`: which tokens of a row a model learns. No server needed."""

import json
import sys
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer

SHOWN, NOTHING, UNREADABLE = 0, 1, 2


class _Failure(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


def inspect(
    file: Annotated[Path, typer.Argument(help="Training file.")],
    model: Annotated[str, typer.Option(help="Base model: tiny, a folder, or one in the Hugging Face cache.")],
    line: Annotated[
        int, typer.Option(min=1, help="Line; of a JSON array the number of the record, of a full v4 file of the pair.")
    ] = 1,
    max_length: Annotated[int | None, typer.Option(min=1, help="Show what this many tokens would cut.")] = None,
    data_format: Annotated[
        str, typer.Option("--format", help="The format it must have. auto: by its content.")
    ] = "auto",
    part: Annotated[int, typer.Option(min=1, help="Which record, of a row that holds several.")] = 1,
    side: Annotated[str | None, typer.Option(help="Of a preference pair: chosen (if not given) or rejected.")] = None,
    color: Annotated[
        bool | None, typer.Option("--color/--no-color", help="Colour, or signs. Default: colour on a terminal.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Show which tokens of one row a model learns, exactly as the trainer would label them.

    Exit 0: shown. 1: nothing can be shown at that line (it is blank, broken, a user turn, or refused by the model's
    chat template). 2: the file, the model or the command line cannot be read.
    """
    try:
        mask, where = _mask(file, line, part, model, max_length, data_format, side)
    except _Failure as failure:
        if as_json:
            print(json.dumps({"file": str(file), "line": line, "error": str(failure), "code": failure.code}))
        print(f"brightrun: {failure}", file=sys.stderr)
        raise typer.Exit(failure.status) from None
    if as_json:
        print(json.dumps(mask, ensure_ascii=False))
    else:
        _show(mask, f"{file}, {where}", model, color)


def _mask(
    file: Path, line: int, part: int, model: str, max_length: int | None, data_format: str, side: str | None
) -> tuple[dict[str, Any], str]:
    from brightrun.formats.chat_errors import ChatError
    from brightrun.formats.errors import FormatError
    from brightrun.formats.mask import mask_of
    from brightrun.formats.model_tokenizers import load_tokenizer
    from brightrun.formats.row import RowError, read_row

    try:
        row = read_row(file, line, data_format, part=part)
    except RowError as error:
        raise _Failure(UNREADABLE if error.code == "unknown_format" else NOTHING, error.code, str(error)) from error
    except OSError as error:
        raise _Failure(UNREADABLE, "unreadable", f"{error.strerror or error}: {file}") from error
    except FormatError as error:
        raise _Failure(UNREADABLE, "unreadable", str(error)) from error
    tokenizer = _tokenizer(load_tokenizer, model)
    try:
        mask = mask_of(tokenizer, row.record, max_length=max_length, side=side)
    except ChatError as error:
        raise _Failure(NOTHING, error.code, f"Row {line:,}: {error}") from error
    except ValueError as error:
        raise _Failure(UNREADABLE, "invalid_option", str(error)) from error
    of = f" (record {row.part} of {row.parts})" if row.parts > 1 else ""
    return dict(mask), f"line {line:,}{of}, {row.format}"


def _tokenizer(load: Any, model: str) -> Any:
    from brightrun.formats.base_models import ModelFolderError
    from brightrun.formats.chat_errors import ChatError
    from brightrun.settings import get_settings

    try:
        return load(model, get_settings().base_model_dir)
    except (ModelFolderError, ChatError, OSError) as error:
        raise _Failure(UNREADABLE, "no_tokenizer", f"The model {model}: {error}") from error


def _show(mask: dict[str, Any], title: str, model: str, color: bool | None) -> None:
    """The chat, what is trained in colour and what is cut struck through; signs where there is no colour."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True, no_color=color is False, force_terminal=color)
    colored = console.color_system is not None and not console.no_color
    chat, previous = Text(), (False, False)
    for kind, run in groupby(mask["tokens"], lambda token: (token["trained"], token["cut"])):
        if not colored:
            chat.append(_signs(previous, kind))
        chat.append(_printable("".join(token["text"] for token in run)), style=_STYLES[kind] if colored else "")
        previous = kind
    if not colored:
        chat.append(_signs(previous, (False, False)))
    legend = "bold on green: trained; struck through: cut off" if colored else "⟦…⟧ trained; ✂{…} cut off"
    console.print(f"{title}, as {model} reads it  ({legend})", markup=False)
    console.print()
    console.print(chat)
    console.print()
    console.print(_summary(mask), markup=False)


_STYLES = {
    (False, False): "dim",
    (True, False): "bold black on green",
    (False, True): "dim strike",
    (True, True): "bold red strike",
}


def _signs(before: tuple[bool, bool], after: tuple[bool, bool]) -> str:
    """What closes the one kind of text and opens the other: cut outside, trained inside."""
    if before == after:
        return ""
    closing = ("⟧" if before[0] else "") + ("}" if before[1] else "")
    return closing + ("✂{" if after[1] else "") + ("⟦" if after[0] else "")


def _printable(text: str) -> str:
    """Line ends stay; whatever else a terminal would obey or hide is written out."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def _summary(mask: dict[str, Any]) -> str:
    share = f"{mask['trained_total']:,} of {mask['tokens_total']:,} tokens are trained"
    lines = [f"{share}; the end of the turn is {'' if mask['eot_trained'] else 'NOT '}trained."]
    if mask["max_length"] is not None:
        cut = mask["tokens_total"] - mask["tokens_kept"]
        lost = mask["trained_total"] - mask["trained_kept"]
        if mask["left_out"]:
            lines.append(f"The oldest {mask['left_out']} messages are left out, so that the answer fits.")
        lines.append(f"At most {mask['max_length']:,} tokens: {cut:,} are cut, {lost:,} of them trained.")
    lines.append(f"Template SHA-256 {mask['template_sha256']}")
    return "\n".join(lines)
