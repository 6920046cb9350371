"""Synthetic pedestrians as a dataset."""

from typing import Unpack

from reidlit.data.datamodule import Loading, ReIDDataModule, Split
from reidlit.data.sample import Sample
from reidlit.data.synthetic.motion import Tracklets
from reidlit.data.synthetic.pedestrians import Pedestrians


class SyntheticData(ReIDDataModule):
    """Shared part of the datasets of synthetic pedestrians, which are drawn when they are first used.

    A subclass sets `pictures`, `num_train` (the number of identities to train on) and `version` in its constructor.
    """

    folder = "synthetic"
    licence = "MIT, as the code that draws it"
    paper = "none; drawn by reidlit.data.synthetic"
    how_to_obtain = "It is drawn where it is used."
    pictures: Pedestrians | Tracklets
    num_train: int
    version: str

    def prepare_data(self) -> None:
        """Draw the pictures that do not exist yet."""
        self.pictures.write(self.directory / self.version, self.pictures.keys())
        super().prepare_data()

    def samples(self, split: Split) -> list[Sample]:
        """List a split; see `ReIDDataModule.samples`."""
        folder, keys = self.directory / self.version, self.pictures.keys()
        if split == "train":
            chosen = [key for key in keys if key.pid < self.num_train]
        else:
            chosen = [key for key in keys if key.pid >= self.num_train and (key.shot == 0) == (split == "query")]
        return [Sample(self.pictures.path(folder, *key), key.pid, key.camid) for key in chosen]


def num_train(num_identities: int, num_test: int, shots: int, item: str = "image") -> int:
    """Return the number of training identities.

    Raises:
        ValueError: If there are no training or test identities, or no picture besides the query.
    """
    if not 0 < num_test < num_identities:
        raise ValueError(f"data.num_test={num_test} must lie between 0 and data.num_identities={num_identities}.")
    if shots < 2:
        raise ValueError(f"data.shots={shots} must be 2 or more: one {item} is the query, the others the gallery.")
    return num_identities - num_test


class Synthetic(SyntheticData):
    """Synthetic pedestrians, drawn once into `synthetic` below the root; nothing is downloaded.

    The first identities are for training and the rest for testing, with the first shot of each camera as the query and the
    others as the gallery.

    Args:
        root: Folder in which `synthetic` is created.
        num_identities: Number of identities in all splits together.
        num_test: Number of test identities.
        num_cameras: Number of cameras, each of which sees every identity.
        shots: Number of images of each identity by each camera.
        image_height: Height of the drawn images in pixels.
        image_width: Width of the drawn images in pixels.
        drawing_seed: Seed of the people and the cameras.
        loading: Options of `ReIDDataModule`.

    Raises:
        ValueError: If a number does not allow training and testing.
    """

    name = "synthetic"

    def __init__(
        self,
        root: str,
        num_identities: int = 96,
        num_test: int = 48,
        num_cameras: int = 6,
        shots: int = 4,
        image_height: int = 128,
        image_width: int = 64,
        drawing_seed: int = 0,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(root, **loading)
        self.num_train = num_train(num_identities, num_test, shots)
        self.pictures = Pedestrians(num_identities, num_cameras, shots, image_height, image_width, drawing_seed)
        self.version = f"seed{drawing_seed}_{image_height}x{image_width}"
