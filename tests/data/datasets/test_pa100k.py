"""PA-100K: annotation and images, on a small dataset with the structure of the real one."""

import numpy as np
import pytest
from scipy.io import savemat

from helpers.datasets import draw, loading
from reidlit.data.datasets.pa100k import PA100K

NAMES = ("Female", "AgeOver60", "Hat", "Hand Bag")
SIZES = {"train": 6, "val": 3, "test": 4}


def cells(values):
    """Return an (N, 1) cell array of strings."""
    column = np.empty((len(values), 1), object)
    column[:, 0] = values
    return column


def write(root, **changes):
    """Write a dataset with `SIZES` images per split and random labels."""
    generator = np.random.default_rng(0)
    content = {"attributes": cells(NAMES)}
    first = 1
    for split, size in SIZES.items():
        names = [f"{number:06d}.jpg" for number in range(first, first + size)]
        first += size
        content[f"{split}_images_name"] = cells(names)
        content[f"{split}_label"] = generator.integers(0, 2, (size, len(NAMES))).astype(np.uint8)
        for name in names:
            draw(root / "pa100k" / "data" / name, int(name[:6]))
    file = root / "pa100k" / "annotation" / "annotation.mat"
    file.parent.mkdir(exist_ok=True)
    content |= changes
    savemat(file, {name: value for name, value in content.items() if value is not None})
    return file, content


def test_splits_and_labels_match_annotation(tmp_path):
    _, content = write(tmp_path)
    data = PA100K(str(tmp_path), **loading(batch_size=3))
    assert data.names == NAMES
    for split, size in SIZES.items():
        samples = data.listed(split)
        assert [path.path.rpartition("/")[2] for path in samples] == content[f"{split}_images_name"][:, 0].tolist()
        assert len(samples) == size
        assert (data.labels_of(samples) == content[f"{split}_label"]).all()
    assert data.ratios == pytest.approx(content["train_label"].mean(0))
    assert [(split, actual.images, published.images) for split, actual, published in data.verify()] == [
        ("train", 6, 80_000),
        ("val", 3, 10_000),
        ("test", 4, 10_000),
    ]


def test_batches_contain_labels_of_their_images(tmp_path):
    """Training batches have random order and several views; evaluation batches are in list order."""
    _, content = write(tmp_path)
    data = PA100K(str(tmp_path), **loading(batch_size=3, k_tfm=2))
    data.setup("fit")
    data.setup("test")
    labels = np.concatenate([content[f"{split}_label"] for split in SIZES])
    loaders = [data.train_dataloader(), *data.val_dataloader(), *data.test_dataloader().values()]
    numbers = []
    for loader in loaders:
        for batch in loader:
            gray = batch["image"][:, 0, 0, 0].tolist()  # the number of the image
            assert (batch["attributes"].numpy() == labels[[number - 1 for number in gray]]).all()
            numbers += gray
    assert sorted(numbers) == sorted([*range(1, 7), *range(1, 14)])


def test_labels_follow_names_and_missing_attributes_are_unknown(tmp_path):
    _, content = write(tmp_path)
    data = PA100K(str(tmp_path), **loading())
    data.names = ["Hat", "Glasses", "Female"]
    assert data.missing == ["Glasses"]
    labels = data.labels_of(data.listed("test"))
    assert (labels[:, [0, 2]] == content["test_label"][:, [2, 0]]).all()
    assert (labels[:, 1] == -1).all()
    with pytest.raises(ValueError, match=r"data=pa100k .*Glasses.*Female, AgeOver60"):
        data.names = ["Glasses"]


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"attributes": None}, "annotation.mat .*attributes"),
        ({"train_label": np.zeros((5, 4))}, "annotation.mat "),
        ({"train_label": np.zeros((6, 3))}, r"train_label .*\(6, 3\) .*4"),
        ({"val_label": np.full((3, 4), 2)}, "val_label .*0 and 1"),
        ({"val_label": np.full((3, 4), np.nan)}, "val_label .*0 and 1"),
        ({"val_images_name": np.zeros((3, 1))}, "annotation.mat .*cell array"),
        ({"attributes": cells(["Hat", "Hat", "A", "B"])}, "pa100k.*'Hat'"),
        (
            {"test_images_name": cells(["000001.jpg", "000011.jpg", "000012.jpg", "000013.jpg"])},
            "annotation.mat .*twice",
        ),
    ],
)
def test_invalid_annotation_raises(changes, pattern, tmp_path):
    write(tmp_path, **changes)
    with pytest.raises(ValueError, match=pattern):
        PA100K(str(tmp_path), **loading()).listed("train")


def test_missing_file_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data\.root=.*pa100k"):
        PA100K(str(tmp_path), **loading()).listed("train")
    file, _ = write(tmp_path)
    (tmp_path / "pa100k" / "data" / "000003.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 13 images .*'000003\.jpg'"):
        PA100K(str(tmp_path), **loading()).listed("train")
    names = cells([f"../data/00000{n}.jpg" for n in range(1, 7)])
    write(tmp_path, train_images_name=names)  # names outside the folder do not count as existing
    with pytest.raises(FileNotFoundError, match="6 of 13 images"):
        PA100K(str(tmp_path), **loading()).listed("train")
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"annotation\.mat"):
        PA100K(str(tmp_path), **loading()).listed("train")


def test_damaged_annotation_raises(tmp_path):
    file, _ = write(tmp_path)
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"annotation\.mat"):
        PA100K(str(tmp_path), **loading()).listed("train")


def test_unsupported_option_raises(tmp_path):
    with pytest.raises(ValueError, match=r"data\.val_fraction=0\.1 .*data=pa100k"):
        PA100K(str(tmp_path), **loading(val_fraction=0.1))
    with pytest.raises(ValueError, match=r"data\.combineall=true"):
        PA100K(str(tmp_path), **loading(combineall=True))


def test_ratios_of_attribute_without_labels_raise(tmp_path):
    write(tmp_path)
    data = PA100K(str(tmp_path), **loading())
    data.names = ["Hat", "Glasses"]
    with pytest.raises(ValueError, match=r"data=pa100k.*Glasses"):
        _ = data.ratios
