"""A gallery that is searched."""

import builtins
import os
import signal
import zipfile

import numpy as np
import pytest
import torch
from torch.nn import functional

import reidlit
from reidlit.data.sample import Sample
from reidlit.data.synthetic.pedestrians import Pedestrians
from reidlit.inference.features import Features, of_samples
from reidlit.inference.search import store
from reidlit.inference.search.gallery import Gallery
from reidlit.metrics import KReciprocal, nearest
from reidlit.models import build_model

SIZE = (64, 32)


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr(store, "PIECE", 16)


def drawn(count, size=8, seed=0):
    return np.random.default_rng(seed).standard_normal((count, size), dtype=np.float32)


def labels(count):
    return np.arange(count) // 4, np.arange(count) % 3


def filled(count=70, **options):
    gallery = Gallery(**options)
    embedding, (pids, camids) = drawn(count), labels(count)
    for start in range(0, count, 19):
        own = slice(start, start + 19)
        gallery.add(embedding[own], pids[own], camids[own], [f"{n}.jpg" for n in range(count)][own])
    return gallery, embedding


def distances(query, embedding, metric):
    if metric == "cosine":
        query, embedding = (functional.normalize(torch.from_numpy(each)).numpy() for each in (query, embedding))
        return 1 - query @ embedding.T
    return ((query[:, None] - embedding[None]) ** 2).sum(axis=2)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("k", [1, 10, 70])
def test_the_search_is_exact(metric, k):
    gallery, embedding = filled(metric=metric)
    query = drawn(5, seed=1)
    found = gallery.search(query, k)
    matrix = distances(query, embedding, metric)
    assert found.ids.tolist() == matrix.argsort(axis=1)[:, :k].tolist()
    np.testing.assert_allclose(found.distances, np.sort(matrix, axis=1)[:, :k], atol=1e-5)
    right = nearest(torch.from_numpy(query), torch.from_numpy(embedding), k, metric)
    np.testing.assert_array_equal(found.ids, right.indices)
    np.testing.assert_allclose(found.distances, right.distance, atol=1e-6)
    one = gallery.search(torch.from_numpy(query[3:4]), k)
    np.testing.assert_allclose(one.distances[0], found.distances[3], atol=1e-6)


def test_ties_go_to_the_older_row_and_lists_are_padded():
    gallery = Gallery()
    assert gallery.add(np.ones((40, 3)), paths=[f"{n}" for n in range(40)]).tolist() == list(range(40))
    found = gallery.search(np.zeros((2, 3)), 45)
    assert found.ids.tolist() == [[*range(40), *[-1] * 5]] * 2
    assert found.distances[0].tolist() == [3.0] * 40 + [np.inf] * 5
    assert gallery.about(found.ids).paths[1, 38:].tolist() == ["38", "39", "", "", "", "", ""]


def test_ids_stay_when_rows_are_removed():
    gallery, embedding = filled()
    gone = [0, 17, 18, 40, 69]
    gallery.remove(gone)
    kept = np.setdiff1d(np.arange(70), gone)
    assert gallery.ids.tolist() == kept.tolist()
    assert torch.equal(gallery.embeddings(kept), torch.from_numpy(embedding[kept]))
    assert gallery.about([16, -1, 41]).pids.tolist() == [4, -1, 10]
    assert gallery.about([16, -1, 41]).camids.tolist() == [1, -1, 2]
    assert gallery.about([[16], [41]]).paths.tolist() == [["16.jpg"], ["41.jpg"]]
    query = drawn(5, seed=1)
    right = kept[distances(query, embedding[kept], "euclidean").argsort(axis=1)]
    np.testing.assert_array_equal(gallery.search(query, len(kept)).ids, right)
    assert gallery.add(embedding[:2]).tolist() == [70, 71]  # never given again
    with pytest.raises(ValueError, match="1 of 2 ids are not in the gallery, the first is 17"):
        gallery.remove([1, 17])
    assert len(gallery) == 67
    gallery.remove(gallery.ids < 60)
    assert gallery.ids.tolist() == [*range(60, 69), 70, 71]
    gallery.remove(gallery.ids)
    with pytest.raises(ValueError, match="gallery is empty"):
        gallery.search(query)
    assert gallery.add(embedding[:1]).tolist() == [72]


def test_cameras():
    gallery, embedding = filled()
    query, camids = drawn(6, seed=1), np.array([0, 1, 2, 0, 1, -1])
    matrix = distances(query, embedding, "euclidean")
    cameras = labels(70)[1]

    def right(allowed):
        far = np.where(allowed, matrix, np.inf)
        order = far.argsort(axis=1, kind="stable")[:, :30]
        return np.where(np.take_along_axis(far, order, 1) < np.inf, order, -1)

    every = np.ones((6, 1), bool)
    np.testing.assert_array_equal(gallery.search(query, 30, cameras=[0, 9]).ids, right(every & (cameras == 0)))
    np.testing.assert_array_equal(gallery.search(query, 30, not_cameras=[0]).ids, right(every & (cameras != 0)))
    crossed = gallery.search(query, 30, camids=camids, cross_camera=True, not_cameras=[2])
    np.testing.assert_array_equal(crossed.ids, right((cameras != camids[:, None]) & (cameras != 2)))
    assert (gallery.search(query, 3, cameras=[7]).ids == -1).all()
    with pytest.raises(ValueError, match="needs camids="):
        gallery.search(query, cross_camera=True)
    unknown = Gallery()
    unknown.add(embedding)
    with pytest.raises(ValueError, match=r"not_cameras=\[1\]: the gallery knows no cameras"):
        unknown.search(query, not_cameras=[1])


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_one_centroid_an_identity(metric):
    gallery, embedding = filled(72, metric=metric)
    if metric == "cosine":
        embedding = functional.normalize(torch.from_numpy(embedding)).numpy()
    query = drawn(4, seed=1)
    found = gallery.search(query, 18, centroid=True)
    matrix = distances(query, embedding.reshape(18, 4, 8).mean(axis=1), metric)
    np.testing.assert_array_equal(gallery.about(found.ids).pids, matrix.argsort(axis=1))
    np.testing.assert_allclose(found.distances, np.sort(matrix, axis=1), atol=1e-5)
    assert (found.ids % 4 == 0).all()  # the first of each
    first = gallery.search(query, 18, centroid=True, camids=np.zeros(4, int), cross_camera=True)
    others = labels(72)[1] != 0
    of_rest = np.stack([embedding[(labels(72)[0] == pid) & others].mean(axis=0) for pid in range(18)])
    order = distances(query, of_rest, metric).argsort(axis=1)
    np.testing.assert_array_equal(gallery.about(first.ids).pids, order)
    gallery.add(embedding[:1])
    with pytest.raises(ValueError, match="1 of 73 images in the gallery have no identity"):
        gallery.search(query, centroid=True)


def test_reranking_the_top():
    gallery, embedding = filled()
    query = drawn(3, seed=1)
    rerank = KReciprocal(k1=6, k2=3)
    found = gallery.search(query, 12, rerank=rerank, rerank_top=70)
    for one, ids, distance in zip(query, *found, strict=True):
        right = reidlit.rerank(one[None], embedding, 6, 3)[0]
        assert ids.tolist() == right.argsort(kind="stable")[:12].tolist()
        np.testing.assert_allclose(distance, np.sort(right)[:12], rtol=1e-5)
    few = gallery.search(query, 5, rerank=rerank, rerank_top=2)
    plain = gallery.search(query, 5)
    assert (np.sort(few.ids) == np.sort(plain.ids)).all()  # k at least are re-ranked
    assert (few.ids != plain.ids).any()
    none = gallery.search(query, 2, rerank=rerank, cameras=[5])
    assert (none.ids == -1).all()
    assert np.isinf(none.distances).all()


def test_what_is_saved_is_loaded(tmp_path):
    gallery, _ = filled(metric="cosine", fingerprint="abc")
    gallery.remove([3, 69])
    gallery.add(drawn(1), stamps=[77], paths=[tmp_path / "é\udcff 猫.jpg"])
    file = tmp_path / "new" / "gallery.npz"
    gallery.save(file)
    loaded = Gallery.load(file, fingerprint="abc")
    assert (loaded.metric, loaded.fingerprint, loaded.embedding_size) == ("cosine", "abc", 8)
    for name in ("ids", "stamps"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(gallery, name))
    for new, old in zip(loaded.about(gallery.ids), gallery.about(gallery.ids), strict=True):
        np.testing.assert_array_equal(new, old)
    assert torch.equal(loaded.embeddings(gallery.ids), gallery.embeddings(gallery.ids))
    query = drawn(4, seed=1)
    np.testing.assert_array_equal(loaded.search(query).distances, gallery.search(query).distances)
    assert loaded.add(drawn(1)).tolist() == [71]
    with np.load(file, allow_pickle=False) as content:  # NumPy reads it too
        assert content["embedding"].shape == (69, 8)
        assert content["about"]["pid"][-1] == -1
    Gallery().save(file)
    assert len(Gallery.load(file)) == 0
    assert [path.name for path in file.parent.iterdir()] == ["gallery.npz"]
    with pytest.raises(ValueError, match=r"must end in \.npz"):
        gallery.save(tmp_path / "gallery")


def test_what_is_no_saved_gallery_is_refused(tmp_path):
    file = tmp_path / "gallery.npz"
    with pytest.raises(FileNotFoundError, match="does not exist"):
        Gallery.load(file)
    gallery, embedding = filled()
    gallery.save(file)
    whole = file.read_bytes()
    changed = bytearray(whole)
    changed[whole.index(embedding[5].tobytes())] ^= 1
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    other = (tmp_path / "other.zip").read_bytes()
    for broken in (whole[:-100], whole[: len(whole) // 2], b"", b"GIF89a" * 50, bytes(changed), other):
        file.write_bytes(broken)
        with pytest.raises(ValueError, match="is no saved gallery, or is damaged"):
            Gallery.load(file)
    np.savez(file, embedding=embedding)
    with pytest.raises(ValueError, match="is no saved gallery"):
        Gallery.load(file)


@pytest.mark.parametrize("name", ["about", "embedding", "format", "metric"])
def test_a_pickle_is_not_opened(name, tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    file = tmp_path / "gallery.npz"
    filled()[0].save(file)
    with np.load(file) as content:
        parts = dict(content)
    np.savez(file, **(parts | {name: np.array([Payload()], object)}))
    with pytest.raises(ValueError, match="is no saved gallery"):
        Gallery.load(file)
    assert not (tmp_path / "harm").exists()


def test_parts_that_do_not_fit_are_refused(tmp_path):
    file = tmp_path / "gallery.npz"
    filled()[0].save(file)
    with np.load(file) as content:
        parts = dict(content)
    bad = {
        "about": parts["about"][::-1],
        "paths": parts["paths"][:50],
        "embedding": parts["embedding"].astype(np.float64),
        "format": np.array(2),
    }
    bad_value = parts["embedding"].copy()
    bad_value[3, 3] = np.nan
    for name, value in [*bad.items(), ("embedding", parts["embedding"][:5]), ("embedding", bad_value)]:
        np.savez(file, **(parts | {name: value}))
        with pytest.raises(ValueError, match="is no saved gallery"):
            Gallery.load(file)


def test_a_crash_while_saving_leaves_the_old_file(tmp_path):
    file = tmp_path / "gallery.npz"
    gallery, _ = filled()
    gallery.save(file)
    old = file.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", _full)
        with pytest.raises(OSError, match="no space"):
            gallery.save(file)
    assert file.read_bytes() == old
    assert [path.name for path in tmp_path.iterdir()] == ["gallery.npz"]
    larger = Gallery()
    larger.add(np.ones((20_000, 512), np.float32))
    child = os.fork()  # it only writes files, so it needs none of the threads
    if child == 0:
        larger.save(file)
        os._exit(0)
    while not any(part.stat().st_size > 1_000_000 for part in tmp_path.glob(".*.part.npz")):
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "it was too quick to be killed"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert file.read_bytes() == old
    assert len(list(tmp_path.glob(".*.part.npz"))) == 1
    larger.save(file)  # the part that the killed process left does not matter
    assert len(Gallery.load(file)) == 20_000
    assert [path.name for path in tmp_path.glob("[!.]*")] == ["gallery.npz"]


def _full(_):
    raise OSError("no space")


def test_embeddings_of_others_are_refused():
    features = Features(drawn(6), **of_samples([Sample(f"{n}.jpg", n, n % 2) for n in range(6)], ""), fingerprint="abc")
    gallery = Gallery()
    gallery.add(features)
    assert gallery.fingerprint == "abc"
    assert gallery.about(gallery.ids).pids.tolist() == list(range(6))
    assert gallery.search(features, 1).ids[:, 0].tolist() == list(range(6))
    assert gallery.search(features, 1, cross_camera=True).ids[0, 0] in (1, 3, 5)  # their cameras are known
    other = Features(**{**vars(features), "fingerprint": "xyz"})
    for wrong in (lambda: gallery.add(other), lambda: gallery.search(other)):
        with pytest.raises(ValueError, match="fingerprint xyz, but the gallery has abc"):
            wrong()
    for entries, words in (
        (drawn(3, 9), "have 9 dimensions, but the gallery has 8"),
        (np.full((2, 8), np.nan), "NaN"),
        (drawn(3)[0], r"must be \(N, D\)"),
        (["a.jpg"], "no extractor|give Gallery"),
    ):
        with pytest.raises(ValueError, match=words):
            gallery.add(entries)
        with pytest.raises(ValueError, match=words):
            gallery.search(entries)
    for options in ({"pids": [1]}, {"camids": [0.5] * 6}, {"paths": ["a"]}, {"paths": ["a\0b"] * 6}):
        with pytest.raises(ValueError, match=next(iter(options))):
            gallery.add(features, **options)
    assert len(gallery) == 6
    raw = Gallery()
    raw.add(drawn(2))
    with pytest.raises(ValueError, match="the gallery has none"):
        raw.search(features)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"metric": "manhattan"}, "metric='manhattan' must be one of euclidean, cosine"),
        ({"index": "annoy"}, "index='annoy' must be one of exact, faiss, faiss_hnsw"),
        ({"effort": 3}, "effort=3"),
    ],
)
def test_options_are_checked(options, words):
    with pytest.raises(ValueError, match=words):
        Gallery(**options)


@pytest.mark.parametrize("options", [{"k": 0}, {"k": 2.5}, {"rerank_top": 0}])
def test_numbers_are_checked(options):
    with pytest.raises(ValueError, match="must be an integer from 1"):
        filled()[0].search(drawn(1), **options)
    with pytest.raises(ValueError, match="ids are float64"):
        filled()[0].remove([0.5])
    with pytest.raises(ValueError, match="mask of the shape"):
        filled()[0].remove([True])


@pytest.fixture(scope="module")
def extractor():
    torch.manual_seed(0)
    model = build_model("osnet_x0_25", num_classes=1).eval()
    return reidlit.FeatureExtractor(model=model, image_size=SIZE, device="cpu", batch_size=3, num_workers=0)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    pedestrians = Pedestrians(3, 2, 2, 96, 48)
    return [str(path) for path in pedestrians.write(tmp_path_factory.mktemp("pedestrians"), pedestrians.keys())]


def test_images(extractor, files, tmp_path):
    gallery = reidlit.Gallery(extractor=extractor)
    ids = gallery.add(files[:8], pids=[0] * 8)
    assert gallery.about(ids).paths.tolist() == files[:8]
    torch.testing.assert_close(gallery.embeddings(ids), extractor(files[:8]))
    found = gallery.search(files[5], 3)
    assert found.ids[0, 0] == ids[5]
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match="broken"):
        gallery.add([*files[8:], str(tmp_path / "broken.jpg")])
    assert len(gallery) == 8
    assert gallery.add(files[8:9]).tolist() == [8]
    gallery.save(tmp_path / "gallery.npz")
    assert Gallery.load(tmp_path / "gallery.npz", extractor=extractor).search(files[8], 1).ids.tolist() == [[8]]
    flipped = reidlit.FeatureExtractor(model=extractor.trained.model, image_size=SIZE, device="cpu", flip=True)
    with pytest.raises(ValueError, match="cannot be compared"):
        Gallery.load(tmp_path / "gallery.npz", extractor=flipped)


@pytest.mark.parametrize("index", ["faiss", "faiss_hnsw"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_faiss_finds_nearly_all(index, metric):
    pytest.importorskip("faiss")
    gallery, _ = filled(600, index=index, metric=metric, effort=64)
    exact, _ = filled(600, metric=metric)
    query = drawn(20, seed=1)
    assert gallery.recall(query, 5) > 0.95
    assert exact.recall(query, 5) == 1
    found, right = gallery.search(query, 5), exact.search(query, 5)
    same = found.ids == right.ids
    assert same.mean() > 0.9
    np.testing.assert_allclose(found.distances[same], right.distances[same], atol=1e-5)
    gallery.remove(right.ids[:, 0])  # gone, though FAISS still has them
    assert not np.isin(gallery.search(query, 5).ids, right.ids[:, 0]).any()
    new = gallery.add(query[:1])
    assert gallery.search(query[:1], 1).ids == new
    assert set(gallery.about(gallery.search(query, 5, cameras=[2]).ids).camids.reshape(-1)) == {2}
    gallery.remove(gallery.ids[7:])  # most of it: the index is built anew
    assert (np.sort(gallery.search(query, 9).ids[:, :7]) == gallery.ids).all()
    assert (gallery.search(query, 9).ids[:, 7:] == -1).all()


def test_faiss_is_optional(monkeypatch):
    imported = builtins.__import__

    def without(name, *arguments, **options):
        if name == "faiss":
            raise ImportError("No module named 'faiss'")
        return imported(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    assert len(filled()[0].search(drawn(2)).ids) == 2
    with pytest.raises(ValueError, match=r"pip install reidlit\[faiss\]"):
        Gallery(index="faiss")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu():
    on_cpu, on_gpu = filled()[0], filled(device="cuda")[0]
    query = drawn(5, seed=1)
    for options in ({}, {"not_cameras": [1]}, {"centroid": True}, {"rerank": KReciprocal(6, 3)}):
        np.testing.assert_array_equal(on_gpu.search(query, 9, **options).ids, on_cpu.search(query, 9, **options).ids)
