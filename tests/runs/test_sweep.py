"""Sweep folders, which may come from strangers."""

import pytest
import yaml

from reidlit.runs.sweep import resumed_arguments


def write_sweep(folder, task=(), hydra=(), command="train"):
    config = {
        "overrides": {"task": list(task), "hydra": list(hydra)},
        "job": {"config_name": command},
        "sweeper": {"_target_": "hydra._internal.BasicSweeper", "params": None},
    }
    folder.mkdir(exist_ok=True)
    (folder / "multirun.yaml").write_text(yaml.safe_dump({"hydra": config}))
    return f"resume_sweep={folder}"


def test_arguments_of_the_sweep_come_before_new_ones(tmp_path):
    task = ["seed=1,2", "+loss.starts.triplet=10", "~logger", "data.root=${oc.root}/x", "model/pool@model.pool=gem"]
    resume = write_sweep(tmp_path / "sweep", task, ["hydra.mode=MULTIRUN", "hydra/launcher=joblib"])
    arguments = resumed_arguments("train", [resume, "hydra/launcher=basic", "trainer=cpu"])
    assert arguments == ["-m", *task, "hydra/launcher=basic", "trainer=cpu", f"hydra.sweep.dir={tmp_path}/sweep"]


HOSTILE = [
    "+callbacks.x={_target_: joblib.load, filename: x}",
    "+callbacks.x._target_=numpy.load",
    "model._target_=torch.hub.load",
    "data.root=${oc.env:SECRET}",
    "++trainer.logger.x={'_target_':'os.system'}",
    "--config-dir=/tmp/x",
    "-cd",
    "hydra.callbacks.x.path=x",
    "hydra.launcher.setup=[touch x]",
    "hydra.job_logging.handlers.x.class=os.system",
    "hydra.searchpath=[file:///tmp/x]",
    "+hydra.job.env_set.PATH=x",
    {"_target_": "os.system"},
]


@pytest.mark.parametrize("place", ["task", "hydra"])
@pytest.mark.parametrize("override", HOSTILE, ids=str)
def test_override_that_could_run_code_is_refused(tmp_path, override, place):
    resume = write_sweep(tmp_path / "sweep", **{place: ["seed=1,2", override]})
    with pytest.raises(ValueError, match=r"multirun\.yaml"):
        resumed_arguments("train", [resume])


def test_override_repeated_by_the_user_is_accepted(tmp_path):
    resume = write_sweep(tmp_path / "sweep", ["seed=1,2", "loss.losses.mine._target_=mine.Loss"])
    repeated = "loss.losses.mine._target_=mine.Loss"
    assert repeated in resumed_arguments("train", [resume, repeated])


@pytest.mark.parametrize(
    "content", ["", "[]", "hydra: 3", "a: [", "hydra: {job: {}}", "x: &a [*a]", "!!python/name:os.system"]
)
def test_damaged_file_is_named(tmp_path, content):
    (tmp_path / "multirun.yaml").write_text(content)
    with pytest.raises(ValueError, match=r"multirun\.yaml"):
        resumed_arguments("train", [f"resume_sweep={tmp_path}"])
