"""MSMT17 dataset."""

import logging
import re
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import ClassVar, NamedTuple, Unpack

from reidlit.data.datamodule import Loading, ReIDDataModule, Split, Statistics
from reidlit.data.sample import Sample

log = logging.getLogger(__name__)


class Release(NamedTuple):
    """Folder names of one release of the dataset."""

    folder: str
    train: str
    test: str


RELEASES = {
    "v1": Release("MSMT17_V1", "train", "test"),
    "v2": Release("MSMT17_V2", "mask_train_v2", "mask_test_v2"),
}
TRAIN_IDS = 1_041
TEST_IDS = 3_060
CAMERAS = 15
LINE = re.compile(r"(\S.*?)\s+(\d+)", re.ASCII)
NAME = re.compile(r"[^_]*_[^_]*_(\d+)[_.]", re.ASCII)


class MSMT17(ReIDDataModule):
    """MSMT17, an image dataset of 4,101 identities from 15 indoor and outdoor cameras on a campus.

    Source: Wei et al., "Person Transfer GAN to Bridge Domain Gap for Person Re-Identification", CVPR 2018.

    Protocol: 1,041 identities for training and 3,060 for testing, with 11,659 queries and 82,161 gallery images. The
    published 32,621 training images are those of `list_train.txt` (30,248) and `list_val.txt`, which have the same
    identities. As in Torchreid, `list_val.txt` is used only with `include_val` or `combineall`.

    Layout: `msmt17/MSMT17_V1/{train,test}` or `msmt17/MSMT17_V2/{mask_train_v2,mask_test_v2}`, in which faces are
    masked. Both contain `list_{train,val,query,gallery}.txt`.

    Lists: the line `0000/0000_000_01_0303morning_0015_0.jpg 0` contains a path below the folder of the images and an
    identity; the third field of the file name is the camera. Test identities start at 0 in the lists, but at 1041 in
    this class, so that pids are unique.

    Args:
        root: Folder that contains `msmt17`.
        version: "v1" or "v2"; `None` uses V1 if it exists and V2 otherwise.
        include_val: Whether to add `list_val.txt` to the training images; `combineall` always adds it.
        loading: Options of `ReIDDataModule`.

    Raises:
        ValueError: If `version` is unknown.
    """

    name = "msmt17"
    folder = "msmt17"
    licence = "research use only, on a signed release agreement; not to be redistributed"
    paper = "Wei et al., Person Transfer GAN to Bridge Domain Gap for Person Re-Identification, CVPR 2018"
    how_to_obtain = (
        "Request it from the authors by signing their release agreement, see https://www.pkuvmc.com/dataset.html. "
        "Place the folder MSMT17_V1 or MSMT17_V2 in msmt17."
    )
    statistics: ClassVar[dict[Split, Statistics]] = {
        "train": Statistics(TRAIN_IDS, 32_621, CAMERAS),  # including list_val.txt
        "query": Statistics(TEST_IDS, 11_659, CAMERAS),
        "gallery": Statistics(TEST_IDS, 82_161, CAMERAS),
    }

    def __init__(
        self, root: str, version: str | None = None, include_val: bool = False, **loading: Unpack[Loading]
    ) -> None:
        super().__init__(root, **loading)
        if version is not None and version not in RELEASES:
            raise ValueError(
                f"data.version={version} is invalid: must be one of {', '.join(RELEASES)}, or null to detect the "
                "version."
            )
        self.version = version
        self.include_val = include_val or loading["combineall"]

    def samples(self, split: Split) -> list[Sample]:
        """List the samples of a split; see `ReIDDataModule.samples`. The listed files need not exist.

        Raises:
            FileNotFoundError: If the requested version, or either version, or a list is missing.
            ValueError: If a line of a list is invalid or its path is outside the folder of the images.
        """
        lists = ["train", "val"] if split == "train" and self.include_val else [split]
        return sorted(sample for name in lists for sample in self._read(name, test=split != "train"))

    def published(self) -> dict[Split, Statistics]:
        """Return the published sizes, for training with or without `list_val.txt`."""
        without_val = Statistics(TRAIN_IDS, 30_248, CAMERAS)
        return self.statistics if self.include_val else {**self.statistics, "train": without_val}

    @cached_property
    def release(self) -> Release:
        """Release in use; logged on first access.

        Raises:
            FileNotFoundError: If the requested version, or either version, does not exist.
        """
        versions = list(RELEASES) if self.version is None else [self.version]
        for version in versions:
            if (self.directory / RELEASES[version].folder).is_dir():
                if self._rank()[0] == 0:
                    log.info("msmt17: using %s", self.directory / RELEASES[version].folder)
                return RELEASES[version]
        folders = " or ".join(RELEASES[version].folder for version in versions)
        options = "data.root" if self.version is None else "data.root or data.version"
        raise FileNotFoundError(
            f"{self.directory} does not contain {folders}. Unpack the archive with "
            f"`reidlit prepare data=msmt17 archive=<file>`, or correct {options}."
        )

    def _read(self, name: str, test: bool) -> list[Sample]:
        base = self.directory / self.release.folder
        path = base / f"list_{name}.txt"
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist. Unpack the archive again.")
        folder = base / (self.release.test if test else self.release.train)
        with path.open(encoding="utf-8", errors="replace") as lines:
            return [
                parse_line(line.strip(), folder, test, f"{path}, line {number}")
                for number, line in enumerate(lines, 1)
                if line.strip()
            ]


def parse_line(line: str, folder: Path, test: bool, where: str) -> Sample:
    """Return the sample that a line of a list describes.

    Args:
        line: Text of the line.
        folder: Folder of the images.
        test: Whether the list contains test images.
        where: File and line, for messages.

    Raises:
        ValueError: If the line is invalid, a number is out of range, or the path is outside the folder.
    """
    match = LINE.fullmatch(line)
    if match is None:
        raise ValueError(
            f"{where}: {line!r} is invalid: expected a path and an identity, such as "
            "0000/0000_000_01_0303morning_0015_0.jpg 0. Unpack the archive again."
        )
    relative = PurePosixPath(match[1].replace("\\", "/"))
    if relative.is_absolute() or ".." in relative.parts or ":" in match[1]:
        raise ValueError(f"{where}: path {match[1]!r} is outside {folder}. Unpack the archive again.")
    fields = NAME.match(relative.name)
    if fields is None:
        raise ValueError(
            f"{where}: {match[1]!r} has no camera in the third field of its file name: expected a name such as "
            "0000_000_01_0303morning_0015_0.jpg. Unpack the archive again."
        )
    pid, camera, identities = int(match[2]), int(fields[1]), TEST_IDS if test else TRAIN_IDS
    if not (pid < identities and 1 <= camera <= CAMERAS):
        raise ValueError(
            f"{where}: identity {pid} or camera {camera} is out of range: must be 0 to {identities - 1} and 1 to "
            f"{CAMERAS}. Unpack the archive again."
        )
    return Sample(str(folder / relative), pid + TRAIN_IDS * test, camera - 1)
