"""PA-100K's files, drawn small and in the structure of the real ones."""

import numpy as np
import pytest
from scipy.io import savemat

from helpers.datasets import draw, loading
from reidlit.data.datasets.pa100k import PA100K

NAMES = ("Female", "AgeOver60", "Hat", "Hand Bag")
SIZES = {"train": 6, "val": 3, "test": 4}


def cells(values):
    """An (N, 1) cell array of strings."""
    column = np.empty((len(values), 1), object)
    column[:, 0] = values
    return column


def write(root, **changes):
    """The dataset with so many images a split; labels are drawn."""
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


def test_splits_and_labels_are_those_of_the_annotation(tmp_path):
    _, content = write(tmp_path)
    data = PA100K(str(tmp_path), **loading(batch_size=3))
    assert data.names == NAMES
    for split, size in SIZES.items():
        samples = data.listed(split)
        assert [path.path.rpartition("/")[2] for path in samples] == content[f"{split}_images_name"][:, 0].tolist()
        assert len(samples) == size
        assert (data.labels_of(samples) == content[f"{split}_label"]).all()
    assert data.ratios == pytest.approx(content["train_label"].mean(0))
    assert [(split, found.images, known.images) for split, found, known in data.verify()] == [
        ("train", 6, 80_000),
        ("val", 3, 10_000),
        ("test", 4, 10_000),
    ]


def test_batches_bring_the_labels_of_their_images(tmp_path):
    """In training in the drawn order, with each view of an image; in evaluation in that of the list."""
    _, content = write(tmp_path)
    data = PA100K(str(tmp_path), **loading(batch_size=3, k_tfm=2))
    data.setup("fit")
    data.setup("test")
    labels = np.concatenate([content[f"{split}_label"] for split in SIZES])
    loaders = [data.train_dataloader(), *data.val_dataloader(), *data.test_dataloader().values()]
    seen = []
    for loader in loaders:
        for batch in loader:
            gray = batch["image"][:, 0, 0, 0].tolist()  # an image's number
            assert (batch["attributes"].numpy() == labels[[number - 1 for number in gray]]).all()
            seen += gray
    assert sorted(seen) == sorted([*range(1, 7), *range(1, 14)])


def test_labels_come_in_the_order_of_a_model_and_what_is_missing_is_not_known(tmp_path):
    _, content = write(tmp_path)
    data = PA100K(str(tmp_path), **loading())
    data.names = ["Hat", "Glasses", "Female"]
    assert data.missing == ["Glasses"]
    found = data.labels_of(data.listed("test"))
    assert (found[:, [0, 2]] == content["test_label"][:, [2, 0]]).all()
    assert (found[:, 1] == -1).all()
    with pytest.raises(ValueError, match="none of the attributes Glasses; it has Female, AgeOver60"):
        data.names = ["Glasses"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attributes": None}, "lacks the variables"),
        ({"train_label": np.zeros((5, 4))}, "is not PA-100K's"),
        ({"train_label": np.zeros((6, 3))}, r"train_label is \(6, 3\) of float64, but there are 4 attributes"),
        ({"val_label": np.full((3, 4), 2)}, "val_label holds other values than 0 and 1"),
        ({"val_label": np.full((3, 4), np.nan)}, "val_label holds other values"),
        ({"val_images_name": np.zeros((3, 1))}, "cell array of strings"),
        ({"attributes": cells(["Hat", "Hat", "A", "B"])}, "'Hat' is blank or there twice"),
        ({"test_images_name": cells(["000001.jpg", "000011.jpg", "000012.jpg", "000013.jpg"])}, "listed twice"),
    ],
)
def test_another_annotation_is_refused(changes, words, tmp_path):
    write(tmp_path, **changes)
    with pytest.raises(ValueError, match=words):
        PA100K(str(tmp_path), **loading()).listed("train")


def test_files_that_are_missing_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="pa100k is not there"):
        PA100K(str(tmp_path), **loading()).listed("train")
    file, _ = write(tmp_path)
    (tmp_path / "pa100k" / "data" / "000003.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 13 images are missing, '000003\.jpg' for one"):
        PA100K(str(tmp_path), **loading()).listed("train")
    names = cells([f"../data/00000{n}.jpg" for n in range(1, 7)])
    write(tmp_path, train_images_name=names)  # a name that leads elsewhere is no image of the folder
    with pytest.raises(FileNotFoundError, match="6 of 13 images are missing"):
        PA100K(str(tmp_path), **loading()).listed("train")
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"annotation.mat does not exist"):
        PA100K(str(tmp_path), **loading()).listed("train")


def test_a_damaged_annotation_is_refused_by_name(tmp_path):
    file, _ = write(tmp_path)
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"annotation\.mat is not a readable MATLAB file"):
        PA100K(str(tmp_path), **loading()).listed("train")


def test_options_without_a_meaning_here_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"data\.val_fraction=0\.1: data=pa100k brings a validation split"):
        PA100K(str(tmp_path), **loading(val_fraction=0.1))
    with pytest.raises(ValueError, match=r"data\.combineall=true"):
        PA100K(str(tmp_path), **loading(combineall=True))


def test_an_attribute_of_which_training_knows_nothing_is_refused(tmp_path):
    write(tmp_path)
    data = PA100K(str(tmp_path), **loading())
    data.names = ["Hat", "Glasses"]
    with pytest.raises(ValueError, match="no training image tells whether it has Glasses"):
        _ = data.ratios
