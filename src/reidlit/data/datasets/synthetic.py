"""Drawn pedestrians as a dataset."""

from typing import Unpack

from reidlit.data.datamodule import Loading, ReIDDataModule, Split
from reidlit.data.sample import Sample
from reidlit.data.synthetic.pedestrians import Pedestrians


class Synthetic(ReIDDataModule):
    """Synthetic walkers, drawn once into `synthetic` below the root; nothing is downloaded.

    The first identities are for training, the rest for testing: of these the first shot of each camera is the query, the
    others are the gallery.

    Args:
        root: the folder in which `synthetic` is made.
        num_identities: training and test identities together.
        num_test: how many of them are for testing.
        num_cameras: how many cameras see each identity.
        shots: how often each camera sees it.
        image_height: of the drawn images, in pixels.
        image_width: likewise.
        drawing_seed: another seed draws other people and other cameras.
        loading: see `ReIDDataModule`.

    Raises:
        ValueError: if a number does not allow training and testing.
    """

    name = "synthetic"
    folder = "synthetic"
    licence = "MIT, as the code that draws it"
    paper = "none; drawn by reidlit.data.synthetic.pedestrians"
    source = "It is drawn where it is used."

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
        if not 0 < num_test < num_identities:
            raise ValueError(f"data.num_test={num_test} must lie between 0 and data.num_identities={num_identities}.")
        if shots < 2:
            raise ValueError(f"data.shots={shots} must be 2 or more: one image is the query, the others the gallery.")
        self.num_train = num_identities - num_test
        self.walkers = Pedestrians(num_identities, num_cameras, shots, image_height, image_width, drawing_seed)
        self.version = f"seed{drawing_seed}_{image_height}x{image_width}"

    def prepare_data(self) -> None:
        """Draw the images that are not there yet."""
        self.walkers.write(self.directory / self.version, self.walkers.keys())
        super().prepare_data()

    def samples(self, split: Split) -> list[Sample]:
        """List a split; see `ReIDDataModule.samples`."""
        people = range(self.num_train) if split == "train" else range(self.num_train, self.walkers.num_identities)
        folder = self.directory / self.version
        return [
            Sample(str(folder / self.walkers.file_name(*key)), key.pid, key.camid)
            for key in self.walkers.keys(people)
            if split == "train" or (key.shot == 0) == (split == "query")
        ]
