"""`reidlit search`."""

import csv
import shutil

import numpy as np
import pytest
from PIL import Image

from helpers.cli_settings import TINY
from reidlit.inference.features import Features
from reidlit.inference.search.gallery import Gallery


@pytest.fixture
def checkpoint(trained):
    return f"ckpt_path={trained / 'checkpoints' / 'last.ckpt'}"


@pytest.fixture
def crops(drawn, tmp_path):
    source = next(drawn.glob("synthetic/*"))
    (tmp_path / "crops").mkdir()
    for file in sorted(source.glob("*.jpg"))[:12]:
        shutil.copy(file, tmp_path / "crops")
    return sorted((tmp_path / "crops").iterdir())


def results(file):
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def test_an_image_in_a_folder(checkpoint, reidlit, crops, tmp_path):
    arguments = ["search", checkpoint, f"query={crops[3]}", "gallery=crops", "top_k=4", "index=kept/crops.npz"]
    done = reidlit(*arguments, "hydra.run.dir=run")
    assert done.status == 0, done.err
    assert "12 images embedded, 0 known" in done.out
    rows = results(tmp_path / "run" / "search.csv")
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    assert str(crops[3]) not in [row["path"] for row in rows]  # its own file is no answer
    distance = [float(row["distance"]) for row in rows]
    assert distance == sorted(distance)
    assert {row["query_path"] for row in rows} == {str(crops[3])}
    for row in rows:
        assert row["path"].rpartition("/")[2] in done.out
    with Image.open(tmp_path / "run" / "search.png") as picture:
        assert picture.width > 4 * picture.height / 3
    again = reidlit(*arguments, "hydra.run.dir=again", "pictures=0")
    assert "0 images embedded, 12 known" in again.out
    assert results(tmp_path / "again" / "search.csv") == rows
    assert not (tmp_path / "again" / "search.png").exists()
    saved = reidlit(
        "search", checkpoint, f"query={crops[3]}", "gallery=kept/crops.npz", "top_k=4", "hydra.run.dir=saved"
    )
    assert saved.status == 0, saved.err
    assert results(tmp_path / "saved" / "search.csv") == rows


def test_a_folder_of_queries_that_are_few_in_a_small_gallery(checkpoint, reidlit, crops, tmp_path):
    shutil.copytree(tmp_path / "crops", tmp_path / "queries")
    done = reidlit(
        "search", checkpoint, "query=queries", "gallery=crops", "top_k=20", "rerank=true", "hydra.run.dir=run"
    )
    assert done.status == 0, done.err
    assert "the first 3 of 12 queries" in done.out
    rows = results(tmp_path / "run" / "search.csv")
    assert len(rows) == 12 * 12  # all there are
    first = [row for row in rows if row["rank"] == "1"]
    assert [row["path"].rpartition("/")[2] for row in first] == [path.name for path in crops]
    assert len(Gallery.load(tmp_path / "run" / "gallery.npz")) == 12


def test_stored_features_need_no_model(checkpoint, reidlit, tmp_path):
    extracted = reidlit("extract", checkpoint, "data=synthetic", *TINY[:6], f"output={tmp_path}/features.npz")
    assert extracted.status == 0, extracted.err
    features = Features.load(tmp_path / "features.npz")
    query, gallery = features.of_split("query"), features.of_split("gallery")
    arguments = ["search", "query=features.npz", "gallery=features.npz", "top_k=3"]
    done = reidlit(*arguments, "cross_camera=true", "hydra.run.dir=run")
    assert done.status == 0, done.err
    rows = results(tmp_path / "run" / "search.csv")
    assert len(rows) == 3 * len(query)
    for number in range(len(query)):
        others = gallery.camid != query.camid[number]
        distance = ((gallery.embedding[others] - query.embedding[number]) ** 2).sum(axis=1)
        own = [row for row in rows if row["query"] == str(number)]
        assert [row["path"] for row in own] == gallery.path[others][distance.argsort()[:3]].tolist()
        assert [int(row["pid"]) for row in own] == gallery.pid[others][distance.argsort()[:3]].tolist()
    centroid = reidlit(*arguments, "centroid=true", "hydra.run.dir=centroid")
    assert centroid.status == 0, centroid.err
    pids = [row["pid"] for row in results(tmp_path / "centroid" / "search.csv") if row["query"] == "0"]
    assert len(set(pids)) == 3
    other = Features(**{**vars(features), "fingerprint": "xyz"})
    other.save(tmp_path / "other.npz")
    Features(**{**vars(features), "path": np.char.add("gone", features.path)}).save(tmp_path / "gone.npz")
    assert "no picture" in reidlit("search", "query=gone.npz", "gallery=gone.npz").out
    for arguments, words in (
        (["query=other.npz", "gallery=features.npz"], "another model made them"),
        (["query=features.npz", "gallery=features.npz", checkpoint], "leave out ckpt_path"),
        (["query=features.npz", "gallery=features.npz", "cameras=[9]"], "no image of the gallery may be listed"),
        (["query=features.npz", "gallery=features.npz", "index=a.npz"], "keeps the embeddings of a folder"),
    ):
        done = reidlit("search", *arguments, "hydra.run.dir=run")
        assert done.status == 1
        assert words in done.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["query=crops"], "gallery is missing"),
        (["gallery=crops", "CKPT"], "query is missing"),
        (["query=no.jpg", "gallery=crops", "CKPT"], "query=no.jpg does not exist"),
        (["query=crops", "gallery=no", "CKPT"], "gallery=no does not exist"),
        (["query=crops", "gallery=crops"], "give ckpt_path=<file.ckpt>"),
        (["query=film.mp4", "gallery=crops", "CKPT"], "film.mp4"),
        (["query=crops", "gallery=empty", "CKPT"], "contains no image"),
        (["query=empty", "gallery=crops", "CKPT"], "query=empty contains no image"),
        (
            ["query=crops", "gallery=film.mp4", "CKPT"],
            "must be a folder of images, or a file that ends in .npz or .parquet",
        ),
        (["query=crops", "gallery=cut.npz", "CKPT"], "cut.npz"),
        (["query=crops", "gallery=crops", "index=cut.npz", "CKPT"], "is no saved gallery, or is damaged"),
        (["query=crops", "gallery=crops", "metric=cosine", "index=euclidean.npz", "CKPT"], "was made for 'euclidean'"),
        (["query=crops", "gallery=euclidean.npz", "metric=cosine"], "was made for metric=euclidean"),
        (["query=crops", "gallery=crops", "top_k=0", "CKPT"], "top_k=0 must be an integer from 1"),
        (["query=crops", "gallery=crops", "cameras=[1]", "CKPT"], "the gallery knows no cameras"),
    ],
)
def test_mistakes_are_named(arguments, words, checkpoint, reidlit, crops, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x18ftypmp42" * 20)
    for path in crops[1:]:
        path.unlink()
    Gallery().save(tmp_path / "euclidean.npz")
    (tmp_path / "cut.npz").write_bytes(b"PK\3\4" * 20)
    done = reidlit("search", *(checkpoint if item == "CKPT" else item for item in arguments), "hydra.run.dir=run")
    assert done.status == 1
    assert words in done.err
    assert "Traceback" not in done.err
    assert (tmp_path / "cut.npz").read_bytes() == b"PK\3\4" * 20
    assert not (tmp_path / "run" / "search.csv").exists()
