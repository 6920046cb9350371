"""Image files of a folder, the same list on every file system."""

import os
import re
from pathlib import Path, PurePath

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")
NUMBER = re.compile(r"([0-9]+)")


def list_images(folder: Path) -> list[Path]:
    """The image files that lie directly in a folder, sorted by name; hidden ones and other files are left out.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    return [folder / name for name in _names(folder) if name.lower().endswith(SUFFIXES)]


def list_folders(folder: Path) -> list[Path]:
    """The folders that lie directly in a folder, sorted by name; hidden ones are left out.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    return [folder / name for name in _names(folder) if (folder / name).is_dir()]


def list_images_below(folder: Path) -> list[Path]:
    """The image files at any depth below a folder, sorted by their paths from there; hidden ones are left out.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    found: list[str] = []
    for base, folders, files in os.walk(folder, onerror=_stop, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = "" if base == str(folder) else f"{PurePath(base).relative_to(folder).as_posix()}/"
        found += [f"{below}{name}" for name in files if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
    return [folder / name for name in sorted(found)]


def images_in_folder(folder: str | Path, argument: str = "images") -> list[Path]:
    """List the image files at any depth below a folder that a user named; see `list_images_below`.

    Args:
        folder: Folder as the user wrote it; a leading `~` is expanded.
        argument: Name of the setting, for messages.

    Returns:
        Sorted paths, at least one.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If `folder` is not a folder or contains no image files.
    """
    path = Path(folder).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"{argument}={folder} does not exist: give a folder of images.")
    if not path.is_dir():
        raise ValueError(f"{argument}={folder} is not a folder: give a folder of images.")
    images = list_images_below(path)
    if not images:
        raise ValueError(f"{argument}={folder} contains no image files ({', '.join(SUFFIXES)}).")
    return images


def natural(name: str) -> tuple[list[str | int], str]:
    """A key to sort names by: numbers in them count by value, so that 2.jpg comes before 10.jpg."""
    parts: list[str | int] = list(NUMBER.split(name))  # text and numbers in turn
    parts[1::2] = map(int, parts[1::2])
    return parts, name


def _stop(error: OSError) -> None:
    raise error


def _names(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))  # noqa: PTH208 - twice as fast
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{folder} does not exist. The dataset is not complete or laid out otherwise: unpack its archive again, or "
            "give data.root."
        ) from None
