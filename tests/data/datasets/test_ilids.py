"""QMUL-iLIDS: random splits with two test images per identity, and errors."""

from collections import Counter

import pytest

from helpers.datasets import draw, ids, loading
from reidlit.data.datasets.ilids import ILIDS
from reidlit.data.splits import drawn_order

COUNTS = [2] * 40 + [3] * 10 + [4] * 24 + [5] * 24 + [6] * 4 + [7] * 10 + [8] * 7  # 119 identities, 476 images
PEOPLE = range(1, 120)


def lay_out(root):
    base = root / "ilids" / "i-LIDS_Pedestrian" / "Persons"
    base.mkdir(parents=True)
    image = draw(root / "image.jpg")
    for pid, count in zip(PEOPLE, COUNTS, strict=True):
        for number in range(1, count + 1):
            (base / f"{pid:04d}{number:03d}.jpg").hardlink_to(image)
    (base / "Thumbs.db").write_bytes(b"stray")
    (base / "._0001001.jpg").write_bytes(b"stray")
    return base


def splits(root, split_id):
    data = ILIDS(str(root), split_id=split_id, **loading())
    return tuple(data.samples(split) for split in data.splits)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("root")
    lay_out(folder)
    return folder


def test_train_contains_all_images_of_its_identities(root):
    train, _, _ = splits(root, 3)
    pids = sorted(i + 1 for i in drawn_order(119, 3)[:59])
    assert ids(train) == [(pid, number) for pid in pids for number in range(COUNTS[pid - 1])]
    assert train[1].path.endswith(f"/Persons/{pids[0]:04d}002.jpg")


def test_split_has_one_query_and_one_gallery_image_per_test_identity(root):
    queries = set()
    for split_id in range(10):
        train, query, gallery = splits(root, split_id)
        others = sorted(set(PEOPLE) - {s.pid for s in train})
        assert [s.pid for s in query] == [s.pid for s in gallery] == others
        assert len(others) == 60
        # Evaluation would ignore a match with the same camid.
        assert all(q.camid != g.camid for q, g in zip(query, gallery, strict=True))
        queries.add(tuple(query))
        assert splits(root, split_id) == (train, query, gallery)
    assert len(queries) == 10


def test_all_image_numbers_occur_in_test(root):
    numbers = Counter(s.camid for split_id in range(10) for listed in splits(root, split_id)[1:] for s in listed)
    assert sorted(numbers) == list(range(8))


def test_combineall_merges_images_by_identity(root):
    data = ILIDS(str(root), **loading(combineall=True))
    data.setup("fit")
    train, _, _ = splits(root, 0)
    assert data.pids == list(PEOPLE)
    assert len(data.train) == len(train) + 120


def test_identities_can_be_held_out(root):
    data = ILIDS(str(root), **loading(val_fraction=0.2))
    data.setup("fit")
    assert len({s.pid for s in data.val.query}) == 12


def test_invalid_data_raises(tmp_path):
    with pytest.raises(ValueError, match=r"data\.split_id=10 .*ilids .*0 to 9"):
        splits(tmp_path, 10)
    with pytest.raises(FileNotFoundError, match=r"i-LIDS_Pedestrian.Persons"):
        splits(tmp_path, 0)
    base = lay_out(tmp_path)
    (base / "0119008.jpg").unlink()
    with pytest.raises(ValueError, match=r"Persons .*475.*119.*476.*119"):
        splits(tmp_path, 0)
    for name in ("holiday.jpg", "0007000.jpg"):
        draw(base / name)
        with pytest.raises(ValueError, match=f"{name} .*QMUL-iLIDS"):
            splits(tmp_path, 0)
        (base / name).unlink()
