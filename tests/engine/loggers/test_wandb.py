"""W&B logger: online and offline modes, location of its files, and resumed runs."""

import json
import os
import re
import subprocess
import sys

import pytest

from helpers.wandb_files import clean, column, runs
from reidlit.engine.loggers.factory import wandb_logger

LOG = """
import os, sys
from reidlit.engine.loggers import wandb as wandb_run
from reidlit import cli
from reidlit.engine.loggers.factory import wandb_logger
wandb_run.PATIENCE = 1.0
for folder, environment, offline in {cases}:
    os.environ.update(environment)
    logger = wandb_logger(folder, offline=offline)
    try:
        logger.log_metrics({{"train/loss": 1.0}}, 3)
        logger.end()
    except ValueError as error:
        print(folder, error)
    for name in environment:
        del os.environ[name]
"""


def log(cases, folder):
    """Log a loss in each case, in a new process, because W&B caches the account within a process."""
    return subprocess.run(
        [sys.executable, "-c", LOG.format(cases=cases)],
        cwd=folder,
        env=clean(folder, os.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.mark.slow
def test_run_is_offline_unless_online_is_required(tmp_path):
    cases = {
        "default": ({}, None),
        "invalid key": ({"WANDB_API_KEY": "short"}, None),
        "invalid key online": ({"WANDB_API_KEY": "short"}, False),
        "no account online": ({"WANDB_MODE": "online"}, None),
        "disabled": ({"WANDB_MODE": "disabled"}, None),
        "offline=true": ({"WANDB_MODE": "online"}, True),
    }
    printed = log([(name, *case) for name, case in cases.items()], tmp_path).stdout
    assert re.search(r"^invalid key online logger\.wandb\.offline=false .*WANDB_API_KEY", printed, re.MULTILINE)
    assert re.search(r"^no account online WANDB_MODE=online .*wandb login", printed, re.MULTILINE)
    logged = {name: [column(run, "train/loss") for run in runs(tmp_path / name)] for name in cases}
    assert [name for name, rows in logged.items() if rows == [{3: 1.0}]] == ["default", "invalid key", "offline=true"]
    assert sum(len(rows) for rows in logged.values()) == 3


@pytest.mark.slow
def test_unresponsive_server_falls_back_to_files(tmp_path):
    account = {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    assert "logger.wandb.offline=true" in log([("run", account, None)], tmp_path).stderr
    (run,) = runs(tmp_path / "run")
    assert column(run, "train/loss") == {3: 1.0}


@pytest.mark.slow
def test_only_resumed_training_continues_a_run(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    first = wandb_logger(str(tmp_path / "first"))
    first_id = first.experiment.id
    assert json.loads((tmp_path / "first" / "wandb_run.json").read_text())["id"] == first_id
    first.end()
    never_ended = wandb_logger(str(tmp_path / "never ended"))  # as after an error in a sweep
    assert never_ended.experiment.id != first_id
    checkpoint = {"ckpt_path": str(tmp_path / "first" / "checkpoints" / "last.ckpt")}
    ids = {}
    for name, options in {
        "resumed": checkpoint,
        "resume=false": {**checkpoint, "resume": False},
        "another project": {**checkpoint, "project": "other"},
        "test": {**checkpoint, "job_type": "test"},
        "new": {},
    }.items():
        logger = wandb_logger(str(tmp_path / name), **options)
        ids[name] = logger.experiment.id
        assert os.environ["WANDB_DATA_DIR"].startswith(str(tmp_path / name))
        logger.end()
    assert [name for name, run_id in ids.items() if run_id == first_id] == ["resumed"]
    never_ended.end()
    assert "WANDB_DATA_DIR" not in os.environ


def test_staging_folder_of_the_user_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "user"))
    logger = wandb_logger(str(tmp_path / "run"))
    assert logger.experiment.offline
    logger.end()
    assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "user")
