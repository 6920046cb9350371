"""Clips of tracklets: selection of frames, augmentation and batches."""

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
def test_even_selects_the_middle_of_equal_segments(length, count):
    frames = even(length, count)
    ideal = (np.arange(count) + 0.5) * length / count
    assert np.all(np.array(frames) <= ideal)
    assert np.all(np.array(frames) > ideal - 1)
    assert max(Counter(frames).values()) <= -(-count // length)  # frames of a short tracklet repeat equally often
    assert len(frames) == count


def test_even_includes_the_tail_that_torchreid_drops():
    assert max(even(29, 15)) == 28
    assert even(4, 2) == [1, 3]


@pytest.mark.parametrize(("length", "count"), SIZES)
def test_random_frames_are_sorted_and_in_range(length, count):
    generator = random.Random(0)
    drawn = {method: [method(length, count, generator) for _ in range(200)] for method in (segments, scattered, dense)}
    for clips in drawn.values():
        assert all(clip == sorted(clip) and len(clip) == count for clip in clips)
        assert {frame for clip in clips for frame in clip} <= set(range(length))
    if length >= count:
        assert all(len(set(clip)) == count for method in (scattered, dense) for clip in drawn[method])
        assert all(np.ptp(clip) == count - 1 for clip in drawn[dense])
        for segment in range(count):
            frames = {clip[segment] for clip in drawn[segments]}
            assert frames <= set(range(segment * length // count, (segment + 1) * length // count))
    if length == 29:  # every frame is selected at some point
        assert all({frame for clip in clips for frame in clip} == set(range(29)) for clips in drawn.values())


def test_eval_clips_cover_every_frame_once():
    clips = eval_clips(29, 8, "all")
    assert [frame for clip in clips for frame in clip] == list(range(29))
    assert [len(clip) for clip in clips] == [8, 8, 8, 5]
    assert eval_clips(29, 8, "even") == [even(29, 8)]
    assert training_clip(29, 8, "even", random.Random(3)) == even(29, 8)


@pytest.fixture
def tracklets(tmp_path):
    """Return three tracklets; the gray level of a frame encodes the tracklet and the position."""
    lengths = (5, 12, 3)
    return [
        Sample(tuple(str(draw(tmp_path / f"{t}_{f:03d}.png", 40 * t + f)) for f in range(length)), 10 * t, t)
        for t, length in enumerate(lengths)
    ]


def clips(samples, steps=None, **options):
    return Clips(samples, Pipeline(steps or [Resize(32, 16)]), **{"seq_len": 4, **options})


def test_training_batch_holds_one_clip_per_tracklet(tracklets):
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


def test_test_batch_holds_all_frames(tracklets):
    images = clips(tracklets, test_sampling="all", num_queries=1)
    batch = images.collate([images[1], images[0], images[2]])
    assert batch["image"].shape == (6, 4, 3, 32, 16)
    assert batch["tracklet"].tolist() == [0, 0, 0, 1, 1, 2]
    assert batch["frame_mask"].sum(1).tolist() == [4, 4, 4, 4, 1, 3]
    assert batch["query"].tolist() == [False, True, False]
    assert batch["index"].tolist() == [1, 0, 2]
    gray = batch["image"][:, :, 0, 0, 0]
    assert gray[batch["frame_mask"]].tolist() == [*range(40, 52), *range(5), 80, 81, 82]
    assert gray[5].tolist() == [80, 81, 82, 82]


def test_consistent_augments_all_frames_of_a_clip_identically(tracklets):
    def erased(draw, **options):
        red = RandomErasing(fill=[255, 0, 0], p=0.5)
        frames = clips(tracklets, [Resize(32, 16), red], **options)[draw].image[0]
        return (frames == [255, 0, 0]).all(-1)

    draws = [Draw(1, number) for number in range(20)]
    consistent = [erased(draw) for draw in draws]
    assert all(np.array_equal(frame, frames[0]) for frames in consistent for frame in frames)
    assert 3 < sum(frames.any() for frames in consistent) < 17
    separate = [erased(draw, consistent=False) for draw in draws]
    assert sum(np.array_equal(frames[0], frames[1]) for frames in separate) < 10  # equal if neither frame is erased


@pytest.mark.parametrize("consistent", [True, False])
def test_clip_depends_only_on_its_draw(tracklets, consistent):
    steps = [Resize(32, 16), RandomErasing(fill="random", p=1.0)]
    first = clips(tracklets, steps, consistent=consistent, seed=5)
    second = clips(tracklets, steps, consistent=consistent, seed=5)
    second[Draw(0, 1)]
    assert np.array_equal(first[Draw(1, 9)].image, second[Draw(1, 9)].image)
    assert not np.array_equal(first[Draw(1, 9)].image, first[Draw(1, 10)].image)


def test_tracklet_batches_do_not_split_tracklets(tracklets):
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
        return self.tracklets


def datamodule(tmp_path, tracklets, **options):
    data = Three(str(tmp_path), **loading(), **options)
    data.tracklets = tracklets
    return data


def test_loaders_yield_clips(tmp_path, tracklets):
    data = datamodule(tmp_path, tracklets, seq_len=4, test_sampling="all")
    data.setup("fit")
    data.setup("test")
    (batch,) = list(data.train_dataloader())
    assert batch["image"].shape == (2, 4, 3, 32, 16)
    loader = data.test_dataloader()["three"]
    assert isinstance(loader, DataLoader)
    assert sum(len(batch["pid"]) for batch in loader) == 6
    assert max(len(batch["image"]) for batch in loader) <= 4


def test_min_frames_skips_short_tracklets(tmp_path, tracklets):
    assert [len(sample.path) for sample in datamodule(tmp_path, tracklets, min_frames=5).listed("train")] == [5, 12]
    with pytest.raises(ValueError, match=r"data\.min_frames=50\b.*\b3 train\b"):
        datamodule(tmp_path, tracklets, min_frames=50).listed("train")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seq_len": 0}, "data.seq_len=0"),
        ({"sampling": "all"}, r"data\.sampling=all\b.*data\.test_sampling=all\b"),
        ({"test_sampling": "dense"}, r"data\.test_sampling=dense\b.*\beven, all\b"),
    ],
)
def test_invalid_options_are_rejected(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        datamodule(tmp_path, [], **options)


def test_video_datasets_can_be_combined(tmp_path, tracklets):
    sources = [datamodule(tmp_path, tracklets, seq_len=4), datamodule(tmp_path, tracklets, seq_len=4)]
    sources[1].name = "four"
    combined = MultiVideo(str(tmp_path), sources, seq_len=4, **loading())
    combined.setup("fit")
    assert sorted({sample.pid for sample in combined.train}) == [0, 10, 20, 21, 31, 41]
    (batch, *_) = combined.train_dataloader()
    assert batch["image"].shape == (2, 4, 3, 32, 16)
    with pytest.raises(ValueError, match=r"\bthree\b.*data=multi\b"):
        Multi(str(tmp_path), sources, **loading())
