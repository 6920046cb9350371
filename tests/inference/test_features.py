"""Storage of features in files."""

import os
from pathlib import Path

import numpy as np
import pytest

from reidlit.data.sample import Sample
from reidlit.inference.features import COLUMNS, Features, PartialFeatures, of_samples


def features(count=5, size=3, seed=0):
    rng = np.random.default_rng(seed)
    samples = [Sample(f"ordner/bild {n} é.jpg", n // 2, n % 2 - 1) for n in range(count)]
    embedding = rng.standard_normal((count, size), dtype=np.float32)
    return Features(embedding, **of_samples(samples, "query"), fingerprint="abc")


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_save_and_load_round_trip(suffix, tmp_path):
    written = features()
    written.save(tmp_path / "new" / f"features{suffix}")
    read = Features.load(tmp_path / "new" / f"features{suffix}")
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
        assert getattr(read, name).dtype.kind == getattr(written, name).dtype.kind
    assert read.fingerprint == "abc"
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"features{suffix}"]
    assert len(read.of_split("gallery")) == 0
    assert read.of_split("query").path[1] == "ordner/bild 1 é.jpg"


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_missing_and_damaged_files_raise(suffix, tmp_path):
    file = tmp_path / f"features{suffix}"
    with pytest.raises(FileNotFoundError, match=rf"features=.*features\{suffix}"):
        Features.load(file)
    features(300).save(file)
    content = file.read_bytes()
    for damaged in (content[:-200], content[: len(content) // 2], b"", b"GIF89a" * 50):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"features=.*features\{suffix}"):
            Features.load(file)


def test_pickled_code_is_not_run(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    np.savez(tmp_path / "bad.npz", fingerprint="x", **{name: np.array([Payload()], object) for name in COLUMNS})
    with pytest.raises(ValueError, match="pickle"):
        Features.load(tmp_path / "bad.npz")
    assert not (tmp_path / "harm").exists()


def test_invalid_lengths_and_suffixes_raise(tmp_path):
    good = features()
    with pytest.raises(ValueError, match=r"\(2, 3\).*'path': 5"):
        Features(good.embedding[:2], good.path, good.pid, good.camid, good.split, good.tracklet, "x")
    with pytest.raises(ValueError, match=r"features\.csv.*\.npz or \.parquet"):
        good.save(tmp_path / "features.csv")


def test_interrupted_extraction_resumes(tmp_path):
    paths = [f"{n}.jpg" for n in range(300)]
    file = tmp_path / "features.npz"

    def ones(start):
        for n in range(start, 300):
            if n == 200 and start == 0:
                raise KeyboardInterrupt
            yield range(n, n + 1), np.full((1, 4), n, np.float32)

    interrupted = PartialFeatures(file, paths, 4, "abc")
    assert interrupted.done == 0
    with pytest.raises(KeyboardInterrupt):
        interrupted.fill(ones(0))
    resumed = PartialFeatures(file, paths, 4, "abc")
    assert resumed.done == 192  # last multiple of FLUSH
    resumed.fill(ones(192))
    assert resumed.embedding[:, 0].tolist() == list(range(300))
    for other in (PartialFeatures(file, paths[:-1], 4, "abc"), PartialFeatures(file, paths, 4, "other")):
        assert other.done == 0
    PartialFeatures.clear(file)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("frames", [False, True])
@pytest.mark.parametrize("change", ["size", "time"])
def test_embeddings_of_replaced_images_are_not_reused(change, frames, tmp_path):
    paths = [str(tmp_path / f"{n}.jpg") for n in range(6)]
    for path in paths:
        Path(path).write_bytes(b"image")
    samples = list(zip(paths[::2], paths[1::2], strict=True)) if frames else paths
    file = tmp_path / "features.npz"
    PartialFeatures(file, samples, 4, "abc").fill([(range(len(samples)), np.ones((len(samples), 4)))])
    assert PartialFeatures(file, samples, 4, "abc").done == len(samples)
    if change == "size":
        status = Path(paths[3]).stat()
        Path(paths[3]).write_bytes(b"another image")
        os.utime(paths[3], ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        os.utime(paths[3], ns=(1, 1))
    assert PartialFeatures(file, samples, 4, "abc").done == 0
