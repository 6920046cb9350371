"""Reading and writing of run folders."""

import json
import os
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from reidlit.runs.result import RunResult, TestResult
from reidlit.runs.run_folder import RunFolder, newest_checkpoint, read_overrides

STORED = Path(__file__).parents[1] / "files_of_0_1" / "run"  # a run of the first release


@pytest.fixture
def folder(tmp_path):
    """Run folder that contains only a configuration."""
    run = RunFolder(tmp_path / "run")
    run.save_config(OmegaConf.create({"seed": 3, "again": "${seed}"}))
    return run


def test_run_folder_of_0_1_is_read():
    run = RunFolder.open(STORED)
    metrics = json.loads((STORED / "metrics.json").read_text())
    assert run.command() == "train"
    assert run.status() == "finished"
    assert run.result().to_json() == metrics
    assert run.overrides()["trainer.max_epochs"] == str(run.config().trainer.max_epochs)
    assert "torch" in run.environment()
    steps, values = run.training_log()["train/loss"]
    assert len(steps) == len(values) > 0


def test_written_files_are_read_back(folder):
    assert (folder.status(), folder.result(), folder.error()) == ("unfinished", None, None)
    assert OmegaConf.to_container(folder.config(), resolve=False) == {"seed": 3, "again": "${seed}"}
    folder.error_file.write_text("a line\n\na traceback")
    assert (folder.status(), folder.error()) == ("failed", "a line")
    result = RunResult((TestResult("test", "x", {"mAP": 0.5}),))
    folder.save_result(result)
    assert (folder.status(), folder.result()) == ("finished", result)
    assert [name for name, _ in folder.products()] == ["metrics"]


def test_invalid_run_folders_raise(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match="run=nowhere"):
        RunFolder.open("nowhere")
    with pytest.raises(ValueError, match=r"run=.*config\.yaml"):
        RunFolder.open(tmp_path)
    for content in ("{", "[]"):
        folder.metrics_file.write_text(content)
        with pytest.raises(ValueError, match=r"metrics\.json"):
            folder.result()
    folder.settings_file.write_text("[")
    with pytest.raises(ValueError, match=r"config\.yaml"):
        folder.config()
    with pytest.raises(ValueError, match=r"hydra\.yaml"):
        folder.command()


def test_last_value_of_an_override_takes_precedence():
    assert read_overrides(["a=1", "+b.c=x=y", "a=2"]) == {"a": "2", "b.c": "x=y"}


def test_newest_checkpoint_is_found(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    for name, age in (("one", 5), ("two", 9)):
        file = RunFolder(tmp_path / name).last_checkpoint
        file.parent.mkdir(parents=True)
        file.touch()
        os.utime(file, (age, age))
    assert newest_checkpoint(tmp_path) == tmp_path / "two" / "checkpoints" / "last.ckpt"
