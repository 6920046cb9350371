"""The dataset of a run folder that may come from a stranger: built for a report, from files of the user alone."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from reidlit.commands._data import build_datamodule
from reidlit.data.datamodule import ReIDDataModule
from reidlit.data.images import Read
from reidlit.foreign_files import expanded, reading
from reidlit.spec import check_saved

BUILT = ("data", "sampler", "transforms")  # settings from which the dataset of a run is built
FILES = (".file", ".split_file")  # settings that name a file, relative to the working directory
NO_PATHS = ("._target_", ".camera_pattern")
SETTINGS = "The run's config.yaml"


class RunDataset(NamedTuple):
    """Dataset of a run.

    Attributes:
        datamodule: Data module with its test sets.
        root: Data root; images outside it must not be read, even if the settings or tables of the run name them.
    """

    datamodule: ReIDDataModule
    root: Path

    def confined(self, read: Read) -> Read:
        """Return a function that reads images like `read`, but refuses those outside the data root."""

        def read_own(path: str) -> NDArray[Any]:
            if not _is_below(path, self.root):
                raise ValueError(f"{path} is not in {self.root}.")
            return read(path)

        return read_own


def dataset_of(settings: Mapping[str, Any], root: str | None) -> RunDataset:
    """Build the dataset of a run and list its test sets, without reading files that the user did not name.

    Args:
        settings: Configuration of the run as a plain dict without interpolations.
        root: Data root that the user names; None for the default.

    Raises:
        FileNotFoundError: If the dataset does not exist in the data root.
        ValueError: If the settings are invalid, name untrusted code, or name files outside the data root.
    """
    top = expanded(root or _default_root())
    with reading(SETTINGS, "Repeat the run."):
        config = _trusted(settings, root, top)
        datamodule = build_datamodule(config)
    datamodule.setup("test")
    return RunDataset(datamodule, top)


def _default_root() -> str:
    return os.environ.get("REIDLIT_DATA", "data")


def _trusted(settings: Mapping[str, Any], root: str | None, top: Path) -> DictConfig:
    """Return the settings of the dataset after checking that they name no untrusted code and no other files.

    Raises:
        ValueError: If they do.
    """
    specs = {name: settings[name] for name in BUILT}
    if root is not None and isinstance(specs["data"], dict):
        specs["data"] = {**specs["data"], "root": root}
    _check_texts(specs)
    check_saved(specs, SETTINGS, ("reidlit.data", "albumentations"))
    data = dict(specs["data"])
    saved = data.get("root")
    if root is None and saved is not None and os.path.abspath(saved) != os.path.abspath(top):  # noqa: PTH100
        raise ValueError(
            f"{SETTINGS} has data.root={saved}, but the default is {top}: give data_root={saved} if you trust the run."
        )
    if root is not None or saved is not None:  # otherwise paths are relative to a file in the data root
        data["root"] = str(top)
    data["pack"] = None  # images are read from their original files
    _check_paths({name: value for name, value in data.items() if name not in ("root", "pack_dir")}, top)
    return OmegaConf.create({**specs, "data": data, "seed": settings.get("seed", 0)})


def _check_texts(value: Any) -> None:
    """Refuse texts that would be interpolated when objects are built, and could reveal the environment.

    Raises:
        ValueError: If there is one at any depth.
    """
    if isinstance(value, Mapping):
        for item in value.values():
            _check_texts(item)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item)
    elif isinstance(value, str) and "${" in value:
        raise ValueError(f"{SETTINGS} contains the interpolation {value}, which is not resolved.")


def _check_paths(value: Any, root: Path, name: str = "data") -> None:
    """Refuse settings that name a file or folder outside the data root.

    Raises:
        ValueError: If a text, at any depth, is a path that leads out of `root`, or names a file that is not in it.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_paths(item, root, f"{name}.{key}")
    elif isinstance(value, list):
        for item in value:
            _check_paths(item, root, name)
    elif isinstance(value, str) and not name.endswith(NO_PATHS):
        path = Path(value) if name.endswith(FILES) else root / value
        if value.startswith("~") or not _is_below(path, root):
            raise ValueError(
                f"{SETTINGS} has {name}={value}, which is not in {root}: give data_root=<folder that contains it> if you "
                "trust the run."
            )


def _is_below(path: str | Path, root: Path) -> bool:
    """Return True if a path lies in a folder, judging by its name: links in the user's own folder are the user's."""
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(root))  # noqa: PTH100
