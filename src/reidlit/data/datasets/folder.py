"""Custom image dataset in folders."""

import re
from pathlib import Path
from typing import Unpack

from reidlit.data.datamodule import Loading
from reidlit.data.datasets.custom import CustomData
from reidlit.data.image_files import SUFFIXES, list_folders, list_images, list_images_below
from reidlit.data.random_splits import ROLES, Row
from reidlit.foreign_files import expanded


class Folder(CustomData):
    """Custom image dataset with one folder per identity and images at any depth below it.

    Layout: `<root>/<identity>/*.jpg`, which is split randomly; `<root>/{train,query,gallery}/<identity>/*.jpg`, in
    which train is optional; or `<root>/{train,test}/<identity>/*.jpg`, in which test is divided randomly into query and
    gallery.

    Args:
        root: Folder of the dataset; required.
        camera_pattern: Regular expression that is searched in the path below the identity's folder, such as
            `cam1/0003.jpg`; its group is the camera name. `None` if cameras are unknown.
        test_fraction: See `CustomData`.
        split_seed: See `CustomData`.
        split_file: See `CustomData`.
        loading: Options of `ReIDDataModule`; the default name is the folder name.

    Raises:
        ValueError: If `root` is missing, `camera_pattern` is not a regular expression with one group, or an option is
            invalid for `CustomData`.
    """

    how_to_obtain = (
        "Arrange the images as data.root/<identity>/*.jpg, data.root/{train,query,gallery}/<identity>/*.jpg or "
        "data.root/{train,test}/<identity>/*.jpg."
    )

    def __init__(
        self,
        root: str | None,
        camera_pattern: str | None = None,
        test_fraction: float = 0.5,
        split_seed: int = 0,
        split_file: str | None = None,
        **loading: Unpack[Loading],
    ) -> None:
        if root is None:
            raise ValueError(f"data.root is missing: set it, for example data.root=crops. {self.how_to_obtain}")
        path = expanded(str(root))  # a name such as 2024 is an integer in the configuration
        self.name = path.name if path.name not in ("", "..") else path.resolve().name
        super().__init__(str(root), test_fraction, split_seed, split_file, **loading)
        self.camera_pattern = None if camera_pattern is None else _compile(camera_pattern)

    def rows(self) -> list[Row]:
        """List all images; see `CustomData.rows`.

        Raises:
            FileNotFoundError: If the folder does not exist.
            ValueError: If the layout is invalid or `camera_pattern` does not match a path.
        """
        if not self.root.is_dir():
            raise FileNotFoundError(f"data.root={str(self.root)!r} is not an existing folder. {self.how_to_obtain}")
        folders = list_folders(self.root)
        splits = [folder for folder in folders if folder.name.lower() in ROLES]
        if not splits:
            return self._identity_rows(self.root, "")
        if splits != folders or len({folder.name.lower() for folder in splits}) < len(splits):
            raise ValueError(
                f"{self.root} mixes split folders with others or repeats a split: it contains "
                f"{', '.join(repr(folder.name) for folder in folders[:20])}. Keep each of {', '.join(ROLES)} at most "
                "once, and move the other folders away."
            )
        return [row for folder in splits for row in self._identity_rows(folder, folder.name.lower())]

    def _identity_rows(self, base: Path, split: str) -> list[Row]:
        if stray := list_images(base):
            raise ValueError(
                f"{base} contains {len(stray)} images outside the folders of identities, such as {stray[0].name!r}. "
                "Move each image into the folder of its identity."
            )
        rows: list[Row] = []
        prefix = "" if base == self.root else f"{base.name}/"
        for identity in list_folders(base):
            images = [path.relative_to(identity).as_posix() for path in list_images_below(identity)]
            if not images:
                raise ValueError(f"{identity} contains no images ({', '.join(SUFFIXES)}). Remove it.")
            pid = identity.name.strip()
            rows += [
                Row(f"{prefix}{identity.name}/{image}", pid, self._camera(image, identity), split) for image in images
            ]
        return rows

    def _camera(self, image: str, identity: Path) -> str:
        if self.camera_pattern is None:
            return ""
        match = self.camera_pattern.search(image)
        camera = (match[1] or "").strip() if match else ""
        if not camera:
            raise ValueError(
                f"data.camera_pattern={self.camera_pattern.pattern!r} finds no camera in {image!r} of {identity}. It "
                "must match the path of each image below its identity's folder. Set it to null if cameras are "
                "unknown."
            )
        return camera


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"data.camera_pattern={pattern!r} is not a valid regular expression: {error}.") from None
    if compiled.groups != 1:
        raise ValueError(
            f"data.camera_pattern={pattern!r} has {compiled.groups} groups: it must have exactly one, the camera, for "
            "example '_c(\\d+)'."
        )
    return compiled
