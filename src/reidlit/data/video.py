"""A dataset of tracklets."""

from collections.abc import Sequence
from typing import Unpack, get_args

from reidlit.data.clips import Clips
from reidlit.data.datamodule import Loading, ReIDDataModule, Split
from reidlit.data.frame_sampling import TestSampling, TrainSampling
from reidlit.data.images import ImagesOptions, Transform
from reidlit.data.sample import Sample


class VideoLoading(Loading):
    """What every dataset of tracklets takes besides its own options."""

    seq_len: int
    sampling: TrainSampling
    test_sampling: TestSampling
    consistent: bool
    min_frames: int


class VideoDataModule(ReIDDataModule):
    """Loaders of tracklets as clips; else as `ReIDDataModule`. A subclass implements `samples`, where a path is a tuple.

    Args:
        root: the folder that holds the datasets' folders.
        seq_len: frames of a clip.
        sampling: how the frames of a training clip are chosen: "segments" draws one from each of `seq_len` equal parts,
            "even" takes the middles of these, "random" draws any, "dense" takes a row of frames from a place that is drawn.
        test_sampling: what is seen of a tested tracklet: "even" as above, or "all" frames, in clips of at most `seq_len`
            whose embeddings are averaged.
        consistent: whether all frames of a clip are augmented alike.
        min_frames: tracklets with fewer are left out.
        loading: see `ReIDDataModule`; a training batch has `batch_size` clips, one of evaluation at most `test_batch_size`,
            unless one tracklet has more.

    Raises:
        ValueError: if a number or a name is out of range.
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
                raise ValueError(f"data.{option}={value} must be 1 or more.")
        for option, name, known in (
            ("sampling", sampling, get_args(TrainSampling)),
            ("test_sampling", test_sampling, get_args(TestSampling)),
        ):
            if name not in known:
                raise ValueError(
                    f"data.{option}={name} must be one of {', '.join(known)}. Training clips have one length; "
                    "data.test_sampling=all tests on all frames."
                )
        self.seq_len, self.min_frames = seq_len, min_frames
        self.sampling, self.test_sampling, self.consistent = sampling, test_sampling, consistent

    def listed(self, split: Split) -> list[Sample]:
        """`samples` that are long enough; see `ReIDDataModule.listed`."""
        found = super().listed(split)
        kept = [sample for sample in found if len(sample.path) >= self.min_frames]
        if not kept:
            raise ValueError(f"data.min_frames={self.min_frames} leaves no {split} tracklet of {len(found)}; lower it.")
        return kept

    def examples(self, samples: Sequence[Sample], transform: Transform, **options: Unpack[ImagesOptions]) -> Clips:
        """Tracklets as clips; see `Clips`."""
        return Clips(
            samples,
            transform,
            **options,
            seq_len=self.seq_len,
            sampling=self.sampling,
            test_sampling=self.test_sampling,
            consistent=self.consistent,
        )
