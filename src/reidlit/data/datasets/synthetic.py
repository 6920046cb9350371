"""Image dataset of synthetic pedestrians."""

from typing import Unpack

from reidlit.data.datamodule import Loading, ReIDDataModule, Split
from reidlit.data.sample import Sample
from reidlit.data.synthetic.motion import Tracklets
from reidlit.data.synthetic.pedestrians import Pedestrians


class SyntheticData(ReIDDataModule):
    """Base class of datasets of synthetic pedestrians, which are rendered on first use.

    A subclass sets `pictures`, `num_train` (the number of training identities) and `version` in its constructor.
    """

    folder = "synthetic"
    licence = "MIT, like the code that renders it"
    paper = "none; rendered by reidlit.data.synthetic"
    how_to_obtain = "The images are rendered on first use."
    pictures: Pedestrians | Tracklets
    num_train: int
    version: str

    def prepare_data(self) -> None:
        """Render the images that do not exist yet."""
        self.pictures.write(self.directory / self.version, self.pictures.keys())
        super().prepare_data()

    def samples(self, split: Split) -> list[Sample]:
        """List the samples of a split; see `ReIDDataModule.samples`."""
        folder, keys = self.directory / self.version, self.pictures.keys()
        if split == "train":
            selected = [key for key in keys if key.pid < self.num_train]
        else:
            selected = [key for key in keys if key.pid >= self.num_train and (key.shot == 0) == (split == "query")]
        return [Sample(self.pictures.path(folder, *key), key.pid, key.camid) for key in selected]


def num_train(num_identities: int, num_test: int, shots: int, item: str = "image") -> int:
    """Return the number of training identities.

    Raises:
        ValueError: If there are no training or test identities, or no images for the gallery.
    """
    if not 0 < num_test < num_identities:
        raise ValueError(
            f"data.num_test={num_test} is invalid: must be between 1 and data.num_identities={num_identities} - 1."
        )
    if shots < 2:
        raise ValueError(
            f"data.shots={shots} is invalid: must be at least 2, one {item} for the query and the others for the "
            "gallery."
        )
    return num_identities - num_test


class Synthetic(SyntheticData):
    """Image dataset of synthetic pedestrians, rendered once into `synthetic` below the root without a download.

    The first identities are for training and the others for testing. The first shot of each camera is a query, and the
    other shots form the gallery.

    Args:
        root: Folder in which `synthetic` is created.
        num_identities: Number of identities in all splits together.
        num_test: Number of test identities.
        num_cameras: Number of cameras; every camera sees every identity.
        shots: Number of images per identity and camera.
        image_height: Height of the rendered images in pixels.
        image_width: Width of the rendered images in pixels.
        drawing_seed: Random seed of the people and cameras.
        loading: Options of `ReIDDataModule`.

    Raises:
        ValueError: If an option is out of range or leaves a split empty.
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
