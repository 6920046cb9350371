"""MSMT17."""

import logging
import re
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import ClassVar, NamedTuple, Unpack

from reidlit.data.datamodule import Loading, ReIDDataModule, Split, Statistics
from reidlit.data.sample import Sample

log = logging.getLogger(__name__)


class Release(NamedTuple):
    """One of the two forms in which the images were given."""

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
    """MSMT17: 4,101 identities, 15 cameras in and around the buildings of a campus, on four days.

    Source: Wei et al., "Person Transfer GAN to Bridge Domain Gap for Person Re-Identification", CVPR 2018.
    Layout: `msmt17/MSMT17_V1/{train,test}` or `msmt17/MSMT17_V2/{mask_train_v2,mask_test_v2}`, in which faces are masked,
    each with `list_{train,val,query,gallery}.txt` beside them.
    Lists: a line is `0000/0000_000_01_0303morning_0015_0.jpg 0`, a path below the images' folder and an identity; the third
    field of the file's name is the camera. The lists number the test identities anew from 0; here they go on after the 1,041
    of training, so that a number is one person.

    The published 32,621 training images are those of `list_train.txt` and `list_val.txt` together, of the same identities.
    Torchreid trains on `list_train.txt` alone, 30,248 images, unless `combineall` is set, and so does this class.

    Args:
        root: the folder that holds `msmt17`.
        version: "v1" or "v2"; `None` takes V1 if it is there, else V2.
        include_val: whether `list_val.txt` joins the training images; with `combineall` it does in any case.
        loading: see `ReIDDataModule`.

    Raises:
        ValueError: if there is no such version.
    """

    name = "msmt17"
    folder = "msmt17"
    licence = "research use only, on a signed release agreement; not to be redistributed"
    paper = "Wei et al., Person Transfer GAN to Bridge Domain Gap for Person Re-Identification, CVPR 2018"
    how_to_obtain = (
        "Its authors give it on request to who signs their release agreement, see https://www.pkuvmc.com/dataset.html; the "
        "folder MSMT17_V1 or MSMT17_V2 goes to msmt17."
    )
    statistics: ClassVar[dict[Split, Statistics]] = {
        "train": Statistics(TRAIN_IDS, 32_621, CAMERAS),  # with list_val.txt
        "query": Statistics(TEST_IDS, 11_659, CAMERAS),
        "gallery": Statistics(TEST_IDS, 82_161, CAMERAS),
    }

    def __init__(
        self, root: str, version: str | None = None, include_val: bool = False, **loading: Unpack[Loading]
    ) -> None:
        super().__init__(root, **loading)
        if version is not None and version not in RELEASES:
            raise ValueError(f"data.version={version} must be one of {', '.join(RELEASES)}, or null for what is there.")
        self.version = version
        self.include_val = include_val or loading["combineall"]

    def samples(self, split: Split) -> list[Sample]:
        """List a split; see `ReIDDataModule.samples`. Whether the listed files exist is not looked up.

        Raises:
            FileNotFoundError: if neither version, or not the wanted one, is there, or a list is missing.
            ValueError: if a line of a list does not parse or leads outside the images' folder.
        """
        lists = ["train", "val"] if split == "train" and self.include_val else [split]
        return sorted(sample for name in lists for sample in self._read(name, test=split != "train"))

    def published(self) -> dict[Split, Statistics]:
        """The published sizes, those of training with or without `list_val.txt`."""
        without_val = Statistics(TRAIN_IDS, 30_248, CAMERAS)
        return self.statistics if self.include_val else {**self.statistics, "train": without_val}

    @cached_property
    def release(self) -> Release:
        """The version that is used; it is logged when it is first looked for.

        Raises:
            FileNotFoundError: if neither version, or not the wanted one, is there.
        """
        wanted = list(RELEASES) if self.version is None else [self.version]
        for version in wanted:
            if (self.directory / RELEASES[version].folder).is_dir():
                if self._rank()[0] == 0:
                    log.info("msmt17: %s is used", self.directory / RELEASES[version].folder)
                return RELEASES[version]
        folders = " nor ".join(RELEASES[version].folder for version in wanted)
        raise FileNotFoundError(
            f"{self.directory} holds {'neither' if len(wanted) > 1 else 'no'} {folders}. Unpack the archive with "
            f"`reidlit prepare data=msmt17 archive=<file>`, or give data.root{'' if self.version is None else ' or data.version'}."
        )

    def _read(self, name: str, test: bool) -> list[Sample]:
        base = self.directory / self.release.folder
        path = base / f"list_{name}.txt"
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist. The archive is incomplete: unpack it again.")
        folder = base / (self.release.test if test else self.release.train)
        with path.open(encoding="utf-8", errors="replace") as lines:
            return [
                parse_line(line.strip(), folder, test, f"{path}, line {number}")
                for number, line in enumerate(lines, 1)
                if line.strip()
            ]


def parse_line(line: str, folder: Path, test: bool, where: str) -> Sample:
    """Read a path and an identity from a line of a list.

    Args:
        line: Text of the line.
        folder: Folder of the images.
        test: Whether the list is of test images.
        where: File and line, for messages.

    Raises:
        ValueError: If the line does not match, a number is out of range, or the path leads outside the folder.
    """
    match = LINE.fullmatch(line)
    if match is None:
        raise ValueError(
            f"{where}: {line!r} is not a path and an identity (0000/0000_000_01_0303morning_0015_0.jpg 0)."
        )
    relative = PurePosixPath(match[1].replace("\\", "/"))
    if relative.is_absolute() or ".." in relative.parts or ":" in match[1]:
        raise ValueError(f"{where}: {match[1]!r} leads outside {folder}; it is refused.")
    fields = NAME.match(relative.name)
    if fields is None:
        raise ValueError(f"{where}: {match[1]!r} has no camera as the third field of its file name (0000_000_01_...).")
    pid, camera, identities = int(match[2]), int(fields[1]), TEST_IDS if test else TRAIN_IDS
    if not (pid < identities and 1 <= camera <= CAMERAS):
        raise ValueError(
            f"{where}: identity {pid} and camera {camera} must lie in 0 to {identities - 1} and 1 to {CAMERAS}."
        )
    return Sample(str(folder / relative), pid + TRAIN_IDS * test, camera - 1)
