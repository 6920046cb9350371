"""Images that a command reads: those of `images=`, or a dataset's of `data=`."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from reidlit.data.datamodule import ReIDDataModule
from reidlit.data.image_files import images_in_folder
from reidlit.data.sample import Sample


def check_one_source(cfg: DictConfig, images: str = "folder") -> None:
    """Require either `data` or `images`.

    Raises:
        ValueError: If neither or both are given.
    """
    if (cfg.get("data") is None) == (cfg.images is None):
        raise ValueError(f"give data=<dataset> or images=<{images}>.")


def image_files(path: str | Path, argument: str = "images") -> list[Path]:
    """Return the image at a path, or all images below a folder; `argument` names the setting in messages."""
    file = Path(path).expanduser()
    return images_in_folder(path, argument) if file.is_dir() else [file]


def dataset_samples(datamodule: ReIDDataModule, splits: Sequence[str] | None, setting: str) -> dict[str, list[Sample]]:
    """Prepare a dataset and return the samples of its splits.

    Args:
        datamodule: Dataset.
        splits: Names of splits; None for those that are tested on.
        setting: The setting that names the splits, for messages.

    Raises:
        ValueError: If the dataset does not have a split.
    """
    datamodule.prepare_data()
    known = {str(split): split for split in datamodule.splits}
    if splits is None:
        splits = [name for name in known if name not in ("train", "val")]
    if unknown := [name for name in splits if name not in known]:
        raise ValueError(f"{setting}: data={datamodule.name} has no {unknown}; it has {[*known]}.")
    return {name: datamodule.listed(known[name]) for name in splits}
