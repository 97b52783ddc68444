"""The embedded PostgreSQL: what it makes, who may connect, joining and leaving, ports and sockets."""

import os
import re
import signal
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from embedded_support import STAY, Member, ask, open_directory, plant

from brightrun.db.embedded import EmbeddedPostgres, EmbeddedPostgresError
from brightrun.db.embedded import home as home_module
from brightrun.db.embedded import postmaster as postmaster_module
from brightrun.db.embedded.binaries import Binaries
from brightrun.db.embedded.errors import ClusterLocationError, ClusterVersionError
from brightrun.db.embedded.locks import FileLock
from brightrun.db.embedded.postmaster import find_postmaster


@pytest.fixture
def empty() -> Iterator[Path]:
    with open_directory() as directory:
        yield directory / "data"


@pytest.fixture
def data(empty: Path) -> Path:
    return plant(empty)


@pytest.mark.parametrize("version", [18, 16])
def test_a_new_cluster_is_scram_checksummed_utf8_and_local(empty: Path, version: int) -> None:
    data = empty
    with EmbeddedPostgres(data, version=version) as postgres:  # type: ignore[arg-type]
        assert str(ask(postgres, "SHOW server_version_num")).startswith(str(version))
        assert ask(postgres, "SHOW data_checksums") == "on"
        assert ask(postgres, "SELECT pg_encoding_to_char(encoding) FROM pg_database LIMIT 1") == "UTF8"
        assert ask(postgres, "SELECT datcollate FROM pg_database WHERE datname = 'template1'") == "C.UTF-8"
        assert ask(postgres, "SELECT lower('ÄÉ')") == "äé"
        assert ask(postgres, "SHOW listen_addresses") == "127.0.0.1"
        assert ask(postgres, "SHOW max_connections") == "200"
        assert ask(postgres, "SHOW log_rotation_size") == "10MB"
        assert ask(postgres, "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'") == 0
        assert str(ask(postgres, "SELECT rolpassword FROM pg_authid WHERE oid = 10")).startswith("SCRAM-SHA-256$")
        password_file = data / "postgres" / "superuser.password"
        assert stat.S_IMODE(password_file.stat().st_mode) == 0o600
        assert password_file.read_text() == postgres.password
        readable = [path for path in (data / "postgres").iterdir() if path.is_file() and path.stat().st_mode & 0o077]
        assert readable == []


def test_a_wrong_password_is_refused_over_tcp_and_over_the_socket(data: Path) -> None:
    with EmbeddedPostgres(data) as postgres:
        for host in ("127.0.0.1", str(postgres.socket_dir)):
            ok = {"host": host, "port": postgres.port, "user": "postgres", "dbname": "postgres"}
            psycopg.connect(**ok, password=postgres.password).close()  # type: ignore[arg-type]
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                psycopg.connect(**ok, password="guess")  # type: ignore[arg-type]


def test_data_port_and_password_survive_a_stop(data: Path) -> None:
    postgres = EmbeddedPostgres(data)
    with postgres:
        first = (postgres.port, postgres.password)
        with psycopg.connect(postgres.conninfo()) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    assert not postgres.is_running()
    with postgres:
        assert (postgres.port, postgres.password) == first
        assert ask(postgres, "SELECT n FROM kept") == 7


def test_a_second_process_joins_and_the_last_to_leave_stops(data: Path) -> None:
    with EmbeddedPostgres(data) as postgres:
        other = Member(data)
        assert int(other.line()) == postgres.pid
        postgres.stop()
        assert postgres.is_running(), "the other process still uses it"
        psycopg.connect(postgres.conninfo()).close()
        assert other.go_on() == "left"
        assert not postgres.is_running()
        assert find_postmaster(postgres.cluster, search=True) is None


def test_two_instances_in_one_process_are_two_members(data: Path) -> None:
    one, two = EmbeddedPostgres(data), EmbeddedPostgres(data)
    one.start()
    two.start()
    assert one.pid == two.pid
    one.stop()
    assert ask(two, "SELECT 1") == 1
    two.stop()
    assert not two.is_running()


def test_start_and_stop_twice_is_the_same_as_once(data: Path) -> None:
    postgres = EmbeddedPostgres(data)
    postgres.stop()
    with pytest.raises(EmbeddedPostgresError, match="call start"):
        _ = postgres.port
    postgres.start()
    pid = postgres.pid
    postgres.start()
    assert postgres.pid == pid
    postgres.stop()
    postgres.stop()
    assert not postgres.is_running()


def test_a_taken_port_is_chosen_anew_and_said(data: Path) -> None:
    said: list[str] = []
    postgres = EmbeddedPostgres(data, log=said.append)
    with postgres:
        port = postgres.port
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        with postgres:
            assert postgres.port != port
            assert ask(postgres, "SELECT 1") == 1
    assert f"port {port} is taken" in " ".join(said)


def test_a_port_lost_between_choice_and_start_is_chosen_anew(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        taken: int = squatter.getsockname()[1]
        real, offered = postmaster_module.free_port, [taken]
        monkeypatch.setattr(postmaster_module, "free_port", lambda: offered.pop() if offered else real())
        with EmbeddedPostgres(data) as postgres:
            assert postgres.port != taken
            assert ask(postgres, "SELECT 1") == 1


def test_a_deep_data_directory_gets_a_short_private_socket_directory(data: Path) -> None:
    deep = data.parent / ("d" * 60) / ("e" * 60)
    plant(deep)
    with EmbeddedPostgres(deep) as postgres:
        sockets = postgres.socket_dir
        assert len(str(sockets)) < 60
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        psycopg.connect(
            host=str(sockets), port=postgres.port, user="postgres", password=postgres.password, dbname="postgres"
        ).close()
        assert EmbeddedPostgres(deep).is_running() is False
        with EmbeddedPostgres(deep) as joined:
            assert joined.socket_dir == sockets
    assert not sockets.exists(), "it is taken away when the server stops"


@pytest.mark.parametrize("name", ["a b, c", 'it\'s "quoted"', "späße-数据", "-D", "100%"])
def test_any_directory_name_will_do(data: Path, name: str) -> None:
    plant(data.parent / name)
    with EmbeddedPostgres(data.parent / name) as postgres:
        assert ask(postgres, "SELECT 1") == 1
        with EmbeddedPostgres(data.parent / name) as joined:
            assert joined.pid == postgres.pid


def test_a_directory_of_another_version_is_refused_with_the_way_out(empty: Path) -> None:
    data = empty
    with (
        EmbeddedPostgres(data, version=16),
        pytest.raises(ClusterVersionError, match="made by PostgreSQL 16, and this start asks for 18"),
    ):
        EmbeddedPostgres(data, version=18).start()
    with pytest.raises(ClusterVersionError, match="BRIGHTRUN_EMBEDDED_POSTGRES_VERSION=16"):
        EmbeddedPostgres(data, version=18).start()
    with EmbeddedPostgres(data, version=16) as postgres:
        assert ask(postgres, "SELECT 1") == 1


def test_a_damaged_cluster_is_refused_and_not_written_over(data: Path) -> None:
    with EmbeddedPostgres(data) as postgres:
        cluster = postgres.cluster
    (cluster / "PG_VERSION").unlink()
    with pytest.raises(ClusterLocationError, match="not a whole PostgreSQL cluster"):
        EmbeddedPostgres(data).start()
    assert (cluster / "global" / "pg_control").exists()


def test_a_server_that_will_not_start_says_why(data: Path) -> None:
    with EmbeddedPostgres(data) as postgres:
        cluster = postgres.cluster
    with (cluster / "postgresql.conf").open("a") as conf:
        conf.write("\nmax_connections = plenty\n")
    with pytest.raises(EmbeddedPostgresError, match="max_connections"):
        EmbeddedPostgres(data).start()


def test_a_lost_password_file_gets_a_new_password_and_keeps_the_data(data: Path) -> None:
    said: list[str] = []
    with EmbeddedPostgres(data) as postgres:
        old = postgres.password
        with psycopg.connect(postgres.conninfo()) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    (data / "postgres" / "superuser.password").unlink()
    with EmbeddedPostgres(data, log=said.append) as postgres:
        assert postgres.password != old
        assert ask(postgres, "SELECT n FROM kept") == 7
    assert "setting a new superuser password" in " ".join(said)


def test_a_wrong_password_file_is_an_error_that_says_what_to_do(data: Path) -> None:
    with EmbeddedPostgres(data):
        pass
    (data / "postgres" / "superuser.password").write_text("wrong")
    with pytest.raises(EmbeddedPostgresError, match="delete it, and the next start sets a new one"):
        EmbeddedPostgres(data).start()
    assert find_postmaster(data / "postgres" / "cluster", search=True) is None, "a failed start leaves no server"


def test_our_environment_neither_misleads_nor_reaches_the_server(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PGHOSTADDR": "203.0.113.1",
        "PGPORT": "1",
        "PGSSLMODE": "verify-full",
        "PGDATA": "/nowhere",
        "PGUSER": "nobody",
        "LC_ALL": "xx_XX",
        "SECRET_API_KEY": "hush",
    }.items():
        monkeypatch.setenv(name, value)
    with EmbeddedPostgres(data) as postgres:
        assert ask(postgres, "SELECT 1") == 1
        if Path("/proc/self/environ").exists():
            environment = Path(f"/proc/{postgres.pid}/environ").read_bytes()
            assert b"hush" not in environment
            assert b"PGDATA=/nowhere" not in environment


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(data: Path) -> None:
    with EmbeddedPostgres(data) as postgres:
        assert os.getsid(postgres.pid) == postgres.pid
    other = Member(data, "signal.signal(signal.SIGINT, lambda *_: print('interrupted', flush=True))\n" + STAY)
    pid = int(other.line())
    os.killpg(other.process.pid, signal.SIGINT)
    assert other.line() == "interrupted"
    with EmbeddedPostgres(data) as postgres:
        assert postgres.pid == pid
        assert other.go_on() == "left"


def test_a_forked_child_is_no_member(data: Path) -> None:
    """Else the server would live as long as any forked helper of a killed process."""
    other = Member(
        data,
        "pg.start()\nif (child := os.fork()) == 0:\n    pg.stop()\n    sys.stdin.readline()\n    os._exit(0)\n"
        "print(pg.pid, child, flush=True)\nos.waitpid(child, 0)",
    )
    pid, child = map(int, other.line().split())
    os.kill(other.process.pid, signal.SIGKILL)
    with EmbeddedPostgres(data) as postgres:
        assert postgres.pid == pid, "the child's stop() did nothing"
        os.kill(child, 0)
    assert not postgres.is_running(), "the living child did not count"
    other.process.communicate("\n")


def test_without_room_in_dev_shm_shared_memory_lies_in_files(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postmaster_module, "_SHM_WANTED", 1 << 62)
    with EmbeddedPostgres(data) as postgres, psycopg.connect(postgres.conninfo()) as connection:
        assert ask(postgres, "SHOW dynamic_shared_memory_type") == "mmap"
        connection.execute("SET debug_parallel_query = on")
        row = connection.execute("SELECT count(*) FROM generate_series(1, 100000)").fetchone()
        assert row == (100000,)


def test_old_log_files_are_removed(data: Path) -> None:
    with EmbeddedPostgres(data) as postgres:
        logs = postgres.cluster / "log"
        for day in range(1, 9):
            (logs / f"postgres-2020-01-0{day}_000000.log").touch()
        with EmbeddedPostgres(data):
            assert len(list(logs.iterdir())) == 5
            assert ask(postgres, "SELECT pg_current_logfile()") in {f"log/{path.name}" for path in logs.iterdir()}


def test_a_half_made_cluster_is_made_anew(data: Path) -> None:
    """initdb works aside, so its death leaves no cluster that looks whole."""
    with EmbeddedPostgres(data) as postgres:
        cluster = postgres.cluster
    cluster.rename(cluster.with_name("cluster.new"))
    (cluster.with_name("cluster.new") / "PG_VERSION").unlink()
    (data / "postgres" / "initdb.password").write_text("left over")
    with EmbeddedPostgres(data) as postgres:
        assert ask(postgres, "SELECT 1") == 1
    left = {path.name for path in (data / "postgres").iterdir()}
    assert not left & {"cluster.new", "initdb.password"}


def test_a_start_waits_for_a_start_or_stop_in_progress_and_says_so(data: Path) -> None:
    with EmbeddedPostgres(data):
        pass
    said, heard = [], threading.Event()

    def log(text: str) -> None:
        said.append(text)
        heard.set()

    control = FileLock(data / "postgres" / "control.lock")
    assert control.try_exclusive()
    postgres = EmbeddedPostgres(data, log=log)
    starting = threading.Thread(target=postgres.start)
    starting.start()
    assert heard.wait(20)
    assert not postgres.is_running()
    control.close()
    starting.join(30)
    assert postgres.is_running()
    postgres.stop()
    assert "another process is starting or stopping" in said[0]


def test_the_binaries_are_the_ones_the_wheel_names() -> None:
    source = (Binaries.of_wheel(18).directory.parent.parent / "utils.py").read_text()
    for version in (16, 18):
        named = re.search(rf"{version}: Path\(__file__\).parent / '(\w+)' / 'bin'", source)
        assert named is not None
        assert Binaries.of_wheel(version).directory.parent.name == named[1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root has its own tests")
def test_as_a_user_everything_is_private_and_in_place(data: Path) -> None:
    with EmbeddedPostgres(data) as postgres:
        assert postgres.cluster == (data / "postgres" / "cluster").resolve()
        assert stat.S_IMODE((data / "postgres").stat().st_mode) == 0o700
        assert not (data / "postgres" / home_module.POINTER).exists()
