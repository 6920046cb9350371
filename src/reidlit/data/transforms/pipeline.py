"""Augmentation steps in the order written, reproducible draw by draw."""

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
    """What `Pipeline` asks of a step; every albumentations transform and composition has it."""

    def __call__(self, *, image: Array, donor: Donor | None) -> dict[str, Any]:
        """Takes and returns the data by name."""

    def set_random_state(self, random_generator: np.random.Generator, py_random: random.Random) -> None:
        """Makes the step draw from these two generators and from nothing else."""


class Pipeline:
    """Steps applied in the order given, with randomness that depends on a seed and on nothing else.

    All steps share one `random.Random` and one numpy generator, which every call reseeds in place: a few microseconds,
    where `albumentations.Compose.set_random_seed` builds new generators for every step. So an example is the same
    whichever worker draws it, whatever that worker drew before, and no global generator is touched.
    """

    def __init__(self, transforms: Sequence[Step]) -> None:
        """Makes the steps share their generators.

        Args:
            transforms: albumentations transforms, or anything like them. They are copied, so that pipelines made of one
                library do not take each other's generators away.

        Raises:
            ValueError: A step is no such transform.
        """
        for transform in transforms:
            if not isinstance(transform, Step):
                raise ValueError(
                    f"transforms contains {transform!r}, which is no albumentations transform. Derive it from "
                    "albumentations.ImageOnlyTransform and draw from self.py_random, so that runs stay reproducible."
                )
        self.transforms = tuple(deepcopy(transform) for transform in transforms)
        self.needs_donor = any(isinstance(transform, RandomPatch) for transform in self.transforms)
        self._py_random = random.Random(0)
        self._generator = np.random.Generator(np.random.PCG64(0))
        self._state: Any = self._generator.bit_generator.state
        for transform in self.transforms:
            transform.set_random_state(self._generator, self._py_random)

    def __call__(self, image: Array, seed: int | None = None, donor: Donor | None = None) -> Array:
        """Applies the steps.

        Args:
            image: (H, W, 3) uint8; it is not written to.
            seed: Any integer; equal seeds give equal results. None takes entropy from the operating system, so that
                forked workers differ.
            donor: Called with a generator, gives another image of the data set, (H', W', 3) uint8: see `RandomPatch`.

        Returns:
            (H_out, W_out, 3) uint8, contiguous. It may be `image` itself where no step changed anything.

        Raises:
            ValueError: The image or a step's result is not as described, or a donor is needed and missing.
        """
        check_image(image, "image")
        if self.needs_donor and donor is None:
            raise ValueError("donor is None, but RandomPatch needs one: pass a function that gives another image.")
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
        # random.Random drops the sign: -3 and 3 would give the same image
        self._py_random.seed(2 * number if number >= 0 else -2 * number - 1)
        self._state["state"]["state"] = self._py_random.getrandbits(128)
        self._generator.bit_generator.state = self._state


def select(library: Mapping[str, Step], names: Sequence[str]) -> Pipeline:
    """Makes a pipeline of some of a library's steps.

    Args:
        library: Steps by name.
        names: The steps to take, in the order in which they are applied. A name may come twice.

    Raises:
        ValueError: `names` is one string, or contains a name that `library` lacks.
    """
    if isinstance(names, str):
        raise ValueError(f"names is {names!r}; it must be a list of names, e.g. [resize, random_flip].")
    if unknown := [name for name in names if name not in library]:
        raise ValueError(
            f"Unknown transforms {unknown}; known are {sorted(library)}. Correct the name, or add the step to your recipe "
            "under conf/transforms."
        )
    return Pipeline([library[name] for name in names])
