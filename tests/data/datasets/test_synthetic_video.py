"""Video dataset of synthetic pedestrians."""

from pathlib import Path

import pytest

from helpers.datasets import ids, loading
from reidlit.data.datasets.synthetic_video import SyntheticVideo

SMALL = {"num_identities": 5, "num_test": 2, "num_cameras": 2, "shots": 2, "image_height": 64, "image_width": 32}


def test_dataset_lists_rendered_files(tmp_path):
    data = SyntheticVideo(str(tmp_path), **SMALL, frames=3, seq_len=4, **loading(batch_size=3))
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    assert ids(data.train) == [(pid, camid) for pid in range(3) for camid in (0, 0, 1, 1)]
    sets = data.test_sets["synthetic_video"]
    assert ids(sets.query) == ids(sets.gallery) == [(pid, camid) for pid in (3, 4) for camid in (0, 1)]
    listed = [path for sample in (*data.train, *sets.query, *sets.gallery) for path in sample.path]
    assert sorted(listed) == sorted(str(file) for file in tmp_path.rglob("*.jpg"))
    assert {2, 3, 4} >= {len(sample.path) for sample in data.train}
    assert [Path(path).name for path in sets.query[0].path] == sorted(Path(path).name for path in sets.query[0].path)
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (3, 4, 3, 32, 16)


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"num_test": 5}, "data.num_test=5 .*data.num_identities=5"),
        ({"shots": 1}, "data.shots=1 .*2"),
        ({"frames": 0}, "data.frames=0 "),
        ({"image_width": 3}, "width .*3"),
    ],
)
def test_invalid_option_raises(tmp_path, options, pattern):
    with pytest.raises(ValueError, match=pattern):
        SyntheticVideo(str(tmp_path), **SMALL | options, **loading())
