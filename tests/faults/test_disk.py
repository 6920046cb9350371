"""Full and read-only disks: existing files stay intact, and the message gives a remedy."""

import os
import subprocess
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.cli_settings import TRAIN
from helpers.datasets import draw, loading
from reidlit.data.datasets.folder import Folder
from reidlit.data.pack_writer import pack
from reidlit.data.sample import Sample
from reidlit.engine.callbacks.checkpoint import AtomicCheckpointIO
from reidlit.inference.features import Features, of_samples
from reidlit.inference.search.gallery import Gallery


def gallery_of(count):
    gallery = Gallery()
    gallery.add(np.ones((count, 512), np.float32))
    return gallery


def features_of(count):
    about = of_samples([Sample(f"{number}.jpg", 0, 0) for number in range(count)], "query")
    return Features(np.ones((count, 512), np.float32), **about, fingerprint="abc")


def images(folder, count):
    noise = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(noise.integers(0, 256, (32, 16, 3), np.uint8)).save(folder / f"{number}.bmp")
    return sorted(str(path) for path in folder.glob("*.bmp"))


WRITERS = {
    "checkpoint": ("last.ckpt", lambda path, n: AtomicCheckpointIO().save_checkpoint({"x": torch.zeros(n, 512)}, path)),
    "gallery": ("gallery.npz", lambda path, n: gallery_of(n).save(path)),
    "features": ("features.npz", lambda path, n: features_of(n).save(path)),
    "pack": (
        "pack.arrow",
        lambda path, n: pack(images(path.parents[1] / f"images{n}", n), path, path.parent),
    ),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_full_disk_keeps_the_old_file(writer, small_disk):
    """Ten rows fit into a megabyte and two thousand do not; afterwards a small file can be written again."""
    disk = small_disk(1)
    name, write = WRITERS[writer]
    write(disk / name, 10)
    old = (disk / name).read_bytes()
    with pytest.raises((OSError, ValueError), match=rf"No space left|{name}"):
        write(disk / name, 2000)
    assert (disk / name).read_bytes() == old
    assert [path.name for path in disk.iterdir()] == [name]
    write(disk / name, 11)
    assert (disk / name).read_bytes() != old


@pytest.mark.slow
def test_training_on_full_disk_stops_with_one_message_and_resumes(reidlit, small_disk, tmp_path):
    disk = small_disk(12)
    run = [*TRAIN, "logger=csv", "callbacks.ranked_lists=null", "test=false", "scheduler=constant"]
    run.append(f"hydra.run.dir={disk}/run")
    assert reidlit("train", *run, "trainer.max_epochs=1").status == 0
    last = disk / "run" / "checkpoints" / "last.ckpt"
    old = last.read_bytes()
    free = os.statvfs(disk)
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(free.f_bavail * free.f_frsize - len(old) // 2))
    full = reidlit("train", *run, "ckpt_path=last", "trainer.max_epochs=2")
    assert full.status == 1
    assert "Traceback" not in full.err
    assert all(text in full.err for text in ("last.ckpt", "No space left", "ckpt_path=last"))
    assert last.read_bytes() == old
    assert not list(disk.rglob("*.part"))
    ballast.unlink()
    done = reidlit("train", *run, "ckpt_path=last", "trainer.max_epochs=2")
    assert done.status == 0, done.err
    uninterrupted = reidlit("train", *run[:-1], "trainer.max_epochs=2", f"hydra.run.dir={tmp_path}/uninterrupted")
    assert uninterrupted.status == 0, uninterrupted.err
    resumed, expected = (
        torch.load(path, weights_only=True)["state_dict"]
        for path in (last, tmp_path / "uninterrupted" / "checkpoints" / "last.ckpt")
    )
    assert all(torch.equal(tensor, resumed[key]) for key, tensor in expected.items())


@pytest.fixture
def read_only(small_disk):
    """Return a function that fills a small disk and mounts it read-only, even for root."""

    def make(fill):
        disk = small_disk(8, "read only")
        fill(disk)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True, capture_output=True)
        with pytest.raises(OSError, match="Read-only"):
            (disk / "new").touch()
        return disk

    return make


@pytest.mark.slow
def test_read_only_data_can_be_used(read_only, reidlit, tmp_path):
    """The split, the pack and the run are written to other folders."""

    def fill(disk):
        for person, camera, shot in product(range(6), range(2), range(2)):
            draw(disk / "crops" / f"{person}" / f"x_c{camera}_{shot}.png", 40 * person + 9 * shot)

    disk = read_only(fill)
    sizes = [
        item for item in TRAIN if item.startswith(("data.height", "data.width", "data.num_workers", "trainer", "call"))
    ]
    data = ["data=folder", f"data.root='{disk}/crops'", "data.camera_pattern='_c(\\d+)'", *sizes]
    arguments = [
        *data,
        "data.batch_size=4",
        "data.pack=decoded",
        "logger=csv",
        "hydra.run.dir=run",
        "trainer.max_epochs=1",
    ]
    done = reidlit("train", *arguments)
    assert done.status == 0, done.err
    assert (tmp_path / "splits" / "crops.csv").is_file()
    assert list((tmp_path / "packed").glob("*.arrow"))
    with pytest.raises(ValueError, match=r"data\.split_file"):
        Folder(str(disk / "crops"), split_file=str(disk / "split.csv"), **loading()).prepare_data()
    result = reidlit("train", *arguments[:-2], f"hydra.run.dir='{disk}/run'")
    assert result.status != 0
    assert "Read-only file system" in result.err
