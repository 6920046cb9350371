"""Synthetic tracklets as a dataset."""

from pathlib import Path

import pytest

from helpers.datasets import ids, loading
from reidlit.data.datasets.synthetic_video import SyntheticVideo

SMALL = {"num_identities": 5, "num_test": 2, "num_cameras": 2, "shots": 2, "image_height": 64, "image_width": 32}


def test_the_dataset_lists_what_it_draws(tmp_path):
    made = SyntheticVideo(str(tmp_path), **SMALL, frames=3, seq_len=4, **loading(batch_size=3))
    made.prepare_data()
    made.setup("fit")
    made.setup("test")
    assert ids(made.train) == [(pid, camid) for pid in range(3) for camid in (0, 0, 1, 1)]
    sets = made.test_sets["synthetic_video"]
    assert ids(sets.query) == ids(sets.gallery) == [(pid, camid) for pid in (3, 4) for camid in (0, 1)]
    listed = [path for sample in (*made.train, *sets.query, *sets.gallery) for path in sample.path]
    assert sorted(listed) == sorted(str(file) for file in tmp_path.rglob("*.jpg"))
    assert {2, 3, 4} >= {len(sample.path) for sample in made.train}
    assert [Path(path).name for path in sets.query[0].path] == sorted(Path(path).name for path in sets.query[0].path)
    batch = next(iter(made.train_dataloader()))
    assert batch["image"].shape == (3, 4, 3, 32, 16)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_test": 5}, "data.num_test=5 must lie between 0 and data.num_identities=5"),
        ({"shots": 1}, "data.shots=1 must be 2 or more: one tracklet is the query"),
        ({"frames": 0}, "data.frames=0 must be 1 or more"),
        ({"image_width": 3}, "width must be at least"),
    ],
)
def test_options_are_checked(tmp_path, options, text):
    with pytest.raises(ValueError, match=text):
        SyntheticVideo(str(tmp_path), **SMALL | options, **loading())
