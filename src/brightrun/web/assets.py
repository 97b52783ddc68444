"""The built assets: their URLs, the icons, and the ASGI application that serves them.

A URL is `/static/<build>/<file>`: `<build>` is a hash over all files, so a new release is a new URL and a page may be
cached for ever, and the scripts' relative imports stay inside one build. A page of an older release that is still open
asks for its own `<build>`; it gets today's file, uncached, which is the best that is left.
"""

import json
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from markupsafe import Markup
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from brightrun.errors import ConfigurationError

STATIC_URL = "/static"
DIST = Path(__file__).parent / "static" / "dist"


def asset(name: str) -> str:
    """The URL of a built file, such as `app.css` or `js/app.js`. Raises `LookupError` for one that was not built."""
    manifest = _manifest()
    if name not in manifest["files"]:
        raise LookupError(f"no built asset is called {name!r}")
    return f"{STATIC_URL}/{manifest['build']}/{name}"


def icon(name: str, css_class: str = "icon", *, label: str | None = None) -> Markup:
    """An inline SVG of `assets/web/icons.txt`. Decorative, unless `label` gives it a name for screen readers."""
    return _drawn(_manifest()["build"], name, css_class, label)


@lru_cache(maxsize=2048)
def _drawn(build: str, name: str, css_class: str, label: str | None) -> Markup:
    """A page has dozens of icons, and most of them again and again."""
    icons = _icons(build)
    if name not in icons:
        raise LookupError(f"no icon is called {name!r}: add it to assets/web/icons.txt and build the assets")
    hidden = Markup('role="img" aria-label="{}"').format(label) if label else Markup('aria-hidden="true"')
    return Markup(
        '<svg class="{}" {} xmlns="http://www.w3.org/2000/svg" width="24" height="24" viewBox="0 0 24 24" fill="none"'
        ' stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round">{}</svg>'
    ).format(css_class, hidden, Markup(icons[name]))  # noqa: S704 -- from the package we built


def _manifest() -> dict[str, Any]:
    """As it is on the disk, looked at once a second at most: a page asks dozens of times."""
    return _manifest_of(int(time.monotonic()))


@lru_cache(maxsize=1)
def _manifest_of(_second: int) -> dict[str, Any]:
    try:
        return _read_manifest((DIST / "manifest.json").stat().st_mtime_ns)
    except FileNotFoundError:
        raise ConfigurationError(
            "The pages' assets are not built. In a checkout, run `python hatch_build.py` (it needs Node.js 20+)."
        ) from None


@lru_cache(maxsize=1)
def _read_manifest(changed_ns: int) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((DIST / "manifest.json").read_text("utf-8"))
    manifest["files"] = frozenset(manifest["files"])
    return manifest


@lru_cache(maxsize=1)
def _icons(build: str) -> dict[str, str]:
    icons: dict[str, str] = json.loads((DIST / "icons.json").read_text("utf-8"))
    return icons


class BuiltAssets(StaticFiles):
    """Mount it at `STATIC_URL`. Serves `<build>/<file>`, compressed where the browser takes gzip."""

    def __init__(self) -> None:
        super().__init__(directory=DIST, check_dir=False)

    async def get_response(self, path: str, scope: Scope) -> Response:
        build, _, name = path.replace("\\", "/").partition("/")
        manifest = _manifest()
        packed = f"{name}.gz"
        gzipped = packed in manifest["files"] and "gzip" in Headers(scope=scope).get("accept-encoding", "")
        response = await super().get_response(packed if gzipped else name, scope)
        if gzipped:
            response.headers["Content-Encoding"] = "gzip"
            response.headers["Content-Type"] = _CONTENT_TYPES[Path(name).suffix]
        current = build == manifest["build"]
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if current else "no-cache"
        response.headers["Vary"] = "Accept-Encoding"
        return response


_CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
