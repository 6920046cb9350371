"""Drawn pedestrians and what they wear."""

from typing import Unpack

from reidlit.data.attribute_data import AttributeDataModule, AttributeRow, AttributeTable
from reidlit.data.datamodule import Loading
from reidlit.data.synthetic.drawing import Colour
from reidlit.data.synthetic.pedestrians import Pedestrians
from reidlit.data.synthetic.people import Person
from reidlit.labels import UNKNOWN

DARK = 90  # gray level below which clothes are dark


class SyntheticAttributes(AttributeDataModule):
    """Synthetic walkers with attributes, drawn once into `synthetic` below the root; nothing is downloaded.

    The first identities are for training, the next for validation, the last for testing. What a dress hides is not known.

    Args:
        root: the folder in which `synthetic` is made.
        num_identities: of all splits together.
        num_val: how many of them are for validation.
        num_test: how many are for testing.
        num_cameras: how many cameras see each identity.
        shots: how often each camera sees it.
        image_height: of the drawn images, in pixels.
        image_width: likewise.
        drawing_seed: another seed draws other people and other cameras.
        loading: see `AttributeDataModule`.

    Raises:
        ValueError: if a number leaves a split empty.
    """

    name = "synthetic_attributes"
    folder = "synthetic"
    licence = "MIT, as the code that draws it"
    paper = "none; drawn by reidlit.data.synthetic.pedestrians"
    source = "It is drawn where it is used."

    def __init__(
        self,
        root: str,
        num_identities: int = 1200,
        num_val: int = 100,
        num_test: int = 200,
        num_cameras: int = 2,
        shots: int = 1,
        image_height: int = 128,
        image_width: int = 64,
        drawing_seed: int = 0,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(root, **loading)
        if min(num_val, num_test) < 1 or num_val + num_test >= num_identities:
            raise ValueError(
                f"data.num_val={num_val} and data.num_test={num_test} must be 1 or more and leave some of "
                f"data.num_identities={num_identities} to train on."
            )
        self.walkers = Pedestrians(num_identities, num_cameras, shots, image_height, image_width, drawing_seed)
        ends = {"train": num_identities - num_val - num_test, "val": num_identities - num_test, "test": num_identities}
        self.ends = ends
        self.version = f"seed{drawing_seed}_{image_height}x{image_width}"

    def prepare_data(self) -> None:
        """Draw the images that are not there yet."""
        self.walkers.write(self.directory / self.version, self.walkers.keys())
        super().prepare_data()

    def table(self) -> AttributeTable:
        """List all images; see `AttributeDataModule.table`."""
        folder = self.directory / self.version
        worn = [attributes_of(self.walkers.person(pid)) for pid in range(self.walkers.num_identities)]
        rows = [
            AttributeRow(
                str(folder / self.walkers.file_name(*key)),
                next(split for split, end in self.ends.items() if key.pid < end),
                list(worn[key.pid].values()),
            )
            for key in self.walkers.keys(range(self.walkers.num_identities))
        ]
        return AttributeTable(tuple(worn[0]), rows)


def attributes_of(person: Person) -> dict[str, int]:
    """What can be seen of a person: 1 for yes, 0 for no, -1 where it is hidden."""
    dress = person.upper == "dress"
    seen = {
        "hat": person.hat != "none",
        "long_hair": person.hair_style == "long",
        "backpack": person.bag == "backpack",
        "bag": person.bag in ("shoulder", "hand"),
        "jacket": person.upper in ("jacket", "open_jacket"),
        "short_sleeves": person.upper in ("tshirt", "dress"),
        "dress": dress,
        "bare_legs": dress or person.lower != "trousers",
        "striped": person.pattern in ("stripes", "pinstripes"),
        "dark_top": _gray(person.upper_colour) < DARK,
    }
    hidden = {"dark_trousers": UNKNOWN if dress else int(_gray(person.lower_colour) < DARK)}
    return {name: int(value) for name, value in seen.items()} | hidden


def _gray(colour: Colour) -> float:
    """Luma, 0 to 255. Source: ITU-R BT.601."""
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue
