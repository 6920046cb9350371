"""Starts the command line many times at the price of one start: a process that has imported everything forks a child each.

Run as a script it reads a command a line from its input and answers with the number of the child's process.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


class Launcher:
    """Starts commands in a folder.

    Args:
        folder: where they run and what they print is kept.
    """

    def __init__(self, folder):
        self.folder = folder
        self.started = 0

    def __enter__(self):
        self.parent = subprocess.Popen(
            [sys.executable, __file__],
            cwd=self.folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_):
        self.parent.stdin.close()
        self.parent.wait(timeout=60)
        self.parent.stdout.close()

    def __call__(self, *arguments):
        self.started += 1
        log = self.folder / f"printed{self.started}.txt"
        self.parent.stdin.write(json.dumps([str(log), *map(str, arguments)]) + "\n")
        self.parent.stdin.flush()
        return Running(int(self.parent.stdout.readline()), log)


class Running:
    """A command that runs."""

    def __init__(self, pid, log):
        self.pid, self.log = pid, log

    def printed(self):
        return self.log.read_text()

    def runs(self):
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return False
        return state != "Z"

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        while self.runs():
            time.sleep(0.001)

    def end(self):
        """Wait until it has ended well."""
        while self.runs():
            time.sleep(0.01)
        assert self.printed().endswith("status 0\n"), self.printed()


def serve():
    """Fork a child for each line, until the input ends."""
    import torch

    import reidlit.commands.train  # noqa: F401 - for the children
    from reidlit import cli

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody has to wait for them
    for line in iter(sys.stdin.readline, ""):
        log, *arguments = json.loads(line)
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            torch.set_num_threads(1)
            _run(cli.main, log, arguments)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


def _run(main, log, arguments):
    opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(opened, 1)
    os.dup2(opened, 2)
    sys.argv = ["reidlit", *arguments]
    status = 0
    try:
        main()
    except SystemExit as stop:
        status = stop.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(1, f"status {status}\n".encode())
        os._exit(0)


if __name__ == "__main__":
    serve()
    os._exit(0)  # threads of libraries are nobody's concern
