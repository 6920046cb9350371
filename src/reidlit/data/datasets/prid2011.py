"""PRID 2011 dataset, multi-shot version."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Unpack

from reidlit.data.datamodule import Split, Statistics
from reidlit.data.datasets.person_folders import person_number, person_samples
from reidlit.data.image_files import list_folders, list_images
from reidlit.data.sample import Sample
from reidlit.data.splits import check_split_id, drawn_order
from reidlit.data.video import VideoDataModule, VideoLoading

NUM_SPLITS = 10
NUM_SHARED = 200  # people seen by both cameras
NUM_PEOPLE = 178  # shared people with long tracklets
NUM_TRAIN = 89
MIN_FRAMES = 28
CAMERAS = ("cam_a", "cam_b")


class PRID2011(VideoDataModule):
    """PRID 2011, multi-shot version: one tracklet of each person per camera, from two street cameras.

    Source: Hirzer, Beleznai, Roth and Bischof, "Person Re-identification by Descriptive and Discriminative
    Classification", SCIA 2011; protocol from Wang, Gong, Zhu and Wang, "Person Re-Identification by Video Ranking",
    ECCV 2014.

    Protocol: results are averaged over ten random splits of the 178 people with long tracklets in both cameras, with 89
    for training and 89 for testing. Tracklets of camera A are the queries, those of camera B the gallery. Wang et al.
    require more than 21 frames and later papers more than 27; both result in 178 people. This class requires at least
    28.

    Layout: `prid2011/prid_2011/multi_shot/{cam_a,cam_b}/person_0001/0001.png`. Both cameras saw persons 1 to 200; the
    others are not used. If `prid2011/splits_prid2011.json` exists, its splits are used; it contains the splits of Wang
    et al. in Torchreid's format, a list of splits with the folder names of people under `train` and `test`. Otherwise,
    fixed random splits are used, and only averages over all splits are comparable with published results.

    Args:
        root: Folder that contains `prid2011`.
        split_id: Number of the split, 0 to 9.
        loading: Options of `VideoDataModule`.

    Raises:
        ValueError: If `split_id` is out of range.
    """

    name = "prid2011"
    folder = "prid2011"
    licence = "research use; no other terms are known"
    paper = (
        "Hirzer et al., Person Re-identification by Descriptive and Discriminative Classification, SCIA 2011 (multi "
        "shot); protocol: Wang et al., Person Re-Identification by Video Ranking, ECCV 2014"
    )
    how_to_obtain = (
        "Download prid_2011.zip from https://www.tugraz.at/institute/icg/research/team-bischof/lrs/downloads/prid11/."
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
        """File with the splits, or `None` if it does not exist."""
        file = self.directory / "splits_prid2011.json"
        return file if file.is_file() else None

    def samples(self, split: Split) -> list[Sample]:
        """List the samples of a split; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: If the folder of a camera, or of a person in the file with the splits, is missing.
            ValueError: If a name or the file with the splits is invalid, or, without that file, people or frames are
                missing.
        """
        cameras = [self.directory / "prid_2011" / "multi_shot" / name for name in CAMERAS]
        part = "train" if split == "train" else "test"
        if self.split_path:
            people = _read_people(self.split_path, self.split_id, part)
        else:
            eligible = _people_with_long_tracklets(cameras)
            order = drawn_order(NUM_PEOPLE, self.split_id)
            people = [eligible[i] for i in (order[:NUM_TRAIN] if part == "train" else order[NUM_TRAIN:])]
        return person_samples(cameras, sorted(people, key=person_number), split)


def _people_with_long_tracklets(cameras: Sequence[Path]) -> list[str]:
    both = set.intersection(*({folder.name for folder in list_folders(camera)} for camera in cameras))
    shared = sorted(person for person in both if person_number(person) <= NUM_SHARED)
    eligible = [
        person for person in shared if all(len(list_images(camera / person)) >= MIN_FRAMES for camera in cameras)
    ]
    if len(eligible) != NUM_PEOPLE:
        raise ValueError(
            f"{cameras[0]} and {CAMERAS[1]} contain {len(eligible)} of people 1 to {NUM_SHARED} with at least "
            f"{MIN_FRAMES} frames in both, but PRID 2011 has {NUM_PEOPLE}. Unpack the archive again."
        )
    return eligible


def _read_people(file: Path, split_id: int, part: str) -> list[str]:
    try:
        return [str(person) for person in json.loads(file.read_bytes())[split_id][part]]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"{file} does not contain the {part} people of split {split_id} ({error!r}). It must be a list of splits "
            "with the lists train and test. Download it again, or remove it to use random splits."
        ) from error
