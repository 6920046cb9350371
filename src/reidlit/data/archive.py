"""Extraction of zip and tar archives that may be damaged or hostile.

The archives are read with `tarfile` and `zipfile`, but not extracted with their `extractall`. Even with the filter
"data", `extractall` may write some files before it fails, accepts links, renames absolute paths instead of rejecting
them, and does not check the free disk space.
"""

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

from reidlit.data.disk_space import check_free_space
from reidlit.escaping import for_terminal
from reidlit.files import atomic_path
from reidlit.foreign_files import expanded
from reidlit.locks import locked

CHUNK = 1 << 20  # bytes
ENCRYPTED = 1  # flag of a zip member
UNIX = 3  # `create_system` of zip members that store a file type
HOSTILE = "If the dataset is not that large, the archive is damaged or malicious."
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, UnicodeDecodeError)


class Member(NamedTuple):
    """Member of an archive: its stored name, its stated size in bytes, and a function that opens its content."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def unpack(archive: str | Path, folder: Path) -> None:
    """Extract a zip or tar archive into a folder, never outside it.

    All names and sizes are checked before anything is written, and each file is written atomically. Existing files of
    the expected size are kept, so an interrupted extraction can be repeated. If two members have the same name, the
    last one is used, as in tar. If another process is unpacking into the folder, wait for that process. Names that are neither ASCII nor UTF-8 are decoded as code page 437.

    Args:
        archive: Path of a .zip, .tar, .tar.gz, .tgz, .tar.bz2 or .tar.xz file. The format is detected from the content.
        folder: Folder to extract to; created if missing.

    Raises:
        FileNotFoundError: If the archive does not exist.
        OSError: If the disk does not have enough free space or is not writable.
        ValueError: If the archive is damaged, encrypted or of an unsupported format, or contains links, devices or
            paths outside the folder.
    """
    source = expanded(archive)
    if not source.is_file():
        raise FileNotFoundError(f"archive={archive} does not exist.")
    with _readable_errors(source), _open_archive(source) as members:
        missing = _missing_members(members, folder, source)
        total = sum(member.size for member in missing.values())
        if not missing:
            return
        with (
            locked(folder),
            tqdm(
                total=total, desc=for_terminal(source.name), unit="B", unit_scale=True, unit_divisor=1024, disable=None
            ) as progress,
        ):
            for target, member in missing.items():
                if not _is_unpacked(target, member):  # another process may have unpacked it meanwhile
                    _extract(member, target)
                progress.update(member.size)


@contextmanager
def _readable_errors(source: Path) -> Iterator[None]:
    try:
        yield
    except NotImplementedError as error:
        raise ValueError(
            f"archive={source} has a format that Python does not support ({error}). Unpack it with another program."
        ) from error
    except (*DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # from the file system, not from a decompressor
            raise
        raise ValueError(
            f"archive={source} is damaged or truncated ({error}). Download it again and compare its size."
        ) from error


@contextmanager
def _open_archive(source: Path) -> Iterator[Iterator[Member]]:
    # Check for tar first: `is_zipfile` also accepts a tar archive that ends with a zip archive.
    if tarfile.is_tarfile(source):
        with tarfile.open(source, encoding="utf-8") as tar:
            yield _tar_members(tar)
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as file:
            yield _zip_members(file)
    else:
        raise ValueError(f"archive={source} is not a valid zip or tar archive, or is truncated. Download it again.")


def _zip_members(file: zipfile.ZipFile) -> Iterator[Member]:
    for item in file.infolist():
        kind = stat.S_IFMT(item.external_attr >> 16) if item.create_system == UNIX else 0
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            _reject(item.filename, "a link or device")
        if item.flag_bits & ENCRYPTED:
            _reject(item.filename, "encrypted", "Unpack the archive with another program.")
        yield Member(item.orig_filename, item.file_size, partial(file.open, item))  # `filename` is cut at a NUL


def _tar_members(tar: tarfile.TarFile) -> Iterator[Member]:
    for item in tar:
        if item.isfile():
            name = item.name.encode("utf-8", "surrogateescape")
            try:
                text = name.decode()
            except UnicodeDecodeError:
                text = name.decode("cp437")
            yield Member(text, item.size, cast(Callable[[], IO[bytes]], partial(tar.extractfile, item)))
        elif not item.isdir():
            _reject(item.name, "a link or device")
    # tarfile treats a damaged header, or a truncation between two members, as the end of the archive.
    rest = cast(IO[bytes], tar.fileobj)
    rest.seek(tar.offset)
    if rest.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("the end of the archive is missing")
    while rest.read(CHUNK):  # the checksum of a compressed file is at its end
        pass


def _missing_members(members: Iterable[Member], folder: Path, source: Path) -> dict[Path, Member]:
    """Check all members and return those that have to be written, by target path."""
    needed = 0
    names: set[PurePosixPath] = set()
    missing: dict[Path, Member] = {}
    for member in members:
        if member.name.endswith(("/", "\\")):
            continue
        name = safe_name(member.name, folder)
        target = folder / name
        names.add(name)
        missing.pop(target, None)  # an earlier member of the same name
        if not _is_unpacked(target, member):
            missing[target] = member
            needed += member.size
        # Checked per member, because reading a decompression bomb to its end takes hours.
        check_free_space(folder, needed, f"archive={source}, unpacked,", HOSTILE)
    if both := names.intersection(parent for name in names for parent in name.parents):
        _reject(str(min(both)), "both a file and a folder")
    return missing


def _is_unpacked(target: Path, member: Member) -> bool:
    return target.is_file() and target.stat().st_size == member.size


def safe_name(name: str, folder: Path) -> PurePosixPath:
    """Return the path of a member relative to the folder.

    Args:
        name: Name of the member as stored.
        folder: Folder to extract to, for messages.

    Raises:
        ValueError: If the name is outside the folder or not a file name.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    # On Windows, a part that starts with a drive such as C: replaces the parts before it.
    if path.is_absolute() or ".." in path.parts or any(part[1:2] == ":" for part in path.parts):
        _reject(name, f"outside {folder}")
    if not path.parts or "\0" in name:
        _reject(name, "not a valid file name")
    return path


def _reject(name: str, reason: str, remedy: str = "Do not use this archive.") -> NoReturn:
    raise ValueError(f"The archive contains {name!r}, which is {reason}. Nothing was unpacked. {remedy}")


def _extract(member: Member, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as part, member.open() as content:
        with part.open("wb") as file:
            shutil.copyfileobj(content, file, CHUNK)
        if part.stat().st_size != member.size:
            raise EOFError(f"{target.name} has {part.stat().st_size} bytes instead of {member.size}")
