"""The build hook: what it makes, when it runs, what it says when it cannot."""

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
import hatch_build  # noqa: E402


@pytest.fixture(scope="module")
def installed() -> Path:
    """The checkout, built."""
    hatch_build.build(ROOT)
    return ROOT


@pytest.fixture
def tree(installed: Path, tmp_path: Path) -> Path:
    """A copy of what goes into the build, without what came out of it; the npm packages are shared."""
    for name in ("package.json", "package-lock.json", "hatch_build.py"):
        shutil.copyfile(installed / name, tmp_path / name)
    for folder in (hatch_build.WEB, hatch_build.TEMPLATES):
        shutil.copytree(installed / folder, tmp_path / folder)
    (tmp_path / "node_modules").symlink_to(installed / "node_modules")
    return tmp_path


def without_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    empty = tmp_path / "empty-path"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))


def test_an_unchanged_tree_builds_nothing(installed: Path) -> None:
    assert hatch_build.build(installed) is False


def test_every_file_of_the_manifest_exists_and_nothing_else(installed: Path) -> None:
    dist = installed / hatch_build.DIST
    manifest = json.loads((dist / "manifest.json").read_text())
    there = {file.relative_to(dist).as_posix() for file in dist.rglob("*") if file.is_file()}
    assert there == {*manifest["files"], "manifest.json"}
    assert {"app.css", "js/app.js", "vendor/htmx.js", "vendor/basecoat.js", "vendor/uplot.js", "icons.json"} <= there


def test_built_assets_refer_to_no_other_host(installed: Path) -> None:
    dist = installed / hatch_build.DIST
    for file in (dist / "app.css", *sorted((dist / "js").glob("*.js"))):
        text = file.read_text("utf-8")
        found = [url for url in re.findall(r"https?://[^\s\"')]+", text) if "www.w3.org" not in url]
        assert not re.search(r"url\(\s*['\"]?(https?:)?//", text), file.name
        # Comments may name where something comes from; code may not load from there.
        assert not [url for url in found if f'import("{url}' in text or f'from "{url}' in text], file.name


def test_a_changed_source_is_built_again_and_gets_another_address(tree: Path) -> None:
    assert hatch_build.build(tree) is True
    first = json.loads((tree / hatch_build.DIST / "manifest.json").read_text())
    (tree / hatch_build.TEMPLATES / "extra.html").write_text('<p class="pt-[13px]"></p>')
    assert hatch_build.build(tree) is True
    second = json.loads((tree / hatch_build.DIST / "manifest.json").read_text())
    assert first["build"] != second["build"]
    assert "13px" in (tree / hatch_build.DIST / "app.css").read_text()


def test_the_same_sources_give_the_same_build(tree: Path) -> None:
    hatch_build.build(tree)
    first = json.loads((tree / hatch_build.DIST / "manifest.json").read_text())
    hatch_build.build(tree, force=True)
    assert json.loads((tree / hatch_build.DIST / "manifest.json").read_text()) == first


def test_a_tree_that_carries_the_built_files_needs_no_node(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an sdist does."""
    hatch_build.build(tree)
    without_node(monkeypatch, tmp_path)
    assert hatch_build.build(tree) is False


def test_without_node_the_message_says_what_to_install(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_node(monkeypatch, tmp_path)
    with pytest.raises(hatch_build.BuildError, match=r"Node\.js 20 or newer.*`node` was not found"):
        hatch_build.build(tree)


def test_a_missing_built_file_is_noticed(tree: Path) -> None:
    hatch_build.build(tree)
    (tree / hatch_build.DIST / "app.css").unlink()
    assert hatch_build.build(tree) is True


def test_an_unknown_icon_stops_the_build_with_its_name(tree: Path) -> None:
    icons = tree / hatch_build.WEB / "icons.txt"
    icons.write_text(icons.read_text() + "no-such-icon\n")
    with pytest.raises(hatch_build.BuildError, match="no-such-icon"):
        hatch_build.build(tree)


def test_npm_versions_are_exact_and_the_lock_names_no_registry() -> None:
    package = json.loads((ROOT / "package.json").read_text())
    for name, version in package["devDependencies"].items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version), f"{name} {version}"
    lock = (ROOT / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert "registry" not in lock


def test_the_hook_is_what_pip_runs(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = object.__new__(hatch_build.CustomBuildHook)
    monkeypatch.setattr(type(hook), "root", str(tree), raising=False)
    hook.initialize("editable", {})
    assert (tree / hatch_build.DIST / "manifest.json").is_file()
    assert os.access(tree / hatch_build.DIST / "app.css", os.R_OK)
