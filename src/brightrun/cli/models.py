"""`brightrun models …`: trained models from a terminal."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from brightrun.cli.remote import JsonOption, TokenOption, UrlOption, bytes_progress, connect, show, table

app = typer.Typer(no_args_is_help=True, help="List, show and download trained models.")
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The model's id.")]


@app.command("list")
def list_(
    page: int = 1, limit: int = 25, url: UrlOption = None, token: TokenOption = None, as_json: JsonOption = False
) -> None:
    """List models, newest first."""
    with connect(url, token) as client:
        answer = client.models.list(page=page, limit=limit)
    columns = {
        "id": lambda row: row["id"],
        "name": lambda row: row["name"],
        "version": lambda row: row["version"],
        "base model": lambda row: row["base_model"],
    }
    show(answer, as_json=as_json, text=lambda: table(columns, answer["items"]))


@app.command("show")
def show_(model_id: IdArgument, url: UrlOption = None, token: TokenOption = None, as_json: JsonOption = False) -> None:
    """Show one model."""
    with connect(url, token) as client:
        model = client.models.get(model_id)
    show(model, as_json=as_json, text=lambda: _print(model))


@app.command()
def download(
    model_id: IdArgument,
    out: Annotated[Path | None, typer.Option(help="Default: <model name>.zip here.")] = None,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Download a model: adapter, tokenizer, README, training summary and metrics, as one zip."""
    with connect(url, token) as client:
        if out is None:
            from brightrun.storage.paths import safe_name

            out = Path(safe_name(client.models.get(model_id)["name"]) + ".zip")
        with bytes_progress(out.name) as progress:
            client.models.download(model_id, out, progress)
    print(out)
    print(f"unpack it, then: PeftModel.from_pretrained(base, {str(out.with_suffix(''))!r})", file=sys.stderr)


def _print(model: dict[str, Any]) -> None:
    print(f"{model['name']} {model['version']}")
    print(f"  id {model['id']}, on {model['base_model']}")
    for name, value in (model.get("quality_metrics") or {}).items():
        print(f"  {name}: {value}")
