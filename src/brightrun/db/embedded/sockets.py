"""The directory of the Unix socket: beside the cluster, or a short private one when that path is too long."""

import os
import re
import stat
import tempfile
from pathlib import Path

from brightrun.db.embedded.home import Home, write_private

# sun_path holds 108 bytes on Linux and 104 on macOS, with a closing zero; the name is `.s.PGSQL.65535`.
_LONGEST_SOCKET = 103
_SOCKET_NAME = "/.s.PGSQL.65535"
# PostgreSQL reads the option as a list: commas, quotes and blanks would split or spoil it.
_PLAIN = re.compile(r"[^\s,\"'\\]+")


def socket_directory(home: Home) -> Path:
    """A directory of mode 0700 of PostgreSQL's account for the next start: the last one again if it is there."""
    beside = home.base / "sockets"
    if len(os.fsencode(beside)) + len(_SOCKET_NAME) <= _LONGEST_SOCKET and _PLAIN.fullmatch(str(beside)):
        if not beside.exists():
            beside.mkdir(mode=0o700)
            _give(beside, home)
        return beside
    kept = _remembered(home)
    if kept is not None:
        return kept
    short = Path(tempfile.mkdtemp(prefix="brightrun-pg-", dir="/tmp"))  # random name, 0700, short by intent
    _give(short, home)
    write_private(home.control / "socket_dir", str(short))
    return short


def remove_short_directory(home: Home) -> None:
    """After a stop: take the short directory in /tmp away again."""
    kept = _remembered(home)
    if kept is not None:
        for leftover in kept.glob(".s.PGSQL.*"):
            leftover.unlink(missing_ok=True)
        if not any(kept.iterdir()):
            kept.rmdir()
    (home.control / "socket_dir").unlink(missing_ok=True)


def _give(directory: Path, home: Home) -> None:
    if home.account.switch:
        os.chown(directory, home.account.uid, home.account.gid)


def _remembered(home: Home) -> Path | None:
    """The short directory of the last start, if it is still the one we made: anybody may write to /tmp."""
    try:
        kept = Path((home.control / "socket_dir").read_text(encoding="utf-8").strip())
        state = kept.lstat()
    except (FileNotFoundError, ValueError):
        return None
    ours = stat.S_ISDIR(state.st_mode) and state.st_uid == home.account.uid and stat.S_IMODE(state.st_mode) == 0o700
    return kept if ours and kept.name.startswith("brightrun-pg-") else None
