"""A pack as one zip file: for download, and from a browser."""

import io
import zipfile

from brightrun.scaffolding.pack import Pack
from brightrun.scaffolding.pack_checks import Fault
from brightrun.scaffolding.pack_files import MAX_FILE_BYTES, MAX_FILES, PackInvalidError, pack_from_files, pack_to_files

MAX_ZIP_BYTES = 5_000_000
_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack_to_zip(pack: Pack) -> bytes:
    """The same bytes for the same pack."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in pack_to_files(pack).items():
            entry = zipfile.ZipInfo(f"{pack.key}/{name}", _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    return buffer.getvalue()


def pack_from_zip(data: bytes) -> Pack:
    """Raises PackInvalidError. The files may lie in one folder of the archive, as people zip them."""
    if len(data) > MAX_ZIP_BYTES:
        raise PackInvalidError([Fault("pack.zip", "", f"has {len(data):,} bytes; at most {MAX_ZIP_BYTES:,} are taken")])
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir() and not _of_a_system(entry.filename)]
            if len(entries) > MAX_FILES:
                raise PackInvalidError([Fault("pack.zip", "", f"has {len(entries)} files; at most {MAX_FILES}")])
            files = {entry.filename: _read(archive, entry) for entry in entries}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise PackInvalidError([Fault("pack.zip", "", f"cannot be opened as a zip file: {error}")]) from error
    folders = {name.split("/", 1)[0] for name in files if "/" in name}
    if "pack.yaml" not in files and len(folders) == 1:
        [folder] = folders
        files = {name.removeprefix(f"{folder}/"): data for name, data in files.items()}
    return pack_from_files(files)


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """No more than a file of a pack may have, whatever the archive says of itself."""
    with archive.open(entry) as stream:
        return stream.read(MAX_FILE_BYTES + 1)


def _of_a_system(name: str) -> bool:
    return name.startswith("__MACOSX/") or name.rsplit("/", 1)[-1] in {".DS_Store", "Thumbs.db"}
