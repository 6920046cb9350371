"""Sweeps by each launcher and sweeper: failed jobs, cut ones, and what is left."""

import csv
import json
import signal
import time
from importlib.util import find_spec

import pytest
from omegaconf import OmegaConf

from helpers.cli_settings import TRAIN
from helpers.nested import flat

ONCE = [*TRAIN, "trainer.max_epochs=1", "logger=csv", "callbacks.ranked_lists=null"]


def rows(folder):
    with (folder / "summary.csv").open() as file:
        return {row["job"]: row for row in csv.DictReader(file)}


def settings(folder):
    return dict(item.split("=", 1) for item in OmegaConf.load(folder / ".hydra" / "overrides.yaml"))


@pytest.mark.slow
def test_a_failed_job_leaves_the_others_alone_and_a_sweep_is_gone_on_with(reidlit, tmp_path):
    sweep = tmp_path / "sweep"
    result = reidlit("train", "-m", *ONCE, "optimizer.lr=abc,0.001", "seed=1", f"hydra.sweep.dir={sweep}")
    assert result.status == 1
    assert "1 of 2 jobs did not finish" in result.err
    assert f"reidlit train resume_sweep={sweep}" in result.err
    assert (sweep / "0" / "error.txt").read_text().splitlines()[0].startswith("torch.optim.Adam does not take")
    assert "Traceback" in (sweep / "0" / "error.txt").read_text()
    for file in (".hydra/config.yaml", "metrics.json", "checkpoints/last.ckpt"):
        assert (sweep / "1" / file).is_file()
    found = rows(sweep)
    metrics = json.loads((sweep / "1" / "metrics.json").read_text())
    assert list(found) == ["1", "0"]  # the best first
    assert float(found["1"]["test/synthetic/mAP"]) == metrics["test/synthetic/mAP"]
    assert (found["0"]["status"], found["0"]["optimizer.lr"]) == ("failed", "abc")
    assert "seed" not in found["0"]  # which does not vary
    assert f"{100 * metrics['test/synthetic/mAP']:.2f}" in result.out

    # Gone on with: what has finished is not touched, what has failed is tried again.
    (sweep / "1" / "metrics.json").write_text(json.dumps({"test/synthetic/mAP": 0.98765}))
    result = reidlit("train", f"resume_sweep={sweep}")
    assert result.status == 1
    assert f"{sweep}/1 has finished before" in result.out
    assert rows(sweep)["1"]["test/synthetic/mAP"] == "0.98765"
    assert "98.77" in result.out

    # A job without metrics goes on from its checkpoint, by the same command in the same folder too.
    (sweep / "1" / "metrics.json").unlink()
    result = reidlit("train", "-m", *ONCE, "optimizer.lr=abc,0.001", "seed=1", f"hydra.sweep.dir={sweep}")
    assert f"resuming {sweep}/1/checkpoints/last.ckpt" in result.out
    assert flat(json.loads((sweep / "1" / "metrics.json").read_text())) == pytest.approx(flat(metrics))

    # Other jobs would have the same numbers.
    result = reidlit("train", "-m", *ONCE, "optimizer.lr=0.002,0.001", "seed=1", f"hydra.sweep.dir={sweep}")
    assert result.status == 1
    assert f"hydra.sweep.dir={sweep} contains the sweep `reidlit train -m data.num_identities=12" in result.err
    assert settings(sweep / "0")["optimizer.lr"] == "abc"


@pytest.mark.slow
def test_a_killed_sweep_is_gone_on_with(process, reidlit, tmp_path):
    sweep = tmp_path / "it's a sweep"
    killed = process("train", "-m", *ONCE, "seed=1,2", r"hydra.sweep.dir='it\'s a sweep'")
    while not (sweep / "0" / "metrics.json").is_file():
        assert killed.poll() is None, killed.communicate()[0]
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (sweep / "1" / "metrics.json").exists(), "the sweep ended before it was killed"
    before = (sweep / "0" / "metrics.json").read_bytes()
    result = reidlit("train", "resume_sweep=it's a sweep")
    assert result.status == 0, result.err
    assert (sweep / "0" / "metrics.json").read_bytes() == before
    assert [row["status"] for row in rows(sweep).values()] == ["finished"] * 2
    assert f"reidlit aggregate {sweep.name}" in result.out


STOPPER = """
import os
import signal
import pytorch_lightning as pl

class Stopper(pl.Callback):
    def on_train_start(self, trainer, pl_module):
        os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("DataLoader worker is killed by signal: Terminated.")
"""


def test_sigterm_ends_the_sweep_and_is_no_failure_of_a_job(reidlit, tmp_path):
    """A scheduler sends it to all processes, so that a job may see its loaders die first."""
    (tmp_path / "stopper.py").write_text(STOPPER)
    run = [*ONCE, "+callbacks.stopper._target_=stopper.Stopper", "seed=1,2", "hydra.sweep.dir=sweep"]
    assert reidlit("train", "-m", *run).status == 128 + signal.SIGTERM
    assert (tmp_path / "sweep" / "0" / ".hydra").is_dir()
    assert not (tmp_path / "sweep" / "0" / "error.txt").exists()
    assert not (tmp_path / "sweep" / "1").exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.slow
def test_joblib_runs_jobs_beside_each_other(reidlit, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    sweep = tmp_path / "sweep"
    parallel = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", f"hydra.sweep.dir={sweep}"]
    result = reidlit("train", "-m", *ONCE, "test=false", *parallel, "optimizer.lr=abc,0.001")
    assert result.status == 1
    assert "1 of 2 jobs did not finish" in result.err
    assert {name: row["status"] for name, row in rows(sweep).items()} == {"0": "failed", "1": "finished"}
    assert (sweep / "1" / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.slow
def test_submitit_runs_jobs_by_itself(reidlit, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    sweep = tmp_path / "sweep"
    result = reidlit("train", "-m", *ONCE, "hydra/launcher=submitit_local", f"hydra.sweep.dir={sweep}")
    assert result.status == 0, result.err
    (job,) = rows(sweep).values()
    assert job["status"] == "finished"
    assert 0 < float(job["test/synthetic/mAP"]) <= 1
    assert (sweep / "0" / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("optuna"), reason="needs reidlit[sweep]")
def test_optuna_searches_and_goes_on(reidlit, tmp_path):
    import optuna
    from optuna.storages.journal import JournalFileBackend

    sweep = tmp_path / "sweep"
    run = ["hydra/sweeper=optuna", f"hydra.sweep.dir={sweep}", "optimizer.lr=tag(log,interval(1e-5,1e-2))"]
    run += [*ONCE, "loss=softmax,triplet", "data.batch_size=range(4,13,4)"]
    result = reidlit("train", "-m", *run, "hydra.sweeper.n_trials=1")
    assert result.status == 0, result.err
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(sweep / "optuna.log")))
    study = optuna.load_study(study_name="reidlit", storage=storage)
    (first,) = study.trials
    metrics = json.loads((sweep / "0" / "metrics.json").read_text())
    assert first.value == metrics["test/synthetic/mAP"]
    assert {name: str(value) for name, value in first.params.items()}.items() <= settings(sweep / "0").items()
    assert 1e-5 <= first.params["optimizer.lr"] <= 1e-2
    assert first.params["data.batch_size"] in (4, 8, 12)

    cut = study.ask(first.distributions)  # and never told a score
    before = (sweep / "0" / "metrics.json").stat().st_mtime_ns
    result = reidlit("train", f"resume_sweep={sweep}", "hydra.sweeper.n_trials=2")
    assert result.status == 0, result.err
    assert (sweep / "0" / "metrics.json").stat().st_mtime_ns == before
    assert settings(sweep / "1")["optimizer.lr"] == str(cut.params["optimizer.lr"])
    study = optuna.load_study(study_name="reidlit", storage=storage)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 2
    assert study.trials[1].params == cut.params != first.params
    assert next(iter(rows(sweep))) == str(study.best_trial.number)


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("optuna"), reason="needs reidlit[sweep]")
def test_a_failed_trial_is_left_out_of_the_search(reidlit, tmp_path):
    import optuna
    from optuna.storages.journal import JournalFileBackend

    run = ["hydra/sweeper=optuna", f"hydra.sweep.dir={tmp_path}/sweep", *ONCE, "seed=x,y", "hydra.sweeper.n_trials=2"]
    result = reidlit("train", "-m", *run, "hydra.sweeper.n_jobs=2")
    assert result.status == 1
    assert "2 of 2 jobs did not finish" in result.err
    assert "The search has gone on without them" in result.err
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / "sweep" / "optuna.log")))
    study = optuna.load_study(study_name="reidlit", storage=storage)
    assert [trial.state.name for trial in study.trials] == ["FAIL"] * 2


# --- bad input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "resume_sweep=nowhere"], "resume_sweep=nowhere: there is no multirun.yaml in it"),
        (["test", "resume_sweep=other"], "resume_sweep=other"),
        (["train", "-m", "seed=1,2", "hydra.sweep.dir=runs"], "hydra.sweep.dir=runs"),
        (["train", "-m", "hydra/sweeper=optuna", "seed=1"], "hydra/sweeper=optuna has no setting to search"),
        (["train", "-m", "hydra/sweeper=optuna", "seed=1,2", "hydra.sweeper.n_jobs=0"], "n_jobs=0 must be at least 1"),
        (["train", "-m", "hydra/sweeper=optuna", "seed=1,2", "hydra.sweep.dir=lost"], "their optuna.log is lost"),
    ],
)
def test_bad_arguments(arguments, words, reidlit, tmp_path):
    if "hydra/sweeper=optuna" in arguments:
        pytest.importorskip("optuna")
    (tmp_path / "runs" / "0" / ".hydra").mkdir(parents=True)
    (tmp_path / "lost" / "0").mkdir(parents=True)
    (tmp_path / "lost" / "0" / "metrics.json").write_text("{}")
    (tmp_path / "other").mkdir()
    sweeper = {"_target_": "x.BasicSweeper", "params": None}
    told = {"job": {"config_name": "train"}, "overrides": {"task": [], "hydra": []}, "sweeper": sweeper}
    OmegaConf.save({"hydra": told}, tmp_path / "other" / "multirun.yaml")
    result = reidlit(*arguments)
    assert result.status == 1
    assert words in result.err
    assert "Traceback" not in result.err
