"""What the tests of video datasets share: frames without content, and Torchreid's lists."""

import pytest

from helpers.datasets import loading

SPLITS = ("train", "query", "gallery")


def touch(path):
    """An empty file, for datasets read names only; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def lists(dataset, root, **options):
    """Our splits of a dataset."""
    data = dataset(str(root), **options, **loading())
    return {split: data.samples(split) for split in data.splits}


def names(samples):
    """The frames of each tracklet, by name alone."""
    return [tuple(path.rpartition("/")[2] for path in sample.path) for sample in samples]


def facts(samples, ordered=True):
    """What does not depend on how people are numbered or in what order tracklets are listed.

    Of each tracklet, by its frames, the camera and the frames of all tracklets of the same person.
    """
    frames = [(tuple(path if ordered else sorted(path)), int(pid), int(camid)) for path, pid, camid, *_ in samples]
    return {key: (camid, frozenset(other for other, same, _ in frames if same == pid)) for key, pid, camid in frames}


def torchreid_lists(dataset, root, **options):
    """Torchreid's splits, the oracle; it writes into the root. A dataset is named by its module and class."""
    module, name = dataset.split(".")
    reader = getattr(pytest.importorskip(f"torchreid.reid.data.datasets.video.{module}"), name)
    data = reader(root=str(root), verbose=False, transform=str, **options)
    return {split: getattr(data, split) for split in SPLITS}
