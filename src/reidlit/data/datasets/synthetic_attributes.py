"""Attribute dataset of synthetic pedestrians."""

from typing import Unpack

from reidlit.data.attribute_data import AttributeDataModule, AttributeRow, AttributeTable
from reidlit.data.datamodule import Loading
from reidlit.data.datasets.synthetic import SyntheticData
from reidlit.data.synthetic.drawing import Colour
from reidlit.data.synthetic.pedestrians import Pedestrians
from reidlit.data.synthetic.people import Person
from reidlit.labels import UNKNOWN

DARK = 90  # gray level below which clothes count as dark


class SyntheticAttributes(AttributeDataModule, SyntheticData):
    """Attribute dataset of synthetic pedestrians, rendered once into `synthetic` below the root without a download.

    The first identities are for training, the next for validation and the last for testing. Attributes hidden by a
    dress are unknown.

    Args:
        root: Folder in which `synthetic` is created.
        num_identities: See `Synthetic` for this and the other arguments not described here.
        num_val: Number of validation identities.
        num_test: Number of test identities.
        loading: Options of `AttributeDataModule`.

    Raises:
        ValueError: If a number leaves a split empty.
    """

    name = "synthetic_attributes"
    pictures: Pedestrians

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
                f"data.num_val={num_val} and data.num_test={num_test} are invalid: both must be at least 1, and their "
                f"sum less than data.num_identities={num_identities}."
            )
        self.pictures = Pedestrians(num_identities, num_cameras, shots, image_height, image_width, drawing_seed)
        self.ends = {
            "train": num_identities - num_val - num_test,
            "val": num_identities - num_test,
            "test": num_identities,
        }
        self.version = f"seed{drawing_seed}_{image_height}x{image_width}"

    def table(self) -> AttributeTable:
        """List all images; see `AttributeDataModule.table`."""
        folder, keys = self.directory / self.version, self.pictures.keys()
        attributes = [attributes_of(self.pictures.person(pid)) for pid in range(self.pictures.num_identities)]
        rows = [
            AttributeRow(
                self.pictures.path(folder, *key),
                next(split for split, end in self.ends.items() if key.pid < end),
                list(attributes[key.pid].values()),
            )
            for key in keys
        ]
        return AttributeTable(tuple(attributes[0]), rows)


def attributes_of(person: Person) -> dict[str, int]:
    """Return the attributes of a person by name: 1 for yes, 0 for no, -1 for hidden."""
    dress = person.upper == "dress"
    labels = {
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
        "dark_trousers": UNKNOWN if dress else _gray(person.lower_colour) < DARK,
    }
    return {name: int(value) for name, value in labels.items()}


def _gray(colour: Colour) -> float:
    """Return the luma of ITU-R BT.601, 0 to 255."""
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue
