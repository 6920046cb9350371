"""Base class of video datasets, whose samples are tracklets."""

from collections.abc import Sequence
from typing import Unpack, get_args

from reidlit.data.clips import Clips
from reidlit.data.datamodule import Loading, ReIDDataModule, Split
from reidlit.data.frame_sampling import TestSampling, TrainSampling
from reidlit.data.images import ImagesOptions, Transform
from reidlit.data.sample import Sample


class VideoLoading(Loading):
    """Options that all video datasets share."""

    seq_len: int
    sampling: TrainSampling
    test_sampling: TestSampling
    consistent: bool
    min_frames: int


class VideoDataModule(ReIDDataModule):
    """Data module of one video dataset, which loads tracklets as clips.

    A subclass implements `samples`; the path of a sample is the tuple of its frames.

    Args:
        root: Folder that contains the folders of the datasets.
        seq_len: Number of frames per clip.
        sampling: Frame sampling for training: "segments" draws one frame from each of `seq_len` equal segments, "even"
            takes the middle frame of each segment, "random" draws frames anywhere, "dense" takes consecutive frames
            from a random start.
        test_sampling: Frame sampling for evaluation: "even" as above, or "all" frames, split into clips of at most
            `seq_len` frames whose embeddings are averaged.
        consistent: Whether all frames of a clip get the same augmentation.
        min_frames: Minimum length; shorter tracklets are skipped.
        loading: Options of `ReIDDataModule`. A training batch has `batch_size` clips; an evaluation batch has at most
            `test_batch_size`, unless a single tracklet has more.

    Raises:
        ValueError: If an option is out of range or unknown.
    """

    item_name = "tracklets"

    def __init__(
        self,
        root: str,
        seq_len: int = 15,
        sampling: TrainSampling = "segments",
        test_sampling: TestSampling = "even",
        consistent: bool = True,
        min_frames: int = 1,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(root, **loading)
        for option, value in (("seq_len", seq_len), ("min_frames", min_frames)):
            if value < 1:
                raise ValueError(f"data.{option}={value} is invalid: must be at least 1.")
        for option, name, choices in (
            ("sampling", sampling, get_args(TrainSampling)),
            ("test_sampling", test_sampling, get_args(TestSampling)),
        ):
            if name not in choices:
                raise ValueError(
                    f"data.{option}={name} is invalid: must be one of {', '.join(choices)}. Training clips have a "
                    "fixed length; set data.test_sampling=all to test on all frames."
                )
        self.seq_len, self.min_frames = seq_len, min_frames
        self.sampling, self.test_sampling, self.consistent = sampling, test_sampling, consistent

    def listed(self, split: Split) -> list[Sample]:
        """List the tracklets with at least `min_frames` frames; see `ReIDDataModule.listed`."""
        samples = super().listed(split)
        kept = [sample for sample in samples if len(sample.path) >= self.min_frames]
        if not kept:
            raise ValueError(
                f"data.min_frames={self.min_frames} excludes all {len(samples)} {split} tracklets. Choose a smaller "
                "value."
            )
        return kept

    def examples(self, samples: Sequence[Sample], transform: Transform, **options: Unpack[ImagesOptions]) -> Clips:
        """Wrap tracklets in a dataset of clips; see `Clips`."""
        return Clips(
            samples,
            transform,
            **options,
            seq_len=self.seq_len,
            sampling=self.sampling,
            test_sampling=self.test_sampling,
            consistent=self.consistent,
        )
