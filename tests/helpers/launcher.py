"""Launcher that runs many commands with a single import: a server process forks a child for each command.

As a script, this is the server: it reads one command per line from standard input and prints the process id of the
child.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


class Launcher:
    """Context manager that starts commands in a folder.

    Args:
        folder: Working folder of the commands, which also receives their output.
    """

    def __init__(self, folder):
        self.folder = folder
        self.count = 0

    def __enter__(self):
        self.server = subprocess.Popen(
            [sys.executable, __file__],
            cwd=self.folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_):
        self.server.stdin.close()
        self.server.wait(timeout=60)
        self.server.stdout.close()

    def __call__(self, *arguments):
        self.count += 1
        log = self.folder / f"printed{self.count}.txt"
        self.server.stdin.write(json.dumps([str(log), *map(str, arguments)]) + "\n")
        self.server.stdin.flush()
        return Running(int(self.server.stdout.readline()), log)


class Running:
    """Running command."""

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
        """Wait until the command has succeeded."""
        while self.runs():
            time.sleep(0.01)
        assert self.printed().endswith("status 0\n"), self.printed()


def serve():
    """Fork a child for each line of standard input."""
    import torch

    import reidlit.commands.train  # noqa: F401 - imported for the children
    from reidlit import cli

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are reaped automatically
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
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv = ["reidlit", *arguments]
    status = 0
    try:
        main()
    except SystemExit as error:
        status = error.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(1, f"status {status}\n".encode())
        os._exit(0)


if __name__ == "__main__":
    serve()
    os._exit(0)  # skips waiting for threads of libraries
