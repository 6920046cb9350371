"""Dataset of tracklets that turns samples into batches of clips."""

import random
from collections.abc import Iterator, Sequence
from typing import Unpack

import numpy as np
import torch
from torch.utils.data import Sampler

from reidlit.data.frame_sampling import TestSampling, TrainSampling, eval_clips, training_clip
from reidlit.data.images import Array, Images, ImagesOptions, Item, Transform, collate
from reidlit.data.sample import Batch, Sample

STRIDE = 2**20  # seeds reserved for the frames of a clip if each is augmented separately; more than any tracklet has


class Clips(Images):
    """Dataset of tracklets as clips of `seq_len` frames: one clip in training, one or more in evaluation.

    Args:
        samples: Tracklets; each `path` is a tuple of frames.
        transform: Transform of a frame.
        seq_len: Number of frames of a clip.
        sampling: Method that selects the frames of a training clip; see `VideoDataModule`.
        test_sampling: Method that selects the frames of a test tracklet; see `VideoDataModule`.
        consistent: Whether to augment all frames of a clip identically, with one flip, one crop and one erased rectangle.
        options: Options of `Images`. `seed` also determines the frames of a clip.
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
        """Stack items to a batch of (K, S, 3, H, W) clips; an item may have several clips; see `Batch`."""
        clips = np.concatenate([item.image for item in items])
        batch = collate(items, torch.from_numpy(clips).permute(0, 1, 4, 2, 3))
        batch["frame_mask"] = torch.from_numpy(np.concatenate([item.frame_mask for item in items]))
        batch["tracklet"] = torch.arange(len(items)).repeat_interleave(
            torch.tensor([len(item.image) for item in items])
        )
        return batch

    def eval_batches(self, indices: Sequence[int], batch_size: int) -> "TrackletBatches":
        """Return the batch sampler of complete tracklets; see `TrackletBatches`."""
        return TrackletBatches(self, indices, batch_size)

    def clips_of(self, index: int) -> int:
        """Return the number of clips of a test tracklet."""
        return len(eval_clips(len(self.samples[index].path), self.seq_len, self.test_sampling))

    def _image(self, sample: Sample, seed: int | None) -> tuple[Array, Array | None]:
        """Return the (K, S, H, W, 3) clips and their (K, S) frame mask, which is False for padding."""
        if isinstance(sample.path, str):
            raise ValueError(f"{sample.path} is an image, which cannot be read as a tracklet. Use an image dataset.")
        count = self.seq_len
        if seed is None:
            clips = eval_clips(len(sample.path), count, self.test_sampling)
        else:
            clips = [training_clip(len(sample.path), count, self.sampling, random.Random(seed))]
        clip_paths = [[sample.path[position] for position in clip] for clip in clips]
        images = np.stack([self._frames(paths, seed) for paths in clip_paths])
        frame_mask = np.arange(count) < np.array([[len(clip)] for clip in clips])
        return images, frame_mask

    def _frames(self, paths: Sequence[str], seed: int | None) -> Array:
        """Return (S, H, W, 3) frames; the last frame pads a short clip."""
        cache: dict[tuple[str, int | None], Array] = {}  # repeated frames are decoded once
        keys = [
            (path, seed if seed is None or self.consistent else seed * STRIDE + position)
            for position, path in enumerate(paths)
        ]
        for path, frame_seed in keys:
            if (path, frame_seed) not in cache:
                cache[path, frame_seed] = self.transform(self.read(path), frame_seed, self._donor)
        frames = [cache[key] for key in keys]
        return np.stack(frames + frames[-1:] * (self.seq_len - len(frames)))


class TrackletBatches(Sampler[list[int]]):
    """Batch sampler of complete test tracklets with a limited number of clips per batch.

    Args:
        clips: Dataset of tracklets.
        indices: Indices of the tracklets of this rank, in order.
        batch_size: Maximum number of clips in a batch. A tracklet with more clips is a batch on its own.
    """

    def __init__(self, clips: Clips, indices: Sequence[int], batch_size: int) -> None:
        self.batches: list[list[int]] = []
        free = 0
        for index in indices:
            count = clips.clips_of(index)
            if count > free:
                self.batches.append([])
                free = batch_size
            self.batches[-1].append(index)
            free -= count

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)
