"""Drawn tracklets: deterministic, written whole, listed as a dataset, and worth more than their middle frames."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

import reidlit
from helpers.datasets import ids, loading
from reidlit.data.datasets.synthetic_video import SyntheticVideo
from reidlit.data.synthetic import motion as module
from reidlit.data.synthetic.cameras import generator
from reidlit.data.synthetic.gait import LEG, Walk, draw_gait
from reidlit.data.synthetic.motion import Tracklets
from reidlit.data.synthetic.occluders import draw_passer_by, draw_thing
from reidlit.data.synthetic.walkers import Walkers, draw_identity

SMALL = {"num_identities": 5, "num_test": 2, "num_cameras": 2, "shots": 2, "image_height": 64, "image_width": 32}


def tracklets(frames: int = 12, **options: int) -> Tracklets:
    return Tracklets(
        Walkers(**{"num_identities": 4, "num_cameras": 3, "shots": 2, "height": 64, "width": 32} | options), frames
    )


def walk(**changes: float) -> Walk:
    options = {"phase": 0.3, "yaw": math.pi / 2, "turn": 0.0, "x": 50.0, "y": 240.0, "unit": 200.0} | changes
    return Walk(draw_identity(0, 1), draw_gait(0, 1), **options)


def test_a_tracklet_depends_on_its_key_only():
    once, again = tracklets(), tracklets(num_identities=9, num_cameras=6, shots=3)
    keys = list(once.walkers.keys(range(2)))
    there = {key: np.stack(once.draw(*key)) for key in keys}
    for key in reversed(keys):
        np.testing.assert_array_equal(np.stack(again.draw(*key)), there[key])
    assert len({frames.tobytes() for frames in there.values()}) == len(keys)
    assert not np.array_equal(tracklets(seed=1).draw(0, 0, 0)[0], once.draw(0, 0, 0)[0])


@pytest.mark.parametrize(("frames", "least", "most"), [(12, 8, 16), (1, 1, 1), (2, 2, 2), (30, 20, 40)])
def test_lengths_vary_by_a_third(frames, least, most):
    drawn = tracklets(frames)
    lengths = [drawn.length(pid, 1, 0) for pid in range(60)]
    assert least <= min(lengths) <= max(lengths) <= most
    assert (len(set(lengths)) > 5) == (frames > 2)
    assert len(drawn.draw(2, 1, 0)) == lengths[2]


@pytest.mark.parametrize(("height", "width"), [(128, 64), (32, 16), (60, 90), (97, 33)])
def test_size_and_type(height, width):
    for frame in tracklets(height=height, width=width).draw(0, 1, 1):
        assert frame.shape == (height, width, 3)
        assert frame.dtype == np.uint8
        assert frame.std() > 5


def test_a_foot_on_the_ground_stays_where_it_is():
    walker = walk()
    half_cycle = math.pi / walker.gait.pace  # frames of one step
    step = walker.place(half_cycle).x - walker.place(0).x
    assert step == pytest.approx(2 * LEG * math.sin(walker.gait.stride) * walker.unit)
    assert walker.pose(half_cycle).phase == pytest.approx(0.3 + math.pi)
    assert walk(yaw=-math.pi / 2).place(3).x < 50
    assert walk(yaw=0.0).place(3).x == pytest.approx(50)


def test_the_body_sinks_where_the_legs_are_apart():
    together, apart = walk(phase=0.0), walk(phase=math.pi / 2)
    assert together.place(0).y == 240
    assert apart.place(0).y == pytest.approx(240 + LEG * 200 * (1 - math.cos(apart.gait.stride)))


def test_who_passes_by_meets_the_person_and_is_gone_soon():
    for number in range(20):
        walker = walk(yaw=(-1) ** number * 1.2)
        passer = draw_passer_by(generator(number), walker, meeting=4.5, nearer=1.1)
        apart = [passer.place(frame).x - walker.place(frame).x for frame in (-2, 4.5, 11)]
        assert apart[1] == pytest.approx(0)
        assert abs(apart[0]) > walker.unit / 2
        assert abs(apart[2]) > walker.unit / 2
        assert apart[0] * apart[2] < 0


def test_things_hide_the_person_where_they_meet():
    for number in range(12):
        walker = walk(yaw=1.2)
        thing = draw_thing(generator(number), walker, meeting=5)
        x, y = round(walker.place(5).x) - 50, 40
        before, after = np.zeros((200, 100, 3), np.uint8), np.zeros((200, 100, 3), np.uint8)
        walker.draw(before, x, y, 5)
        thing.draw(after, x, y, 5)
        assert (after.any(2) & before.any(2)).sum() > 0.1 * before.any(2).sum()
        elsewhere = np.zeros_like(after)
        thing.draw(elsewhere, x + 300, y, 9)
        assert not elsewhere.any()


def test_write_names_its_frames_and_goes_on_where_it_was_killed(tmp_path, monkeypatch):
    drawn = tracklets(3)
    keys = [(0, 0, 0), (1, 2, 1)]
    files = drawn.write(tmp_path / "new" / "folder", keys)
    assert [str(file.relative_to(tmp_path / "new/folder")) for file in files[1]] == [
        f"0001_c3_01/{frame:03d}.jpg" for frame in range(drawn.length(1, 2, 1))
    ]
    for key, written in zip(keys, files, strict=True):
        for file, frame in zip(written, drawn.draw(*key), strict=True):
            seen = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
            assert np.abs(seen.astype(int) - frame).mean() < 8
    kept = files[1][0].read_bytes()
    files[1][0].unlink()
    whole = files[1][1].stat().st_mtime_ns
    calls = []
    draw = Tracklets.draw
    monkeypatch.setattr(Tracklets, "draw", lambda self, *key: calls.append(key) or draw(self, *key))
    assert drawn.write(tmp_path / "new" / "folder", keys) == files
    assert calls == [(1, 2, 1)]
    assert files[1][0].read_bytes() == kept
    assert files[1][1].stat().st_mtime_ns == whole
    assert not list(tmp_path.rglob(".*"))


def test_write_refuses_a_folder_of_other_settings(tmp_path, monkeypatch):
    tracklets(3).write(tmp_path, [(0, 0, 0)])
    tracklets(3, num_identities=9).write(tmp_path, [(8, 0, 0)])  # the same world, more of it
    for other in (tracklets(4), tracklets(3, seed=1), tracklets(3, height=65)):
        with pytest.raises(ValueError, match="delete it or name another"):
            other.write(tmp_path, [(0, 0, 0)])
    with pytest.raises(ValueError, match="version"):  # of images
        Walkers().write(tmp_path, [(0, 0, 0)])
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    with pytest.raises(ValueError, match="tracklets"):
        tracklets(3).write(tmp_path, [(0, 0, 0)])


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


def colours(frame: np.ndarray) -> np.ndarray:
    """Histograms of hue and saturation, and of brightness, in six stripes of the middle half of a frame."""
    hsv = cv2.cvtColor(frame, cv2.COLOR_RGB2HSV)
    quarter = frame.shape[1] // 4
    found = []
    for stripe in np.array_split(hsv[:, quarter:-quarter], 6):
        stripe = np.ascontiguousarray(stripe)
        found.append(cv2.calcHist([stripe], [0, 1], None, [12, 4], [0, 180, 0, 256]).ravel() / stripe[..., 0].size)
        found.append(cv2.calcHist([stripe], [2], None, [8], [0, 256]).ravel() / stripe[..., 0].size)
    return np.sqrt(np.concatenate(found))


def test_all_frames_together_find_more_than_the_middle_one():
    """Without training, by colours alone: each camera's mean is taken off, since cameras differ more than people do."""
    drawn = tracklets(num_identities=16)
    keys = np.array(list(drawn.walkers.keys()))
    frames = [np.stack([colours(frame) for frame in drawn.draw(*key)]) for key in keys.tolist()]
    single = score(np.stack([each[len(each) // 2] for each in frames]), keys)
    pooled = score(np.stack([each.mean(0) for each in frames]), keys)
    assert 0.1 < single < 0.6
    assert pooled > single + 0.08


def score(features: np.ndarray, keys: np.ndarray) -> float:
    pid, camid, shot = keys.T
    for camera in set(camid):
        features[camid == camera] -= features[camid == camera].mean(0)
    query, gallery = shot == 0, shot == 1
    found = reidlit.evaluate(
        features[query], features[gallery], pid[query], pid[gallery], camid[query], camid[gallery], metric="cosine"
    )
    return found.mAP
