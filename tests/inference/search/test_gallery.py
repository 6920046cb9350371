"""Gallery search."""

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


def random_embeddings(count, size=8, seed=0):
    return np.random.default_rng(seed).standard_normal((count, size), dtype=np.float32)


def labels(count):
    return np.arange(count) // 4, np.arange(count) % 3


def filled_gallery(count=70, **options):
    gallery = Gallery(**options)
    embedding, (pids, camids) = random_embeddings(count), labels(count)
    for start in range(0, count, 19):
        batch = slice(start, start + 19)
        gallery.add(embedding[batch], pids[batch], camids[batch], [f"{n}.jpg" for n in range(count)][batch])
    return gallery, embedding


def distances(query, embedding, metric):
    if metric == "cosine":
        query, embedding = (functional.normalize(torch.from_numpy(each)).numpy() for each in (query, embedding))
        return 1 - query @ embedding.T
    return ((query[:, None] - embedding[None]) ** 2).sum(axis=2)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("k", [1, 10, 70])
def test_search_is_exact(metric, k):
    gallery, embedding = filled_gallery(metric=metric)
    query = random_embeddings(5, seed=1)
    result = gallery.search(query, k)
    matrix = distances(query, embedding, metric)
    assert result.ids.tolist() == matrix.argsort(axis=1)[:, :k].tolist()
    np.testing.assert_allclose(result.distances, np.sort(matrix, axis=1)[:, :k], atol=1e-5)
    expected = nearest(torch.from_numpy(query), torch.from_numpy(embedding), k, metric)
    np.testing.assert_array_equal(result.ids, expected.indices)
    np.testing.assert_allclose(result.distances, expected.distance, atol=1e-6)
    one = gallery.search(torch.from_numpy(query[3:4]), k)
    np.testing.assert_allclose(one.distances[0], result.distances[3], atol=1e-6)


def test_ties_favor_older_rows_and_results_are_padded():
    gallery = Gallery()
    assert gallery.add(np.ones((40, 3)), paths=[f"{n}" for n in range(40)]).tolist() == list(range(40))
    result = gallery.search(np.zeros((2, 3)), 45)
    assert result.ids.tolist() == [[*range(40), *[-1] * 5]] * 2
    assert result.distances[0].tolist() == [3.0] * 40 + [np.inf] * 5
    assert gallery.about(result.ids).paths[1, 38:].tolist() == ["38", "39", "", "", "", "", ""]


def test_ids_stay_valid_when_rows_are_removed():
    gallery, embedding = filled_gallery()
    removed = [0, 17, 18, 40, 69]
    gallery.remove(removed)
    kept = np.setdiff1d(np.arange(70), removed)
    assert gallery.ids.tolist() == kept.tolist()
    assert torch.equal(gallery.embeddings(kept), torch.from_numpy(embedding[kept]))
    assert gallery.about([16, -1, 41]).pids.tolist() == [4, -1, 10]
    assert gallery.about([16, -1, 41]).camids.tolist() == [1, -1, 2]
    assert gallery.about([[16], [41]]).paths.tolist() == [["16.jpg"], ["41.jpg"]]
    query = random_embeddings(5, seed=1)
    expected = kept[distances(query, embedding[kept], "euclidean").argsort(axis=1)]
    np.testing.assert_array_equal(gallery.search(query, len(kept)).ids, expected)
    assert gallery.add(embedding[:2]).tolist() == [70, 71]  # ids are never reused
    with pytest.raises(ValueError, match=r"1 of 2 ids.* 17\b"):
        gallery.remove([1, 17])
    assert len(gallery) == 67
    gallery.remove(gallery.ids < 60)
    assert gallery.ids.tolist() == [*range(60, 69), 70, 71]
    gallery.remove(gallery.ids)
    with pytest.raises(ValueError, match=r"gallery is empty"):
        gallery.search(query)
    assert gallery.add(embedding[:1]).tolist() == [72]


def test_camera_filters():
    gallery, embedding = filled_gallery()
    query, camids = random_embeddings(6, seed=1), np.array([0, 1, 2, 0, 1, -1])
    matrix = distances(query, embedding, "euclidean")
    cameras = labels(70)[1]

    def expected_ids(allowed):
        far = np.where(allowed, matrix, np.inf)
        order = far.argsort(axis=1, kind="stable")[:, :30]
        return np.where(np.take_along_axis(far, order, 1) < np.inf, order, -1)

    every = np.ones((6, 1), bool)
    np.testing.assert_array_equal(gallery.search(query, 30, cameras=[0, 9]).ids, expected_ids(every & (cameras == 0)))
    np.testing.assert_array_equal(gallery.search(query, 30, not_cameras=[0]).ids, expected_ids(every & (cameras != 0)))
    result = gallery.search(query, 30, camids=camids, cross_camera=True, not_cameras=[2])
    np.testing.assert_array_equal(result.ids, expected_ids((cameras != camids[:, None]) & (cameras != 2)))
    assert (gallery.search(query, 3, cameras=[7]).ids == -1).all()
    with pytest.raises(ValueError, match=r"cross_camera=True.*camids="):
        gallery.search(query, cross_camera=True)
    without_cameras = Gallery()
    without_cameras.add(embedding)
    with pytest.raises(ValueError, match=r"not_cameras=\[1\].*camids="):
        without_cameras.search(query, not_cameras=[1])


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_centroid_search_compares_identities(metric):
    gallery, embedding = filled_gallery(72, metric=metric)
    if metric == "cosine":
        embedding = functional.normalize(torch.from_numpy(embedding)).numpy()
    query = random_embeddings(4, seed=1)
    result = gallery.search(query, 18, centroid=True)
    matrix = distances(query, embedding.reshape(18, 4, 8).mean(axis=1), metric)
    np.testing.assert_array_equal(gallery.about(result.ids).pids, matrix.argsort(axis=1))
    np.testing.assert_allclose(result.distances, np.sort(matrix, axis=1), atol=1e-5)
    assert (result.ids % 4 == 0).all()  # the first row of each identity
    cross = gallery.search(query, 18, centroid=True, camids=np.zeros(4, int), cross_camera=True)
    other_camera = labels(72)[1] != 0
    rest_centroids = np.stack([embedding[(labels(72)[0] == pid) & other_camera].mean(axis=0) for pid in range(18)])
    order = distances(query, rest_centroids, metric).argsort(axis=1)
    np.testing.assert_array_equal(gallery.about(cross.ids).pids, order)
    gallery.add(embedding[:1])
    with pytest.raises(ValueError, match=r"centroid=True.*1 of 73.*pids="):
        gallery.search(query, centroid=True)


def test_rerank_reorders_nearest_rows():
    gallery, embedding = filled_gallery()
    query = random_embeddings(3, seed=1)
    rerank = KReciprocal(k1=6, k2=3)
    result = gallery.search(query, 12, rerank=rerank, rerank_top=70)
    for vector, ids, distance in zip(query, *result, strict=True):
        expected = reidlit.rerank(vector[None], embedding, 6, 3)[0]
        assert ids.tolist() == expected.argsort(kind="stable")[:12].tolist()
        np.testing.assert_allclose(distance, np.sort(expected)[:12], rtol=1e-5)
    two_reranked = gallery.search(query, 5, rerank=rerank, rerank_top=2)
    without_rerank = gallery.search(query, 5)
    assert (np.sort(two_reranked.ids) == np.sort(without_rerank.ids)).all()  # at least k rows are re-ranked
    assert (two_reranked.ids != without_rerank.ids).any()
    excluded = gallery.search(query, 2, rerank=rerank, cameras=[5])
    assert (excluded.ids == -1).all()
    assert np.isinf(excluded.distances).all()


def test_save_and_load_round_trip(tmp_path):
    gallery, _ = filled_gallery(metric="cosine", fingerprint="abc")
    gallery.remove([3, 69])
    gallery.add(random_embeddings(1), stamps=[77], paths=[tmp_path / "é\udcff 猫.jpg"])
    file = tmp_path / "new" / "gallery.npz"
    gallery.save(file)
    loaded = Gallery.load(file, fingerprint="abc")
    assert (loaded.metric, loaded.fingerprint, loaded.embedding_size) == ("cosine", "abc", 8)
    for name in ("ids", "stamps"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(gallery, name))
    for new, old in zip(loaded.about(gallery.ids), gallery.about(gallery.ids), strict=True):
        np.testing.assert_array_equal(new, old)
    assert torch.equal(loaded.embeddings(gallery.ids), gallery.embeddings(gallery.ids))
    query = random_embeddings(4, seed=1)
    np.testing.assert_array_equal(loaded.search(query).distances, gallery.search(query).distances)
    assert loaded.add(random_embeddings(1)).tolist() == [71]
    with np.load(file, allow_pickle=False) as content:  # readable by NumPy alone
        assert content["embedding"].shape == (69, 8)
        assert content["about"]["pid"][-1] == -1
    Gallery().save(file)
    assert len(Gallery.load(file)) == 0
    assert [path.name for path in file.parent.iterdir()] == ["gallery.npz"]
    with pytest.raises(ValueError, match=r"file=.*\.npz"):
        gallery.save(tmp_path / "gallery")


def test_missing_and_damaged_files_raise(tmp_path):
    file = tmp_path / "gallery.npz"
    with pytest.raises(FileNotFoundError, match=r"gallery=.*gallery\.npz"):
        Gallery.load(file)
    gallery, embedding = filled_gallery()
    gallery.save(file)
    content = file.read_bytes()
    flipped_bit = bytearray(content)
    flipped_bit[content.index(embedding[5].tobytes())] ^= 1
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    other = (tmp_path / "other.zip").read_bytes()
    for damaged in (content[:-100], content[: len(content) // 2], b"", b"GIF89a" * 50, bytes(flipped_bit), other):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"gallery=.*gallery\.npz"):
            Gallery.load(file)
    np.savez(file, embedding=embedding)
    with pytest.raises(ValueError, match=r"gallery=.*gallery\.npz"):
        Gallery.load(file)


@pytest.mark.parametrize("name", ["about", "embedding", "format", "metric"])
def test_pickled_code_is_not_run(name, tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    file = tmp_path / "gallery.npz"
    filled_gallery()[0].save(file)
    with np.load(file) as content:
        arrays = dict(content)
    np.savez(file, **(arrays | {name: np.array([Payload()], object)}))
    with pytest.raises(ValueError, match=r"gallery=.*gallery\.npz"):
        Gallery.load(file)
    assert not (tmp_path / "harm").exists()


def test_inconsistent_arrays_raise(tmp_path):
    file = tmp_path / "gallery.npz"
    filled_gallery()[0].save(file)
    with np.load(file) as content:
        arrays = dict(content)
    invalid = {
        "about": arrays["about"][::-1],
        "paths": arrays["paths"][:50],
        "embedding": arrays["embedding"].astype(np.float64),
        "format": np.array(2),
    }
    nan_embedding = arrays["embedding"].copy()
    nan_embedding[3, 3] = np.nan
    for name, value in [*invalid.items(), ("embedding", arrays["embedding"][:5]), ("embedding", nan_embedding)]:
        np.savez(file, **(arrays | {name: value}))
        with pytest.raises(ValueError, match=r"gallery=.*gallery\.npz"):
            Gallery.load(file)


def test_crash_while_saving_keeps_old_file(tmp_path):
    file = tmp_path / "gallery.npz"
    gallery, _ = filled_gallery()
    gallery.save(file)
    old = file.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", _raise_no_space)
        with pytest.raises(OSError, match="no space"):
            gallery.save(file)
    assert file.read_bytes() == old
    assert [path.name for path in tmp_path.iterdir()] == ["gallery.npz"]
    larger = Gallery()
    larger.add(np.ones((20_000, 512), np.float32))
    child = os.fork()  # the child only writes files, so it does not need other threads
    if child == 0:
        larger.save(file)
        os._exit(0)
    while not any(part.stat().st_size > 1_000_000 for part in tmp_path.glob(".*.part.npz")):
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "the child finished before it could be killed"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert file.read_bytes() == old
    assert len(list(tmp_path.glob(".*.part.npz"))) == 1
    larger.save(file)  # the partial file of the killed process is ignored
    assert len(Gallery.load(file)) == 20_000
    assert [path.name for path in tmp_path.glob("[!.]*")] == ["gallery.npz"]


def _raise_no_space(_):
    raise OSError("no space")


def test_incompatible_embeddings_raise():
    features = Features(
        random_embeddings(6), **of_samples([Sample(f"{n}.jpg", n, n % 2) for n in range(6)], ""), fingerprint="abc"
    )
    gallery = Gallery()
    gallery.add(features)
    assert gallery.fingerprint == "abc"
    assert gallery.about(gallery.ids).pids.tolist() == list(range(6))
    assert gallery.search(features, 1).ids[:, 0].tolist() == list(range(6))
    assert gallery.search(features, 1, cross_camera=True).ids[0, 0] in (1, 3, 5)  # uses the cameras of the features
    other_model = Features(**{**vars(features), "fingerprint": "xyz"})
    for use_other_model in (lambda: gallery.add(other_model), lambda: gallery.search(other_model)):
        with pytest.raises(ValueError, match=r"\bxyz\b.*\babc\b"):
            use_other_model()
    for entries, message in (
        (random_embeddings(3, 9), r"\b9\b.*\b8\b"),
        (np.full((2, 8), np.nan), "NaN"),
        (random_embeddings(3)[0], r"\(N, D\)"),
        (["a.jpg"], r"extractor"),
    ):
        with pytest.raises(ValueError, match=message):
            gallery.add(entries)
        with pytest.raises(ValueError, match=message):
            gallery.search(entries)
    for options in ({"pids": [1]}, {"camids": [0.5] * 6}, {"paths": ["a"]}, {"paths": ["a\0b"] * 6}):
        with pytest.raises(ValueError, match=next(iter(options))):
            gallery.add(features, **options)
    assert len(gallery) == 6
    raw = Gallery()
    raw.add(random_embeddings(2))
    with pytest.raises(ValueError, match=r"\babc\b.*\bnone\b"):
        raw.search(features)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "manhattan"}, "metric='manhattan'.* euclidean, cosine"),
        ({"index": "annoy"}, "index='annoy'.* exact, faiss, faiss_hnsw"),
        ({"effort": 3}, r"effort=3\b"),
    ],
)
def test_invalid_options_raise(options, message):
    with pytest.raises(ValueError, match=message):
        Gallery(**options)


@pytest.mark.parametrize("options", [{"k": 0}, {"k": 2.5}, {"rerank_top": 0}])
def test_invalid_numbers_and_rows_raise(options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        filled_gallery()[0].search(random_embeddings(1), **options)
    with pytest.raises(ValueError, match=r"ids\b.*float64"):
        filled_gallery()[0].remove([0.5])
    with pytest.raises(ValueError, match=r"rows\b.*\(1,\).*\(70,\)"):
        filled_gallery()[0].remove([True])


@pytest.fixture(scope="module")
def extractor():
    torch.manual_seed(0)
    model = build_model("osnet_x0_25", num_classes=1).eval()
    return reidlit.FeatureExtractor(model=model, image_size=SIZE, device="cpu", batch_size=3, num_workers=0)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    pedestrians = Pedestrians(3, 2, 2, 96, 48)
    return [str(path) for path in pedestrians.write(tmp_path_factory.mktemp("pedestrians"), pedestrians.keys())]


def test_gallery_of_images(extractor, files, tmp_path):
    gallery = reidlit.Gallery(extractor=extractor)
    ids = gallery.add(files[:8], pids=[0] * 8)
    assert gallery.about(ids).paths.tolist() == files[:8]
    torch.testing.assert_close(gallery.embeddings(ids), extractor(files[:8]))
    result = gallery.search(files[5], 3)
    assert result.ids[0, 0] == ids[5]
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match="broken"):
        gallery.add([*files[8:], str(tmp_path / "broken.jpg")])
    assert len(gallery) == 8
    assert gallery.add(files[8:9]).tolist() == [8]
    gallery.save(tmp_path / "gallery.npz")
    assert Gallery.load(tmp_path / "gallery.npz", extractor=extractor).search(files[8], 1).ids.tolist() == [[8]]
    flipped = reidlit.FeatureExtractor(model=extractor.trained.model, image_size=SIZE, device="cpu", flip=True)
    with pytest.raises(ValueError, match=f"extractor.*{flipped.fingerprint}.*{extractor.fingerprint}"):
        Gallery.load(tmp_path / "gallery.npz", extractor=flipped)


@pytest.mark.parametrize("index", ["faiss", "faiss_hnsw"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_faiss_finds_most_neighbors(index, metric):
    pytest.importorskip("faiss")
    gallery, _ = filled_gallery(600, index=index, metric=metric, effort=64)
    exact, _ = filled_gallery(600, metric=metric)
    query = random_embeddings(20, seed=1)
    assert gallery.recall(query, 5) > 0.95
    assert exact.recall(query, 5) == 1
    result, expected = gallery.search(query, 5), exact.search(query, 5)
    same = result.ids == expected.ids
    assert same.mean() > 0.9
    np.testing.assert_allclose(result.distances[same], expected.distances[same], atol=1e-5)
    gallery.remove(expected.ids[:, 0])  # removed rows must not be returned, although FAISS still contains them
    assert not np.isin(gallery.search(query, 5).ids, expected.ids[:, 0]).any()
    new = gallery.add(query[:1])
    assert gallery.search(query[:1], 1).ids == new
    assert set(gallery.about(gallery.search(query, 5, cameras=[2]).ids).camids.reshape(-1)) == {2}
    gallery.remove(gallery.ids[7:])  # most rows, so the index is rebuilt
    assert (np.sort(gallery.search(query, 9).ids[:, :7]) == gallery.ids).all()
    assert (gallery.search(query, 9).ids[:, 7:] == -1).all()


def test_faiss_is_optional(monkeypatch):
    original_import = builtins.__import__

    def import_without_faiss(name, *arguments, **options):
        if name == "faiss":
            raise ImportError("No module named 'faiss'")
        return original_import(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", import_without_faiss)
    assert len(filled_gallery()[0].search(random_embeddings(2)).ids) == 2
    with pytest.raises(ValueError, match=r"index='faiss'.*reidlit\[faiss\]"):
        Gallery(index="faiss")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_search_matches_cpu():
    on_cpu, on_gpu = filled_gallery()[0], filled_gallery(device="cuda")[0]
    query = random_embeddings(5, seed=1)
    for options in ({}, {"not_cameras": [1]}, {"centroid": True}, {"rerank": KReciprocal(6, 3)}):
        np.testing.assert_array_equal(on_gpu.search(query, 9, **options).ids, on_cpu.search(query, 9, **options).ids)
