"""`brightrun trainer prepare`: a run directory without server or database."""

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Prepare a run directory; `python -m brightrun.trainer RUN_DIR` runs it.")


@app.callback()
def root() -> None:
    """Prepare a run directory; `python -m brightrun.trainer RUN_DIR` runs it."""


@app.command()
def prepare(
    dataset: Annotated[Path, typer.Option("--dataset", help="Training file, in any format.")],
    out: Annotated[Path, typer.Option("--out", help="The run directory; must not exist, or be empty.")],
    base_model: Annotated[str, typer.Option("--base-model", help="tiny, tiny-random, a folder, or a hub id.")] = "tiny",
    preset: Annotated[str, typer.Option(help="conservative, balanced, aggressive or custom.")] = "balanced",
    seed: Annotated[int | None, typer.Option(help="Seed of split, initialisation and order.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A hyperparameter on top of the preset: key=value. Repeatable.")
    ] = None,
    questions: Annotated[
        list[str] | None,
        typer.Option("--sample-question", help="Answered as training goes on, instead of held-out ones. Repeatable."),
    ] = None,
    data_format: Annotated[str, typer.Option("--format", help="Format of the file.")] = "auto",
    on_bad_row: Annotated[
        str, typer.Option(help="fail: a bad row ends the run. skip: it is named and left out.")
    ] = "fail",
    base_model_dir: Annotated[Path | None, typer.Option(help="Folder with base models, by name.")] = None,
    allow_hub: Annotated[bool, typer.Option(help="May the trainer download a hub model?")] = False,
    allow_pickle: Annotated[bool, typer.Option(help="Load pickled weights: they can run code.")] = False,
) -> None:
    """Make a run directory: the data, and a run.json that freezes everything the trainer reads."""
    from brightrun.formats import hyperparameters
    from brightrun.formats.run_directory import prepare_run
    from brightrun.validation.near_links import near_links

    try:
        overrides = hyperparameters.parse_set(settings or [])
        config = prepare_run(
            dataset,
            out,
            base_model=base_model,
            preset=preset,
            seed=seed,
            overrides=overrides,
            data_format=data_format,
            base_model_dir=base_model_dir,
            allow_hub=allow_hub,
            allow_pickle=allow_pickle,
            on_bad_row=on_bad_row,
            sample_questions=questions or (),
            near_links=near_links,
        )
    except (ValueError, LookupError, OSError) as error:
        print(f"brightrun: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    split = config.split
    if split.train_records == 0:
        # Never held out by the split, which leaves a conversation to train on: the file has none that can be read.
        shutil.rmtree(out)
        print(f"brightrun: {_why_nothing_to_train_on(dataset, data_format)}", file=sys.stderr)
        raise typer.Exit(2)
    print(
        f"{out}: {split.train_records} records of {split.train_conversations} conversations to train on, "
        f"{split.heldout_records} of {len(split.heldout_ids)} held out",
        file=sys.stderr,
    )
    for rule in config.rules_fired:
        print(f"  {rule}", file=sys.stderr)
    print(f"run it: python -m brightrun.trainer {out}", file=sys.stderr)


def _why_nothing_to_train_on(dataset: Path, data_format: str) -> str:
    from brightrun.formats.issues import Issue
    from brightrun.formats.reader import read_records

    found = [item for item in read_records(dataset, data_format) if isinstance(item, Issue)]
    first = next((issue for issue in found if issue.severity == "error"), next(iter(found), None))
    why = f" Line {first.line}: {first.message} {first.suggestion}" if first else ""
    return f"{dataset} has no record to train on, so no run directory was made.{why}"
