"""The command line on tiny drawn data."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from reidlit import cli


@pytest.fixture
def reidlit(monkeypatch, tmp_path, capfd, drawn):
    """Runs a command in this process, in an empty folder; gives its exit status and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REIDLIT_DATA", str(drawn))
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["reidlit", *map(str, arguments)])
        monkeypatch.setattr(sys, "path", list(sys.path))
        status = 0
        capfd.readouterr()
        try:
            cli.main()
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
            if isinstance(stop.code, str):
                sys.stderr.write(stop.code)
        captured = capfd.readouterr()
        return SimpleNamespace(status=status, out=captured.out, err=captured.err)

    return run


@pytest.fixture
def process(tmp_path, drawn):
    """Starts a command as a process of its own, in an empty folder."""

    def start(*arguments):
        return subprocess.Popen(
            [sys.executable, "-m", "reidlit", *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"REIDLIT_DATA": str(drawn), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start
