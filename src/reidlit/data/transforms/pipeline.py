"""Pipelines of augmentation steps that are reproducible for every draw."""

import operator
import os
import random
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, Protocol, runtime_checkable

import numpy as np

from reidlit.data.transforms.occlusion import RandomPatch
from reidlit.data.transforms.step import Array, Donor, ImageStep, check_image


@runtime_checkable
class Step(Protocol):
    """Interface of a step. Every albumentations transform and composition implements it."""

    def __call__(self, *, image: Array, donor: Donor | None) -> dict[str, Any]:
        """Apply the step; return the data by name."""

    def set_random_state(self, random_generator: np.random.Generator, py_random: random.Random) -> None:
        """Make these two generators the only source of randomness of the step."""


class Pipeline:
    """Sequence of steps that depends only on the seed of a call.

    All steps share one `random.Random` and one NumPy generator. Every call reseeds them in place, which takes a few
    microseconds, while `albumentations.Compose.set_random_seed` creates new generators for every step. An example therefore
    does not depend on the worker that makes it or on what that worker did before, and global generators are not used.

    Args:
        transforms: albumentations transforms, or objects with the same interface, in the order in which they are applied. They
            are copied, because pipelines that share a transform would otherwise share its generators.

    Raises:
        ValueError: If an item is not such a transform.
    """

    def __init__(self, transforms: Sequence[Step]) -> None:
        for transform in transforms:
            if not isinstance(transform, Step):
                raise ValueError(
                    f"transforms contains {transform!r}, which is not an albumentations transform. Derive it from "
                    "albumentations.ImageOnlyTransform, and use self.py_random so that runs are reproducible."
                )
        self.transforms = tuple(deepcopy(transform) for transform in transforms)
        self.needs_donor = any(isinstance(transform, RandomPatch) for transform in self.transforms)
        self._py_random = random.Random(0)
        self._generator = np.random.Generator(np.random.PCG64(0))
        self._state: Any = self._generator.bit_generator.state
        for transform in self.transforms:
            transform.set_random_state(self._generator, self._py_random)

    def __call__(self, image: Array, seed: int | None = None, donor: Donor | None = None) -> Array:
        """Apply the steps.

        Args:
            image: (H, W, 3) uint8 image; not modified.
            seed: Any integer. Equal seeds give equal results. `None` uses entropy from the operating system, so that forked
                workers differ.
            donor: Function that receives a generator and returns another (H', W', 3) uint8 image of the dataset; see
                `RandomPatch`.

        Returns:
            (H_out, W_out, 3) uint8 image, contiguous; `image` itself if no step changes it.

        Raises:
            ValueError: If the image or the result is not (H, W, 3) uint8, or a step needs a donor and `donor` is None.
        """
        check_image(image, "image")
        if self.needs_donor and donor is None:
            raise ValueError(
                "donor=None is invalid, because RandomPatch needs a donor: pass a function that returns another image."
            )
        self._reseed(seed)
        for transform in self.transforms:
            if isinstance(transform, ImageStep):
                image = transform.augment(image, donor)
            else:
                image = transform(image=image, donor=donor)["image"]
        check_image(image, "the result of the transforms")
        return np.ascontiguousarray(image)

    def _reseed(self, seed: int | None) -> None:
        number = int.from_bytes(os.urandom(8), "little") if seed is None else operator.index(seed)
        # random.Random ignores the sign, so -3 and 3 would give the same image.
        self._py_random.seed(2 * number if number >= 0 else -2 * number - 1)
        self._state["state"]["state"] = self._py_random.getrandbits(128)
        self._generator.bit_generator.state = self._state


def select(library: Mapping[str, Step], names: Sequence[str]) -> Pipeline:
    """Return a pipeline of selected steps.

    Args:
        library: Steps by name.
        names: Names of the steps in the order in which they are applied. A name may occur more than once.

    Raises:
        ValueError: If `names` is a string, or contains a name that `library` lacks.
    """
    if isinstance(names, str):
        raise ValueError(f"names={names!r} is invalid: must be a list of names, for example [resize, random_flip].")
    if unknown := [name for name in names if name not in library]:
        raise ValueError(
            f"names contains unknown transforms {unknown}: must be among {sorted(library)}. Correct the names, or add the steps "
            "to your recipe in conf/transforms."
        )
    return Pipeline([library[name] for name in names])
