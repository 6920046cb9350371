"""Video dataset of synthetic pedestrians."""

from typing import Unpack

from reidlit.data.datasets.synthetic import SyntheticData, num_train
from reidlit.data.synthetic.motion import Tracklets
from reidlit.data.synthetic.pedestrians import Pedestrians
from reidlit.data.video import VideoDataModule, VideoLoading


class SyntheticVideo(SyntheticData, VideoDataModule):
    """Video dataset of walking synthetic pedestrians, rendered once into `synthetic_video` without a download.

    Splits, people and cameras are the same as in `Synthetic` with equal arguments. Each shot is a tracklet.

    Args:
        root: Folder in which `synthetic_video` is created.
        num_identities: See `Synthetic` for this and the other arguments not described here.
        frames: Mean number of frames per tracklet; lengths vary by up to a third.
        loading: Options of `VideoDataModule`.

    Raises:
        ValueError: If an option is out of range or leaves a split empty.
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
            raise ValueError(f"data.frames={frames} is invalid: must be at least 1.")
        people = Pedestrians(num_identities, num_cameras, shots, image_height, image_width, drawing_seed)
        self.pictures = Tracklets(people, frames)
        self.version = f"seed{drawing_seed}_{image_height}x{image_width}_{frames}frames"
