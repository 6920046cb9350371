"""Check of the free disk space before something large is written."""

import errno
import shutil
from pathlib import Path


def check_free_space(folder: Path, needed: int, subject: str, hint: str = "") -> None:
    """Raise an error if a disk is too small.

    Args:
        folder: Folder on the disk; it need not exist yet.
        needed: Number of bytes to write.
        subject: Subject of the message, for example "archive=a.zip".
        hint: Sentence about other possible causes, appended to the message.

    Raises:
        OSError: If there is not enough free space; its `errno` is `ENOSPC`.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(existing).free
    if needed > free:
        error = OSError(
            f"{subject} needs at least {needed / 1e9:,.1f} GB, but the disk of {folder} has {free / 1e9:,.1f} GB free. "
            f"Free disk space or choose another data.root.{hint and f' {hint}'}"
        )
        error.errno = errno.ENOSPC  # set afterwards, so that the message does not start with "[Errno 28]"
        raise error
