"""Incremental updates of the gallery of a folder."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import reidlit
from reidlit.data.synthetic.pedestrians import Pedestrians
from reidlit.inference.search.folder_gallery import gallery_of_folder
from reidlit.inference.search.gallery import Gallery
from reidlit.models import build_model


@pytest.fixture(scope="module")
def extractor():
    torch.manual_seed(0)
    model = build_model("osnet_x0_25", num_classes=1).eval()
    return reidlit.FeatureExtractor(model=model, image_size=(64, 32), device="cpu", batch_size=2, num_workers=0)


@pytest.fixture
def crops(tmp_path):
    pedestrians = Pedestrians(2, 2, 2, 96, 48)
    (tmp_path / "crops" / "deep").mkdir(parents=True)
    return sorted(Path(path) for path in pedestrians.write(tmp_path / "crops" / "deep", pedestrians.keys()))


def test_only_new_and_changed_images_are_embedded(extractor, crops, tmp_path):
    folder, file = tmp_path / "crops", tmp_path / "index" / "gallery.npz"
    count = len(crops)
    assert gallery_of_folder(folder, file, extractor)[1:] == (count, 0, 0)
    written = file.read_bytes()
    assert gallery_of_folder(folder, file, extractor)[1:] == (0, count, 0)
    assert file.read_bytes() == written
    shutil.copy(crops[0], crops[1])  # different content under an existing name
    os.utime(crops[2], ns=(0, 5))
    crops[3].unlink()
    shutil.copy(crops[4], folder / "new image.jpg")
    gallery, *counts = gallery_of_folder(folder, file, extractor)
    assert counts == [3, count - 3, 3]
    paths = [str(path) for path in sorted(folder.rglob("*.jpg"))]
    assert sorted(gallery.about(gallery.ids).paths) == sorted(paths)
    expected = dict(zip(paths, extractor(paths), strict=True))
    for path, embedding in zip(gallery.about(gallery.ids).paths, gallery.embeddings(gallery.ids), strict=True):
        torch.testing.assert_close(embedding, expected[path], atol=1e-5, rtol=1e-5)
    result = gallery.search(str(crops[0]), 2)
    assert set(gallery.about(result.ids).paths[0]) == {str(crops[0]), str(crops[1])}


def test_finished_embeddings_are_saved_after_an_error(extractor, crops, tmp_path):
    file = tmp_path / "gallery.npz"
    content = crops[-1].read_bytes()
    crops[-1].write_bytes(content[:100])
    with pytest.raises(ValueError, match=crops[-1].name):
        gallery_of_folder(tmp_path / "crops", file, extractor)
    done = len(Gallery.load(file))
    assert 0 < done < len(crops)
    crops[-1].write_bytes(content)
    assert gallery_of_folder(tmp_path / "crops", file, extractor)[1:] == (len(crops) - done, done, 0)


def test_file_of_another_gallery_is_not_changed(extractor, crops, tmp_path):
    file = tmp_path / "gallery.npz"
    with pytest.raises(FileNotFoundError, match="nowhere"):
        gallery_of_folder(tmp_path / "nowhere", file, extractor)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"/empty\b"):
        gallery_of_folder(tmp_path / "empty", file, extractor)
    assert not file.exists()
    gallery_of_folder(tmp_path / "crops", file, extractor, "cosine")
    written = file.read_bytes()
    shutil.copytree(tmp_path / "crops", tmp_path / "crops2")
    flipped = reidlit.FeatureExtractor(model=extractor.trained.model, image_size=(64, 32), device="cpu", flip=True)
    for arguments, message in (
        ((tmp_path / "crops2", file, extractor), r"index=.*gallery\.npz.*crops2"),
        ((tmp_path / "crops", file, extractor, "euclidean"), r"metric='euclidean'.*gallery\.npz.*'cosine'"),
        ((tmp_path / "crops", file, flipped), f"{flipped.fingerprint}.*{extractor.fingerprint}"),
    ):
        with pytest.raises(ValueError, match=message):
            gallery_of_folder(*arguments)
    assert file.read_bytes() == written
    custom = Gallery(extractor=extractor)
    custom.add(np.ones((2, 512)), paths=[str(path) for path in crops[:2]])
    custom.save(file)
    with pytest.raises(ValueError, match=r"index=.*gallery\.npz"):
        gallery_of_folder(tmp_path / "crops", file, extractor)
    assert len(Gallery.load(file)) == 2
