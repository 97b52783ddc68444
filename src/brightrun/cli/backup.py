"""`brightrun backup` and `brightrun restore`: database and objects in one directory, every file with its hash.

A backup is a directory: `manifest.json` (written last: a directory without it is not a backup), `database.dump`,
`objects/<bucket>/<path>` and `secret_key`. The database is taken at one moment, before the objects: what is uploaded
meanwhile may be there without its row, which is harmless; what is purged meanwhile is named.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

import brightrun
from brightrun.cli.runtime import DataOption, installation, settings_with, start_logging
from brightrun.clock import utcnow
from brightrun.db.dump import dump_database, require_empty, restore_database
from brightrun.db.migrate import head_revision, migrate
from brightrun.errors import ConflictError, InvalidInputError, NotFoundError
from brightrun.platform import keep_secret, load_secret
from brightrun.settings import Settings
from brightrun.storage import Bucket, ObjectStore, open_store

MANIFEST = "manifest.json"
FORMAT = 1
_BLOCK = 1024 * 1024


def _store(settings: Settings) -> ObjectStore:
    return open_store(settings, public_url="http://localhost", secret=load_secret(settings))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def backup(
    target: Annotated[Path, typer.Argument(help="Directory to make; must not exist.")],
    data: DataOption = None,
) -> None:
    """Save database and objects into one directory. Works while BrightRun runs."""
    settings = settings_with(data)
    start_logging(settings.model_copy(update={"log_level": "warning"}), "backup")
    if target.exists():
        raise ConflictError(f"{target} exists already; choose another path")
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    aside.mkdir(parents=True, mode=0o700)
    try:
        with installation(settings) as installed:
            print("saving the database", file=sys.stderr)
            dump_database(installed.urls, aside / "database.dump")
            prefix = installed.urls.app_role.removesuffix("_app")
            owner = installed.urls.owner.username
        objects, gone = _copy_objects(_store(settings), aside / "objects")
        secret = aside / "secret_key"
        secret.touch(mode=0o600)
        secret.write_bytes(load_secret(settings))
        manifest = {
            "format": FORMAT,
            "brightrun": brightrun.__version__,
            "revision": head_revision(),
            "role_prefix": prefix,
            "owner": owner,
            "created_at": utcnow().isoformat(),
            "database": {"file": "database.dump", "sha256": _sha256(aside / "database.dump")},
            "objects": objects,
            "gone_meanwhile": gone,
        }
        (aside / MANIFEST).write_text(json.dumps(manifest, indent=1))
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    total = sum(entry["size"] for entry in objects)
    print(f"{target}: database and {len(objects)} objects ({total / 1e6:.1f} MB)")
    for path in gone:
        print(f"  deleted while the backup ran: {path}", file=sys.stderr)


def _copy_objects(store: ObjectStore, target: Path) -> tuple[list[dict[str, Any]], list[str]]:
    copied: list[dict[str, Any]] = []
    gone: list[str] = []
    for bucket in Bucket:
        if bucket is Bucket.BACKUPS:
            continue
        for entry in store.list_objects(bucket):
            file = target / bucket.value / entry.path
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                info = store.download_to(bucket, entry.path, file)
            except NotFoundError:
                gone.append(f"{bucket.value}/{entry.path}")
                continue
            copied.append({"bucket": bucket.value, "path": entry.path, "size": info.size, "sha256": info.sha256})
    return copied, gone


def restore(
    source: Annotated[Path, typer.Argument(help="A directory made by `brightrun backup`.")],
    data: DataOption = None,
) -> None:
    """Bring a backup back into a new data directory (or an empty database of your own). Verified before and after."""
    settings = settings_with(data)
    start_logging(settings.model_copy(update={"log_level": "warning"}), "restore")
    manifest = _read_manifest(source)
    print("verifying the backup", file=sys.stderr)
    problems = list(_verify(source, manifest))
    if problems:
        raise InvalidInputError(f"the backup is damaged: {problems[0]} ({len(problems)} problems in all)")
    _bring_secret(settings, source)
    prefixed = settings.model_copy(update={"database_role_prefix": manifest["role_prefix"]})
    with installation(prefixed, migrated=False) as installed:
        require_empty(installed.urls)
        # Objects first: the database is what makes it an installation, so a restore that is cut short can be repeated.
        _put_objects(_store(settings), source, manifest)
        print("restoring the database", file=sys.stderr)
        restore_database(installed.urls, source / "database.dump", saved_owner=manifest["owner"])
        migrate(installed.urls)  # A backup of an older version is brought to this one.
    print(f"restored {len(manifest['objects'])} objects and the database into {settings.data}")
    if settings.database_url is not None and prefixed.database_role_prefix != installed.urls.owner.database:
        print(f"set BRIGHTRUN_DATABASE_ROLE_PREFIX={manifest['role_prefix']} for this database", file=sys.stderr)


def _put_objects(store: ObjectStore, source: Path, manifest: dict[str, Any]) -> None:
    print(f"restoring {len(manifest['objects'])} objects", file=sys.stderr)
    store.ensure_buckets()
    for entry in manifest["objects"]:
        info = store.put_file(
            Bucket(entry["bucket"]), entry["path"], source / "objects" / entry["bucket"] / entry["path"]
        )
        if info.sha256 is not None and info.sha256 != entry["sha256"]:
            raise InvalidInputError(f"{entry['path']} changed while it was restored; run the restore again")


def _read_manifest(source: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((source / MANIFEST).read_text())
    except FileNotFoundError:
        raise InvalidInputError(f"{source} is not a whole backup: it has no {MANIFEST}") from None
    except ValueError as error:
        raise InvalidInputError(f"{source / MANIFEST} is damaged: {error}") from None
    if manifest.get("format") != FORMAT:
        raise InvalidInputError(f"{source} has format {manifest.get('format')}; this version reads {FORMAT}")
    return manifest


def _verify(source: Path, manifest: dict[str, Any]) -> Iterator[str]:
    """One sentence for each file that is missing or not what it was."""
    files = [(source / manifest["database"]["file"], manifest["database"]["sha256"])]
    files += [(source / "objects" / entry["bucket"] / entry["path"], entry["sha256"]) for entry in manifest["objects"]]
    for path, expected in files:
        if not path.is_file():
            yield f"{path} is missing"
        elif _sha256(path) != expected:
            yield f"{path} has changed"


def _bring_secret(settings: Settings, source: Path) -> None:
    """The secret key of the saved installation, unless this one has its own already."""
    if settings.secret_key is None:
        keep_secret(settings, (source / "secret_key").read_bytes())
