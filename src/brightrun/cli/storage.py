"""`brightrun storage cors`: let browsers upload straight to the S3 bucket."""

import json
from typing import Annotated

import typer

from brightrun.cli.runtime import DataOption, settings_with, start_logging
from brightrun.errors import ConflictError
from brightrun.platform import load_secret

app = typer.Typer(no_args_is_help=True, help="Object storage: the bucket's CORS rule.")


@app.callback()
def root() -> None:
    """Object storage: the bucket's CORS rule."""


@app.command()
def cors(
    origin: Annotated[
        str | None, typer.Option(help="Where the pages come from. Default: BRIGHTRUN_PUBLIC_URL.")
    ] = None,
    set_: Annotated[
        bool, typer.Option("--set", help="Set the rule on the bucket(s); otherwise it is printed.")
    ] = False,
    data: DataOption = None,
) -> None:
    """Print, or set, the CORS rule that an S3 bucket needs so that pages can upload to it."""
    from brightrun.storage import open_store
    from brightrun.storage.s3 import S3Store

    settings = settings_with(data)
    start_logging(settings.model_copy(update={"log_level": "warning"}), "storage")
    origin = (origin or settings.public_url or f"http://{settings.host}:{settings.port}").rstrip("/")
    store = open_store(settings, public_url=origin, secret=load_secret(settings))
    if not isinstance(store, S3Store):
        raise ConflictError("Storage is the local disk: pages upload to our own server and need no CORS rule")
    if set_:
        for bucket in store.set_cors(origin):
            print(f"set on {bucket}: {origin} may upload and download")
    else:
        print(json.dumps(store.cors_rule(origin), indent=2))
