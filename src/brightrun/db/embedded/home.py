"""Where the database's files are: in `<data>/postgres/`, or elsewhere when PostgreSQL's account cannot get there.

Only root meets the second case: its data directory often lies under a private one (`/root`), PostgreSQL runs as an
unprivileged account, and we never change the mode or owner of a directory that exists. Then the cluster lies in
`<system directory>/postgres/<id>/`, and two small files tie the halves together:

- `<data>/postgres/location.json`  {"id", "directory"}: where the files are,
- `<directory>/owner.json`         {"id", "data"}: whose they are.

Locks, password and pointer always stay in `<data>/postgres/`.
"""

import json
import os
import secrets
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from brightrun.db.embedded.account import Account
from brightrun.db.embedded.binaries import make_open_directory
from brightrun.db.embedded.errors import ClusterLocationError
from brightrun.db.embedded.locks import give_to_owner_of

POINTER = "location.json"
OWNER = "owner.json"
SYSTEM_DIR = Path("/var/lib/brightrun") if sys.platform == "linux" else Path("/usr/local/var/brightrun")


@dataclass(frozen=True)
class Home:
    """control: `<data>/postgres`. base: what holds the cluster (the same, or a directory of our own elsewhere)."""

    control: Path
    base: Path
    account: Account

    @property
    def cluster(self) -> Path:
        return self.base / "cluster"

    @property
    def password_file(self) -> Path:
        return self.control / "superuser.password"


def make_control_directory(data: Path) -> Path:
    """`<data>/postgres`, made when missing; refuses one that belongs to another user."""
    control = data / "postgres"
    try:
        _make_control_directory(data, control)
    except OSError as error:
        raise ClusterLocationError(
            f"The directory of the database could not be made in {data}: {error.strerror} ({error.filename}). "
            "Choose a --data that you may write, or make room there."
        ) from error
    owner = control.stat().st_uid
    if os.geteuid() not in {0, owner}:
        raise ClusterLocationError(
            f"The database in {control} belongs to {Account.of_owner(control).name}, and BrightRun runs as "
            f"{Account.current().name}. Start it as that user (or as root), or choose another --data."
        )
    return control.resolve()


def _make_control_directory(data: Path, control: Path) -> None:
    if not control.exists():
        data.mkdir(parents=True, exist_ok=True)
        # Renamed into place, so that nobody sees it with a mode other than its own. Root's lets the account through.
        fresh = Path(tempfile.mkdtemp(prefix=".postgres-", dir=data))
        fresh.chmod(0o711 if os.geteuid() == 0 else 0o700)
        try:
            fresh.rename(control)
        except OSError:
            fresh.rmdir()
            if not control.is_dir():
                raise


def find_home(control: Path, system_dir: Path, log: Callable[[str], None]) -> Home:
    """Where the cluster is, or where a new one shall be made. Call under the control lock.

    ClusterLocationError: the files were moved, deleted, belong to another data directory or user, or are unreachable.
    """
    pointer = control / POINTER
    if pointer.exists():
        return _pointed_home(control, pointer, log)
    cluster = control / "cluster"
    if cluster.exists():
        return Home(control, control, _owner_of_cluster(cluster))
    if os.geteuid() != 0:
        return Home(control, control, Account.current())
    account = Account.for_root(log)
    if _can_live_in(control, account):
        return Home(control, control, account)
    return _make_home_elsewhere(control, system_dir, account, log)


def write_private(path: Path, text: str, mode: int = 0o600) -> None:
    """Write `text` to `path` whole or not at all, on disk before it is visible."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            if os.geteuid() == 0:
                give_to_owner_of(path.parent, fd)
            file.write(text)
            file.flush()
            os.fsync(fd)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _can_live_in(directory: Path, account: Account) -> bool:
    probe = Path(tempfile.mkdtemp(prefix=".probe-", dir=directory))
    try:
        os.chown(probe, account.uid, account.gid)
        kept = probe.stat()  # some file systems accept chown and chmod, and do nothing
        return kept.st_uid == account.uid and kept.st_mode & 0o777 == 0o700 and account.can_use(probe)
    except PermissionError:
        return False
    finally:
        probe.rmdir()


def _owner_of_cluster(cluster: Path) -> Account:
    account = Account.of_owner(cluster)
    if os.geteuid() != 0:
        if account.switch:
            raise ClusterLocationError(
                f"The database files in {cluster} belong to {account.name}, and BrightRun runs as "
                f"{Account.current().name}. Start it as root (as the first time), or choose another --data."
            )
        return account
    if account.uid == 0:
        raise ClusterLocationError(
            f"The database files in {cluster} belong to root, and PostgreSQL does not run as root. "
            f"Give them to the account that made them, for example: chown -R brightrun: {cluster}"
        )
    if not account.can_use(cluster):
        raise ClusterLocationError(
            f"PostgreSQL runs as '{account.name}' (the owner of {cluster}), and that account can no longer enter "
            f"{account.first_closed_parent(cluster)}. Let it through (for example: chmod o+x on that directory); "
            "BrightRun does not change the mode of a directory that it did not make."
        )
    return account


def _make_home_elsewhere(control: Path, system_dir: Path, account: Account, log: Callable[[str], None]) -> Home:
    closed = account.first_closed_parent(control)
    identity = secrets.token_hex(8)
    base = system_dir / "postgres" / identity
    try:
        make_open_directory(base)
        write_private(base / OWNER, json.dumps({"id": identity, "data": str(control)}), mode=0o644)
    except OSError as error:
        raise ClusterLocationError(
            f"PostgreSQL runs as '{account.name}', which cannot enter {closed}, and {base} could not be made instead "
            f"({error.strerror}). Choose a --data that everyone can enter, start BrightRun as a normal user, or set "
            "DATABASE_URL."
        ) from error
    if not _can_live_in(base, account):
        also_closed = account.first_closed_parent(base)
        (base / OWNER).unlink()
        base.rmdir()
        raise ClusterLocationError(
            f"PostgreSQL runs as '{account.name}', which can enter neither {closed} nor {also_closed}. "
            "Choose a --data that everyone can enter, start BrightRun as a normal user, or set DATABASE_URL."
        )
    write_private(control / POINTER, json.dumps({"id": identity, "directory": str(base)}))
    log(
        f"the account '{account.name}', which PostgreSQL runs as, cannot enter {closed}: "
        f"the database's files are in {base} (a pointer is kept in {control / POINTER})"
    )
    _name_abandoned(base.parent, log)
    return Home(control, base, account)


def _name_abandoned(parent: Path, log: Callable[[str], None]) -> None:
    """Say which homes have lost their data directory. They are never deleted by us: a disk may be unmounted."""
    for owner in parent.glob(f"*/{OWNER}"):
        data = _read(owner).get("data", "")
        if data and not Path(data).exists():
            log(f"{owner.parent} holds the database of {data}, which is gone; delete it if you do not need it")


def _pointed_home(control: Path, pointer: Path, log: Callable[[str], None]) -> Home:
    fields = _read(pointer)
    base, identity = Path(fields.get("directory", "")), fields.get("id", "")
    if not identity or not base.is_absolute():
        raise ClusterLocationError(
            f"{pointer} should say where the database's files are, and cannot be read. Restore it from a backup: its "
            f'form is {{"id": …, "directory": …}}, both found in {SYSTEM_DIR}/postgres/*/{OWNER}.'
        )
    if os.geteuid() != 0:
        raise ClusterLocationError(
            f"The database of {control} was made by root and its files are in {base}. Start BrightRun as root, "
            "or choose another --data."
        )
    if not (base / OWNER).exists():
        raise ClusterLocationError(
            f"The database of {control} was placed in {base}, and is not there any more: it was deleted or moved. "
            f'Put it back; or, if you moved it, write its new place as "directory" in {pointer}; or, to begin with an '
            f"empty database, delete {pointer}."
        )
    owner = _read(base / OWNER)
    if owner.get("id") != identity or (owner.get("data") != str(control) and _still_owns(owner, identity)):
        raise ClusterLocationError(
            f"{pointer} says that the database of {control} is in {base}, but that one belongs to {owner.get('data')}. "
            f"If {control.parent} is a copy, its database was not copied with it: make one with `brightrun backup` and "
            f"`brightrun restore`, or delete {pointer} to begin with an empty database."
        )
    if owner.get("data") != str(control):
        log(f"the data directory moved from {owner.get('data')} to {control}; its database stays in {base}")
        write_private(base / OWNER, json.dumps({"id": identity, "data": str(control)}), mode=0o644)
    cluster = base / "cluster"
    return Home(control, base, _owner_of_cluster(cluster) if cluster.exists() else Account.for_root(log))


def _still_owns(owner: dict[str, str], identity: str) -> bool:
    return _read(Path(owner.get("data", "")) / POINTER).get("id") == identity


def _read(path: Path) -> dict[str, str]:
    """The fields of a pointer or owner file; none when it is missing or damaged (the callers say what that means)."""
    with suppress(OSError, ValueError):
        fields = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(fields, dict):
            return {str(key): str(value) for key, value in fields.items()}
    return {}
