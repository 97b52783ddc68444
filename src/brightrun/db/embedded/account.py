"""Who PostgreSQL runs as. It refuses root, so root lends it an unprivileged account.

Not root: ourselves. Root: the owner of an existing cluster; for a new one the first of: account `brightrun`, account
`postgres`, a system account `brightrun` made with `useradd`, account `nobody` (said in the log: everything else that
runs as nobody could read the database).
"""

import errno
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from brightrun.errors import ConfigurationError

NAME = "brightrun"

# Nothing else of our environment reaches PostgreSQL: PG* variables would change it, and API keys are not its business.
_KEPT_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True)
class Account:
    """uid and gid that PostgreSQL's processes have; `switch` when we are root and must change to them."""

    uid: int
    gid: int
    name: str
    switch: bool

    @classmethod
    def current(cls) -> "Account":
        return cls(os.geteuid(), os.getegid(), _name_of(os.geteuid()), switch=False)

    @classmethod
    def of_owner(cls, path: Path) -> "Account":
        """The account owning `path`, which need not have a name."""
        owner = path.stat()
        return cls(owner.st_uid, owner.st_gid, _name_of(owner.st_uid), switch=owner.st_uid != os.geteuid())

    @classmethod
    def for_root(cls, log: Callable[[str], None]) -> "Account":
        """The account that root lends to a new cluster; makes it where none exists."""
        entry = _look_up(NAME) or _look_up("postgres") or _create(log)
        if entry is None:
            entry = _look_up("nobody")
            if entry is None:
                raise ConfigurationError(
                    "PostgreSQL does not run as root, and no account to run it as was found or could be made. "
                    f"Create one (useradd --system {NAME}), start BrightRun as a normal user, or set DATABASE_URL."
                )
            log(
                "PostgreSQL will run as the account 'nobody', which other programs may share; "
                f"create a system account '{NAME}' before the first start to avoid that"
            )
        return cls(entry.pw_uid, entry.pw_gid, entry.pw_name, switch=True)

    def _process_options(self) -> dict[str, Any]:
        environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        options: dict[str, Any] = {
            "env": {**environment, "LC_ALL": "C", "TZ": "UTC"},
            "cwd": "/",  # ours may be out of the account's reach
            "umask": 0o077,
            "start_new_session": True,  # Ctrl-C and a closing terminal reach us, not PostgreSQL
        }
        if self.switch:
            options |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        return options

    def popen(
        self,
        command: Sequence[str | Path],
        *,
        output: IO[bytes] | int,
        stdin: int = subprocess.DEVNULL,
        pass_fds: Sequence[int] = (),
    ) -> subprocess.Popen[bytes]:
        """Start `command` as this account, in its own session. ConfigurationError when we may not change to it."""
        try:
            return subprocess.Popen(
                [os.fspath(part) for part in command],
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=tuple(pass_fds),
                **self._process_options(),
            )
        except PermissionError as error:
            if error.errno != errno.EPERM:
                raise
            raise ConfigurationError(
                f"BrightRun runs as root but may not start PostgreSQL as '{self.name}' (uid {self.uid}): the machine "
                "or container withholds the right to change the user (CAP_SETUID, CAP_SETGID). "
                "Start BrightRun as a normal user, grant them, or set DATABASE_URL."
            ) from error

    def run(
        self, command: Sequence[str | Path], *, text: str = "", pass_fds: Sequence[int] = ()
    ) -> "subprocess.CompletedProcess[str]":
        """Run `command` as this account to its end, `text` on its input; output and errors come back as stdout."""
        process = self.popen(command, output=subprocess.PIPE, stdin=subprocess.PIPE, pass_fds=pass_fds)
        try:
            output, _ = process.communicate(text.encode())
        except BaseException:  # Ctrl-C did not reach it: end it and what it started (initdb's own children)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, output.decode(errors="replace"))

    def can_use(self, directory: Path) -> bool:
        """Can this account enter and write `directory`? Asked of the kernel: modes alone do not tell (ACLs, mounts)."""
        try:
            done = self.run(["/bin/sh", "-c", 'cd "$1" && test -w .', "sh", directory])
        except (FileNotFoundError, PermissionError):
            return False
        return done.returncode == 0

    def first_closed_parent(self, directory: Path) -> Path:
        """The topmost directory on the way to `directory` that this account cannot enter."""
        for parent in [*reversed(directory.parents), directory]:
            if self.run(["/bin/sh", "-c", 'cd "$1"', "sh", parent]).returncode != 0:
                return parent
        return directory


def _look_up(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _create(log: Callable[[str], None]) -> pwd.struct_passwd | None:
    useradd = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if useradd is None:
        return None
    options = ["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    done = subprocess.run(
        [useradd, *options, "--shell", "/usr/sbin/nologin", NAME], capture_output=True, text=True, check=False
    )
    entry = _look_up(NAME)  # another process may have made it in the same moment: what counts is that it is there
    if entry is None:
        log(f"could not create the system account '{NAME}': {done.stderr.strip()}")
    elif done.returncode == 0:
        log(f"created the system account '{NAME}', because PostgreSQL does not run as root")
    return entry
