"""What many tests share."""

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
os.environ.setdefault("OMP_NUM_THREADS", "1")  # also in the processes that tests start

LONG = ("test_notebooks.py", "test_docs.py", "tests/commands")


def pytest_collection_modifyitems(items):
    """Files that take long come first, so that at the end no core waits for one of them."""
    items.sort(key=lambda item: not any(part in item.nodeid for part in LONG))


def pytest_collection_finish():
    """What was imported stays to the end, so the garbage collector need not look through it."""
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Tests are too small for two threads, which wait long for each other on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory) -> Path:
    """A data root that all tests draw their synthetic images into once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def torchreid_model():
    """Builds a randomly initialised model of Torchreid, the oracle."""
    models = pytest.importorskip("torchreid.reid.models")

    def build(name: str, num_classes: int = 20, loss: str = "softmax", seed: int = 0):
        torch.manual_seed(seed)
        return models.build_model(name, num_classes, loss=loss, pretrained=False, use_gpu=False)

    return build


def run_here(monkeypatch, arguments) -> int:
    """Run a command in this process; returns its exit status."""
    monkeypatch.setattr(sys, "argv", ["reidlit", *map(str, arguments)])
    monkeypatch.setattr(sys, "path", list(sys.path))
    try:
        cli.main()
    except SystemExit as stop:
        if isinstance(stop.code, str):
            sys.stderr.write(stop.code)
        return stop.code if isinstance(stop.code, int) else 1
    return 0


@pytest.fixture(scope="session")
def command(drawn):
    """Runs a command in this process, for fixtures that many tests read; returns what it printed."""

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
    """The folder of a short training run that many tests read."""
    folder = tmp_path_factory.mktemp("trained")
    printed = command(folder, "train", *TRAIN, f"hydra.run.dir={folder}/run", "score_untrained=true")
    (folder / "printed.txt").write_text(printed)
    return folder / "run"


@pytest.fixture
def reidlit(monkeypatch, tmp_path, capfd, drawn):
    """Runs a command in this process, in an empty folder; gives its exit status and what it printed."""
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
    """Starts a command as a process of its own, in an empty folder."""
    if (
        signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    ):  # of a suite in the background; what it starts would inherit it
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
