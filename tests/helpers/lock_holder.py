"""A second process that holds the lock of an output."""

import subprocess
import sys
from contextlib import contextmanager

from reidlit import locks

HOLD = """
import os, sys, time
from pathlib import Path
from reidlit.locks import locked
with locked(Path(sys.argv[1]), inside=sys.argv[2] == "True") as is_locked:
    if sys.argv[3] == "fork" and os.fork() == 0:
        time.sleep(60)  # as a DataLoader worker that has not noticed yet that its parent is dead
    print(is_locked, flush=True)
    time.sleep(60)
"""


@contextmanager
def holding(path, inside=False, child=""):
    """Hold the lock of `path` in another process until the block ends; yield the process."""
    arguments = [str(path), str(inside), child]
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, *arguments], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as holder:
        try:
            assert holder.stdout.readline() == "True\n"
            yield holder
        finally:
            holder.kill()


@contextmanager
def waiting_for(path, monkeypatch):
    """Hold the lock of `path` in another process until this process has noticed it, which must happen in the block."""
    noticed, find_holder = [], locks._holder

    def holder_of(file):
        noticed.append(find_holder(file))
        holder.kill()
        return noticed[-1]

    monkeypatch.setattr(locks, "_holder", holder_of)
    with holding(path) as holder:
        yield holder
        assert len(noticed) == 1
        assert noticed[0].startswith(f"process {holder.pid} ")
