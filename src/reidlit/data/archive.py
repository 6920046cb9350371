"""Unpacking archives that may be damaged or hostile."""

import shutil
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO


def unpack(archive: str | Path, folder: Path) -> None:
    """Unpack a zip or tar archive into a folder, never outside it.

    Files that are there with the right size are left as they are, so a run that was cut short can be repeated. A file
    appears under its name only when it is whole.

    Args:
        archive: a .zip, .tar, .tar.gz, .tgz, .tar.bz2 or .tar.xz file.
        folder: where to; made if it is missing.

    Raises:
        FileNotFoundError: if there is no such archive.
        ValueError: if it is damaged, of another kind, or holds a path that leads outside the folder.
    """
    source = Path(archive).expanduser()
    if not source.is_file():
        raise FileNotFoundError(f"archive={archive} does not exist.")
    try:
        if zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as opened:
                members = [item for item in opened.infolist() if not item.is_dir()]
                targets = [_target(item.filename, folder) for item in members]
                for item, target in zip(members, targets, strict=True):
                    with opened.open(item) as content:
                        _write(content, target, item.file_size)
            return
        if tarfile.is_tarfile(source):
            with tarfile.open(source) as tar:
                files = [item for item in tar.getmembers() if not item.isdir()]
                if odd := next((item.name for item in files if not item.isfile()), None):
                    raise ValueError(f"archive={archive} holds {odd!r}, a link or device; it is refused.")
                targets = [_target(item.name, folder) for item in files]
                for entry, target in zip(files, targets, strict=True):
                    extracted = tar.extractfile(entry)
                    if extracted is not None:
                        with extracted:
                            _write(extracted, target, entry.size)
            return
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise ValueError(f"archive={archive} is damaged ({error}); get it again and compare its size.") from error
    raise ValueError(f"archive={archive} is neither a zip nor a tar archive, or is cut short; get it again.")


def _target(name: str, folder: Path) -> Path:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name:
        raise ValueError(f"the archive holds {name!r}, which leads outside {folder}; it is refused.")
    return folder.joinpath(*path.parts)


def _write(content: IO[bytes], target: Path, size: int) -> None:
    if target.is_file() and target.stat().st_size == size:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    try:
        with part.open("wb") as file:
            shutil.copyfileobj(content, file, 1 << 20)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
