"""CUHK03."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Unpack

import cv2
import h5py
import numpy as np
from tqdm import tqdm

from reidlit.data.datamodule import Loading, ReIDDataModule, Split, Statistics
from reidlit.data.datasets.file_names import FileName
from reidlit.data.image_files import list_images
from reidlit.data.matlab import read_mat, strings
from reidlit.data.sample import Sample
from reidlit.data.splits import check_split_id
from reidlit.files import atomic_write

NAME = FileName("CUHK03", "2_017_1_03.png", r"([1-5])_([0-9]{3})_([12])_[0-9]{2}\.png\Z")
CLASSIC_SPLITS = 20
SHOTS_A_VIEW = 5
IDS_A_PAIR = 1_000  # more than the 843 of the largest pair
SHOW_AFTER = 1.0  # seconds; looking through what is there already is quicker


class CUHK03(ReIDDataModule):
    """CUHK03: 1,467 identities, each seen by one of five pairs of cameras; boxes from a detector, or drawn by hand.

    Source: Li et al., "DeepReID: Deep Filter Pairing Neural Network for Person Re-identification", CVPR 2014, for the images
    and 20 classic splits; Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017, for the
    767/700 protocol.
    Layout: `cuhk03/cuhk03_release/cuhk-03.mat` and, for the 767/700 protocol,
    `cuhk03/cuhk03_new_protocol_config_{detected,labeled}.mat`. `prepare_data` extracts the images to
    `cuhk03/images_{detected,labeled}`; where they are there already, only the classic splits need `cuhk-03.mat`.
    Names: `2_017_1_03.png` is identity 17 of camera pair 2, its first view, third image.

    An identity is a pair and a number in it, here `1000 * pair + number`. The two views of each pair are cameras of their own,
    0 to 9, so that no two pairs share a camera; Torchreid numbers the views 0 and 1 in all pairs. Nobody is seen by two pairs,
    so the scores are the same.

    The classic splits test on all images of 100 identities, which are query and gallery at once; their scores are those of
    `eval.protocol=cuhk03`, averaged over the 20 splits.

    Args:
        root: the folder that holds `cuhk03`.
        split_id: which of the 20 classic splits; 0 for the 767/700 protocol.
        cuhk03_labeled: whether to take the boxes drawn by hand, not the detected ones.
        cuhk03_classic_split: whether to take a classic split, 1,367 identities to train on and 100 to test.
        loading: see `ReIDDataModule`.

    Raises:
        ValueError: if there is no such split.
    """

    name = "cuhk03"
    folder = "cuhk03"
    licence = "research use only; not to be redistributed"
    paper = (
        "Li et al., DeepReID: Deep Filter Pairing Neural Network for Person Re-identification, CVPR 2014; 767/700 protocol: "
        "Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017"
    )
    how_to_obtain = (
        "Its authors give cuhk-03.mat at https://www.ee.cuhk.edu.hk/~xgwang/CUHK_identification.html; it goes to "
        "cuhk03/cuhk03_release. The files cuhk03_new_protocol_config_*.mat of the 767/700 protocol are in "
        "evaluation/data/CUHK03 of https://github.com/zhunzhong07/person-re-ranking; they go to cuhk03."
    )
    statistics: ClassVar[dict[Split, Statistics]] = {
        "train": Statistics(767, 7_365, 10),
        "query": Statistics(700, 1_400, 10),  # an image of each identity in each of its two views
        "gallery": Statistics(700, 5_332, 10),
    }
    labeled_statistics: ClassVar[dict[Split, Statistics]] = {
        "train": Statistics(767, 7_368, 10),
        "query": Statistics(700, 1_400, 10),
        "gallery": Statistics(700, 5_328, 10),
    }

    def __init__(
        self,
        root: str,
        split_id: int = 0,
        cuhk03_labeled: bool = False,
        cuhk03_classic_split: bool = False,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(root, **loading)
        if cuhk03_classic_split:
            self.split_id = check_split_id("cuhk03", split_id, CLASSIC_SPLITS)
        else:
            self.split_id = check_split_id("cuhk03 without data.cuhk03_classic_split=true", split_id, 1)
        self.cuhk03_classic_split = cuhk03_classic_split
        self.boxes = "labeled" if cuhk03_labeled else "detected"
        self.images = self.directory / f"images_{self.boxes}"
        self.release = self.directory / "cuhk03_release" / "cuhk-03.mat"

    def prepare_data(self) -> None:
        """Extract the images that are not there yet, each whole or not at all.

        Without `cuhk-03.mat` nothing is done: the images may be there from before, and if not, `samples` says so.

        Raises:
            ValueError: if `cuhk-03.mat` is damaged.
        """
        if self.release.is_file():
            self._extract()
        super().prepare_data()

    def _extract(self) -> None:
        there = {path.name for path in list_images(self.images)} if self.images.is_dir() else set()
        for name, image in _images(self.release, self.boxes, there):
            self.images.mkdir(exist_ok=True)
            _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            atomic_write(self.images / name, data.tobytes())

    def samples(self, split: Split) -> list[Sample]:
        """List a split of the extracted images; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: if the images, the protocol's file or, for a classic split, `cuhk-03.mat` are missing.
            ValueError: if one of these files is damaged, or an image's name does not parse.
        """
        if not self.images.is_dir():
            raise FileNotFoundError(f"{self.images} does not exist. {self._way_out}")
        if not self.cuhk03_classic_split:
            return self._of_protocol(split)
        test = self._test_pids()
        listed = [self.parse_name(path) for path in list_images(self.images)]
        return [sample for sample in listed if (sample.pid in test) == (split != "train")]

    @staticmethod
    def parse_name(path: Path, remedy: str = "Rename or remove it") -> Sample:
        """Read the identity and the camera from a file name."""
        pair, number, view = NAME.numbers(path, remedy)
        return Sample(str(path), _pid(pair, number), 2 * (pair - 1) + view - 1)

    def published(self) -> dict[Split, Statistics]:
        """The published sizes of the 767/700 protocol; a classic split's follow from its draw."""
        if self.cuhk03_classic_split:
            return {}
        return self.labeled_statistics if self.boxes == "labeled" else self.statistics

    def _of_protocol(self, split: Split) -> list[Sample]:
        path = self.directory / f"cuhk03_new_protocol_config_{self.boxes}.mat"
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} does not exist; it says which images are for {split}. {self.how_to_obtain} "
                "data.cuhk03_classic_split=true needs no such file."
            )
        with _reading(path):
            content = read_mat(path, ["filelist", f"{split}_idx"])
            files, positions = strings(content["filelist"]), np.ravel(content[f"{split}_idx"])
            if positions.size and not (positions.min() >= 1 and positions.max() <= len(files)):
                raise ValueError(f"{split}_idx must lie in 1 to {len(files)}, the files that are listed")
            names = [files[int(position) - 1] for position in positions]
        remedy = f"{path} lists it; get that file again"
        if outside := next((name for name in names if Path(name).name != name), None):
            raise NAME.mismatch(self.images / outside, remedy)
        listed = [self.parse_name(self.images / name, remedy) for name in sorted(names)]
        missing = set(names) - {image.name for image in list_images(self.images)}
        if missing:
            raise FileNotFoundError(
                f"{self.images}: {len(missing)} of {len(names)} {split} images are missing, {min(missing)} for one. "
                f"{self._way_out}"
            )
        return listed

    def _test_pids(self) -> set[int]:
        if not self.release.is_file():
            raise FileNotFoundError(f"{self.release} does not exist; it holds the classic splits. {self.how_to_obtain}")
        with _reading(self.release), h5py.File(self.release, "r") as file:
            testsets = file["testsets"][()].ravel()
            persons = file[testsets[self.split_id]][()].T  # (100, 2): pair, number in it
            return {_pid(int(pair), int(number)) for pair, number in persons}

    @property
    def _way_out(self) -> str:
        command = f"reidlit prepare data={self.name}" + " data.cuhk03_labeled=true" * (self.boxes == "labeled")
        return f"`{command}` extracts the images from {self.release}. {self.how_to_obtain}"


def _images(release: Path, boxes: str, there: set[str]) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """The images that are not there yet, (H, W, 3) uint8, RGB, each with the name of its file.

    MATLAB stores arrays column-major, so that each is read with its axes in reverse.
    """
    with _reading(release), h5py.File(release, "r") as file:
        wanted = []
        for pair, cells in enumerate(file[boxes][()].ravel(), 1):
            for (row, column), cell in np.ndenumerate(file[cells][()].T):  # (identities, 10)
                name = f"{pair}_{row + 1:03d}_{1 if column < SHOTS_A_VIEW else 2}_{column + 1:02d}.png"
                if name not in there:
                    wanted.append((name, cell))
        for name, cell in tqdm(wanted, desc=f"cuhk03 {boxes}", unit="image", delay=SHOW_AFTER, disable=None):
            image = file[cell]
            if image.ndim < 3:  # MATLAB writes the size of an empty array in its place
                continue
            if image.ndim > 3 or image.shape[0] != 3 or image.dtype != np.uint8:
                raise ValueError(f"{name} would be {image.dtype} {image.shape[::-1]}, not uint8 (H, W, 3)")
            yield name, np.ascontiguousarray(image[()].T)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Names the file in whatever error a damaged one leads to; h5py's are many."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{path} is damaged, cut short or another file ({error}); get it again.") from error


def _pid(pair: int, number: int) -> int:
    return pair * IDS_A_PAIR + number
