"""Files from untrusted sources: no code in them runs, and unreadable files are named."""

import contextlib
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

import reidlit as package
from helpers.cli_settings import TRAIN
from helpers.datasets import draw, loading
from reidlit.config import CONFIG_DIR
from reidlit.data.datasets.csv_file import CSVFile
from reidlit.data.datasets.cuhk03 import CUHK03
from reidlit.data.datasets.folder import Folder
from reidlit.data.datasets.grid import GRID
from reidlit.data.decode import decode
from reidlit.data.packed import Packed
from reidlit.engine.distillation import Teacher
from reidlit.engine.reid import ReIDModule
from reidlit.inference.calibration import stored
from reidlit.inference.features import Features
from reidlit.inference.loading import load_trained
from reidlit.inference.search.gallery import Gallery


class Payload:
    """Object whose pickle creates a folder when it is loaded."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


def crops(root):
    for number in range(6):
        draw(root / f"person {number % 3}" / f"{number}.png", number)
    return root


def grid(path):
    base = path.parent
    draw(base / "probe" / "0001_1_25004_107_32_106_221.jpeg")
    GRID(str(base.parents[1]), **loading()).samples("train")


def cuhk03(path):
    draw(path.parent / "images_detected" / "1_001_1_01.png")
    CUHK03(str(path.parent.parent), **loading()).samples("train")


# File name and reader of each kind of file.
READERS = {
    "checkpoint, in Python": ("last.ckpt", ReIDModule.load_from_checkpoint),
    "checkpoint, for inference": ("last.ckpt", load_trained),
    "checkpoint, as a teacher": ("last.ckpt", lambda path: Teacher(str(path), torch.device("cpu"))),
    "checkpoint, for its thresholds": ("last.ckpt", stored),
    "weights": ("model.pth", lambda path: package.load_weights(package.build_model("osnet_x0_25", 3), path)),
    "thresholds": ("calibration.json", stored),
    "gallery": ("gallery.npz", Gallery.load),
    "features": ("features.npz", Features.load),
    "features in a table": ("features.parquet", Features.load),
    "random split": (
        "split.csv",
        lambda path: Folder(str(crops(path.parent / "crops")), split_file=str(path), **loading()).samples("train"),
    ),
    "list of images": ("list.csv", lambda path: CSVFile(str(path), **loading()).samples("train")),
    "split of GRID": ("grid/underground_reid/features_and_partitions.mat", grid),
    "split of CUHK03": ("cuhk03/cuhk03_new_protocol_config_detected.mat", cuhk03),
    "pack": ("pack.arrow", lambda path: Packed(path, path.parent)),
    "image": ("image.jpg", decode),
}


def write_pickles(path, payload):
    """Write the payload as a plain pickle, with torch.save, and in an array of a NumPy file, one after another."""
    path.write_bytes(pickle.dumps(payload))
    yield
    torch.save({"state_dict": payload, "hyper_parameters": payload}, path)
    yield
    with path.open("wb") as file:
        np.savez(file, embedding=np.array([payload], object), fingerprint=np.array([payload], object))
    yield


@pytest.mark.parametrize("reader", READERS)
def test_pickle_is_never_loaded(reader, tmp_path):
    name, read = READERS[reader]
    path, mark = tmp_path / name, tmp_path / "ran"
    path.parent.mkdir(parents=True, exist_ok=True)
    for _ in write_pickles(path, Payload(mark)):
        with pytest.raises(ValueError, match=path.stem) as error:
            read(path)
        assert len(str(error.value)) < 2000
        assert not mark.exists()
    pickle.loads(pickle.dumps(Payload(mark)))
    assert mark.exists(), "the payload has no effect"


@pytest.mark.parametrize("setting", ["ckpt_path", "weights", "features", "engine=distillation engine.teacher"])
def test_commands_never_load_a_pickle(setting, reidlit, tmp_path):
    mark = tmp_path / "ran"
    torch.save({"state_dict": Payload(mark), "hyper_parameters": {}}, tmp_path / "saved.npz")
    command = "train" if "teacher" in setting else "test"
    arguments = TRAIN if command == "train" else TRAIN[:9]
    result = reidlit(
        command,
        *arguments,
        *f"{setting}={tmp_path}/saved.npz".split(),
        "test=false" if command == "train" else "seed=1",
    )
    assert result.status == 1
    assert "saved.npz" in result.err
    assert "Traceback" not in result.err
    assert not mark.exists()


def test_yaml_of_a_run_creates_no_objects(reidlit, tmp_path):
    """`report` and `aggregate` read the YAML and JSON of a run, which may come from an untrusted source."""
    folder = tmp_path / "runs" / "one" / ".hydra"
    folder.mkdir(parents=True)
    mark = tmp_path / "ran"
    harmful = f"!!python/object/apply:os.mkdir [{str(mark)!r}]\n"
    for name in ("config.yaml", "hydra.yaml", "overrides.yaml"):
        (folder / name).write_text(f"model: {harmful}" if name == "config.yaml" else harmful)
    (folder.parent / "metrics.json").write_text('{"test/market1501/mAP": 0.5}')
    for command in (["report", f"run={folder.parent}"], ["aggregate", str(tmp_path / "runs")]):
        result = reidlit(*command)
        assert result.status == 1, result.out
        assert ".hydra" in result.err
        assert "Traceback" not in result.err
    assert not mark.exists()


@pytest.mark.parametrize("part", ["data", "sampler", "transforms"])
def test_settings_of_a_run_build_no_untrusted_objects(part, reidlit, tmp_path):
    """A report builds the dataset of the run to show its images."""
    mark = tmp_path / "ran"
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        composed = OmegaConf.to_container(compose("test", [*TRAIN[:9], "data.root=nowhere"]))
    config = {name: composed[name] for name in ("data", "sampler", "transforms", "model", "seed")}
    harmful = {"_target_": "os.mkdir", "path": str(mark)}
    config[part] = {**config[part], "wave": harmful} if part == "transforms" else {**config[part], "name": harmful}
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(config), tmp_path / "run" / ".hydra" / "config.yaml")
    (tmp_path / "run" / "csv").mkdir()
    (tmp_path / "run" / "csv" / "metrics.csv").write_text("epoch,step,train/loss\n0,1,0.5\n")
    result = reidlit("report", "run=run")
    assert result.status == 0, result.err
    assert not mark.exists()
    assert "&#39;os.mkdir&#39;" in (tmp_path / "run" / "report.html").read_text()


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%EOF\n"


def test_image_starts_no_program(tmp_path, monkeypatch):
    """Pillow passes an EPS file to Ghostscript, whatever the suffix of the file."""
    programs, mark = tmp_path / "bin", tmp_path / "ran"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\ntouch {mark}\n")
    (programs / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    path = tmp_path / "0002_c1s1_000451_03.jpg"
    path.write_bytes(EPS)
    with Image.open(path) as image, contextlib.suppress(Exception):  # the fake Ghostscript renders nothing
        image.load()
    assert mark.exists(), "Pillow did not start Ghostscript"
    mark.unlink()
    with pytest.raises(ValueError, match=path.name):
        decode(path)
    assert not mark.exists()


@pytest.mark.parametrize("wrong", ["png", "gif", "webp", "bmp", "tiff"])
def test_wrong_suffix_is_ignored(wrong, tmp_path):
    draw(tmp_path / f"image.{wrong}", 77)
    shutil.move(tmp_path / f"image.{wrong}", tmp_path / "image.jpg")
    assert np.abs(decode(tmp_path / "image.jpg").astype(int) - 77).max() <= 2


@pytest.mark.parametrize("kind", ["PNG", "GIF", "TIFF", "BMP", "WEBP"])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bomb_is_not_decoded(kind, tmp_path, long):
    """A few kilobytes would decode to 200 MB of pixels, and more with copies."""
    side = 8200  # just above the limit
    bomb = tmp_path / "bomb.jpg"
    options = {
        "PNG": {"optimize": False},
        "TIFF": {"compression": "tiff_lzw"},
        "WEBP": {"lossless": True, "quality": 0, "method": 0},
    }
    if kind in ("PNG", "WEBP") and not long:
        pytest.skip("slow to write; test_decode covers these headers")
    Image.new("L" if kind in ("GIF", "BMP") else "RGB", (side, side)).save(bomb, kind, **options.get(kind, {}))
    before = peak()
    with pytest.raises(ValueError, match=r"bomb\.jpg.*\d+"):
        decode(bomb)
    assert peak() - before < bomb.stat().st_size / 1e6 + 100  # megabytes


def peak():
    """Return the peak memory of this process in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000
