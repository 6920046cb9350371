"""When a W&B run is online, where its files lie, and which run it goes on with."""

import json
import os
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
    """Logs a loss in each case, in a process of its own: W&B remembers an account as long as the process lives."""
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
def test_a_network_is_needed_only_where_it_is_asked_for(tmp_path):
    cases = {
        "nothing": ({}, None),
        "unusable key": ({"WANDB_API_KEY": "short"}, None),
        "unusable key online": ({"WANDB_API_KEY": "short"}, False),
        "no account online": ({"WANDB_MODE": "online"}, None),
        "disabled": ({"WANDB_MODE": "disabled"}, None),
        "told": ({"WANDB_MODE": "online"}, True),
    }
    printed = log([(name, *case) for name, case in cases.items()], tmp_path).stdout
    assert "unusable key online logger.wandb.offline=false needs W&B, but WANDB_API_KEY invalid" in printed
    assert "no account online WANDB_MODE=online needs W&B, but no account is set up on this machine" in printed
    logged = {name: [column(run, "train/loss") for run in runs(tmp_path / name)] for name in cases}
    assert [name for name, found in logged.items() if found == [{3: 1.0}]] == ["nothing", "unusable key", "told"]
    assert sum(len(found) for found in logged.values()) == 3


@pytest.mark.slow
def test_an_account_without_an_answer_falls_back_to_files(tmp_path):
    account = {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    assert "W&B did not respond" in log([("run", account, None)], tmp_path).stderr
    (run,) = runs(tmp_path / "run")
    assert column(run, "train/loss") == {3: 1.0}


@pytest.mark.slow
def test_a_run_goes_on_only_where_it_should(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    begun = wandb_logger(str(tmp_path / "begun"))
    known = begun.experiment.id
    assert json.loads((tmp_path / "begun" / "wandb_run.json").read_text())["id"] == known
    begun.end()
    never_ended = wandb_logger(str(tmp_path / "never ended"))  # as after an error in a sweep
    assert never_ended.experiment.id != known
    checkpoint = {"ckpt_path": str(tmp_path / "begun" / "checkpoints" / "last.ckpt")}
    ids = {}
    for name, options in {
        "resumed": checkpoint,
        "told not to": {**checkpoint, "resume": False},
        "of another project": {**checkpoint, "project": "other"},
        "a test": {**checkpoint, "job_type": "test"},
        "new": {},
    }.items():
        logger = wandb_logger(str(tmp_path / name), **options)
        ids[name] = logger.experiment.id
        assert os.environ["WANDB_DATA_DIR"].startswith(str(tmp_path / name))
        logger.end()
    assert [name for name, found in ids.items() if found == known] == ["resumed"]
    never_ended.end()
    assert "WANDB_DATA_DIR" not in os.environ


def test_a_staging_folder_of_the_user_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "mine"))
    logger = wandb_logger(str(tmp_path / "run"))
    assert logger.experiment.offline
    logger.end()
    assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "mine")
