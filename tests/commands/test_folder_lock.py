"""Default run folders of runs that start in the same second, and ranks that share a folder."""

import pytest
from omegaconf import OmegaConf

from helpers.lock_holder import holding
from reidlit import locks
from reidlit.commands._folder_lock import FolderLock, folders_released


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Function that starts a run at a fixed time and returns its folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locks, "GRACE", 0.05)
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    OmegaConf.register_new_resolver("now", lambda _: "12-00-00", replace=True)

    def start(folder="runs/train/${now:%H-%M-%S}"):
        config = OmegaConf.create({"hydra": {"run": {"dir": folder}, "job": {"config_name": "train"}}})
        OmegaConf.set_readonly(config.hydra, True)
        FolderLock().on_run_start(config)
        return config.hydra.run.dir

    with folders_released():
        yield start


def test_runs_of_one_second_get_separate_folders(started, tmp_path):
    names = ["12-00-00", "12-00-00_2", "12-00-00_3"]
    assert [started() for _ in range(3)] == [f"runs/train/{name}" for name in names]
    assert sorted(path.name for path in (tmp_path / "runs" / "train").iterdir()) == names


def test_given_folder_is_kept(started, tmp_path):
    (tmp_path / "run").mkdir()
    assert started("run") == "run"


def test_only_the_main_process_locks_the_folder(started, tmp_path, monkeypatch):
    with holding(tmp_path / "run", inside=True) as holder:
        monkeypatch.setenv("LOCAL_RANK", "1")
        assert started("run") == "run"
        monkeypatch.setenv("LOCAL_RANK", "0")
        with pytest.raises(SystemExit, match=f"process {holder.pid} "):
            started("run")


def test_rank_of_another_launcher_keeps_the_default_folder(started, tmp_path, monkeypatch):
    """The other rank may have created it."""
    (tmp_path / "runs" / "train" / "12-00-00").mkdir(parents=True)
    monkeypatch.setenv("RANK", "0")
    assert started() == "runs/train/12-00-00"
