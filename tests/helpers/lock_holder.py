"""A second process that holds the lock of an output."""

import subprocess
import sys
from contextlib import contextmanager

HOLD = """
import os, sys, time
from pathlib import Path
from reidlit.locks import locked
with locked(Path(sys.argv[1]), inside=sys.argv[2] == "True") as is_locked:
    if sys.argv[3] == "fork" and os.fork() == 0:
        time.sleep(60)  # as a DataLoader worker that has not noticed yet that its parent is dead
    print(is_locked, flush=True)
    time.sleep(float(sys.argv[4]))
"""


@contextmanager
def holding(path, inside=False, seconds=60.0, child=""):
    """Hold the lock of `path` in another process for some seconds, at most until the block ends; yield the process."""
    arguments = [str(path), str(inside), child, str(seconds)]
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, *arguments], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as holder:
        try:
            assert holder.stdout.readline() == "True\n"
            yield holder
        finally:
            holder.kill()
