"""Tracklets of synthetic pedestrians: reproducible, written atomically, and better than single frames."""

import cv2
import numpy as np
import pytest

import reidlit
from reidlit.data.synthetic import motion as module
from reidlit.data.synthetic.motion import Tracklets
from reidlit.data.synthetic.pedestrians import Pedestrians


def tracklets(frames: int = 12, **options: int) -> Tracklets:
    return Tracklets(
        Pedestrians(**{"num_identities": 4, "num_cameras": 3, "shots": 2, "height": 64, "width": 32} | options), frames
    )


def test_tracklet_depends_only_on_its_key():
    first, second = tracklets(), tracklets(num_identities=9, num_cameras=6, shots=3)
    keys = list(first.pedestrians.keys(range(2)))
    expected = {key: np.stack(first.draw(*key)) for key in keys}
    for key in reversed(keys):
        np.testing.assert_array_equal(np.stack(second.draw(*key)), expected[key])
    assert len({frames.tobytes() for frames in expected.values()}) == len(keys)
    assert not np.array_equal(tracklets(seed=1).draw(0, 0, 0)[0], first.draw(0, 0, 0)[0])


@pytest.mark.parametrize(("frames", "least", "most"), [(12, 8, 16), (1, 1, 1), (2, 2, 2), (30, 20, 40)])
def test_lengths_vary_by_a_third(frames, least, most):
    drawn = tracklets(frames)
    lengths = [drawn.length(pid, 1, 0) for pid in range(60)]
    assert least <= min(lengths) <= max(lengths) <= most
    assert (len(set(lengths)) > 5) == (frames > 2)
    assert len(drawn.draw(2, 1, 0)) == lengths[2]


@pytest.mark.parametrize(("height", "width"), [(128, 64), (32, 16), (60, 90), (97, 33)])
def test_frames_have_requested_size_and_type(height, width):
    for frame in tracklets(height=height, width=width).draw(0, 1, 1):
        assert frame.shape == (height, width, 3)
        assert frame.dtype == np.uint8
        assert frame.std() > 5


def test_write_resumes_after_interruption(tmp_path, monkeypatch):
    drawn = tracklets(3)
    keys = [(0, 0, 0), (1, 2, 1)]
    files = drawn.write(tmp_path / "new" / "folder", keys)
    assert [str(file.relative_to(tmp_path / "new/folder")) for file in files[1]] == [
        f"0001_c3_01/{frame:03d}.jpg" for frame in range(drawn.length(1, 2, 1))
    ]
    for key, written in zip(keys, files, strict=True):
        for file, frame in zip(written, drawn.draw(*key), strict=True):
            image = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
            assert np.abs(image.astype(int) - frame).mean() < 8
    content = files[1][0].read_bytes()
    files[1][0].unlink()
    modified = files[1][1].stat().st_mtime_ns
    calls = []
    draw = Tracklets.draw
    monkeypatch.setattr(Tracklets, "draw", lambda self, *key: calls.append(key) or draw(self, *key))
    assert drawn.write(tmp_path / "new" / "folder", keys) == files
    assert calls == [(1, 2, 1)]
    assert files[1][0].read_bytes() == content
    assert files[1][1].stat().st_mtime_ns == modified
    assert not list(tmp_path.rglob(".*"))


def test_write_to_folder_with_other_settings_raises(tmp_path, monkeypatch):
    tracklets(3).write(tmp_path, [(0, 0, 0)])
    tracklets(3, num_identities=9).write(tmp_path, [(8, 0, 0)])  # more identities with the same settings
    for other in (tracklets(4), tracklets(3, seed=1), tracklets(3, height=65)):
        with pytest.raises(ValueError, match=str(tmp_path)):
            other.write(tmp_path, [(0, 0, 0)])
    with pytest.raises(ValueError, match="version"):  # the folder contains tracklets, not images
        Pedestrians().write(tmp_path, [(0, 0, 0)])
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    with pytest.raises(ValueError, match="tracklets"):
        tracklets(3).write(tmp_path, [(0, 0, 0)])


def colors(frame: np.ndarray) -> np.ndarray:
    """Return histograms of hue and saturation, and of brightness, in six stripes of the middle half of a frame."""
    hsv = cv2.cvtColor(frame, cv2.COLOR_RGB2HSV)
    quarter = frame.shape[1] // 4
    histograms = []
    for stripe in np.array_split(hsv[:, quarter:-quarter], 6):
        stripe = np.ascontiguousarray(stripe)
        histograms.append(cv2.calcHist([stripe], [0, 1], None, [12, 4], [0, 180, 0, 256]).ravel() / stripe[..., 0].size)
        histograms.append(cv2.calcHist([stripe], [2], None, [8], [0, 256]).ravel() / stripe[..., 0].size)
    return np.sqrt(np.concatenate(histograms))


def test_all_frames_have_higher_map_than_middle_frame():
    """Compare color histograms, centered per camera, because cameras differ more than people."""
    drawn = tracklets(num_identities=16)
    keys = np.array(list(drawn.pedestrians.keys()))
    frames = [np.stack([colors(frame) for frame in drawn.draw(*key)]) for key in keys.tolist()]
    single = mean_average_precision(np.stack([each[len(each) // 2] for each in frames]), keys)
    pooled = mean_average_precision(np.stack([each.mean(0) for each in frames]), keys)
    assert 0.1 < single < 0.6
    assert pooled > single + 0.08


def mean_average_precision(features: np.ndarray, keys: np.ndarray) -> float:
    pid, camid, shot = keys.T
    for camera in set(camid):
        features[camid == camera] -= features[camid == camera].mean(0)
    query, gallery = shot == 0, shot == 1
    scores = reidlit.evaluate(
        features[query], features[gallery], pid[query], pid[gallery], camid[query], camid[gallery], metric="cosine"
    )
    return scores.mAP
