"""Extraction of zip and tar archives that may be damaged or hostile.

`tarfile` and `zipfile` read them. Their `extractall`, also with the filter "data", writes some files before it meets a
bad one, accepts links, renames absolute paths instead of refusing them, and extracts what the disk cannot hold.
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
from reidlit.files import atomic_path

CHUNK = 1 << 20  # bytes
ENCRYPTED = 1  # flag of a zip member
UNIX = 3  # system on which a zip member was made; only there its file type is known
HOSTILE = "If the dataset is not that large, the archive is damaged or hostile."
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, UnicodeDecodeError)


class Member(NamedTuple):
    """A file in an archive: its name as stored, its stated size in bytes, and a function that opens its content."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def unpack(archive: str | Path, folder: Path) -> None:
    """Extract a zip or tar archive into a folder, never outside it.

    All names and sizes are checked before anything is written, and a file appears under its name only when it is
    complete. Existing files of the right size are kept, so an interrupted extraction can be repeated. Of two members
    with the same name the later one counts, as in tar. Names that are neither ASCII nor UTF-8 are read as code page
    437.

    Args:
        archive: Path of a .zip, .tar, .tar.gz, .tgz, .tar.bz2 or .tar.xz file; its content counts, not its name.
        folder: Folder to extract to; it is created.

    Raises:
        FileNotFoundError: If the archive does not exist.
        OSError: If the disk does not have enough free space or cannot be written.
        ValueError: If the archive is damaged, encrypted or of another format, or contains links, devices or a path that
            leads outside the folder.
    """
    source = Path(archive).expanduser()
    if not source.is_file():
        raise FileNotFoundError(f"archive={archive} does not exist.")
    with _errors_explained(source), _opened(source) as members:
        missing = _missing(members, folder, source)
        total = sum(member.size for member in missing.values())
        with tqdm(
            total=total, desc=source.name, unit="B", unit_scale=True, unit_divisor=1024, disable=None
        ) as progress:
            for target, member in missing.items():
                _extract(member, target)
                progress.update(member.size)


@contextmanager
def _errors_explained(source: Path) -> Iterator[None]:
    try:
        yield
    except NotImplementedError as error:
        raise ValueError(
            f"archive={source} is of a kind that Python cannot read ({error}); unpack it with another program."
        ) from error
    except (*DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the file system, not of a decompressor
            raise
        raise ValueError(
            f"archive={source} is damaged or cut short ({error}); get it again and compare its size."
        ) from error


@contextmanager
def _opened(source: Path) -> Iterator[Iterator[Member]]:
    # A tar archive whose last file is a zip archive would pass for a zip archive.
    if tarfile.is_tarfile(source):
        with tarfile.open(source, encoding="utf-8") as tar:
            yield _tar_members(tar)
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as file:
            yield _zip_members(file)
    else:
        raise ValueError(f"archive={source} is neither a zip nor a tar archive, or is damaged or cut short.")


def _zip_members(file: zipfile.ZipFile) -> Iterator[Member]:
    for item in file.infolist():
        kind = stat.S_IFMT(item.external_attr >> 16) if item.create_system == UNIX else 0
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            _refuse(item.filename, "which is a link or device")
        if item.flag_bits & ENCRYPTED:
            _refuse(item.filename, "which is encrypted; unpack it with another program")
        yield Member(item.orig_filename, item.file_size, partial(file.open, item))  # `filename` ends at a NUL


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
            _refuse(item.name, "which is a link or device")
    # tarfile takes a damaged header, or a file cut between two members, for the end.
    rest = cast(IO[bytes], tar.fileobj)
    rest.seek(tar.offset)
    if rest.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it has no end")
    while rest.read(CHUNK):  # a compressed file's checksum comes last
        pass


def _missing(members: Iterable[Member], folder: Path, source: Path) -> dict[Path, Member]:
    """Check all members, and return those that must be written by their paths."""
    needed = 0
    names: set[PurePosixPath] = set()
    missing: dict[Path, Member] = {}
    for member in members:
        if member.name.endswith(("/", "\\")):
            continue
        name = safe_name(member.name, folder)
        target = folder / name
        names.add(name)
        missing.pop(target, None)  # an earlier member of this name
        if not (target.is_file() and target.stat().st_size == member.size):
            missing[target] = member
            needed += member.size
        # At once, since reading a decompression bomb to its end takes hours.
        check_free_space(folder, needed, f"archive={source}, unpacked,", HOSTILE)
    if both := names.intersection(parent for name in names for parent in name.parents):
        _refuse(str(min(both)), "which is a file and a folder")
    return missing


def safe_name(name: str, folder: Path) -> PurePosixPath:
    """Return the path of a member below the folder.

    Args:
        name: Name of the member as stored.
        folder: Folder to extract to, for messages.

    Raises:
        ValueError: If the name leads outside the folder or is not a file name.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    # On Windows a part that begins with a drive, such as C:, starts again from there.
    if path.is_absolute() or ".." in path.parts or any(part[1:2] == ":" for part in path.parts):
        _refuse(name, f"which leads outside {folder}")
    if not path.parts or "\0" in name:
        _refuse(name, "which is no file's name")
    return path


def _refuse(name: str, reason: str) -> NoReturn:
    raise ValueError(f"the archive holds {name!r}, {reason}; it is refused, and nothing was unpacked.")


def _extract(member: Member, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as part, member.open() as content:
        with part.open("wb") as file:
            shutil.copyfileobj(content, file, CHUNK)
        if part.stat().st_size != member.size:
            raise EOFError(f"{target.name} has {part.stat().st_size} bytes instead of {member.size}")
