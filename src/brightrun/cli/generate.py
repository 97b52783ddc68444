"""`brightrun generate`: one conversation, from a terminal."""

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from brightrun.cli.remote import JsonOption
from brightrun.cli.runtime import DataOption
from brightrun.errors import InvalidInputError


def generate(
    persona: Annotated[str, typer.Option(help="Key of the persona, such as overwhelmed_avoider.")],
    arc: Annotated[str, typer.Option(help="Key of the emotional arc, such as confusion_to_clarity.")],
    topic: Annotated[str, typer.Option(help="Key of the topic, such as roth_ira_conversion.")],
    pack: Annotated[str, typer.Option()] = "financial_planning",
    model: Annotated[str | None, typer.Option(help="Default: the default Claude of the price file.")] = None,
    template: Annotated[str | None, typer.Option(help="Default: the best for the arc.")] = None,
    replicate: Annotated[int, typer.Option(min=0, help="Another one of the same combination.")] = 0,
    source: Annotated[Path | None, typer.Option(help="Text file that the conversation is written from.")] = None,
    max_cost: Annotated[str | None, typer.Option("--max-cost", metavar="USD")] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Print what would be sent, and send nothing.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write one conversation. The same one again is not bought again. Exit status as of `brightrun batches run`."""
    item: dict[str, Any] = {"persona": persona, "arc": arc, "topic": topic, "replicate": replicate}
    if template is not None:
        item["template"] = template
    if source is not None:
        try:
            item["source"] = {"text": source.read_text(encoding="utf-8"), "title": source.name}
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"{source} cannot be read as text: {error}") from error
    plan = {"pack": pack, "seed": 0, "items": [item]} | ({"model": model} if model is not None else {})
    if preview:
        _preview(plan, as_json=as_json)
        return
    from brightrun.cli import batches

    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "plan.json"
        file.write_text(json.dumps(plan))
        status = batches.carry_out(file, max_cost=max_cost, data=data, as_json=as_json)
    raise typer.Exit(status)


def _preview(plan: dict[str, Any], *, as_json: bool) -> None:
    from brightrun.generation.plan import choose, read_plan
    from brightrun.generation.prompts import build_prompts
    from brightrun.llm.prices import catalogue
    from brightrun.scaffolding.pack_files import builtin_keys, builtin_pack

    read = read_plan(plan)
    if read.pack not in builtin_keys():
        raise InvalidInputError(f"a preview without a database knows the built-in packs: {', '.join(builtin_keys())}")
    pack = builtin_pack(read.pack)
    models = catalogue()
    prompt = build_prompts(pack, read, choose(read, pack), models.find(read.model or models.default))[0]
    if as_json:
        print(json.dumps({"system": prompt.system, "prompt": prompt.user, "max_tokens": prompt.max_tokens}))
        return
    print(f"--- system part, the same for the whole pack\n{prompt.system}\n\n--- prompt\n{prompt.user}")
