"""PRID 2011, multi shot."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Unpack

from reidlit.data.datamodule import Split, Statistics
from reidlit.data.datasets.person_folders import number_of, samples_of
from reidlit.data.image_files import list_folders, list_images
from reidlit.data.sample import Sample
from reidlit.data.splits import check_split_id, drawn_order
from reidlit.data.video import VideoDataModule, VideoLoading

NUM_SPLITS = 10
NUM_SHARED = 200  # the people that both cameras saw
NUM_PEOPLE = 178  # those of them with long tracklets
NUM_TRAIN = 89
LEAST_FRAMES = 28
CAMERAS = ("cam_a", "cam_b")


class PRID2011(VideoDataModule):
    """PRID 2011, its multi-shot version: a tracklet of a person from each of two street cameras.

    Source: Hirzer, Beleznai, Roth and Bischof, "Person Re-identification by Descriptive and Discriminative
    Classification", SCIA 2011; the protocol is that of Wang, Gong, Zhu and Wang, "Person Re-Identification by Video
    Ranking", ECCV 2014.
    Layout: `prid2011/prid_2011/multi_shot/{cam_a,cam_b}/person_0001/0001.png`. Persons 1 to 200 were seen by both cameras;
    the others have no part in the protocol.

    The protocol is the mean over ten random halvings of the 178 people with long tracklets in both cameras, 89 to train
    and 89 to test: people of camera A are searched for among those of camera B. Wang et al. ask for more than 21 frames,
    later papers for more than 27. Both name 178 people, so they are the same: those with 28 frames or more, here.

    Wang et al.'s halvings are used where `prid2011/splits_prid2011.json` lies, which Torchreid had its users download: a
    list of splits, each with the people's folders under `train` and `test`. Else others are drawn, once and for all, so
    that only means over the splits compare with published figures.

    Args:
        root: the folder that holds `prid2011`.
        split_id: 0 to 9.
        loading: see `VideoDataModule`.

    Raises:
        ValueError: if there is no such split.
    """

    name = "prid2011"
    folder = "prid2011"
    licence = "research use; no further terms of its authors are known"
    paper = (
        "Hirzer et al., Person Re-identification by Descriptive and Discriminative Classification, SCIA 2011 (multi shot); "
        "protocol: Wang et al., Person Re-Identification by Video Ranking, ECCV 2014"
    )
    how_to_obtain = (
        "Its authors give it at https://www.tugraz.at/institute/icg/research/team-bischof/lrs/downloads/prid11/ as "
        "prid_2011.zip."
    )
    statistics: ClassVar[dict[Split, Statistics]] = {
        "train": Statistics(89, 178, 2),
        "query": Statistics(89, 89, 1),
        "gallery": Statistics(89, 89, 1),
    }

    def __init__(self, root: str, split_id: int = 0, **loading: Unpack[VideoLoading]) -> None:
        super().__init__(root, **loading)
        self.split_id = check_split_id(self.name, split_id, NUM_SPLITS)

    @property
    def split_path(self) -> Path | None:
        """The file with the splits, if it is there."""
        file = self.directory / "splits_prid2011.json"
        return file if file.is_file() else None

    def samples(self, split: Split) -> list[Sample]:
        """List a split; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: if a camera's folder, or that of a person in the file with the splits, is missing.
            ValueError: if a name or that file does not parse, or without it if people or frames are missing.
        """
        cameras = [self.directory / "prid_2011" / "multi_shot" / name for name in CAMERAS]
        part = "train" if split == "train" else "test"
        if self.split_path:
            people = _read_people(self.split_path, self.split_id, part)
        else:
            able = _people_with_long_tracklets(cameras)
            order = drawn_order(NUM_PEOPLE, self.split_id)
            people = [able[i] for i in (order[:NUM_TRAIN] if part == "train" else order[NUM_TRAIN:])]
        return samples_of(cameras, sorted(people, key=number_of), split)


def _people_with_long_tracklets(cameras: Sequence[Path]) -> list[str]:
    both = set.intersection(*({folder.name for folder in list_folders(camera)} for camera in cameras))
    shared = sorted(person for person in both if number_of(person) <= NUM_SHARED)
    able = [person for person in shared if all(len(list_images(camera / person)) >= LEAST_FRAMES for camera in cameras)]
    if len(able) != NUM_PEOPLE:
        raise ValueError(
            f"{cameras[0]} and {CAMERAS[1]} hold {len(able)} of people 1 to {NUM_SHARED} with {LEAST_FRAMES} frames or more "
            f"each; PRID 2011 has {NUM_PEOPLE}, and the splits are drawn among them. Unpack the archive again."
        )
    return able


def _read_people(file: Path, split_id: int, part: str) -> list[str]:
    try:
        return [str(person) for person in json.loads(file.read_bytes())[split_id][part]]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"{file} does not hold the people to {part} of split {split_id} ({error!r}). It is a list of splits, each with "
            "the lists train and test; get it again, or move it away to have splits drawn."
        ) from error
