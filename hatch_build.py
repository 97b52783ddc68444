"""Build the pages' assets into `src/brightrun/web/static/dist/`: a hatchling hook, and a script for the Makefile.

What goes in: `package-lock.json` (exact npm versions), `assets/web/`, and the templates (Tailwind keeps the classes
they name). What comes out, git-ignored, shipped in wheel and sdist: one stylesheet, the vendored scripts, our own ES
modules, the font, the icons, the licences, and `manifest.json` with two hashes: of the sources, so that an unchanged
tree (or an sdist, which carries the built files) runs no npm; of the result, which is part of every asset's URL.

Only the standard library here: `pip install -e .` runs this in an empty build environment.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a script, outside a build environment
    BuildHookInterface = object

ROOT = Path(__file__).resolve().parent
WEB = Path("assets/web")
TEMPLATES = Path("src/brightrun/web/templates")
DIST = Path("src/brightrun/web/static/dist")
NPM = Path("node_modules")

# Package → where in it → where it goes. Each is one request, so only what the layout loads is here.
BASECOAT_PARTS = ("basecoat", "sidebar", "dropdown-menu", "tabs", "toast")
LICENCES = {
    "Basecoat": "basecoat-css/LICENSE.md",
    "htmx": "htmx.org/LICENSE",
    "Inter": "@fontsource-variable/inter/LICENSE",
    "Lucide": "lucide-static/LICENSE",
    "Tailwind CSS": "tailwindcss/LICENSE",
    "uPlot": "uplot/LICENSE",
}
COMPRESSED = {".css", ".js", ".svg", ".txt"}


class BuildError(RuntimeError):
    """The assets could not be built; the message says what to install or look at."""


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc, valid-type]
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        build(Path(self.root))


def build(root: Path = ROOT, *, force: bool = False) -> bool:
    """Build what is missing or changed. True when something was built. Raises `BuildError`."""
    wanted = _hash_sources(root)
    if not force and _is_current(root, wanted):
        return False
    with _lock(root):
        if not force and _is_current(root, wanted):
            return False  # another build finished while we waited
        _install_packages(root)
        with tempfile.TemporaryDirectory(prefix="brightrun-assets-") as folder:
            stage = Path(folder)
            _stylesheet(root, stage)
            _scripts(root, stage)
            _font(root, stage)
            _icons(root, stage)
            _licences(root, stage)
            _compress(stage)
            _publish(stage, root / DIST, wanted)
    return True


def _source_files(root: Path) -> list[Path]:
    named = [root / name for name in ("package.json", "package-lock.json", "hatch_build.py")]
    trees = [file for tree in (root / WEB, root / TEMPLATES) for file in tree.rglob("*") if file.is_file()]
    return sorted(named + trees)


def _hash_sources(root: Path) -> str:
    digest = hashlib.sha256()
    for file in _source_files(root):
        body = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{file.relative_to(root).as_posix()} {body}\n".encode())
    return digest.hexdigest()


def _is_current(root: Path, wanted: str) -> bool:
    try:
        manifest = json.loads((root / DIST / "manifest.json").read_text("utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    return manifest.get("sources") == wanted and all((root / DIST / name).is_file() for name in manifest["files"])


@contextlib.contextmanager
def _lock(root: Path) -> Iterator[None]:
    """One build at a time in one checkout (two `npm ci` in one folder destroy each other)."""
    name = hashlib.sha256(str(root).encode()).hexdigest()[:16]
    with (Path(tempfile.gettempdir()) / f"brightrun-assets-{os.getuid()}-{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _install_packages(root: Path) -> None:
    lock = hashlib.sha256((root / "package-lock.json").read_bytes()).hexdigest()
    stamp = root / NPM / ".brightrun-lock"
    if stamp.is_file() and stamp.read_text("utf-8") == lock:
        return
    # No install script runs: none of these packages needs one to be read from disk.
    _run(root, ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"])
    stamp.write_text(lock, "utf-8")


def _run(root: Path, command: list[str]) -> None:
    program = shutil.which(command[0])
    if program is None:
        raise BuildError(
            f"BrightRun's pages are built with Node.js 20 or newer, and `{command[0]}` was not found. Install "
            "Node.js (https://nodejs.org), or install a released wheel of BrightRun, which carries the built pages."
        )
    done = subprocess.run([program, *command[1:]], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"`{' '.join(command)}` failed with exit code {done.returncode}:\n{done.stdout}{done.stderr}")


def _stylesheet(root: Path, stage: Path) -> None:
    cli = NPM / "@tailwindcss/cli/dist/index.mjs"
    output = stage / "app.css"
    _run(root, ["node", str(cli), "-i", str(WEB / "css/app.css"), "-o", str(output), "--minify"])
    # Tailwind writes a `data:` URL or a relative one; a remote one would break the promise of no other network.
    remote = re.search(r"url\(['\"]?https?:", output.read_text("utf-8"))
    if remote:
        raise BuildError(f"app.css refers to another host near character {remote.start()}")


def _scripts(root: Path, stage: Path) -> None:
    vendor = stage / "vendor"
    vendor.mkdir()
    shutil.copyfile(root / NPM / "htmx.org/dist/htmx.min.js", vendor / "htmx.js")
    parts = [(root / NPM / f"basecoat-css/dist/js/{part}.min.js").read_text("utf-8") for part in BASECOAT_PARTS]
    (vendor / "basecoat.js").write_text("\n;".join(parts), "utf-8")
    # uPlot's own ES module is not minified (145 KB); its minified script becomes a module with one line.
    uplot = (root / NPM / "uplot/dist/uPlot.iife.min.js").read_text("utf-8")
    (vendor / "uplot.js").write_text(uplot + "\nexport default uPlot;\n", "utf-8")
    shutil.copytree(root / WEB / "js", stage / "js")
    for script in (*vendor.glob("*.js"), *stage.glob("js/*.js")):
        text = re.sub(r"\n//# sourceMappingURL=.*", "", script.read_text("utf-8"))
        script.write_text(text, "utf-8")


def _font(root: Path, stage: Path) -> None:
    fonts = stage / "fonts"
    fonts.mkdir()
    for file in sorted((root / NPM / "@fontsource-variable/inter/files").glob("inter-*-wght-normal.woff2")):
        shutil.copyfile(file, fonts / file.name)


def _icons(root: Path, stage: Path) -> None:
    """The named Lucide icons as `name → inner SVG`; `brightrun.web.icons` writes them into the page."""
    icons: dict[str, str] = {}
    for line in (root / WEB / "icons.txt").read_text("utf-8").splitlines():
        name = line.partition("#")[0].strip()
        if not name:
            continue
        source = root / NPM / f"lucide-static/icons/{name}.svg"
        if not source.is_file():
            raise BuildError(f"{WEB / 'icons.txt'} names an icon that Lucide does not have: {name}")
        inner = re.search(r"<svg[^>]*>(.*)</svg>", source.read_text("utf-8"), re.DOTALL)
        assert inner is not None, f"{source} is not an SVG"
        icons[name] = " ".join(inner[1].split())
    shutil.copyfile(root / WEB / "favicon.svg", stage / "favicon.svg")
    (stage / "icons.json").write_text(json.dumps(icons, indent=0, sort_keys=True), "utf-8")


def _licences(root: Path, stage: Path) -> None:
    parts = [
        f"{name}\n{'=' * len(name)}\n\n{(root / NPM / path).read_text('utf-8').strip()}\n"
        for name, path in LICENCES.items()
    ]
    (stage / "LICENSES.txt").write_text("\n\n".join(parts), "utf-8")


def _compress(stage: Path) -> None:
    for file in sorted(stage.rglob("*")):
        if file.suffix in COMPRESSED:
            packed = gzip.compress(file.read_bytes(), 9, mtime=0)
            file.with_name(file.name + ".gz").write_bytes(packed)


def _publish(stage: Path, dist: Path, sources: str) -> None:
    """Put the files in place one by one, whole each, the manifest last: a server that runs meanwhile sees no hole."""
    files = sorted(file.relative_to(stage).as_posix() for file in stage.rglob("*") if file.is_file())
    digest = hashlib.sha256()
    for name in files:
        body = (stage / name).read_bytes()
        digest.update(f"{name} {hashlib.sha256(body).hexdigest()}\n".encode())
        _replace(dist / name, body)
    manifest = {"sources": sources, "build": digest.hexdigest()[:12], "files": files}
    _replace(dist / "manifest.json", json.dumps(manifest, indent=1).encode())
    for old in [file for file in dist.rglob("*") if file.is_file()]:
        if old.relative_to(dist).as_posix() not in {*files, "manifest.json"}:
            old.unlink()


def _replace(target: Path, body: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    aside.write_bytes(body)
    aside.replace(target)


if __name__ == "__main__":
    try:
        built = build(force="--force" in sys.argv[1:])
    except BuildError as error:
        sys.exit(str(error))
    print("assets built" if built else "assets are up to date")
