"""A user's own images in folders."""

import re
from pathlib import Path
from typing import Unpack

from reidlit.data.datamodule import Loading
from reidlit.data.datasets.custom import OwnData
from reidlit.data.image_files import SUFFIXES, list_folders, list_images, list_images_below
from reidlit.data.random_splits import ROLES, Row


class Folder(OwnData):
    """Images in one folder an identity, at any depth below it.

    Layout: `<root>/<identity>/*.jpg`, from which train, query and gallery are drawn; or
    `<root>/{train,query,gallery}/<identity>/*.jpg`, with or without train; or `<root>/{train,test}/<identity>/*.jpg`, where
    query and gallery are drawn from test.

    Args:
        root: the folder; it must be given.
        camera_pattern: a regular expression that is searched in the path below the identity's folder, such as
            `cam1/0003.jpg`; its group is the camera. `None` if no cameras are known.
        test_fraction: see `OwnData`.
        split_seed: see `OwnData`.
        split_file: see `OwnData`.
        loading: see `ReIDDataModule`; the name is that of the folder, if none is given.

    Raises:
        ValueError: if there is no root, if the pattern is no regular expression with one group, or for what `OwnData`
            refuses.
    """

    how_to_obtain = (
        "Lay the images out as data.root/<identity>/*.jpg, or as data.root/{train,query,gallery}/<identity>/*.jpg, or as "
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
            raise ValueError(f"data.root is not given: data.root=crops, say. {self.how_to_obtain}")
        path = Path(str(root)).expanduser()  # 2024 is a number in a configuration
        self.name = path.name if path.name not in ("", "..") else path.resolve().name
        super().__init__(str(root), test_fraction, split_seed, split_file, **loading)
        self.camera_pattern = None if camera_pattern is None else _compiled(camera_pattern)

    def rows(self) -> list[Row]:
        """List all images; see `OwnData.rows`.

        Raises:
            FileNotFoundError: if the folder is not there.
            ValueError: if it is laid out otherwise, or the pattern does not match a path.
        """
        if not self.root.is_dir():
            raise FileNotFoundError(f"data.root={str(self.root)!r} is no folder. {self.how_to_obtain}")
        folders = list_folders(self.root)
        ready = [folder for folder in folders if folder.name.lower() in ROLES]
        if not ready:
            return self._identities(self.root, "")
        if ready != folders or len({folder.name.lower() for folder in ready}) < len(ready):
            raise ValueError(
                f"{self.root} holds {', '.join(repr(folder.name) for folder in folders[:20])}. Some are splits, so all must "
                f"be, each once: {', '.join(ROLES)}. Move the others away."
            )
        return [row for folder in ready for row in self._identities(folder, folder.name.lower())]

    def _identities(self, base: Path, split: str) -> list[Row]:
        if stray := list_images(base):
            raise ValueError(
                f"{base} holds images beside the identities' folders: {len(stray)}, such as {stray[0].name!r}. Move each into "
                "the folder of its identity."
            )
        rows: list[Row] = []
        above = "" if base == self.root else f"{base.name}/"
        for identity in list_folders(base):
            images = [path.relative_to(identity).as_posix() for path in list_images_below(identity)]
            if not images:
                raise ValueError(f"{identity} holds no image ({', '.join(SUFFIXES)}). Remove it.")
            pid = identity.name.strip()
            rows += [
                Row(f"{above}{identity.name}/{image}", pid, self._camera(image, identity), split) for image in images
            ]
        return rows

    def _camera(self, image: str, identity: Path) -> str:
        if self.camera_pattern is None:
            return ""
        match = self.camera_pattern.search(image)
        camera = (match[1] or "").strip() if match else ""
        if not camera:
            raise ValueError(
                f"data.camera_pattern={self.camera_pattern.pattern!r} finds no camera in {image!r} of {identity}. It must "
                "match each image's path below the folder of its identity, or be null if no cameras are known."
            )
        return camera


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"data.camera_pattern={pattern!r} is no regular expression: {error}.") from None
    if compiled.groups != 1:
        raise ValueError(
            f"data.camera_pattern={pattern!r} has {compiled.groups} groups and must have one, the camera: '_c(\\d+)', say."
        )
    return compiled
