"""`reidlit search`."""

import csv
import re
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


def test_search_image_in_folder(checkpoint, reidlit, crops, tmp_path):
    arguments = ["search", checkpoint, f"query={crops[3]}", "gallery=crops", "top_k=4", "index=kept/crops.npz"]
    done = reidlit(*arguments, "hydra.run.dir=run")
    assert done.status == 0, done.err
    assert re.search(r"12 images embedded, 0 ", done.out)
    rows = results(tmp_path / "run" / "search.csv")
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    assert str(crops[3]) not in [row["path"] for row in rows]  # the query file itself is not a result
    distance = [float(row["distance"]) for row in rows]
    assert distance == sorted(distance)
    assert {row["query_path"] for row in rows} == {str(crops[3])}
    for row in rows:
        assert row["path"].rpartition("/")[2] in done.out
    with Image.open(tmp_path / "run" / "search.png") as picture:
        assert picture.width > 4 * picture.height / 3
    again = reidlit(*arguments, "hydra.run.dir=again", "pictures=0")
    assert re.search(r"\b0 images embedded, 12 ", again.out)
    assert results(tmp_path / "again" / "search.csv") == rows
    assert not (tmp_path / "again" / "search.png").exists()
    saved = reidlit(
        "search", checkpoint, f"query={crops[3]}", "gallery=kept/crops.npz", "top_k=4", "hydra.run.dir=saved"
    )
    assert saved.status == 0, saved.err
    assert results(tmp_path / "saved" / "search.csv") == rows


def test_search_folder_of_queries_with_large_top_k(checkpoint, reidlit, crops, tmp_path):
    shutil.copytree(tmp_path / "crops", tmp_path / "queries")
    done = reidlit(
        "search", checkpoint, "query=queries", "gallery=crops", "top_k=20", "rerank=true", "hydra.run.dir=run"
    )
    assert done.status == 0, done.err
    assert "3 of 12 queries" in done.out
    rows = results(tmp_path / "run" / "search.csv")
    assert len(rows) == 12 * 12  # top_k exceeds the size of the gallery
    first = [row for row in rows if row["rank"] == "1"]
    assert [row["path"].rpartition("/")[2] for row in first] == [path.name for path in crops]
    assert len(Gallery.load(tmp_path / "run" / "gallery.npz")) == 12


def test_stored_features_are_searched_without_model(checkpoint, reidlit, tmp_path):
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
        rows_of_query = [row for row in rows if row["query"] == str(number)]
        assert [row["path"] for row in rows_of_query] == gallery.path[others][distance.argsort()[:3]].tolist()
        assert [int(row["pid"]) for row in rows_of_query] == gallery.pid[others][distance.argsort()[:3]].tolist()
    centroid = reidlit(*arguments, "centroid=true", "hydra.run.dir=centroid")
    assert centroid.status == 0, centroid.err
    pids = [row["pid"] for row in results(tmp_path / "centroid" / "search.csv") if row["query"] == "0"]
    assert len(set(pids)) == 3
    other = Features(**{**vars(features), "fingerprint": "xyz"})
    other.save(tmp_path / "other.npz")
    Features(**{**vars(features), "path": np.char.add("gone", features.path)}).save(tmp_path / "gone.npz")
    done = reidlit("search", "query=gone.npz", "gallery=gone.npz", "hydra.run.dir=gone")
    assert "gone" in done.out
    assert not (tmp_path / "gone" / "search.png").exists()
    for arguments, expected in (
        (["query=other.npz", "gallery=features.npz"], "xyz"),
        (["query=features.npz", "gallery=features.npz", checkpoint], "ckpt_path"),
        (["query=features.npz", "gallery=features.npz", "cameras=[9]"], "not_cameras"),
        (["query=features.npz", "gallery=features.npz", "index=a.npz"], "index=a.npz"),
    ):
        done = reidlit("search", *arguments, "hydra.run.dir=run")
        assert done.status == 1
        assert expected in done.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["query=crops"], "gallery"),
        (["gallery=crops", "CKPT"], "query"),
        (["query=no.jpg", "gallery=crops", "CKPT"], "query=no.jpg"),
        (["query=crops", "gallery=no", "CKPT"], "gallery=no"),
        (["query=crops", "gallery=crops"], "ckpt_path="),
        (["query=film.mp4", "gallery=crops", "CKPT"], "film.mp4"),
        (["query=crops", "gallery=empty", "CKPT"], "empty"),
        (["query=empty", "gallery=crops", "CKPT"], "query=empty"),
        (["query=crops", "gallery=film.mp4", "CKPT"], "gallery=film.mp4"),
        (["query=crops", "gallery=cut.npz", "CKPT"], "cut.npz"),
        (["query=crops", "gallery=crops", "index=cut.npz", "CKPT"], "cut.npz"),
        (["query=crops", "gallery=crops", "metric=cosine", "index=euclidean.npz", "CKPT"], "euclidean"),
        (["query=crops", "gallery=euclidean.npz", "metric=cosine"], "metric=euclidean"),
        (["query=crops", "gallery=crops", "top_k=0", "CKPT"], "top_k=0"),
        (["query=crops", "gallery=crops", "cameras=[1]", "CKPT"], "cameras"),
    ],
)
def test_invalid_arguments_are_named(arguments, expected, checkpoint, reidlit, crops, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x18ftypmp42" * 20)
    for path in crops[1:]:
        path.unlink()
    Gallery().save(tmp_path / "euclidean.npz")
    (tmp_path / "cut.npz").write_bytes(b"PK\3\4" * 20)
    done = reidlit("search", *(checkpoint if item == "CKPT" else item for item in arguments), "hydra.run.dir=run")
    assert done.status == 1
    assert expected in done.err
    assert "Traceback" not in done.err
    assert (tmp_path / "cut.npz").read_bytes() == b"PK\3\4" * 20
    assert not (tmp_path / "run" / "search.csv").exists()
