"""Shared fixtures."""

import gc
import io
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from helpers.cli_settings import TRAIN
from reidlit import cli

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # also for processes that tests start

SLOW_FILES = ("test_notebooks.py", "test_docs.py", "tests/commands")


def pytest_collection_modifyitems(items):
    """Run slow files first, so that no core waits for one of them at the end."""
    items.sort(key=lambda item: not any(name in item.nodeid for name in SLOW_FILES))


def pytest_collection_finish():
    """Exclude imported modules from garbage collection, because they live until the end."""
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Use one thread: tests are small, and several threads wait for each other on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory) -> Path:
    """Data root with synthetic images, which all tests share."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def torchreid_model():
    """Function that builds a randomly initialized Torchreid model as a reference."""
    models = pytest.importorskip("torchreid.reid.models")

    def build(name: str, num_classes: int = 20, loss: str = "softmax", seed: int = 0):
        torch.manual_seed(seed)
        return models.build_model(name, num_classes, loss=loss, pretrained=False, use_gpu=False)

    return build


def run_here(monkeypatch, arguments) -> int:
    """Run a command in this process and return its exit status."""
    monkeypatch.setattr(sys, "argv", ["reidlit", *map(str, arguments)])
    monkeypatch.setattr(sys, "path", list(sys.path))
    try:
        cli.main()
    except SystemExit as error:
        if isinstance(error.code, str):
            sys.stderr.write(error.code)
        return error.code if isinstance(error.code, int) else 1
    return 0


@pytest.fixture(scope="session")
def command(drawn):
    """Function that runs a command in this process and returns its output, for session fixtures."""

    def run(folder, *arguments):
        printed = io.StringIO()
        with pytest.MonkeyPatch.context() as monkeypatch, redirect_stdout(printed), redirect_stderr(printed):
            monkeypatch.chdir(folder)
            monkeypatch.setenv("REIDLIT_DATA", str(drawn))
            status = run_here(monkeypatch, arguments)
        assert status == 0, printed.getvalue()
        return printed.getvalue()

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory, command) -> Path:
    """Folder of a short training run that many tests read."""
    folder = tmp_path_factory.mktemp("trained")
    printed = command(folder, "train", *TRAIN, f"hydra.run.dir={folder}/run", "score_untrained=true")
    (folder / "printed.txt").write_text(printed)
    return folder / "run"


@pytest.fixture
def reidlit(monkeypatch, tmp_path, capfd, drawn):
    """Function that runs a command in this process, in an empty folder, and returns its exit status and output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REIDLIT_DATA", str(drawn))
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def run(*arguments):
        capfd.readouterr()
        status = run_here(monkeypatch, arguments)
        captured = capfd.readouterr()
        return SimpleNamespace(status=status, out=captured.out, err=captured.err)

    return run


@pytest.fixture
def process(tmp_path, drawn):
    """Function that starts a command in a separate process, in an empty folder."""
    # A test suite in the background ignores SIGINT, which child processes would inherit.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)

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
