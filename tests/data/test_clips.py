"""Tracklets as clips: which frames, how they are augmented, and what a batch holds."""

import random
from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from helpers.datasets import draw, loading
from reidlit.data.clips import Clips, TrackletBatches
from reidlit.data.datasets.multi import Multi, MultiVideo
from reidlit.data.frame_sampling import dense, eval_clips, even, scattered, segments, training_clip
from reidlit.data.sample import Draw, Sample
from reidlit.data.transforms import RandomErasing, Resize
from reidlit.data.transforms.pipeline import Pipeline
from reidlit.data.video import VideoDataModule

SIZES = [(1, 1), (1, 8), (5, 8), (8, 8), (9, 8), (29, 15), (920, 15)]


@pytest.mark.parametrize(("length", "count"), SIZES)
def test_even_frames_are_the_middles_of_equal_parts_of_the_whole(length, count):
    found = even(length, count)
    ideal = (np.arange(count) + 0.5) * length / count
    assert np.all(np.array(found) <= ideal)
    assert np.all(np.array(found) > ideal - 1)
    assert max(Counter(found).values()) <= -(-count // length)  # frames of a short tracklet recur equally often
    assert len(found) == count


def test_even_frames_reach_the_tail_which_torchreid_drops():
    assert max(even(29, 15)) == 28
    assert even(4, 2) == [1, 3]


@pytest.mark.parametrize(("length", "count"), SIZES)
def test_frames_drawn_by_chance(length, count):
    generator = random.Random(0)
    drawn = {way: [way(length, count, generator) for _ in range(200)] for way in (segments, scattered, dense)}
    for clips in drawn.values():
        assert all(clip == sorted(clip) and len(clip) == count for clip in clips)
        assert {place for clip in clips for place in clip} <= set(range(length))
    if length >= count:
        assert all(len(set(clip)) == count for way in (scattered, dense) for clip in drawn[way])
        assert all(np.ptp(clip) == count - 1 for clip in drawn[dense])
        for part in range(count):
            seen = {clip[part] for clip in drawn[segments]}
            assert seen <= set(range(part * length // count, (part + 1) * length // count))
    if length == 29:  # every frame has its turn
        assert all({place for clip in clips for place in clip} == set(range(29)) for clips in drawn.values())


def test_all_frames_are_tested_once():
    clips = eval_clips(29, 8, "all")
    assert [place for clip in clips for place in clip] == list(range(29))
    assert [len(clip) for clip in clips] == [8, 8, 8, 5]
    assert eval_clips(29, 8, "even") == [even(29, 8)]
    assert training_clip(29, 8, "even", random.Random(3)) == even(29, 8)


@pytest.fixture
def tracklets(tmp_path):
    """Frames whose gray level tells tracklet and place."""
    lengths = (5, 12, 3)
    return [
        Sample(tuple(str(draw(tmp_path / f"{t}_{f:03d}.png", 40 * t + f)) for f in range(length)), 10 * t, t)
        for t, length in enumerate(lengths)
    ]


def clips(samples, steps=None, **options):
    return Clips(samples, Pipeline(steps or [Resize(32, 16)]), **{"seq_len": 4, **options})


def test_a_batch_of_training_clips(tracklets):
    images = clips(tracklets, labels={0: 2, 10: 0, 20: 1}, sampling="dense")
    batch = images.collate(images.__getitems__([Draw(2, 7), Draw(1, 8)]))
    assert batch["image"].shape == (2, 4, 3, 32, 16)
    assert batch["image"].flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    assert batch["pid"].tolist() == [1, 0]
    assert batch["camid"].tolist() == [2, 1]
    first, second = batch["image"][:, :, 0, 0, 0].tolist()
    assert set(first) == {80, 81, 82}  # stretched to four
    assert np.ptp(second) == 3
    assert batch["frame_mask"].all()
    assert batch["tracklet"].tolist() == [0, 1]


def test_tested_tracklets_with_all_frames(tracklets):
    images = clips(tracklets, test_sampling="all", num_queries=1)
    batch = images.collate([images[1], images[0], images[2]])
    assert batch["image"].shape == (6, 4, 3, 32, 16)
    assert batch["tracklet"].tolist() == [0, 0, 0, 1, 1, 2]
    assert batch["frame_mask"].sum(1).tolist() == [4, 4, 4, 4, 1, 3]
    assert batch["query"].tolist() == [False, True, False]
    assert batch["index"].tolist() == [1, 0, 2]
    shown = batch["image"][:, :, 0, 0, 0]
    assert shown[batch["frame_mask"]].tolist() == [*range(40, 52), *range(5), 80, 81, 82]
    assert shown[5].tolist() == [80, 81, 82, 82]


def test_a_clip_is_augmented_alike_unless_told_otherwise(tracklets):
    def erased(draw, **options):
        red = RandomErasing(fill=[255, 0, 0], p=0.5)
        frames = clips(tracklets, [Resize(32, 16), red], **options)[draw].image[0]
        return (frames == [255, 0, 0]).all(-1)

    draws = [Draw(1, number) for number in range(20)]
    alike = [erased(draw) for draw in draws]
    assert all(np.array_equal(frame, frames[0]) for frames in alike for frame in frames)
    assert 3 < sum(frames.any() for frames in alike) < 17
    single = [erased(draw, consistent=False) for draw in draws]
    assert sum(np.array_equal(frames[0], frames[1]) for frames in single) < 10  # both whole, by chance


@pytest.mark.parametrize("consistent", [True, False])
def test_a_clip_depends_on_its_draw_alone(tracklets, consistent):
    steps = [Resize(32, 16), RandomErasing(fill="random", p=1.0)]
    once = clips(tracklets, steps, consistent=consistent, seed=5)
    again = clips(tracklets, steps, consistent=consistent, seed=5)
    again[Draw(0, 1)]
    assert np.array_equal(once[Draw(1, 9)].image, again[Draw(1, 9)].image)
    assert not np.array_equal(once[Draw(1, 9)].image, once[Draw(1, 10)].image)


def test_batches_of_whole_tracklets(tracklets):
    images = clips(tracklets, test_sampling="all")  # 2, 3 and 1 clips
    assert list(TrackletBatches(images, range(3), 3)) == [[0], [1], [2]]
    assert list(TrackletBatches(images, range(3), 2)) == [[0], [1], [2]]
    assert list(TrackletBatches(images, range(3), 5)) == [[0, 1], [2]]
    assert list(TrackletBatches(images, [2, 0], 5)) == [[2, 0]]
    assert len(TrackletBatches(images, range(3), 6)) == 1


class Three(VideoDataModule):
    name, folder = "three", ""

    def samples(self, split):
        del split
        return self.given


def module(tmp_path, given, **options):
    made = Three(str(tmp_path), **loading(), **options)
    made.given = given
    return made


def test_loaders(tmp_path, tracklets):
    made = module(tmp_path, tracklets, seq_len=4, test_sampling="all")
    made.setup("fit")
    made.setup("test")
    (batch,) = list(made.train_dataloader())
    assert batch["image"].shape == (2, 4, 3, 32, 16)
    loader = made.test_dataloader()["three"]
    assert isinstance(loader, DataLoader)
    assert sum(len(batch["pid"]) for batch in loader) == 6
    assert max(len(batch["image"]) for batch in loader) <= 4


def test_short_tracklets_are_left_out_on_request(tmp_path, tracklets):
    assert [len(s.path) for s in module(tmp_path, tracklets, min_frames=5).listed("train")] == [5, 12]
    with pytest.raises(ValueError, match=r"data.min_frames=50 leaves no train tracklet of 3"):
        module(tmp_path, tracklets, min_frames=50).listed("train")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"seq_len": 0}, "data.seq_len=0"),
        ({"sampling": "all"}, "data.test_sampling=all tests on all"),
        ({"test_sampling": "dense"}, "data.test_sampling=dense must be one of even, all"),
    ],
)
def test_options_out_of_range(tmp_path, options, text):
    with pytest.raises(ValueError, match=text):
        module(tmp_path, [], **options)


def test_several_datasets_of_tracklets(tmp_path, tracklets):
    parts = [module(tmp_path, tracklets, seq_len=4), module(tmp_path, tracklets, seq_len=4)]
    parts[1].name = "again"
    joined = MultiVideo(str(tmp_path), parts, seq_len=4, **loading())
    joined.setup("fit")
    assert sorted({s.pid for s in joined.train}) == [0, 10, 20, 21, 31, 41]
    (batch, *_) = joined.train_dataloader()
    assert batch["image"].shape == (2, 4, 3, 32, 16)
    with pytest.raises(ValueError, match="three holds tracklets, not images: data=multi is for images"):
        Multi(str(tmp_path), parts, **loading())
