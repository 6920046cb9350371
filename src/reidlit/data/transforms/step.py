"""Base class of the augmentation steps that albumentations lacks.

Images stay uint8; scaling and normalization belong to the model, on the device. Every random choice is drawn from the
generators of a step, which `Pipeline` seeds.
"""

import random
from collections.abc import Callable
from typing import Any, TypeAlias

import albumentations
import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]
Donor: TypeAlias = Callable[[random.Random], Array]


class ImageStep(albumentations.ImageOnlyTransform):  # type: ignore[misc]  # albumentations ships no types
    """An albumentations transform of images, with types for what its subclasses use and a short way in."""

    py_random: random.Random
    random_generator: np.random.Generator

    def augment(self, image: Array, donor: Donor | None) -> Array:
        """Does what a call does for a lone image, in a third of the time: no replay, no targets, no copy to contiguous.

        Args:
            image: (H, W, 3) uint8, contiguous or a view.
            donor: As for `Pipeline`.

        Returns:
            (H_out, W_out, 3) uint8, contiguous or a view.
        """
        self.params: dict[str, Any] = {}
        if not self.should_apply():
            return image
        params = {**self.get_params(), "shape": image.shape}
        params.update(self.get_params_dependent_on_data(params, {"image": image, "donor": donor}))
        self.params = params
        augmented: Array = self.apply(image, **params)
        return augmented


def check_image(image: Array, name: str) -> None:
    """Raises ValueError unless `image` is (H, W, 3) uint8 and not empty."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(
            f"{name} is {image.dtype} {image.shape}; it must be uint8 (H, W, 3). Leave scaling and normalisation to "
            "the model, which does them on the device."
        )
