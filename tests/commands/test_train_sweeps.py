"""Sweeps with each launcher and sweeper: failed and interrupted jobs, resuming, and the summary."""

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
def test_failed_job_does_not_stop_sweep_and_sweep_resumes(reidlit, tmp_path):
    sweep = tmp_path / "sweep"
    result = reidlit("train", "-m", *ONCE, "optimizer.lr=abc,0.001", "seed=1", f"hydra.sweep.dir={sweep}")
    assert result.status == 1
    assert "1 of 2 jobs" in result.err
    assert f"reidlit train resume_sweep={sweep}" in result.err
    assert (sweep / "0" / "error.txt").read_text().splitlines()[0].startswith("torch.optim.Adam")
    assert "Traceback" in (sweep / "0" / "error.txt").read_text()
    for file in (".hydra/config.yaml", "metrics.json", "checkpoints/last.ckpt"):
        assert (sweep / "1" / file).is_file()
    found = rows(sweep)
    metrics = json.loads((sweep / "1" / "metrics.json").read_text())
    assert list(found) == ["1", "0"]  # best first
    assert float(found["1"]["test/synthetic/mAP"]) == metrics["test/synthetic/mAP"]
    assert (found["0"]["status"], found["0"]["optimizer.lr"]) == ("failed", "abc")
    assert "seed" not in found["0"]  # the seed does not vary
    assert f"{100 * metrics['test/synthetic/mAP']:.2f}" in result.out

    # Resuming the sweep skips the finished job and repeats the failed one.
    (sweep / "1" / "metrics.json").write_text(json.dumps({"test/synthetic/mAP": 0.98765}))
    result = reidlit("train", f"resume_sweep={sweep}")
    assert result.status == 1
    assert f"{sweep}/1 " in result.out
    assert rows(sweep)["1"]["test/synthetic/mAP"] == "0.98765"
    assert "98.77" in result.out

    # A job without metrics resumes from its checkpoint, also if the original command is repeated.
    (sweep / "1" / "metrics.json").unlink()
    result = reidlit("train", "-m", *ONCE, "optimizer.lr=abc,0.001", "seed=1", f"hydra.sweep.dir={sweep}")
    assert f"{sweep}/1/checkpoints/last.ckpt" in result.out
    assert flat(json.loads((sweep / "1" / "metrics.json").read_text())) == pytest.approx(flat(metrics))

    # The jobs of another sweep would have the same numbers, so the folder is refused.
    result = reidlit("train", "-m", *ONCE, "optimizer.lr=0.002,0.001", "seed=1", f"hydra.sweep.dir={sweep}")
    assert result.status == 1
    assert all(text in result.err for text in (f"hydra.sweep.dir={sweep}", "reidlit train -m data.num_identities=12"))
    assert settings(sweep / "0")["optimizer.lr"] == "abc"


@pytest.mark.slow
def test_killed_sweep_resumes(process, reidlit, tmp_path):
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


def test_sigterm_ends_sweep_without_failing_the_job(reidlit, tmp_path):
    """A scheduler signals all processes, so that a job may see its DataLoader workers exit first."""
    (tmp_path / "stopper.py").write_text(STOPPER)
    run = [*ONCE, "+callbacks.stopper._target_=stopper.Stopper", "seed=1,2", "hydra.sweep.dir=sweep"]
    assert reidlit("train", "-m", "--config-dir", ".", *run).status == 128 + signal.SIGTERM
    assert (tmp_path / "sweep" / "0" / ".hydra").is_dir()
    assert not (tmp_path / "sweep" / "0" / "error.txt").exists()
    assert not (tmp_path / "sweep" / "1").exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.slow
def test_joblib_runs_jobs_in_parallel(reidlit, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    sweep = tmp_path / "sweep"
    parallel = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", f"hydra.sweep.dir={sweep}"]
    result = reidlit("train", "-m", *ONCE, "test=false", *parallel, "optimizer.lr=abc,0.001")
    assert result.status == 1
    assert "1 of 2 jobs" in result.err
    assert {name: row["status"] for name, row in rows(sweep).items()} == {"0": "failed", "1": "finished"}
    assert (sweep / "1" / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.slow
def test_submitit_runs_jobs(reidlit, tmp_path):
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
def test_optuna_search_resumes(reidlit, tmp_path):
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

    interrupted = study.ask(first.distributions)  # a trial that never reports a score
    before = (sweep / "0" / "metrics.json").stat().st_mtime_ns
    result = reidlit("train", f"resume_sweep={sweep}", "hydra.sweeper.n_trials=2")
    assert result.status == 0, result.err
    assert (sweep / "0" / "metrics.json").stat().st_mtime_ns == before
    assert settings(sweep / "1")["optimizer.lr"] == str(interrupted.params["optimizer.lr"])
    study = optuna.load_study(study_name="reidlit", storage=storage)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 2
    assert study.trials[1].params == interrupted.params != first.params
    assert next(iter(rows(sweep))) == str(study.best_trial.number)


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("optuna"), reason="needs reidlit[sweep]")
def test_failed_trial_is_ignored_by_the_search(reidlit, tmp_path):
    import optuna
    from optuna.storages.journal import JournalFileBackend

    run = ["hydra/sweeper=optuna", f"hydra.sweep.dir={tmp_path}/sweep", *ONCE, "seed=x,y", "hydra.sweeper.n_trials=2"]
    result = reidlit("train", "-m", *run, "hydra.sweeper.n_jobs=2")
    assert result.status == 1
    assert "2 of 2 jobs" in result.err
    assert "resume_sweep=" not in result.err  # the search does not repeat failed trials
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / "sweep" / "optuna.log")))
    study = optuna.load_study(study_name="reidlit", storage=storage)
    assert [trial.state.name for trial in study.trials] == ["FAIL"] * 2


# --- invalid input


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "resume_sweep=nowhere"], "resume_sweep=nowhere"),
        (["test", "resume_sweep=other"], "resume_sweep=other"),
        (["train", "-m", "seed=1,2", "hydra.sweep.dir=runs"], "hydra.sweep.dir=runs"),
        (["train", "-m", "hydra/sweeper=optuna", "seed=1"], "hydra/sweeper=optuna"),
        (["train", "-m", "hydra/sweeper=optuna", "seed=1,2", "hydra.sweeper.n_jobs=0"], "n_jobs=0"),
        (["train", "-m", "hydra/sweeper=optuna", "seed=1,2", "hydra.sweep.dir=lost"], "optuna.log"),
    ],
)
def test_invalid_arguments_are_named(arguments, expected, reidlit, tmp_path):
    if "hydra/sweeper=optuna" in arguments:
        pytest.importorskip("optuna")
    (tmp_path / "runs" / "0" / ".hydra").mkdir(parents=True)
    (tmp_path / "lost" / "0").mkdir(parents=True)
    (tmp_path / "lost" / "0" / "metrics.json").write_text("{}")
    (tmp_path / "other").mkdir()
    sweeper = {"_target_": "x.BasicSweeper", "params": None}
    hydra = {"job": {"config_name": "train"}, "overrides": {"task": [], "hydra": []}, "sweeper": sweeper}
    OmegaConf.save({"hydra": hydra}, tmp_path / "other" / "multirun.yaml")
    result = reidlit(*arguments)
    assert result.status == 1
    assert expected in result.err
    assert "Traceback" not in result.err
