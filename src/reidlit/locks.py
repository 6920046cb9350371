"""Locks of files and folders that only one process at a time may write."""

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

GRACE = 1.0  # seconds in which another process may still end before it is reported
POLL = 0.1  # seconds between two attempts to get a lock
LONGEST = 1000  # characters that are read from a lock file
_held = threading.local()  # lock files of this thread


@contextmanager
def locked(output: Path, wait: bool = True, name: str = "", inside: bool = False) -> Iterator[bool]:
    """Keep other processes that use this function from writing the same output until the block ends.

    The lock is a hidden file next to the output, which contains the process id and the command of its holder. The operating
    system releases it when its holder ends, even if the holder is killed. Without permission to create the file, or on a file
    system without locks, the block runs without a lock. A thread may lock the same output again within the block.

    Args:
        output: File or folder that the block writes. Missing folders above it are created.
        wait: Whether to wait for the other process, with a message on stderr, or to raise an error.
        name: Name of the setting that contains the path, for messages.
        inside: Whether the lock file is in the folder `output` instead of next to it.

    Yields:
        True if the output is locked.

    Raises:
        BlockingIOError: If another process holds the lock and `wait` is False.

    Example:
        >>> with locked(Path("gallery.npz")):  # doctest: +SKIP
        ...     gallery.save("gallery.npz")
    """
    path = Path(os.path.abspath(output))  # noqa: PTH100 - keeps symbolic links
    file = path / ".lock" if inside else path.with_name(f".{path.name}.lock")
    held: set[Path] = _held.__dict__.setdefault("files", set())
    if file in held:
        yield True
        return
    lock = FileLock(file, poll_interval=POLL, fallback_to_soft=False)
    if not _acquire(lock, file, output, wait, name):
        yield False
        return
    held.add(file)
    try:
        with suppress(OSError):  # the disk may be full
            file.write_text(json.dumps({"process": os.getpid(), "command": _command()}), encoding="utf-8")
        yield True
    finally:
        held.discard(file)
        with suppress(OSError):  # on Windows, the file is deleted after its release
            file.unlink()
        lock.release()


def _acquire(lock: BaseFileLock, file: Path, output: Path, wait: bool, name: str) -> bool:
    """Acquire a lock; return False where locks do not work. After a moment, report its holder, and wait or raise."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=GRACE)
        except Timeout:
            subject, holder = f"{name}={output}" if name else str(output), _holder(file)
            if wait:
                sys.stderr.write(f"waiting for {holder}, which is writing {subject}\n")
                lock.acquire()
                return True
        else:
            return True
    except (OSError, NotImplementedError):
        return False
    raise BlockingIOError(
        f"{subject} is being written by {holder}. Wait until that process has ended, or choose another {name or 'path'}."
    )


def _holder(file: Path) -> str:
    """Return the process id and the command of the process that holds a lock."""
    for _ in range(5):  # the file is written after the lock is taken
        try:
            with file.open(encoding="utf-8") as opened:
                content = json.loads(opened.read(LONGEST))
            command = "".join(letter for letter in str(content["command"]) if letter.isprintable())
            return f"process {int(content['process'])} ({command})"
        except (OSError, ValueError, KeyError, TypeError):
            time.sleep(POLL)
    return "another process"


def _command() -> str:
    """Return the name of this program, with the command of reidlit."""
    words = [Path(word).stem for word in sys.orig_argv]
    if "reidlit" in words:
        return " ".join(words[words.index("reidlit") :][:2])
    return Path(sys.argv[0]).name
