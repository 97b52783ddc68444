"""The embedded PostgreSQL under kill -9, stale files, crowds and races."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest
from embedded_support import Member, ask, open_directory, plant

from brightrun.db.embedded import EmbeddedPostgres
from brightrun.db.embedded import postmaster as postmaster_module
from brightrun.db.embedded import ready as ready_module
from brightrun.db.embedded.account import Account
from brightrun.db.embedded.locks import FileLock
from brightrun.db.embedded.postmaster import find_postmaster, wait_until


@pytest.fixture
def data() -> Iterator[Path]:
    with open_directory() as directory:
        yield plant(directory / "data")


def insert_rows(postgres: EmbeddedPostgres, n: int) -> None:
    with psycopg.connect(postgres.conninfo()) as connection:
        connection.execute(f"CREATE TABLE kept AS SELECT generate_series(1, {n}) AS n")  # type: ignore[call-overload]


def cluster_of(data: Path) -> Path:
    return data / "postgres" / "cluster"


def test_after_kill_9_of_its_parent_the_server_lives_and_the_next_start_adopts_it(data: Path) -> None:
    parent = Member(data)
    pid = int(parent.line())
    parent.kill()
    with EmbeddedPostgres(data) as postgres:
        assert postgres.pid == pid
        assert ask(postgres, "SELECT 1") == 1
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert find_postmaster(cluster_of(data), search=True) is None, "a killed member holds nothing back"


def test_after_kill_9_of_the_postmaster_the_same_instance_recovers(data: Path) -> None:
    with EmbeddedPostgres(data) as postgres:
        insert_rows(postgres, 1000)
        killed, port = postgres.pid, postgres.port
        os.kill(killed, signal.SIGKILL)
        assert wait_until(lambda: not postgres.is_running(), 10)
        postgres.start()
        assert (postgres.pid != killed, postgres.port) == (True, port)
        assert ask(postgres, "SELECT count(*) FROM kept") == 1000
    assert not postgres.is_running()


def test_after_kill_9_of_postmaster_and_parent_the_next_start_recovers(data: Path) -> None:
    parent = Member(data)
    pid = int(parent.line())
    with EmbeddedPostgres(data) as postgres:
        insert_rows(postgres, 1000)
        os.kill(pid, signal.SIGKILL)
        parent.kill()
    with EmbeddedPostgres(data) as postgres:
        assert ask(postgres, "SELECT count(*) FROM kept") == 1000


def test_a_member_sees_a_server_restarted_by_another(data: Path) -> None:
    one, two = EmbeddedPostgres(data), EmbeddedPostgres(data)
    one.start()
    two.start()
    os.kill(one.pid, signal.SIGKILL)
    assert wait_until(lambda: not one.is_running() and not two.is_running(), 10)
    two.start()
    assert not one.is_running()
    one.start()
    assert one.pid == two.pid
    two.stop()
    assert one.is_running()
    one.stop()


def test_a_zombie_postmaster_counts_as_dead(data: Path) -> None:
    """Its parent lives and never reaps it, as PID 1 of some containers does not."""
    parent = Member(data, "pg.start(); print(pg.pid, flush=True); sys.stdin.readline()")
    pid = int(parent.line())
    joined = EmbeddedPostgres(data)
    joined.start()
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, 10)
    assert not joined.is_running()
    joined.start()
    assert joined.pid != pid
    assert ask(joined, "SELECT 1") == 1
    parent.go_on()
    joined.stop()


def test_an_orphaned_busy_backend_is_ended_before_the_next_start(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postmaster_module, "_URGE_AFTER_S", 0.3)
    said: list[str] = []
    with EmbeddedPostgres(data, log=said.append) as postgres:
        busy = psycopg.connect(postgres.conninfo())
        backend = busy.info.backend_pid
        question = "SELECT count(*) FROM generate_series(1, 1000000000000)"

        def ask_forever() -> None:
            with pytest.raises(psycopg.OperationalError):
                busy.execute(question)

        asking = threading.Thread(target=ask_forever)
        asking.start()
        assert wait_until(
            lambda: ask(postgres, f"SELECT state FROM pg_stat_activity WHERE pid = {backend}") == "active", 10
        )
        os.kill(postgres.pid, signal.SIGKILL)
        assert wait_until(lambda: not postgres.is_running(), 10)
        assert psutil.pid_exists(backend), "it goes on without its postmaster"
        postgres.start()
        assert ask(postgres, "SELECT 1") == 1
        asking.join(10)
        assert not psutil.pid_exists(backend) or psutil.Process(backend).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("content", [b"", b"12", b"not a pid\n", b"-1\n/x\n1\n5432\n/tmp\n", b"\xff\xfe\x00"])
def test_a_damaged_pid_file_does_not_stop_a_start(data: Path, content: bytes) -> None:
    (cluster_of(data) / "postmaster.pid").write_bytes(content)
    sockets = data / "postgres" / "sockets"
    port = 45_678
    (data / "postgres" / "port").write_text(str(port))
    (sockets / f".s.PGSQL.{port}.lock").write_bytes(content)
    with EmbeddedPostgres(data) as postgres:
        assert ask(postgres, "SELECT 1") == 1


def test_a_stale_pid_that_an_unrelated_process_has_now_does_not_stop_a_start(data: Path) -> None:
    """The unrelated process runs as the same account, which is what PostgreSQL itself takes for a running server."""
    account = Account.of_owner(cluster_of(data))
    unrelated = account.popen(["/bin/sh", "-c", "exec tail -f /dev/null"], output=subprocess.DEVNULL)
    try:
        lines = f"{unrelated.pid}\n{cluster_of(data)}\n1700000000\n54321\n/tmp\n127.0.0.1\n  1 2\nready   \n"
        (cluster_of(data) / "postmaster.pid").write_text(lines)
        with EmbeddedPostgres(data) as postgres:
            assert postgres.pid != unrelated.pid
            assert ask(postgres, "SELECT 1") == 1
        assert unrelated.poll() is None
    finally:
        unrelated.kill()
        unrelated.wait()


def test_a_copy_of_a_running_data_directory_is_a_server_of_its_own(data: Path) -> None:
    """Its pid file names a living postmaster, its password fits there, and yet that is not its server."""
    with EmbeddedPostgres(data) as original:
        with psycopg.connect(original.conninfo(), autocommit=True) as connection:
            connection.execute("CHECKPOINT")
        copy = data.with_name("copy")
        subprocess.run(["cp", "-a", data, copy], check=True)
        with EmbeddedPostgres(copy) as postgres:
            assert postgres.pid != original.pid
            assert postgres.port != original.port
            assert str(ask(postgres, "SHOW data_directory")) == str(cluster_of(copy))
        assert ask(original, "SELECT 1") == 1


def test_joining_works_while_the_pid_file_is_empty(data: Path) -> None:
    with EmbeddedPostgres(data) as postgres:
        (cluster_of(data) / "postmaster.pid").write_bytes(b"")
        with EmbeddedPostgres(data) as joined:
            assert (joined.pid, joined.port) == (postgres.pid, postgres.port)


def test_a_server_started_by_hand_is_joined_and_not_stopped(data: Path) -> None:
    with EmbeddedPostgres(data) as postgres:
        sockets, port = postgres.socket_dir, postgres.port
        program = Path(psutil.Process(postgres.pid).cmdline()[0])
    account = Account.of_owner(cluster_of(data))
    by_hand = account.popen(
        [program, "-D", cluster_of(data), f"--port={port}", f"--unix_socket_directories={sockets}"],
        output=subprocess.DEVNULL,
    )
    try:
        assert wait_until(lambda: find_postmaster(cluster_of(data), search=False) is not None, 20)
        with EmbeddedPostgres(data) as postgres:
            assert postgres.pid == by_hand.pid
            assert postgres.port == port
        assert by_hand.poll() is None
    finally:
        by_hand.send_signal(signal.SIGINT)
        by_hand.wait(30)


def test_a_start_waits_for_what_is_left_of_an_earlier_server(data: Path) -> None:
    """Such as an initdb whose parent was killed: it holds the server lock until it ends."""
    said, heard = [], threading.Event()

    def log(text: str) -> None:
        said.append(text)
        heard.set()

    rest = FileLock(data / "postgres" / "server.lock")
    assert rest.try_exclusive()
    postgres = EmbeddedPostgres(data, log=log)
    starting = threading.Thread(target=postgres.start)
    starting.start()
    assert heard.wait(20)
    assert "last processes of an earlier PostgreSQL" in said[0]
    assert not postgres.is_running()
    rest.close()
    starting.join(30)
    assert ask(postgres, "SELECT 1") == 1
    postgres.stop()


def test_a_stop_that_was_interrupted_is_finished_by_the_next_start(data: Path) -> None:
    with EmbeddedPostgres(data) as postgres:
        pid = postgres.pid
        os.kill(pid, signal.SIGINT)  # the shutdown goes on by itself while we start
        with EmbeddedPostgres(data) as again:
            assert again.pid != pid
            assert ask(again, "SELECT 1") == 1


def test_ctrl_c_during_initdb_leaves_no_process_and_no_half_cluster() -> None:
    with open_directory() as directory:
        data = directory / "data"
        member = Member(data, "print('begin', flush=True)\ntry: pg.start()\nexcept KeyboardInterrupt: print('stopped')")
        assert member.line() == "begin"
        fresh = data / "postgres" / "cluster.new"
        assert wait_until((fresh / "PG_VERSION").exists, 30)
        os.kill(member.process.pid, signal.SIGINT)
        assert member.go_on() == "stopped"
        assert not fresh.exists()
        assert wait_until(FileLock(data / "postgres" / "server.lock").try_exclusive, 5)


def test_ctrl_c_while_the_server_starts_leaves_no_process(data: Path) -> None:
    member = Member(
        data,
        "from brightrun.db.embedded import server\n"
        "def interrupted(*_): print('here', flush=True); sys.stdin.readline(); raise KeyboardInterrupt\n"
        "server.wait_ready = interrupted\n"
        "try: pg.start()\nexcept KeyboardInterrupt: print('stopped')",
    )
    assert member.line() == "here"
    assert find_postmaster(cluster_of(data), search=True) is not None
    assert member.go_on() == "stopped"
    assert find_postmaster(cluster_of(data), search=True) is None


def test_four_processes_starting_at_once_make_one_server() -> None:
    with open_directory() as directory:
        members = [Member(directory / "data") for _ in range(4)]
        pids = {int(member.line()) for member in members}
        assert len(pids) == 1
        assert [member.go_on() for member in members] == ["left"] * 4
        assert find_postmaster(cluster_of(directory / "data"), search=True) is None


def test_starts_and_stops_never_race(data: Path) -> None:
    """Members come and go at random, often as first and last; each finds the server answering while it is in."""

    def come_and_go(seed: int) -> int:
        choose, answered = random.Random(seed), 0
        for _ in range(6):
            with EmbeddedPostgres(data, log=lambda _: None) as postgres:
                answered += ask(postgres, "SELECT 1") == 1
                threading.Event().wait(choose.random() * 0.05)
        return answered

    other = Member(
        data,
        "import psycopg\nfor _ in range(6):\n    pg.start()\n"
        "    psycopg.connect(pg.conninfo()).close()\n    pg.stop()\nprint('6')",
    )
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(come_and_go, range(3))) == [6, 6, 6]
    assert other.go_on() == "6"
    assert find_postmaster(cluster_of(data), search=True) is None


def test_recovery_may_take_long_and_is_reported(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The postmaster is halted for a while after a crash: start neither gives up nor keeps silent."""
    monkeypatch.setattr(ready_module, "_SAY_EVERY_S", 0.2)
    said, reported = [], threading.Event()

    def log(text: str) -> None:
        said.append(text)
        if "still at work" in text:
            reported.set()

    with EmbeddedPostgres(data) as first:
        os.kill(first.pid, signal.SIGKILL)
    halted: list[int] = []
    real = postmaster_module.spawn

    def spawn_and_halt(*args: object) -> postmaster_module.Postmaster:
        server = real(*args)  # type: ignore[arg-type]
        os.kill(server.pid, signal.SIGSTOP)
        halted.append(server.pid)
        return server

    monkeypatch.setattr(postmaster_module, "spawn", spawn_and_halt)
    postgres = EmbeddedPostgres(data, log=log)
    starting = threading.Thread(target=postgres.start)
    starting.start()
    assert reported.wait(30)
    os.kill(halted[0], signal.SIGCONT)
    starting.join(60)
    assert ask(postgres, "SELECT 1") == 1
    postgres.stop()


@pytest.mark.slow
def test_kill_9_at_any_moment_of_a_start_leaves_a_directory_that_starts() -> None:
    """From before initdb until the server answers; the accepted rows of earlier rounds stay."""
    with open_directory() as directory:
        data, rows = directory / "data", 0
        for delay in (0.15, 0.25, 0.35, 0.5, 0.8, 1.2, 0.3, 0.4, 0.6):
            script = "print('begin', flush=True)\npg.start()\nsys.stdin.readline()"
            victim = subprocess.Popen(
                [sys.executable, "-c", f"{_PRELUDE}{script}", str(data)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            assert victim.stdout is not None
            victim.stdout.readline()
            deadline = time.monotonic() + delay
            wait_until(lambda until=deadline: time.monotonic() >= until, 5)  # type: ignore[misc]
            victim.kill()
            victim.communicate()
            if rows == 0 and delay < 1:
                continue  # let several starts die in initdb before one may finish
            with EmbeddedPostgres(data, log=lambda _: None) as postgres:
                with psycopg.connect(postgres.conninfo()) as connection:
                    connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
                    connection.execute("INSERT INTO kept VALUES (1)")
                rows += 1
                assert ask(postgres, "SELECT count(*) FROM kept") == rows
                os.kill(postgres.pid, signal.SIGKILL)


_PRELUDE = (
    "import sys\nfrom pathlib import Path\nfrom brightrun.db.embedded import EmbeddedPostgres\n"
    "pg = EmbeddedPostgres(Path(sys.argv[1]), log=lambda _: None)\n"
)


@pytest.mark.slow
def test_a_gigabyte_of_wal_is_replayed_without_a_limit(data: Path) -> None:
    said: list[str] = []
    with EmbeddedPostgres(data, log=said.append) as postgres:
        with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET max_wal_size = '4GB'")
            connection.execute("ALTER SYSTEM SET checkpoint_timeout = '1h'")
            connection.execute("SELECT pg_reload_conf()")
            connection.execute("CREATE TABLE kept (n int, filler text)")
            for _ in range(8):
                connection.execute("INSERT INTO kept SELECT n, repeat('x', 1000) FROM generate_series(1, 100000) n")
        os.kill(postgres.pid, signal.SIGKILL)
        assert wait_until(lambda: not postgres.is_running(), 10)
        postgres.start()
        assert ask(postgres, "SELECT count(*) FROM kept") == 800_000
