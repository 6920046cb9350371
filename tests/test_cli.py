"""The command line: help, completion, custom models, loggers."""

import os
import subprocess
import sys

import pytest

import reidlit as package
from helpers.cli_settings import TRAIN
from reidlit.cli import COMMANDS


def complete(line, **environment):
    result = subprocess.run(
        [sys.executable, "-m", "reidlit", "-sc", "query=bash"],
        env=os.environ | {"COMP_LINE": line, "COMP_POINT": str(len(line))} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stdout.split()


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("reidlit tr", ["train"]),
        ("reidlit train model=osnet_x1", ["model=osnet_x1_0"]),
        ("reidlit train data.ba", ["data.batch_size="]),
        ("reidlit test data=mark", ["data=market1501"]),
    ],
)
def test_completion(line, completions):
    assert complete(line) == completions


def test_commands_are_completed():
    assert set(complete("reidlit ")) == set(COMMANDS)


def test_overview_and_version(reidlit):
    page = reidlit("--help").out
    assert all(f"  {command} " in page for command in COMMANDS)
    assert reidlit().out == reidlit("help").out == reidlit("-h").out == page
    assert reidlit("--version").out.strip() == package.__version__


def test_help_of_a_command(reidlit):
    page = reidlit("train", "--help").out
    assert "model=osnet_x0_25" in page
    assert "seed=1" in page
    assert reidlit("train", "-h").out == reidlit("help", "train").out == reidlit("--help", "train").out == page
    assert "  model=resnet50 " in reidlit("train", "model=resnet50", "--help").out
    assert "images" in reidlit("verify", "a.jpg", "b.jpg", "--help").out


def test_help_of_groups_choices_and_options(reidlit, tmp_path):
    assert "osnet_x1_0" in reidlit("train", "--help", "model").out
    page = reidlit("train", "--help", "data=market1501").out
    assert "data.market1501_500k=false" in page
    assert reidlit("train", "-h", "data", "market1501").out == page
    assert "optimizer.lr=0.05" in reidlit("train", "optimizer=sgd", "-m", "--help", "optimizer.lr").out
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("# My model\nsize: 3  # Size\n")
    for flag in ("--config-dir", "-cd"):
        assert "My model" in reidlit("train", flag, str(tmp_path), "--help", "model").out


def test_help_of_an_unknown_topic_fails(reidlit):
    result = reidlit("train", "--help", "model=osnet_x2_0")
    assert result.status == 1
    assert "model=osnet_x2_0" in result.err
    assert "osnet_x1_0" in result.err
    assert len(result.err.strip().splitlines()) == 1


def test_hydra_pages_and_resolved_configuration(reidlit):
    assert "osnet_x1_0" in reidlit("train", "--help-all").out
    assert "--multirun" in reidlit("train", "--hydra-help").out
    assert "width: 1.0" in reidlit("train", "model=osnet_x1_0", "--cfg", "job").out


def test_help_does_not_import_hydra():
    code = (
        "import sys; from reidlit.cli import main; sys.argv = ['reidlit', 'train', '--help', 'model']; main(); "
        "print([name for name in ('hydra', 'omegaconf', 'torch', 'numpy') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.endswith("[]\n")


def test_unknown_command_suggests_similar_ones(reidlit):
    result = reidlit("serch")
    assert result.status == 1
    assert "'serch'" in result.err
    assert " search" in result.err


def test_custom_model_needs_one_python_file_and_one_yaml(reidlit, tmp_path):
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


def test_modules_in_the_current_folder_shadow_nothing(process, tmp_path):
    for name in ("rich", "cv2", "numpy", "torch", "hydra"):
        (tmp_path / f"{name}.py").write_text("open('executed', 'w')")
    doctor = process("doctor", "--config-dir", ".", "data=folder", "data.root=.")
    printed, _ = doctor.communicate(timeout=120)
    assert doctor.returncode == 1
    assert "Traceback" not in printed
    assert not (tmp_path / "executed").exists()


def test_custom_modules_are_found_from_any_folder(reidlit, tmp_path, monkeypatch):
    own = tmp_path / "own"
    (own / "loss").mkdir(parents=True)
    (own / "own_entropy.py").write_text("from reidlit.losses import CrossEntropy as Entropy")
    loss = "losses: {softmax: {_target_: own_entropy.Entropy}}"
    (own / "loss" / "mine.yaml").write_text(loss)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = ["train", *TRAIN, "loss=mine", "trainer.max_epochs=1", "test=false", "logger=csv"]
    assert reidlit(*run, "--config-dir", own).status == 0
    monkeypatch.delitem(sys.modules, "own_entropy")
    assert reidlit(*run, f"--config-dir={own}").status == 0


@pytest.mark.slow
def test_wandb_without_an_account_works_offline(process, tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    running = process("train", *TRAIN, "logger=wandb", "trainer.max_epochs=1", f"hydra.run.dir={tmp_path}/run")
    output, _ = running.communicate(timeout=240)
    assert running.returncode == 0, output
    (file,) = (tmp_path / "run").rglob("run-*.wandb")
    assert b"train/loss" in file.read_bytes()
    assert b"osnet" in file.read_bytes()


def test_flag_between_overrides(reidlit, tmp_path):
    result = reidlit("train", "seed=3", "--config-dir", tmp_path, "optimizer.lr=0.5", "--cfg", "job", "data.width=32")
    assert result.status == 0, result.err
    assert "seed: 3" in result.out
    assert "lr: 0.5" in result.out
