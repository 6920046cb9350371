"""PRID 2011, single-shot version: random splits of 200 people, and distractors."""

import pytest

from helpers.datasets import draw, ids, loading
from reidlit.data.datasets.prid import PRID
from reidlit.data.splits import drawn_order


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    image = draw(root / "image.png")
    for camera, last in (("cam_a", 385), ("cam_b", 749)):
        folder = root / "prid2011" / "prid_2011" / "single_shot" / camera
        folder.mkdir(parents=True)
        for pid in range(1, last + 1):
            (folder / f"person_{pid:04d}.png").hardlink_to(image)
        (folder / "Thumbs.db").write_bytes(b"stray")
        (folder / "._person_0001.png").write_bytes(b"stray")
    return root


def splits(root, split_id):
    data = PRID(str(root), split_id=split_id, **loading())
    return tuple(data.samples(split) for split in data.splits)


def test_splits(root):
    train_sets = set()
    for split_id in range(10):
        train, query, gallery = splits(root, split_id)
        pids = sorted(i + 1 for i in drawn_order(200, split_id)[:100])
        others = sorted(set(range(1, 201)) - set(pids))
        assert ids(train) == [(pid, camid) for camid in (0, 1) for pid in pids]
        assert ids(query) == [(pid, 0) for pid in others]
        assert ids(gallery) == [(pid, 1) for pid in [*others, *range(201, 750)]]
        train_sets.add(tuple(pids))
    assert len(train_sets) == 10
    assert query[0].path.endswith(f"cam_a/person_{others[0]:04d}.png")
    assert gallery[0].path.endswith(f"cam_b/person_{others[0]:04d}.png")


def test_sizes_match_published_ones(root):
    assert all(actual == published for _, actual, published in PRID(str(root), 9, **loading()).verify())


def test_combineall_skips_distractors(root):
    data = PRID(str(root), **loading(combineall=True))
    data.setup("fit")
    assert data.pids == list(range(1, 201))
    assert len(data.train) == 400


def test_invalid_data_raises(tmp_path):
    with pytest.raises(ValueError, match=r"data\.split_id=10 .*prid .*0 to 9"):
        splits(tmp_path, 10)
    with pytest.raises(FileNotFoundError, match=r"single_shot.cam_a"):
        splits(tmp_path, 0)
    base = tmp_path / "prid2011" / "prid_2011" / "single_shot"
    for camera in ("cam_a", "cam_b"):
        draw(base / camera / "person_0001.png")
    for name in ("holiday.png", "person_0000.png", "person_0750.png"):
        draw(base / "cam_b" / name)
        with pytest.raises(ValueError, match=f"{name} .*PRID"):
            splits(tmp_path, 0)
        (base / "cam_b" / name).unlink()
