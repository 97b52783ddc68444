"""`brightrun packs …`: the scaffolding of a trade, as a folder or a zip file of YAML."""

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brightrun.cli.remote import JsonOption, TokenOption, UrlOption, connect, show, table

if TYPE_CHECKING:
    from brightrun.scaffolding.pack import Pack

app = typer.Typer(no_args_is_help=True, help="Scaffolding of a trade: list, show, export, import and check.")
KeyArgument = Annotated[str, typer.Argument(metavar="PACK", help="The pack's key, e.g. financial_planning.")]
PathArgument = Annotated[Path, typer.Argument(metavar="PATH", help="A pack's folder, or its zip file.")]
BuiltinOption = Annotated[bool, typer.Option("--builtin", help="What comes with BrightRun. No server needed.")]


@app.command("list")
def list_(
    builtin: BuiltinOption = False, url: UrlOption = None, token: TokenOption = None, as_json: JsonOption = False
) -> None:
    """List the packs of the workspace."""
    if builtin:
        from brightrun.scaffolding.pack_files import builtin_keys, builtin_pack

        packs = [_summary(builtin_pack(key)) for key in builtin_keys()]
    else:
        with connect(url, token) as client:
            packs = client.packs.list()
    columns = {
        "key": lambda row: row["key"],
        "name": lambda row: row["name"],
        "personas": lambda row: str(row["things"]["personas"]),
        "arcs": lambda row: str(row["things"]["emotional-arcs"]),
        "topics": lambda row: str(row["things"]["training-topics"]),
        "templates": lambda row: str(row["things"]["templates"]),
    }
    show(packs, as_json=as_json, text=lambda: table(columns, packs))


@app.command("show")
def show_(
    key: KeyArgument,
    builtin: BuiltinOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a pack holds: keys and names."""
    pack = _pack_of(key, builtin, url, token)
    summary = _summary(pack) | {
        "personas": [{"key": one.key, "name": f"{one.name}, {one.archetype}"} for one in pack.personas],
        "arcs": [{"key": one.key, "name": one.name} for one in pack.arcs],
        "topics": [{"key": one.key, "name": one.name, "featured": one.featured} for one in pack.topics],
        "templates": [{"key": one.key, "name": one.name, "arc": one.arc, "tier": one.tier} for one in pack.templates],
    }
    show(summary, as_json=as_json, text=lambda: _print(summary))


@app.command()
def export(
    key: KeyArgument,
    out: Annotated[Path, typer.Argument(help="A new folder, or a file that ends in .zip.")],
    builtin: BuiltinOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Write a pack as a folder of YAML, to be edited and imported, or as a zip file."""
    from brightrun.errors import InvalidInputError
    from brightrun.scaffolding.archive import pack_to_zip
    from brightrun.scaffolding.pack_files import pack_to_files

    if out.exists():
        raise InvalidInputError(f"{out} exists already: give a path where nothing is yet")
    pack = _pack_of(key, builtin, url, token)
    if out.suffix == ".zip":
        out.write_bytes(pack_to_zip(pack))
    else:
        aside = out.with_name(f".{out.name}.part")
        for name, data in pack_to_files(pack).items():
            file = aside / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        aside.rename(out)
    print(out)


@app.command("import")
def import_(path: PathArgument, url: UrlOption = None, token: TokenOption = None, as_json: JsonOption = False) -> None:
    """Take a pack into the workspace: what is new is added, what differs becomes a new version."""
    from brightrun.scaffolding.archive import pack_to_zip

    pack = _read(path)
    with connect(url, token) as client:
        loaded = client.packs.take_in(pack_to_zip(pack))
    told = f"{loaded['name']}: {loaded['added']} added, {loaded['changed']} changed, {loaded['unchanged']} unchanged"
    show(loaded, as_json=as_json, text=lambda: print(told))


@app.command()
def check(path: PathArgument, as_json: JsonOption = False) -> None:
    """Check a pack's folder or zip file, every fault with its place. No server needed. Exit status 1: it has faults."""
    from brightrun.scaffolding.pack_files import PackInvalidError

    try:
        pack = _read(path)
    except PackInvalidError as error:
        faults = [{"file": fault.file, "path": fault.path, "message": fault.message} for fault in error.faults]
        if as_json:
            print(json.dumps({"ok": False, "faults": faults}, ensure_ascii=False))
        for fault in error.faults:
            print(fault, file=sys.stderr)
        raise typer.Exit(1) from None
    summary = _summary(pack)
    holds = ", ".join(f"{n} {kind.replace('-', ' ')}" for kind, n in summary["things"].items())
    answer = {"ok": True, "faults": [], "pack": summary}
    show(answer, as_json=as_json, text=lambda: print(f"{pack.name} ({pack.key} {pack.head.version}) is whole: {holds}"))


def _read(path: Path) -> "Pack":
    from brightrun.errors import InvalidInputError
    from brightrun.scaffolding.archive import pack_from_zip
    from brightrun.scaffolding.pack_files import read_folder

    if path.is_dir():
        return read_folder(path)
    if path.is_file():
        return pack_from_zip(path.read_bytes())
    raise InvalidInputError(f"{path}: there is no such folder or file")


def _pack_of(key: str, builtin: bool, url: str | None, token: str | None) -> "Pack":
    from brightrun.scaffolding.archive import pack_from_zip
    from brightrun.scaffolding.pack_files import builtin_pack

    if builtin:
        return builtin_pack(key)
    with connect(url, token) as client, tempfile.TemporaryDirectory() as folder:
        return pack_from_zip(client.packs.export(key, Path(folder) / "pack.zip").read_bytes())


def _summary(pack: "Pack") -> dict[str, Any]:
    return {
        "key": pack.key,
        "name": pack.name,
        "description": pack.head.description,
        "pack_version": pack.head.version,
        "language": pack.head.language,
        "consultant": pack.profile.name,
        "things": {
            "personas": len(pack.personas),
            "emotional-arcs": len(pack.arcs),
            "training-topics": len(pack.topics),
            "templates": len(pack.templates),
        },
    }


def _print(summary: dict[str, Any]) -> None:
    print(f"{summary['name']} ({summary['key']} {summary['pack_version']})")
    print(f"  {summary['description']}")
    print(f"  consultant: {summary['consultant']}")
    for kind in ("personas", "arcs", "topics", "templates"):
        print(f"{kind}:")
        for one in summary[kind]:
            print(f"  {one['key']}  {one['name']}")
