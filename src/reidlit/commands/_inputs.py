"""Input images of a command: those of `images=`, or of the dataset of `data=`."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from reidlit.data.datamodule import ReIDDataModule
from reidlit.data.image_files import images_in_folder
from reidlit.data.sample import Sample
from reidlit.foreign_files import expanded


def check_one_source(cfg: DictConfig, images: str = "folder") -> None:
    """Require exactly one of `data` and `images`.

    Args:
        cfg: Configuration of a command.
        images: Description of the values of `images`, for the message.

    Raises:
        ValueError: If neither or both are given.
    """
    if (cfg.get("data") is None) == (cfg.images is None):
        raise ValueError(f"Exactly one of data=<dataset> and images=<{images}> is needed.")


def image_files(path: str | Path, argument: str = "images") -> list[Path]:
    """Return the image at a path, or all images in a folder; error messages name the setting `argument`."""
    file = expanded(path)
    return images_in_folder(path, argument) if file.is_dir() else [file]


def dataset_samples(datamodule: ReIDDataModule, splits: Sequence[str] | None, setting: str) -> dict[str, list[Sample]]:
    """Prepare a dataset and return the samples of its splits.

    Args:
        datamodule: Dataset.
        splits: Names of the splits; None for the test splits.
        setting: Setting that names the splits, for error messages.

    Raises:
        ValueError: If the dataset has no such split.
    """
    datamodule.prepare_data()
    available = {str(split): split for split in datamodule.splits}
    if splits is None:
        splits = [name for name in available if name not in ("train", "val")]
    if unknown := [name for name in splits if name not in available]:
        raise ValueError(
            f"{setting} is invalid: data={datamodule.name} has no {unknown}. Its splits are {[*available]}."
        )
    return {name: datamodule.listed(available[name]) for name in splits}
