"""The command line itself: help, completion, users' own parts, loggers."""

import os
import subprocess
import sys

import pytest

import reidlit as package
from helpers.cli_settings import TRAIN


def complete(line, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "reidlit", "-sc", "query=bash"],
        env=os.environ | {"COMP_LINE": line, "COMP_POINT": str(len(line))} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("reidlit tr", ["train"]),
        ("reidlit train model=osnet_x1", ["model=osnet_x1_0"]),
        ("reidlit train data.ba", ["data.batch_size="]),
        ("reidlit test data=mark", ["data=market1501"]),
    ],
)
def test_completion(line, offered):
    assert complete(line) == offered


def test_commands_are_offered():
    assert set(complete("reidlit ")) >= {"train", "test", "prepare"}


def test_help_and_version(reidlit):
    printed = reidlit("--help").out
    assert all(command in printed for command in ("train", "test", "prepare"))
    assert reidlit().out == printed
    assert reidlit("--version").out.strip() == package.__version__
    assert "model:" in reidlit("train", "--help").out
    assert "osnet_x1_0" in reidlit("train", "--help").out
    assert "width: 1.0" in reidlit("train", "model=osnet_x1_0", "--cfg", "job").out


def test_a_user_adds_one_python_file_and_one_yaml(reidlit, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "class Tiny(nn.Sequential):\n"
        "    num_features = 8\n"
        "    def __init__(self, kernel=8):\n"
        "        super().__init__(nn.Conv2d(3, 8, kernel, kernel), nn.ReLU())\n"
    )
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text(
        "_target_: reidlit.models.build.assemble\n"
        "backbone: {_target_: mine.Tiny, kernel: 8}\n"
        "pool: {_target_: reidlit.models.pooling.AveragePool}\n"
        "neck: {_target_: reidlit.models.neck.NoNeck}\n"
        "classifier: {_target_: reidlit.models.classifier.LinearClassifier}\n"
    )
    result = reidlit("train", "--config-dir", ".", "model=mine", *TRAIN, "trainer.max_epochs=1")
    assert result.status == 0, result.err
    assert "test/synthetic" in result.out


@pytest.mark.slow
def test_wandb_without_an_account_writes_files_and_asks_nothing(process, tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    running = process("train", *TRAIN, "logger=wandb", "trainer.max_epochs=1", f"hydra.run.dir={tmp_path}/run")
    printed, _ = running.communicate(timeout=240)
    assert running.returncode == 0, printed
    (file,) = (tmp_path / "run").rglob("run-*.wandb")
    assert b"train/loss" in file.read_bytes()
    assert b"osnet" in file.read_bytes()
