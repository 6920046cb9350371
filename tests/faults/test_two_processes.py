"""Two processes with one output: the second one waits or is refused, and no result is mixed or lost."""

import zipfile

import cv2
import h5py
import numpy as np
import pytest

from helpers.datasets import loading
from helpers.lock_holder import holding, waiting_for
from reidlit import locks
from reidlit.data.archive import unpack
from reidlit.data.datasets.cuhk03 import CUHK03
from reidlit.data.pack_writer import pack, pack_once
from reidlit.data.synthetic.motion import Tracklets
from reidlit.data.synthetic.pedestrians import Pedestrians
from reidlit.engine.callbacks.checkpoint import AtomicCheckpointIO
from reidlit.inference.calibration import Calibration, store
from reidlit.inference.features import Features
from reidlit.inference.search.folder_gallery import gallery_of_folder
from reidlit.inference.search.gallery import Gallery

PEOPLE = {"num_identities": 1, "num_cameras": 2, "shots": 1, "height": 32, "width": 16}
CALIBRATION = Calibration("market1501", "euclidean", False, False, (0.1,), (0.5,))


class Extractor:
    """Extractor whose embedding of an image is its mean color."""

    fingerprint = "colors"

    def stream(self, paths):
        for number, path in enumerate(paths):
            yield range(number, number + 1), cv2.imread(path).reshape(-1, 3).mean(0, keepdims=True).astype(np.float32)


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    """Report other processes at once."""
    monkeypatch.setattr(locks, "GRACE", 0.05)


@pytest.fixture
def crops(tmp_path):
    folder = tmp_path / "crops"
    folder.mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((8, 4, 3), 40 * number, np.uint8))
    return folder


def write_archive(file):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("folder/a.jpg", b"content")
    return file


# What is locked below the folder of a test, and a function of this folder that writes it.
WAITING = {
    "index": ("crops.npz", lambda at: gallery_of_folder(at / "crops", at / "crops.npz", Extractor())),
    "gallery": ("gallery.npz", lambda at: Gallery().save(at / "gallery.npz")),
    "features": ("features.npz", lambda at: Features(np.ones((0, 4), np.float32), *np.empty((5, 0)), "abc").save(at / "features.npz")),
    "pack": ("packs/a.arrow", lambda at: pack([str(at / "crops" / "0.png")], at / "packs" / "a.arrow", at)),
    "archive": ("market1501", lambda at: unpack(write_archive(at / "a.zip"), at / "market1501")),
    "images": ("images", lambda at: (people := Pedestrians(**PEOPLE)).write(at / "images", people.keys())),
    "tracklets": ("tracklets", lambda at: (t := Tracklets(Pedestrians(**PEOPLE), 3)).write(at / "tracklets", t.keys())),
    "checkpoint": ("last.ckpt", lambda at: AtomicCheckpointIO().save_checkpoint({"x": 1}, at / "last.ckpt")),
}  # fmt: skip


@pytest.mark.parametrize("writer", WAITING)
def test_second_writer_waits(writer, tmp_path, crops, monkeypatch):
    locked, write = WAITING[writer]
    with waiting_for(tmp_path / locked, monkeypatch):
        write(tmp_path)
    assert (tmp_path / locked).exists()
    assert not list(tmp_path.rglob(".*"))
    assert len(list(crops.iterdir())) == 3


def test_images_of_cuhk03_wait(tmp_path, monkeypatch):
    release = tmp_path / "cuhk03" / "cuhk03_release"
    release.mkdir(parents=True)
    with h5py.File(release / "cuhk-03.mat", "w") as file:
        file["detected"] = np.empty((1, 0), h5py.ref_dtype)
    dataset = CUHK03(str(tmp_path), **loading())
    with waiting_for(dataset.images, monkeypatch):
        dataset.prepare_data()


def test_pack_that_another_process_has_written_is_used(tmp_path, crops, monkeypatch):
    """Both processes find no pack; the second one gets the lock when the first one has written it."""
    paths, file = sorted(map(str, crops.iterdir())), tmp_path / "a.arrow"
    real = locks.FileLock.acquire

    def acquire(self, *arguments, **options):
        monkeypatch.setattr(locks.FileLock, "acquire", real)
        pack(paths, file, crops)
        return real(self, *arguments, **options)

    monkeypatch.setattr(locks.FileLock, "acquire", acquire)
    assert not pack_once(paths, file, crops)
    assert file.is_file()


def test_leftovers_of_a_killed_writer_are_replaced(tmp_path, crops):
    """A writer that holds the lock writes to a fixed name, so that each write removes the leftover of a killed one."""
    for name in (".a.part.arrow", ".g.part.npz"):
        (tmp_path / name).write_bytes(b"half")
    pack([str(crops / "0.png")], tmp_path / "a.arrow", crops)
    Gallery().save(tmp_path / "g.npz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.arrow", "crops", "g.npz"]


def test_replaced_checkpoint_is_not_calibrated(tmp_path):
    """`reidlit test` of a checkpoint that a training replaces meanwhile must not bring the old weights back."""
    import torch

    from reidlit.files import file_version

    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {}, "global_step": 1}, path)
    tested = file_version(path)
    assert store(path, CALIBRATION, tested)
    torch.save({"state_dict": {}, "global_step": 20_000}, path)
    assert not store(path, CALIBRATION, tested)
    assert torch.load(path, weights_only=True) == {"state_dict": {}, "global_step": 20_000}


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["extract", "ckpt_path=a.ckpt", "images=crops", "output=a.npz"], "a.npz"),
        (["predict", "ckpt_path=a.ckpt", "images=crops", "output=a.csv"], "a.csv"),
        (["export", "ckpt_path=a.ckpt", "output=model"], "model"),
        (["report", "run=run", "output=a.html"], "a.html"),
    ],
)
def test_second_command_is_refused(arguments, output, reidlit, tmp_path, crops):
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    (tmp_path / "run" / ".hydra" / "config.yaml").write_text("seed: 1")
    (tmp_path / output).write_text("first")
    with holding(tmp_path / output) as holder:
        done = reidlit(*arguments)
        assert done.status == 1
        assert f"process {holder.pid} " in done.err
        assert f"output={output} " in done.err
    assert (tmp_path / output).read_text() == "first"
    assert len(list(crops.iterdir())) == 3


@pytest.mark.parametrize("command", ["train", "test", "search", "visualize", "aggregate", "profile", "doctor"])
def test_folder_of_a_running_command_is_refused_and_unchanged(command, reidlit, tmp_path):
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    (tmp_path / "run" / ".hydra" / "config.yaml").write_text("seed: 1")
    with holding(tmp_path / "run", inside=True) as holder:
        done = reidlit(command, "hydra.run.dir=run")
        assert done.status == 1
        assert f"process {holder.pid} " in done.err
        assert "hydra.run.dir=run " in done.err
    assert [path.name for path in (tmp_path / "run").iterdir() if path.name != ".lock"] == [".hydra"]
    assert [path.name for path in (tmp_path / "run" / ".hydra").iterdir()] == ["config.yaml"]
    assert (tmp_path / "run" / ".hydra" / "config.yaml").read_text() == "seed: 1"


@pytest.mark.slow
def test_folder_of_a_running_sweep_is_refused(reidlit, tmp_path):
    sweep = ["train", "-m", "seed=1,2", "data=folder", "data.root=missing", "hydra.sweep.dir=sweep"]
    assert reidlit(*sweep).status == 1  # both jobs fail
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "sweep").rglob("*") if path.is_file()}
    assert tmp_path / "sweep" / "1" / "error.txt" in before
    for arguments in (sweep, ["train", "resume_sweep=sweep"]):
        with holding(tmp_path / "sweep", inside=True) as holder:
            done = reidlit(*arguments)
            assert done.status == 1
            assert f"process {holder.pid} " in done.err
        (tmp_path / "sweep" / ".lock").unlink()
        assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "sweep").rglob("*") if path.is_file()}
    with holding(tmp_path / "sweep" / "1", inside=True) as holder:  # a run, not a sweep
        done = reidlit(*sweep)
        assert done.status == 1
        assert f"process {holder.pid} " in done.err
