"""Unpacking archives that may be damaged or hostile."""

import errno
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, NoReturn, cast

from tqdm import tqdm

CHUNK = 1 << 20
ENCRYPTED = 1  # a flag of a zip's member
UNIX = 3  # what a zip's member was made on; only there its mode is known
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, UnicodeDecodeError)


class Member(NamedTuple):
    """A file in an archive.

    Attributes:
        name: as the archive has it; `/` or a backslash stands between folders.
        size: in bytes, as the archive states it.
        open: gives its content.
    """

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def unpack(archive: str | Path, folder: Path) -> None:
    """Unpack a zip or tar archive into a folder, never outside it.

    Everything is examined before anything is written. A file appears under its name only when it is whole. Files that are
    there with the right size are left as they are, so a run that was cut short can be repeated. Of two members with one
    name the later counts, as tar has it. Names that are neither ASCII nor UTF-8 are read as code page 437.

    Args:
        archive: a .zip, .tar, .tar.gz, .tgz, .tar.bz2 or .tar.xz file; its content counts, not its name.
        folder: where to; made if it is missing.

    Raises:
        FileNotFoundError: if there is no such archive.
        OSError: if the disk has less room than the files need, or cannot be written.
        ValueError: if the archive is damaged, encrypted, of another kind, or holds links, devices or a path that leads
            outside the folder.
    """
    source = Path(archive).expanduser()
    if not source.is_file():
        raise FileNotFoundError(f"archive={archive} does not exist.")
    with _damage_named(source), _opened(source) as members:
        missing = _missing(members, folder, source)
        for parent in sorted({target.parent for target in missing}):
            parent.mkdir(parents=True, exist_ok=True)
        total = sum(member.size for member in missing.values())
        with tqdm(
            total=total, desc=source.name, unit="B", unit_scale=True, unit_divisor=1024, disable=None
        ) as progress:
            for target, member in missing.items():
                with member.open() as content:
                    _write(content, target, member.size)
                progress.update(member.size)


@contextmanager
def _damage_named(source: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        raise _damaged(source, error) from error
    except NotImplementedError as error:
        raise ValueError(
            f"archive={source} is of a kind that Python cannot read ({error}); unpack it with another program."
        ) from error
    except OSError as error:
        if error.errno is None:  # not of the file system, but of a decompressor
            raise _damaged(source, error) from error
        raise


def _damaged(source: Path, error: Exception) -> ValueError:
    return ValueError(f"archive={source} is damaged or cut short ({error}); get it again and compare its size.")


@contextmanager
def _opened(source: Path) -> Iterator[Iterator[Member]]:
    # A tar archive whose last file is a zip archive would pass for a zip archive.
    if tarfile.is_tarfile(source):
        with tarfile.open(source, encoding="utf-8") as tar:
            yield _of_tar(tar)
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as file:
            yield _of_zip(file)
    else:
        raise ValueError(f"archive={source} is neither a zip nor a tar archive, or is damaged or cut short.")


def _of_zip(file: zipfile.ZipFile) -> Iterator[Member]:
    for item in file.infolist():
        kind = stat.S_IFMT(item.external_attr >> 16) if item.create_system == UNIX else 0
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            _refuse(item.filename, "which is a link or device")
        if item.flag_bits & ENCRYPTED:
            _refuse(item.filename, "which is encrypted; unpack it with another program")
        # `filename` would hide what comes after a NUL.
        yield Member(item.orig_filename, item.file_size, partial(file.open, item))


def _of_tar(tar: tarfile.TarFile) -> Iterator[Member]:
    for item in tar:
        if item.isfile():
            name = item.name.encode("utf-8", "surrogateescape")
            yield Member(_decoded(name), item.size, partial(_content, tar, item))
        elif not item.isdir():
            _refuse(item.name, "which is a link or device")
    # The tarfile module takes a damaged header, or a file cut between two members, for the end.
    rest = cast(IO[bytes], tar.fileobj)
    rest.seek(tar.offset)
    if rest.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it has no end")
    while rest.read(CHUNK):  # a compressed file's checksum comes last
        pass


def _content(tar: tarfile.TarFile, item: tarfile.TarInfo) -> IO[bytes]:
    return cast(IO[bytes], tar.extractfile(item))  # None for what is no file, and these are refused


def _decoded(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("cp437")


def _missing(members: Iterable[Member], folder: Path, source: Path) -> dict[Path, Member]:
    """The files that are not there yet, by where they go, once all are found harmless."""
    free = _free(folder)
    needed = 0
    found: set[str] = set()
    missing: dict[Path, Member] = {}
    for member in members:
        if member.name.endswith(("/", "\\")):
            continue
        relative = _relative(member.name, folder)
        target = folder / relative
        if relative in found:
            missing.pop(target, None)
        found.add(relative)
        if not _is_there(target, member.size):
            missing[target] = member
            needed += member.size
        if needed > free:  # at once: to look through a decompression bomb to its end takes hours
            raise _no_room(source, folder, needed, free)
    parents = {name.rpartition("/")[0] for name in found}
    parents |= {str(above) for parent in parents for above in PurePosixPath(parent).parents}
    if both := found & parents:
        _refuse(min(both), "which is a file and a folder")
    return missing


def _relative(name: str, folder: Path) -> str:
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    # On Windows a part that begins with a drive, such as C:, starts anew from there.
    if name.startswith(("/", "\\")) or ".." in parts or any(part[1:2] == ":" for part in parts):
        _refuse(name, f"which leads outside {folder}")
    if not parts or "\0" in name:
        _refuse(name, "which is no file's name")
    return "/".join(parts)


def _refuse(name: str, reason: str) -> NoReturn:
    raise ValueError(f"the archive holds {name!r}, {reason}; it is refused, and nothing was unpacked.")


def _is_there(target: Path, size: int) -> bool:
    try:
        found = target.stat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == size


def _free(folder: Path) -> int:
    """Free bytes on the disk where the folder lies, or will."""
    return shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.is_dir())).free


def _no_room(source: Path, folder: Path, needed: int, free: int) -> OSError:
    error = OSError(
        f"archive={source} unpacks to {needed / 1e9:,.1f} GB or more, but the disk of {folder} has {free / 1e9:,.1f} GB free. "
        "Make room or give another data.root; if the dataset is not that large, the archive is damaged or hostile."
    )
    error.errno = errno.ENOSPC
    return error


def _write(content: IO[bytes], target: Path, size: int) -> None:
    part = target.with_name(f"{target.name}.part")
    try:
        with part.open("wb") as file:
            written = 0
            while chunk := content.read(CHUNK):
                written += file.write(chunk)
        if written != size:
            raise EOFError(f"{target.name} has {written} bytes instead of {size}")
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
