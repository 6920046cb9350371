"""From tracklets to batches of clips."""

import random
from collections.abc import Iterator, Sequence
from typing import Unpack

import numpy as np
import torch
from torch.utils.data import Sampler

from reidlit.data.frame_sampling import TestSampling, TrainSampling, eval_clips, training_clip
from reidlit.data.images import Array, Images, ImagesOptions, Item, Transform, collate
from reidlit.data.sample import Batch, Sample

STRIDE = 2**20  # seeds of a clip's frames, where each is augmented by itself; no tracklet has as many


class Clips(Images):
    """Tracklets as clips of `seq_len` frames: one clip in training, in evaluation as many as `test_sampling` says.

    Args:
        samples: Tracklets; each `path` is a tuple of frames.
        transform: Transform of a frame.
        seq_len: Number of frames of a clip.
        sampling: How the frames of a training clip are chosen.
        test_sampling: How the frames of a tested tracklet are chosen.
        consistent: Whether all frames of a clip are augmented alike: one flip, one crop, one erased rectangle.
        options: Options of `Images`; `seed` also determines the frames of a clip.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        transform: Transform,
        *,
        seq_len: int = 15,
        sampling: TrainSampling = "segments",
        test_sampling: TestSampling = "even",
        consistent: bool = True,
        **options: Unpack[ImagesOptions],
    ) -> None:
        super().__init__(samples, transform, **options)
        self.seq_len = seq_len
        self.sampling = sampling
        self.test_sampling = test_sampling
        self.consistent = consistent

    @staticmethod
    def collate(items: Sequence[Item]) -> Batch:
        """Stack clips: images become (K, S, 3, H, W), where an item may bring several of the K; see `Batch`."""
        clips = np.concatenate([item.image for item in items])
        batch = collate(items, torch.from_numpy(clips).permute(0, 1, 4, 2, 3))
        batch["frame_mask"] = torch.from_numpy(np.concatenate([item.frame_mask for item in items]))
        batch["tracklet"] = torch.arange(len(items)).repeat_interleave(
            torch.tensor([len(item.image) for item in items])
        )
        return batch

    def eval_batches(self, share: Sequence[int], batch_size: int) -> "TrackletBatches":
        """Whole tracklets with at most `batch_size` clips in a batch; see `Images.eval_batches`."""
        return TrackletBatches(self, share, batch_size)

    def clips_of(self, index: int) -> int:
        """How many clips a tested tracklet makes."""
        return len(eval_clips(len(self.samples[index].path), self.seq_len, self.test_sampling))

    def _image(self, sample: Sample, seed: int | None) -> tuple[Array, Array | None]:
        """(K, S, H, W, 3) clips, and (K, S) which of their frames are real and do not fill a short clip up."""
        if isinstance(sample.path, str):
            raise ValueError(f"{sample.path}: an image cannot be read as a tracklet; its dataset is none of video.")
        count = self.seq_len
        if seed is None:
            clips = eval_clips(len(sample.path), count, self.test_sampling)
        else:
            clips = [training_clip(len(sample.path), count, self.sampling, random.Random(seed))]
        frames = [[sample.path[place] for place in clip] for clip in clips]
        images = np.stack([self._frames(paths, seed) for paths in frames])
        real = np.arange(count) < np.array([[len(clip)] for clip in clips])
        return images, real

    def _frames(self, paths: Sequence[str], seed: int | None) -> Array:
        """(S, H, W, 3) frames; a short clip is filled up with its last."""
        made: dict[tuple[str, int | None], Array] = {}  # a frame that recurs is made once
        keys = [
            (path, seed if seed is None or self.consistent else seed * STRIDE + place)
            for place, path in enumerate(paths)
        ]
        for path, own in keys:
            if (path, own) not in made:
                made[path, own] = self.transform(self.read(path), own, self._donor)
        frames = [made[key] for key in keys]
        return np.stack(frames + frames[-1:] * (self.seq_len - len(frames)))


class TrackletBatches(Sampler[list[int]]):
    """Batches of whole tracklets to test, with at most so many clips; a longer tracklet is a batch of its own.

    Args:
        clips: the dataset.
        indices: the tracklets of this rank, in order.
        batch_size: clips.
    """

    def __init__(self, clips: Clips, indices: Sequence[int], batch_size: int) -> None:
        self.batches: list[list[int]] = []
        room = 0
        for index in indices:
            count = clips.clips_of(index)
            if count > room:
                self.batches.append([])
                room = batch_size
            self.batches[-1].append(index)
            room -= count

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)
