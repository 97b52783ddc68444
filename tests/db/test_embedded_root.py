"""The embedded PostgreSQL as root: an unprivileged account, private parents, nothing that exists changes."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from embedded_support import ask, open_directory, plant

from brightrun.db.embedded import EmbeddedPostgres
from brightrun.db.embedded import account as account_module
from brightrun.db.embedded.account import Account
from brightrun.db.embedded.binaries import Binaries
from brightrun.db.embedded.errors import ClusterLocationError
from brightrun.db.embedded.postmaster import find_postmaster, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: these are root's own rules")

State = tuple[int, int, int]


@pytest.fixture
def place() -> Iterator[Path]:
    with open_directory() as directory:
        yield directory


@pytest.fixture
def private(place: Path) -> Path:
    """`--data` under a parent that only root enters, as under root's home."""
    directory = place / "private"
    directory.mkdir(mode=0o700)
    return directory / "data"


def on_system(data: Path, said: list[str] | None = None, binaries: Path | None = None) -> EmbeddedPostgres:
    log = said.append if said is not None else (lambda _: None)
    return EmbeddedPostgres(data, log=log, system_dir=data.parents[1] / "system", binaries=binaries)


def states_up_to_the_root(*paths: Path) -> dict[Path, State]:
    """Mode, owner and group of everything above `paths`, and of what they contain."""
    seen = {above for path in paths for above in (path, *path.parents) if above.exists()}
    seen |= {below for path in paths if path.exists() for below in path.rglob("*")}
    return {path: (state.st_mode, state.st_uid, state.st_gid) for path in seen for state in [path.lstat()]}


def insert_row(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.conninfo()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS n")


@pytest.fixture
def relocated(private: Path) -> Path:
    """A data directory whose database lies elsewhere (a test below makes one from nothing) and holds one row."""
    base = private.parents[1] / "system" / "postgres" / "0123456789abcdef"
    base.mkdir(parents=True)
    control = plant(private) / "postgres"
    (control / "cluster").rename(base / "cluster")
    (control / "location.json").write_text(json.dumps({"id": base.name, "directory": str(base)}))
    (base / "owner.json").write_text(json.dumps({"id": base.name, "data": str(control)}))
    with on_system(private) as postgres:
        insert_row(postgres)
        assert postgres.cluster == base / "cluster"
    return private


def pointed(data: Path) -> Path:
    return Path(json.loads((data / "postgres" / "location.json").read_text())["directory"])


def test_under_private_parents_data_and_binaries_go_elsewhere_and_nothing_changes(place: Path) -> None:
    venv = place / "home"
    venv.mkdir(mode=0o700)
    wheel = Binaries.of_wheel(18).directory.parent
    site = venv / "site-packages"
    shutil.copytree(wheel, site / wheel.parent.name / wheel.name, ignore=shutil.ignore_patterns("*.a", "pgxs"))
    libraries = wheel.parents[1] / f"{wheel.parent.name}.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, site / libraries.name)
    binaries = site / wheel.parent.name / wheel.name / "bin"
    data = place / "private" / "deeper" / "data"
    data.mkdir(parents=True)
    data.parents[1].chmod(0o700)
    said: list[str] = []
    before = states_up_to_the_root(data, site)
    with EmbeddedPostgres(data, log=said.append, system_dir=place / "system", binaries=binaries) as postgres:
        insert_row(postgres)
        program = Path(psutil.Process(postgres.pid).cmdline()[0])
        assert program.is_relative_to(place / "system" / "binaries")
        assert postgres.cluster.is_relative_to(place / "system" / "postgres")
        assert psutil.Process(postgres.pid).uids().real != 0
        assert stat.S_IMODE(postgres.cluster.stat().st_mode) == 0o700
        assert program.stat().st_uid == 0
        assert not program.stat().st_mode & 0o022, "PostgreSQL's account may not change the programs it runs"
    after = states_up_to_the_root(data, site)
    assert {path: after[path] for path in before} == before
    text = "\n".join(said)
    assert str(place / "private") in text
    assert str(pointed(data)) in text
    copies = list((place / "system" / "binaries").iterdir())
    with EmbeddedPostgres(data, system_dir=place / "system", binaries=binaries) as postgres:
        assert ask(postgres, "SELECT n FROM kept") == 7
        assert list((place / "system" / "binaries").iterdir()) == copies, "copied once"
        killed = postgres.pid
        os.kill(killed, signal.SIGKILL)
        assert wait_until(lambda: not postgres.is_running(), 10)
        postgres.start()
        assert ask(postgres, "SELECT n FROM kept") == 7


def test_where_the_account_can_go_everything_stays_in_place_and_nothing_changes(place: Path) -> None:
    data = place / "open" / "data"
    data.mkdir(parents=True)
    for folder in (data.parent, data):
        folder.chmod(0o755)
    before = states_up_to_the_root(data, Binaries.of_wheel(18).directory)
    with on_system(data) as postgres:
        assert postgres.cluster == data / "postgres" / "cluster"
        uid = psutil.Process(postgres.pid).uids().real
        assert uid not in {0, os.getuid()}
        assert postgres.cluster.stat().st_uid == uid
        assert (data / "postgres").stat().st_uid == 0
        assert (data / "postgres" / "superuser.password").stat().st_uid == 0
    after = states_up_to_the_root(data, Binaries.of_wheel(18).directory)
    assert {path: after[path] for path in before} == before
    assert not (data.parents[1] / "system").exists()


def test_a_deleted_database_is_an_error_that_names_both_places(relocated: Path) -> None:
    base = pointed(relocated)
    shutil.rmtree(base)
    with pytest.raises(ClusterLocationError, match="deleted or moved") as caught:
        on_system(relocated).start()
    assert str(base) in caught.value.message
    assert str(relocated / "postgres" / "location.json") in caught.value.message
    (relocated / "postgres" / "location.json").unlink()  # as the message says: an empty database
    with on_system(relocated) as postgres:
        assert ask(postgres, "SELECT to_regclass('kept')") is None


def test_a_moved_database_is_found_when_the_pointer_is_corrected(relocated: Path) -> None:
    base = pointed(relocated)
    moved = base.rename(base.with_name("moved"))
    with pytest.raises(ClusterLocationError, match='write its new place as "directory"'):
        on_system(relocated).start()
    pointer = relocated / "postgres" / "location.json"
    pointer.write_text(pointer.read_text().replace(str(base), str(moved)))
    with on_system(relocated) as postgres:
        assert ask(postgres, "SELECT n FROM kept") == 7


def test_a_moved_data_directory_keeps_its_database(relocated: Path) -> None:
    said: list[str] = []
    moved = relocated.rename(relocated.with_name("elsewhere"))
    with on_system(moved, said) as postgres:
        assert ask(postgres, "SELECT n FROM kept") == 7
    assert "moved from" in "\n".join(said)


def test_a_copied_data_directory_does_not_share_the_database(relocated: Path) -> None:
    copy = relocated.with_name("copy")
    shutil.copytree(relocated, copy)
    with pytest.raises(ClusterLocationError, match="belongs to") as caught:
        on_system(copy).start()
    assert str(relocated) in caught.value.message
    with on_system(relocated) as postgres:
        assert ask(postgres, "SELECT n FROM kept") == 7


@pytest.mark.parametrize("content", ["", "{", "[]", '{"id": "x"}', '{"id": "x", "directory": "relative"}'])
def test_a_damaged_pointer_is_an_error_and_no_new_database(relocated: Path, content: str) -> None:
    (relocated / "postgres" / "location.json").write_text(content)
    with pytest.raises(ClusterLocationError, match="cannot be read"):
        on_system(relocated).start()


def test_a_private_system_directory_is_an_error_and_not_opened(private: Path) -> None:
    system = private.parents[1] / "system"
    system.mkdir(mode=0o700)
    with pytest.raises(ClusterLocationError, match="can enter neither") as caught:
        on_system(private).start()
    assert str(private.parent) in caught.value.message
    assert str(system) in caught.value.message
    assert stat.S_IMODE(system.stat().st_mode) == 0o700
    assert list((system / "postgres").iterdir()) == []


def test_abandoned_databases_are_named_and_not_deleted(relocated: Path) -> None:
    base = pointed(relocated)
    shutil.rmtree(relocated)
    said: list[str] = []
    with on_system(relocated, said):
        pass
    assert (base / "cluster" / "PG_VERSION").exists()
    assert not any(str(base) in line for line in said), "the same place is in use again"
    other = relocated.with_name("third")
    shutil.rmtree(relocated)
    said.clear()
    with on_system(other, said):
        pass
    assert any(f"{base} holds the database of" in line for line in said)


def test_a_parent_closed_later_is_an_error_that_names_it(place: Path) -> None:
    (place / "open").mkdir(mode=0o755)
    data = plant(place / "open" / "data")
    (place / "open").chmod(0o700)
    with pytest.raises(ClusterLocationError, match="can no longer enter") as caught:
        on_system(data).start()
    assert str(place / "open") in caught.value.message
    assert stat.S_IMODE((place / "open").stat().st_mode) == 0o700


def test_a_cluster_that_belongs_to_root_is_an_error(place: Path) -> None:
    data = plant(place / "data")
    os.chown(data / "postgres" / "cluster", 0, 0)
    with pytest.raises(ClusterLocationError, match="belong to root"):
        on_system(data).start()


def test_the_account_is_an_existing_one_before_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"postgres": account_module._look_up("nobody"), "nobody": account_module._look_up("nobody")}
    monkeypatch.setattr(account_module, "_look_up", known.get)
    monkeypatch.setattr(account_module, "_create", lambda _: pytest.fail("nothing is to be created"))
    assert Account.for_root(print).uid == 65534
    said: list[str] = []
    del known["postgres"]
    monkeypatch.setattr(account_module, "_create", lambda _: None)
    assert Account.for_root(said.append).name == "nobody"
    assert "which other programs may share" in said[0]


# --- not root ------------------------------------------------------------------------------------------------------

# Imports everything while it may still read it (the interpreter may lie in root's home), then becomes `nobody`.
AS_NOBODY = """
import sys, os, encodings.ascii, encodings.idna, psycopg, stringprep
from pathlib import Path
from brightrun.db.embedded import EmbeddedPostgres
pg = EmbeddedPostgres(Path(sys.argv[1]), binaries=Path(sys.argv[2]), log=lambda text: print("log:", text))
os.setgroups([]); os.setgid(65534); os.setuid(65534); os.chdir("/")
"""
ANSWER = """
with pg:
    with psycopg.connect(pg.conninfo()) as connection:
        print(connection.execute("SHOW data_directory").fetchone()[0])
        connection.execute("CREATE TABLE IF NOT EXISTS kept AS SELECT 7 AS n")
"""


def as_nobody(data: Path, binaries: Path, script: str = ANSWER) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", AS_NOBODY + script, str(data), str(binaries)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def open_binaries(place: Path) -> Path:
    """The wheel's binaries, or an open copy where `nobody` cannot reach those."""
    nobody = Account(65534, 65534, "nobody", switch=True)
    return Binaries.of_wheel(18).reachable_by(nobody, place / "copied", lambda _: None).directory


def test_as_a_user_everything_runs_directly_and_is_private(place: Path, open_binaries: Path) -> None:
    theirs = place / "theirs"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, 65534, 65534)
    done = as_nobody(theirs / "data", open_binaries)
    assert done.returncode == 0, done.stderr
    control = theirs / "data" / "postgres"
    assert done.stdout.splitlines()[-1] == str(control / "cluster")
    assert stat.S_IMODE(control.stat().st_mode) == 0o700
    assert {path.lstat().st_uid for path in (theirs / "data").rglob("*")} == {65534}

    # Root starts the same directory: as its owner, leaving nothing behind that the owner could not use.
    with EmbeddedPostgres(theirs / "data", log=lambda _: None) as postgres:
        assert ask(postgres, "SELECT n FROM kept") == 7
        assert psutil.Process(postgres.pid).uids().real == 65534
    assert {path.lstat().st_uid for path in (theirs / "data").rglob("*")} == {65534}
    assert as_nobody(theirs / "data", open_binaries).returncode == 0
    assert find_postmaster(control / "cluster", search=True) is None


def test_a_users_start_on_roots_directory_is_an_error(place: Path, open_binaries: Path) -> None:
    done = as_nobody(plant(place / "data"), open_binaries, "pg.start()")
    assert "belongs to root, and BrightRun runs as nobody" in done.stderr


def test_a_directory_that_the_user_may_not_write_is_an_error(place: Path, open_binaries: Path) -> None:
    done = as_nobody(place / "data", open_binaries, "pg.start()")
    assert f"could not be made in {place / 'data'}" in done.stderr
    assert "EmbeddedPostgresError" in done.stderr or "ClusterLocationError" in done.stderr


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv (util-linux) to drop capabilities")
def test_root_that_may_not_change_the_user_is_an_error(place: Path) -> None:
    script = "import sys\nfrom pathlib import Path\nfrom brightrun.db.embedded import EmbeddedPostgres\n"
    script += "EmbeddedPostgres(Path(sys.argv[1]), log=lambda _: None).start()"
    held_back = ["setpriv", "--bounding-set=-setuid,-setgid", "--inh-caps=-setuid,-setgid"]
    done = subprocess.run(
        [*held_back, sys.executable, "-c", script, str(place / "data")], capture_output=True, text=True, check=False
    )
    assert "CAP_SETUID" in done.stderr
    assert "ConfigurationError" in done.stderr
