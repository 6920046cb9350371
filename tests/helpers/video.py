"""Empty frames and lists of tracklets, ours and Torchreid's, for the tests of video datasets."""

import pytest

from helpers.datasets import loading

SPLITS = ("train", "query", "gallery")


def touch(path):
    """Create an empty file and its folder; datasets read only file names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def lists(dataset, root, **options):
    """Return the splits of a dataset as listed by reidlit."""
    data = dataset(str(root), **options, **loading())
    return {split: data.samples(split) for split in data.splits}


def names(samples):
    """Return the file names of the frames of each tracklet."""
    return [tuple(path.rpartition("/")[2] for path in sample.path) for sample in samples]


def facts(samples, ordered=True):
    """Return a description that does not depend on the numbers of identities or the order of tracklets.

    It maps the frames of each tracklet to its camera and to the tracklets of the same identity.
    """
    tracklets = [(tuple(path if ordered else sorted(path)), int(pid), int(camid)) for path, pid, camid, *_ in samples]
    return {
        frames: (camid, frozenset(other for other, other_pid, _ in tracklets if other_pid == pid))
        for frames, pid, camid in tracklets
    }


def torchreid_lists(dataset, root, **options):
    """Return the splits of `<module>.<class>` as listed by Torchreid, the reference; it writes into the root."""
    module, name = dataset.split(".")
    reader = getattr(pytest.importorskip(f"torchreid.reid.data.datasets.video.{module}"), name)
    data = reader(root=str(root), verbose=False, transform=str, **options)
    return {split: getattr(data, split) for split in SPLITS}
