"""A pack as a folder of YAML: read strictly, written so that reading gives the same pack again.

    pack.yaml  personas.yaml  arcs.yaml  topics.yaml  templates/<key>.yaml

Read strictly: an unknown file, an unknown key, a key twice, a YAML alias or an object tag is a fault with its place.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from brightrun.errors import InvalidInputError, NotFoundError
from brightrun.scaffolding.pack import Arc, Pack, PackHead, Persona, Template, Topic
from brightrun.scaffolding.pack_checks import Fault, faults_of, template_file

MAX_FILE_BYTES = 2_000_000
MAX_FILES = 400
MAX_DEPTH = 12
FILES = ("pack.yaml", "personas.yaml", "arcs.yaml", "topics.yaml")
_TEMPLATE_FILE = re.compile(r"^templates/[a-z0-9][a-z0-9_]{0,63}\.yaml$")

_HEAD = TypeAdapter(PackHead)
_LISTS: dict[str, TypeAdapter[Any]] = {
    "personas.yaml": TypeAdapter(tuple[Persona, ...]),
    "arcs.yaml": TypeAdapter(tuple[Arc, ...]),
    "topics.yaml": TypeAdapter(tuple[Topic, ...]),
}
_TEMPLATE = TypeAdapter(Template)


class PackInvalidError(InvalidInputError):
    """A pack that cannot be taken in. faults: every one, with its place; `details` is file → sentences."""

    code = "pack_invalid"

    def __init__(self, faults: list[Fault]) -> None:
        details: dict[str, list[str]] = {}
        for fault in faults:
            details.setdefault(fault.file, []).append(f"{fault.path}: {fault.message}" if fault.path else fault.message)
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        super().__init__(f"The pack is not whole: {faults[0]}{more}", details=details)
        self.faults = faults


class _Loader(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):  # type: ignore[misc]
    """YAML without a key twice: one of the two would be lost."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _value in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)  # type: ignore[no-any-return]


def _refuse_bombs(text: str) -> None:
    """No aliases, no deep nesting: a small file could grow without bound, or exhaust the stack of the parser in C."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            raise _marked("aliases are not taken: write the text out", event)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise _marked("nested deeper than any pack is", event)


def _marked(problem: str, event: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def pack_from_files(files: Mapping[str, bytes]) -> Pack:
    """The pack in `files` (name in the folder → bytes). Raises PackInvalidError with every fault."""
    faults: list[Fault] = []
    if len(files) > MAX_FILES:
        raise PackInvalidError([Fault("pack.yaml", "", f"{len(files)} files; a pack has at most {MAX_FILES}")])
    faults += [
        Fault(name, "", f"is no file of a pack ({', '.join(FILES)}, templates/<key>.yaml)")
        for name in sorted(files)
        if name not in FILES and not _TEMPLATE_FILE.match(name)
    ]
    parts: dict[str, Any] = {}
    for name in FILES:
        if name not in files:
            faults.append(Fault(name, "", "is missing"))
            continue
        parts[name] = _read(name, files[name], _HEAD if name == "pack.yaml" else _LISTS[name], faults)
    templates = []
    for name in sorted(name for name in files if _TEMPLATE_FILE.match(name)):
        template = _read(name, files[name], _TEMPLATE, faults)
        if template is not None:
            templates.append(template)
            if template_file(template.key) != name:
                faults.append(Fault(name, "key", f"is {template.key!r}: the file is named after the key"))
    if faults:
        raise PackInvalidError(faults)
    pack = Pack(
        head=parts["pack.yaml"],
        personas=parts["personas.yaml"],
        arcs=parts["arcs.yaml"],
        topics=parts["topics.yaml"],
        templates=tuple(templates),
    )
    faults = faults_of(pack)
    if faults:
        raise PackInvalidError(faults)
    return pack


def _read(name: str, data: bytes, adapter: TypeAdapter[Any], faults: list[Fault]) -> Any:
    if len(data) > MAX_FILE_BYTES:
        faults.append(Fault(name, "", f"has {len(data):,} bytes; at most {MAX_FILE_BYTES:,} are taken"))
        return None
    try:
        text = data.decode("utf-8")
        _refuse_bombs(text)
        document = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader, made stricter
    except UnicodeDecodeError as error:
        faults.append(Fault(name, "", f"is not UTF-8 (byte {error.start})"))
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        faults.append(Fault(name, f"line {mark.line + 1}" if mark else "", str(error.problem or error)))
        return None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        faults.append(Fault(name, "", f"is not YAML: {error}"))
        return None
    try:
        return adapter.validate_python(document)
    except ValidationError as error:
        faults += [Fault(name, place_of(one["loc"]), sentence_of(one)) for one in error.errors(include_url=False)]
        return None


def place_of(loc: tuple[int | str, ...]) -> str:
    place = ""
    for part in loc:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else part
    return place


def sentence_of(error: Mapping[str, Any]) -> str:
    match error["type"]:
        case "missing":
            return "is missing"
        case "unexpected_keyword_argument":
            return "is not a key that a pack knows"
        case "value_error":
            return str(error["msg"]).removeprefix("Value error, ")
    return f"{error['msg'][0].lower()}{error['msg'][1:]}"


def pack_to_files(pack: Pack) -> dict[str, bytes]:
    """The folder that `pack_from_files` reads back into an equal pack."""
    files = {"pack.yaml": _dump(_HEAD.dump_python(pack.head, mode="json"))}
    for name, things in (("personas.yaml", pack.personas), ("arcs.yaml", pack.arcs), ("topics.yaml", pack.topics)):
        files[name] = _dump(_LISTS[name].dump_python(things, mode="json"))
    for template in pack.templates:
        files[template_file(template.key)] = _dump(_TEMPLATE.dump_python(template, mode="json"))
    return files


class _Dumper(yaml.SafeDumper):
    """Blocks for long texts, so that a person can read and edit them."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    block = "\n" in text and not any(line != line.rstrip() for line in text.split("\n"))
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if block else None)


_Dumper.add_representer(str, _represent_text)


def _dump(document: Any) -> bytes:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110).encode()


def read_folder(folder: Path) -> Pack:
    """The pack in a folder of this machine. Raises PackInvalidError."""
    return pack_from_files(_files_under(folder))


def _files_under(folder: Traversable) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for entry in folder.iterdir():
        if entry.name.startswith((".", "__")):
            continue
        if entry.is_dir():
            files |= {f"{entry.name}/{name}": data for name, data in _files_under(entry).items()}
        else:
            files[entry.name] = entry.read_bytes()
    return files


def builtin_keys() -> list[str]:
    """The packs that come with BrightRun."""
    folder = resources.files("brightrun.scaffolding") / "packs"
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("_"))


@lru_cache(maxsize=8)
def builtin_pack(key: str) -> Pack:
    """A pack that comes with BrightRun. Raises NotFoundError."""
    if key not in builtin_keys():
        raise NotFoundError(f"There is no built-in pack {key!r}; there are {', '.join(builtin_keys())}.")
    return pack_from_files(_files_under(resources.files("brightrun.scaffolding") / "packs" / key))
