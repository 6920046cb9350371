"""Synthetic pedestrians in motion as a dataset of tracklets."""

from typing import Unpack

from reidlit.data.datasets.synthetic import SyntheticData, num_train
from reidlit.data.synthetic.motion import Tracklets
from reidlit.data.synthetic.pedestrians import Pedestrians
from reidlit.data.video import VideoDataModule, VideoLoading


class SyntheticVideo(SyntheticData, VideoDataModule):
    """Synthetic pedestrians in motion, drawn once into `synthetic_video` below the root; nothing is downloaded.

    Splits, people and cameras are those of `Synthetic` with equal arguments, and each shot is a tracklet.

    Args:
        root: Folder in which `synthetic_video` is created.
        num_identities: See `Synthetic`, also for the arguments not listed here.
        frames: Mean number of frames of a tracklet; lengths differ from it by up to a third.
        loading: Options of `VideoDataModule`.

    Raises:
        ValueError: If a number does not allow training and testing.
    """

    name = folder = "synthetic_video"

    def __init__(
        self,
        root: str,
        num_identities: int = 128,
        num_test: int = 32,
        num_cameras: int = 4,
        shots: int = 2,
        frames: int = 12,
        image_height: int = 128,
        image_width: int = 64,
        drawing_seed: int = 0,
        **loading: Unpack[VideoLoading],
    ) -> None:
        super().__init__(root, **loading)
        self.num_train = num_train(num_identities, num_test, shots, "tracklet")
        if frames < 1:
            raise ValueError(f"data.frames={frames} must be 1 or more.")
        people = Pedestrians(num_identities, num_cameras, shots, image_height, image_width, drawing_seed)
        self.pictures = Tracklets(people, frames)
        self.version = f"seed{drawing_seed}_{image_height}x{image_width}_{frames}frames"
