"""Packs return the same images as the files, in every process."""

import os
import pickle
import re
import resource
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import albumentations
import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from helpers.datasets import loading
from reidlit.data import packed
from reidlit.data.datasets.folder import Folder
from reidlit.data.decode import decode
from reidlit.data.images import Images
from reidlit.data.pack_writer import pack, pack_once
from reidlit.data.packed import BLOCK, Packed, pack_name
from reidlit.data.sample import Draw, Sample
from reidlit.data.transforms import PadCrop, Random2DTranslation, RandomErasing, RandomPatch, Resize
from reidlit.data.transforms.pipeline import Pipeline

COUNT = BLOCK + 44  # more than one block


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Return a folder with images of many sizes and formats in two subfolders, and a pack of them."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        folder = root / "set" / ("train" if number % 3 else "query")
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(rng.integers(0, 256, (20 + number % 7, 8 + number % 5, 3), np.uint8))
        suffix = ("jpg", "png", "bmp")[number % 11 % 3]
        image.convert("L" if number % 13 == 0 else "RGB").save(folder / f"{number:04d}.{suffix}")
    pack(listed(root), root / "a.arrow", root)
    return root


def listed(root):
    return sorted(str(path) for path in (root / "set").rglob("*.*"))


def write_images(folder, count=3):
    """Write a small dataset that a test may damage; return its paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(np.full((16, 8, 3), 40 * number, np.uint8)).save(folder / f"{number}.bmp")
    return sorted(str(path) for path in folder.glob("*.bmp"))


def test_packed_images_equal_decoded_files(root):
    read = Packed(root / "a.arrow", root)
    assert len(read) == COUNT
    for path in listed(root):
        image, expected = read(path), decode(path)
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        np.testing.assert_array_equal(image, expected, strict=True)
    image[:] = 0  # does not change the pack
    np.testing.assert_array_equal(read(path), expected)
    assert not [file for file in root.iterdir() if file.name.endswith(".part")]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_do_not_depend_on_packing(workers, root):
    samples = [Sample(path, pid=0, camid=0) for path in listed(root)]
    draws = [[Draw(index, number) for number, index in enumerate(range(start, COUNT, 9))] for start in range(9)]
    augmentation = [
        Resize(32, 16),
        albumentations.HorizontalFlip(p=0.5),
        Random2DTranslation(32, 16),
        PadCrop(4),
        RandomPatch(),
        albumentations.ColorJitter(p=1.0),
        RandomErasing(),
    ]

    def batches(read, steps):
        images = Images(samples, Pipeline(steps), seed=3, read=read)
        return list(DataLoader(images, batch_sampler=draws, num_workers=workers, collate_fn=Images.collate))

    assert len(batches(decode, augmentation)) == 9
    read = Packed(root / "a.arrow", root)
    # The second pipeline returns the pixels of many images unchanged.
    for steps in (augmentation, [PadCrop(1, p=0.1), Resize(22, 10)]):
        for actual, expected in zip(batches(read, steps), batches(decode, steps), strict=True):
            assert all(torch.equal(actual[name], expected[name]) for name in expected)


def test_another_process_reads_a_moved_pack(root, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(root, moved)
    paths = listed(moved)
    (tmp_path / "reader.pickle").write_bytes(pickle.dumps(Packed(moved / "a.arrow", moved)))
    assert (tmp_path / "reader.pickle").stat().st_size < 1000  # only the path, not the content
    shutil.rmtree(moved / "set")
    code = "import pickle, sys; read = pickle.load(open(sys.argv[1], 'rb')); print(*map(lambda path: int(read(path).sum()), sys.argv[2:]))"
    command = [sys.executable, "-c", code, str(tmp_path / "reader.pickle"), *paths[:3]]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert [int(value) for value in printed.split()] == [int(decode(path).sum()) for path in listed(root)[:3]]


def test_paths_are_found_as_they_were_packed(tmp_path, monkeypatch):
    paths = write_images(tmp_path / "root")
    outside = write_images(tmp_path / "outside")
    pack([*paths, *outside, *paths], tmp_path / "a.arrow", tmp_path / "root")
    read = Packed(tmp_path / "a.arrow", tmp_path / "root")
    assert len(read) == 6
    assert all(path in read for path in (*paths, *outside))
    assert pa.ipc.open_file(str(tmp_path / "a.arrow")).read_all()["path"].to_pylist() == [
        "0.bmp",
        "1.bmp",
        "2.bmp",
        *outside,
    ]
    with pytest.raises(ValueError, match=r"'3\.bmp'.*\b6\b.*a\.arrow.*data\.pack=null"):
        read("3.bmp")
    monkeypatch.chdir(tmp_path)
    assert (Packed(Path("a.arrow"), "root")("root/1.bmp") == 40).all()


@pytest.mark.skipif(sys.platform != "linux", reason="file names must be Unicode on other systems")
def test_names_need_not_be_unicode(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xe9.bmp")
    shutil.copy(write_images(tmp_path / "set")[2], path)
    pack([path], tmp_path / "a.arrow", tmp_path)
    assert (Packed(tmp_path / "a.arrow", tmp_path)(path) == 80).all()


def test_pack_name_depends_on_the_images():
    names = ["a/1.jpg", "a/2.jpg", "b/1.jpg"]

    def name(root="x", selected=names):
        return pack_name("walkers", [f"{root}/{path}" for path in selected], root)

    assert name() == name(root="elsewhere/y") == name(selected=names[::-1]) == name(selected=names * 2)
    assert len({name(), name(selected=names[:2])}) == 2
    assert name().startswith("walkers-decoded-")


def test_outdated_pack_is_rewritten(tmp_path, monkeypatch):
    paths, file = write_images(tmp_path / "set"), tmp_path / "packs" / "a.arrow"

    def update(paths):
        return pack_once(paths, file, tmp_path)

    assert update(paths)
    assert not update(paths)
    assert not update(paths[1:])  # a pack may contain more images
    status = Path(paths[1]).stat()
    Image.fromarray(np.full((16, 8, 3), 200, np.uint8)).save(paths[1])  # file of the same size
    os.utime(paths[1], ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert not Packed(file, tmp_path).is_current(paths)
    assert update(paths)
    assert (Packed(file, tmp_path)(paths[1]) == 200).all()
    assert update(write_images(tmp_path / "set", 4))  # one more image
    Path(paths[0]).unlink()
    assert not Packed(file, tmp_path).is_current(paths)
    monkeypatch.setattr(packed, "DECODER", "opencv 9")
    assert update(paths[1:])
    monkeypatch.undo()
    file.write_bytes(file.read_bytes()[:-9])
    assert update(paths[1:])
    assert list(file.parent.iterdir()) == [file]


def test_corrupt_or_missing_image_keeps_the_old_pack(tmp_path):
    paths, file = write_images(tmp_path / "set"), tmp_path / "a.arrow"
    pack(paths, file, tmp_path)
    before = file.read_bytes()
    Path(paths[1]).write_bytes(b"")
    with pytest.raises(ValueError, match=re.escape(repr(paths[1]))):
        pack(paths, file, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"'missing\.bmp'"):
        pack([*paths[2:], "missing.bmp"], file, tmp_path)
    assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.arrow", "set"]


@pytest.mark.parametrize("value", ["encoded", "raw"])
def test_pack_accepts_only_decoded(value, tmp_path):
    with pytest.raises(ValueError, match=rf"data\.pack={value}\b"):
        Folder(str(tmp_path), **loading(pack=value))


def test_write_errors_leave_no_file(tmp_path):
    paths = write_images(tmp_path / "set")
    with pytest.raises(ValueError, match=r"\bpaths\b.*a\.arrow"):
        pack([], tmp_path / "a.arrow", tmp_path)
    with pytest.raises(ValueError, match=r"a\.arrow.*data\.pack_dir"):
        pack(paths, Path(paths[0]) / "a.arrow", tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))  # like a full disk
    try:
        with pytest.raises(ValueError, match=r"a\.arrow.*data\.pack_dir"):
            pack(paths, tmp_path / "a.arrow", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_damaged_and_foreign_files_are_rejected(tmp_path):
    paths, file, bad = write_images(tmp_path / "set"), tmp_path / "a.arrow", tmp_path / "bad.arrow"
    pack(paths, file, tmp_path)
    complete = file.read_bytes()
    for length in (0, 5, len(complete) // 2, len(complete) - 1):
        bad.write_bytes(complete[:length])
        with pytest.raises(ValueError, match=r"bad\.arrow'"):
            Packed(bad, tmp_path)
    offsets = struct.pack("<4q", 0, 384, 768, 1152)  # positions of the images in the data
    assert complete.count(offsets) == 1
    bad.write_bytes(complete.replace(offsets, struct.pack("<4q", 0, 384, 2**40, 1152)))
    with pytest.raises(ValueError, match=r"bad\.arrow' .*\(.*\)"):
        Packed(bad, tmp_path)
    for metadata, message in (
        (None, r"bad\.arrow' .*\b1\b.*\bdecoded\b"),
        ({"reidlit_pack": "0"}, r"bad\.arrow' .*\b0\b.*\b1\b"),
        ({"reidlit_pack": "1", "form": "encoded"}, r"bad\.arrow' .*\bencoded\b.*\bdecoded\b"),
    ):
        table = pa.table({"path": ["x"]}).replace_schema_metadata(metadata)
        with pa.ipc.new_file(str(bad), table.schema) as writer:
            writer.write(table)
        with pytest.raises(ValueError, match=message):
            Packed(bad, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"gone\.arrow"):
        Packed(tmp_path / "gone.arrow", tmp_path)
