"""CUHK03: extraction, protocols and errors, on a small generated cuhk-03.mat in MATLAB's v7.3 format."""

import shutil

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from helpers.datasets import draw, ids, loading
from reidlit.data.datasets.cuhk03 import CUHK03
from reidlit.data.decode import decode

PAIRS = (3, 1, 1, 1, 2)  # identities of each camera pair
SHOTS = {"detected": (0, 5, 9), "labeled": (0, 4, 5)}  # non-empty images among the ten of an identity


def picture(boxes, pair, row, shot):
    """Return a random (H, W, 3) image whose size depends on the identity."""
    seed = [list(SHOTS).index(boxes), pair, row, shot]
    return np.random.default_rng(seed).integers(0, 256, (9 + row, 4 + pair, 3), dtype=np.uint8)


def write_release(path, replacement=None):
    """Write cells of references to column-major arrays; an empty cell refers to its size, (0, 0).

    `replacement` replaces the images of pair 5.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        count = iter(range(10**6))

        def store(array):
            return file.create_dataset(f"#refs#/{next(count)}", data=array).ref

        def cell(references):
            return np.array(references, dtype=h5py.ref_dtype).T

        empty = store(np.zeros(2, np.uint64))
        for boxes, shots in SHOTS.items():
            pairs = []
            for pair, identities in enumerate(PAIRS, 1):
                rows = [[empty] * 10 for _ in range(identities)]
                for row, shot in np.ndindex(identities, 10):
                    if shot in shots:
                        image = picture(boxes, pair, row, shot)
                        rows[row][shot] = store((replacement if replacement is not None and pair == 5 else image).T)
                pairs.append(store(cell(rows)))
            file.create_dataset(boxes, data=cell([[pair] for pair in pairs]))
        # Test identities: 2 of pair 1 and 1 of pair 3 in split 0, and 1 of pair 2 in the others.
        testsets = [np.array([[1.0, 2.0], [3.0, 1.0]]), *[np.array([[2.0, 1.0]])] * 19]
        file.create_dataset("testsets", data=cell([[store(test.T)] for test in testsets]))
    return path


FILES = [f"{pair}_{row + 1:03d}_{1 + (shot > 4)}_{shot + 1:02d}.png" for pair in range(1, 6)
         for row in range(PAIRS[pair - 1]) for shot in SHOTS["detected"]]  # fmt: skip


def write_protocol(folder, boxes="detected", **changes):
    """Write the 767/700 protocol with test identities 2 of pair 1 and 1 of pair 5, and one query per view."""
    test = [place for place, name in enumerate(FILES, 1) if name.startswith(("1_002", "5_001"))]
    query = [place for place in test if FILES[place - 1].endswith(("_01.png", "_10.png"))]
    content = {
        "filelist": np.array([[name] for name in FILES], dtype=object),
        "labels": np.zeros((len(FILES), 1)),
        "train_idx": np.array([[place] for place in range(1, len(FILES) + 1) if place not in test][::-1]),
        "query_idx": np.array([[float(place)] for place in query]),  # MATLAB stores numbers as doubles
        "gallery_idx": np.array([[place] for place in test if place not in query]),
    }
    savemat(folder / f"cuhk03_new_protocol_config_{boxes}.mat", content | changes)


@pytest.fixture
def root(tmp_path):
    write_release(tmp_path / "cuhk03/cuhk03_release/cuhk-03.mat")
    write_protocol(tmp_path / "cuhk03")
    return tmp_path


@pytest.mark.parametrize("boxes", SHOTS)
def test_images_are_extracted_exactly(boxes, root):
    data = CUHK03(str(root), cuhk03_labeled=boxes == "labeled", **loading())
    data.prepare_data()
    expected = {
        f"{pair}_{row + 1:03d}_{1 if shot < 5 else 2}_{shot + 1:02d}.png": picture(boxes, pair, row, shot)
        for pair in range(1, 6)
        for row in range(PAIRS[pair - 1])
        for shot in SHOTS[boxes]
    }
    folder = root / "cuhk03" / f"images_{boxes}"
    assert {path.name for path in folder.iterdir()} == set(expected)
    for name, image in expected.items():
        np.testing.assert_array_equal(decode(folder / name), image)
    other = ({"detected", "labeled"} - {boxes}).pop()
    assert not (root / "cuhk03" / f"images_{other}").exists()


def test_extraction_resumes_after_failure(root):
    release = root / "cuhk03/cuhk03_release/cuhk-03.mat"
    folder = root / "cuhk03/images_detected"
    write_release(release, replacement=np.zeros((4, 4, 3)))  # not uint8
    data = CUHK03(str(root), **loading())
    with pytest.raises(ValueError, match=r"cuhk-03\.mat.*5_001_1_01\.png .*float64 \(4, 4, 3\)"):
        data.prepare_data()
    assert {path.name for path in folder.iterdir()} == {name for name in FILES if name[0] != "5"}
    draw(folder / FILES[0], gray=7)  # existing images are kept
    before = (folder / FILES[1]).stat().st_mtime_ns
    (folder / FILES[2]).unlink()
    write_release(release)
    data.prepare_data()
    assert {path.name for path in folder.iterdir()} == set(FILES)
    assert decode(folder / FILES[0]).max() == 7
    assert (folder / FILES[1]).stat().st_mtime_ns == before


def test_protocol_does_not_need_release_after_extraction(root):
    CUHK03(str(root), **loading()).prepare_data()
    shutil.rmtree(root / "cuhk03/cuhk03_release")
    (root / "cuhk03/images_detected/Thumbs.db").write_bytes(b"stray")
    (root / "cuhk03/images_detected/.1_001_1_01.png.part").write_bytes(b"cut")
    data = CUHK03(str(root), **loading())
    data.prepare_data()
    people = {1001: 0, 1003: 0, 2001: 2, 3001: 4, 4001: 6, 5002: 8}
    assert ids(data.samples("train")) == [(pid, camid + view) for pid, camid in people.items() for view in (0, 1, 1)]
    assert ids(data.samples("query")) == [(1002, 0), (1002, 1), (5001, 8), (5001, 9)]
    assert ids(data.samples("gallery")) == [(1002, 1), (5001, 9)]
    assert data.samples("gallery")[0].path == str(root / "cuhk03/images_detected/1_002_2_06.png")
    data.setup("test")
    (loader,) = data.test_dataloader().values()
    assert [batch["pid"].tolist() for batch in loader] == [[1002, 1002, 5001, 5001], [1002, 5001]]


def test_classic_splits(root):
    for split_id, test, cameras in ((0, {1002, 3001}, {0, 1, 4, 5}), (19, {2001}, {2, 3})):
        data = CUHK03(str(root), split_id=split_id, cuhk03_classic_split=True, cuhk03_labeled=True, **loading())
        data.prepare_data()
        everyone = {1001, 1002, 1003, 2001, 3001, 4001, 5001, 5002}
        train, query = data.samples("train"), data.samples("query")
        assert {sample.pid for sample in train} == everyone - test
        assert ids(query) == [(pid, 2 * (pid // 1000 - 1) + view) for pid in sorted(test) for view in (0, 0, 1)]
        assert {sample.camid for sample in query} == cameras
        assert data.samples("gallery") == query
        assert len(train) + len(query) == 3 * len(everyone)
        assert data.published() == {}


def test_published_sizes_depend_on_boxes(tmp_path):
    detected, labeled = (CUHK03(str(tmp_path), cuhk03_labeled=choice, **loading()) for choice in (False, True))
    assert [split[1] for split in detected.published().values()] == [7365, 1400, 5332]
    assert [split[1] for split in labeled.published().values()] == [7368, 1400, 5328]


@pytest.mark.parametrize(("split_id", "classic"), [(20, True), (-1, True), (1, False)])
def test_split_id_out_of_range_raises(split_id, classic, tmp_path):
    with pytest.raises(ValueError, match=rf"data\.split_id={split_id} .*cuhk03"):
        CUHK03(str(tmp_path), split_id=split_id, cuhk03_classic_split=classic, **loading())


def test_missing_file_raises(root):
    data = CUHK03(str(root), **loading())
    with pytest.raises(FileNotFoundError, match=r"images_detected.*`reidlit prepare data=cuhk03`"):
        data.samples("train")
    data.prepare_data()
    (root / "cuhk03/images_detected" / FILES[-1]).unlink()
    with pytest.raises(FileNotFoundError, match=rf"1 of 18 train .*{FILES[-1]}"):
        data.samples("train")
    assert len(data.samples("query")) == 4
    (root / "cuhk03/cuhk03_new_protocol_config_detected.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"config_detected\.mat"):
        data.samples("train")
    (root / "cuhk03/cuhk03_release/cuhk-03.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"cuhk-03\.mat"):
        CUHK03(str(root), cuhk03_classic_split=True, **loading()).samples("train")


def test_damaged_file_raises(root):
    data, classic = (CUHK03(str(root), cuhk03_classic_split=choice, **loading()) for choice in (False, True))
    data.prepare_data()
    release = root / "cuhk03/cuhk03_release/cuhk-03.mat"
    protocol = root / "cuhk03/cuhk03_new_protocol_config_detected.mat"
    for path, use in (
        (release, data.prepare_data),
        (release, lambda: classic.samples("train")),
        (protocol, lambda: data.samples("train")),
    ):
        whole = path.read_bytes()
        for content in (whole[: len(whole) // 2], b"", b"another file" * 50):
            path.write_bytes(content)
            with pytest.raises(ValueError, match=path.name):
                use()
        path.write_bytes(whole)
    write_protocol(root / "cuhk03", query_idx=np.array([[len(FILES) + 1]]))
    with pytest.raises(ValueError, match=r"query_idx .*24"):
        data.samples("query")
    for name in ("x.png", "../1_001_1_01.png"):
        write_protocol(root / "cuhk03", filelist=np.array([[name]], dtype=object), train_idx=1)
        with pytest.raises(ValueError, match=rf"{name} .*CUHK03.*config_detected\.mat"):
            data.samples("train")
    draw(root / "cuhk03/images_detected/6_001_1_01.png")
    with pytest.raises(ValueError, match=r"6_001_1_01\.png .*CUHK03"):
        classic.samples("train")
