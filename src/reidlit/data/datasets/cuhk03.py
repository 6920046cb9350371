"""CUHK03 dataset."""

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
from reidlit.locks import locked

NAME = FileName("CUHK03", "2_017_1_03.png", r"([1-5])_([0-9]{3})_([12])_[0-9]{2}\.png\Z")
CLASSIC_SPLITS = 20
SHOTS_PER_VIEW = 5
PIDS_PER_PAIR = 1_000  # the largest pair has 843 identities
SHOW_AFTER = 1.0  # seconds until the progress bar appears; scanning existing images takes less


class CUHK03(ReIDDataModule):
    """CUHK03, an image dataset of 1,467 identities from five camera pairs, with detected or manually labeled boxes.

    Source: Li et al., "DeepReID: Deep Filter Pairing Neural Network for Person Re-identification", CVPR 2014, for the
    images and the classic splits; Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR
    2017, for the 767/700 protocol.

    Protocol: the default 767/700 protocol has 767 identities for training and 700 for testing, with 1,400 queries. The
    20 classic splits have 1,367 identities for training. All images of the other 100 are both queries and gallery; use
    `eval.protocol=cuhk03` and average over the splits.

    Layout: `cuhk03/cuhk03_release/cuhk-03.mat` and, for the 767/700 protocol,
    `cuhk03/cuhk03_new_protocol_config_{detected,labeled}.mat`. `prepare_data` extracts the images to
    `cuhk03/images_{detected,labeled}`; afterwards only the classic splits need `cuhk-03.mat`.

    File names: `2_017_1_03.png` is the third image of identity 17 of camera pair 2, in the first view.

    The pid is `1000 * pair + number`. The two views of each pair are separate cameras, so that camids are 0 to 9.
    Torchreid uses camids 0 and 1 for all pairs; scores are the same, because no identity is seen by two pairs.

    Args:
        root: Folder that contains `cuhk03`.
        split_id: Number of the classic split, 0 to 19; must be 0 for the 767/700 protocol.
        cuhk03_labeled: Whether to use the manually labeled boxes instead of the detected ones.
        cuhk03_classic_split: Whether to use a classic split instead of the 767/700 protocol.
        loading: Options of `ReIDDataModule`.

    Raises:
        ValueError: If `split_id` is out of range.
    """

    name = "cuhk03"
    folder = "cuhk03"
    licence = "research use only; not to be redistributed"
    paper = (
        "Li et al., DeepReID: Deep Filter Pairing Neural Network for Person Re-identification, CVPR 2014; 767/700 "
        "protocol: Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017"
    )
    how_to_obtain = (
        "Download cuhk-03.mat from https://www.ee.cuhk.edu.hk/~xgwang/CUHK_identification.html and place it in "
        "cuhk03/cuhk03_release. Download the files cuhk03_new_protocol_config_*.mat of the 767/700 protocol from "
        "evaluation/data/CUHK03 of https://github.com/zhunzhong07/person-re-ranking and place them in cuhk03."
    )
    statistics: ClassVar[dict[Split, Statistics]] = {
        "train": Statistics(767, 7_365, 10),
        "query": Statistics(700, 1_400, 10),  # one image of each identity per view
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
        """Extract missing images, each atomically.

        If `cuhk-03.mat` does not exist, nothing is extracted; `samples` reports missing images.

        Raises:
            ValueError: If `cuhk-03.mat` is damaged.
        """
        if self.release.is_file():
            with locked(self.images):
                self._extract()
        super().prepare_data()

    def _extract(self) -> None:
        existing = {path.name for path in list_images(self.images)} if self.images.is_dir() else set()
        for name, image in _missing_images(self.release, self.boxes, existing):
            self.images.mkdir(exist_ok=True)
            _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            atomic_write(self.images / name, data.tobytes())

    def samples(self, split: Split) -> list[Sample]:
        """List the samples of a split from the extracted images; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: If the images, the protocol file or, for a classic split, `cuhk-03.mat` are missing.
            ValueError: If one of these files is damaged or an image name is invalid.
        """
        if not self.images.is_dir():
            raise FileNotFoundError(f"{self.images} does not exist. {self._remedy}")
        if not self.cuhk03_classic_split:
            return self._protocol_samples(split)
        test = self._test_pids()
        listed = [self.parse_name(path) for path in list_images(self.images)]
        return [sample for sample in listed if (sample.pid in test) == (split != "train")]

    @staticmethod
    def parse_name(path: Path, remedy: str = "Rename or remove it") -> Sample:
        """Return the sample of an image file, with the identity and camera from its name."""
        pair, number, view = NAME.numbers(path, remedy)
        return Sample(str(path), _pid(pair, number), 2 * (pair - 1) + view - 1)

    def published(self) -> dict[Split, Statistics]:
        """Return the published sizes of the 767/700 protocol; those of classic splits are unknown."""
        if self.cuhk03_classic_split:
            return {}
        return self.labeled_statistics if self.boxes == "labeled" else self.statistics

    def _protocol_samples(self, split: Split) -> list[Sample]:
        path = self.directory / f"cuhk03_new_protocol_config_{self.boxes}.mat"
        if not path.is_file():
            raise FileNotFoundError(
                f"{path}, which lists the {split} images, does not exist. {self.how_to_obtain} "
                "data.cuhk03_classic_split=true does not need it."
            )
        with _damage_reported(path):
            content = read_mat(path, ["filelist", f"{split}_idx"])
            files, positions = strings(content["filelist"]), np.ravel(content[f"{split}_idx"])
            if positions.size and not (positions.min() >= 1 and positions.max() <= len(files)):
                raise ValueError(f"{split}_idx must be between 1 and {len(files)}, the number of files")
            names = [files[int(position) - 1] for position in positions]
        remedy = f"The name is listed in {path}; download that file again"
        if outside := next((name for name in names if Path(name).name != name), None):
            raise NAME.mismatch(self.images / outside, remedy)
        listed = [self.parse_name(self.images / name, remedy) for name in sorted(names)]
        missing = set(names) - {image.name for image in list_images(self.images)}
        if missing:
            raise FileNotFoundError(
                f"{self.images}: {len(missing)} of {len(names)} {split} images are missing, for example "
                f"{min(missing)}. {self._remedy}"
            )
        return listed

    def _test_pids(self) -> set[int]:
        if not self.release.is_file():
            raise FileNotFoundError(
                f"{self.release}, which contains the classic splits, does not exist. {self.how_to_obtain}"
            )
        with _damage_reported(self.release), h5py.File(self.release, "r") as file:
            testsets = file["testsets"][()].ravel()
            persons = file[testsets[self.split_id]][()].T  # (100, 2): pair and number
            return {_pid(int(pair), int(number)) for pair, number in persons}

    @property
    def _remedy(self) -> str:
        command = f"reidlit prepare data={self.name}" + " data.cuhk03_labeled=true" * (self.boxes == "labeled")
        return f"Run `{command}` to extract the images from {self.release}. {self.how_to_obtain}"


def _missing_images(release: Path, boxes: str, existing: set[str]) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Yield the file name and pixels, (H, W, 3) uint8 RGB, of each image that is not in `existing`.

    MATLAB stores arrays column-major, so they are read with reversed axes.
    """
    with _damage_reported(release), h5py.File(release, "r") as file:
        missing = []
        for pair, cells in enumerate(file[boxes][()].ravel(), 1):
            for (row, column), cell in np.ndenumerate(file[cells][()].T):  # (identities, 10)
                name = f"{pair}_{row + 1:03d}_{1 if column < SHOTS_PER_VIEW else 2}_{column + 1:02d}.png"
                if name not in existing:
                    missing.append((name, cell))
        for name, cell in tqdm(missing, desc=f"cuhk03 {boxes}", unit="image", delay=SHOW_AFTER, disable=None):
            image = file[cell]
            if image.ndim < 3:  # MATLAB stores the size in place of an empty array
                continue
            if image.ndim > 3 or image.shape[0] != 3 or image.dtype != np.uint8:
                raise ValueError(f"{name} is {image.dtype} {image.shape[::-1]} instead of uint8 (H, W, 3)")
            yield name, np.ascontiguousarray(image[()].T)


@contextmanager
def _damage_reported(path: Path) -> Iterator[None]:
    """Turn any error into a ValueError that names the file, because h5py raises many types for damaged files."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"{path} is damaged, truncated or not the expected file ({error}). Download it again."
        ) from error


def _pid(pair: int, number: int) -> int:
    return pair * PIDS_PER_PAIR + number
