"""Drawn pedestrians in motion as a dataset of tracklets."""

from typing import Unpack

from reidlit.data.datamodule import Split
from reidlit.data.sample import Sample
from reidlit.data.synthetic.motion import Tracklets
from reidlit.data.synthetic.pedestrians import Pedestrians
from reidlit.data.video import VideoDataModule, VideoLoading


class SyntheticVideo(VideoDataModule):
    """Synthetic walkers in motion, drawn once into `synthetic_video` below the root; nothing is downloaded.

    The first identities are for training, the rest for testing: of these the first tracklet of each camera is the query,
    the others are the gallery. With one `drawing_seed` people and cameras are those of `Synthetic`.

    Args:
        root: the folder in which `synthetic_video` is made.
        num_identities: training and test identities together.
        num_test: how many of them are for testing.
        num_cameras: how many cameras see each identity.
        shots: tracklets of each identity by each camera.
        frames: of a tracklet, give or take a third.
        image_height: of the drawn frames, in pixels.
        image_width: likewise.
        drawing_seed: another seed draws other people and other cameras.
        loading: see `VideoDataModule`.

    Raises:
        ValueError: if a number does not allow training and testing.
    """

    name = "synthetic_video"
    folder = "synthetic_video"
    licence = "MIT, as the code that draws it"
    paper = "none; drawn by reidlit.data.synthetic.motion"
    source = "It is drawn where it is used."

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
        if not 0 < num_test < num_identities:
            raise ValueError(f"data.num_test={num_test} must lie between 0 and data.num_identities={num_identities}.")
        if shots < 2:
            raise ValueError(
                f"data.shots={shots} must be 2 or more: one tracklet is the query, the others the gallery."
            )
        if frames < 1:
            raise ValueError(f"data.frames={frames} must be 1 or more.")
        self.num_train = num_identities - num_test
        walkers = Pedestrians(num_identities, num_cameras, shots, image_height, image_width, drawing_seed)
        self.walkers, self.tracklets = walkers, Tracklets(walkers, frames)
        self.version = f"seed{drawing_seed}_{image_height}x{image_width}_{frames}frames"

    def prepare_data(self) -> None:
        """Draw the tracklets that are not there yet."""
        self.tracklets.write(self.directory / self.version, self.walkers.keys())
        super().prepare_data()

    def samples(self, split: Split) -> list[Sample]:
        """List a split; see `ReIDDataModule.samples`."""
        people = range(self.num_train) if split == "train" else range(self.num_train, self.walkers.num_identities)
        folder = self.directory / self.version
        return [
            Sample(tuple(map(str, self.tracklets.files(folder, *key))), key.pid, key.camid)
            for key in self.walkers.keys(people)
            if split == "train" or (key.shot == 0) == (split == "query")
        ]
