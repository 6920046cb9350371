"""Query and gallery sets, and random splits."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from reidlit.data.sample import Sample


class EvalSet(NamedTuple):
    """Query and gallery samples of a test or validation set."""

    query: list[Sample]
    gallery: list[Sample]


def hold_out(samples: Sequence[Sample], fraction: float, seed: int) -> tuple[list[Sample], EvalSet]:
    """Hold out a random validation set of training identities.

    All images of a selected identity are removed from training. One image per camera becomes a query, the others form
    the gallery. An identity seen by only one camera cannot be a query and stays in training.

    Args:
        samples: Training samples.
        fraction: Fraction of the identities to hold out, between 0 and 1.
        seed: Random seed; the selection is the same on every machine.

    Returns:
        The remaining training samples and the validation set.

    Raises:
        ValueError: If the fraction is out of range or leaves too few identities for training or validation.
    """
    if not 0 < fraction < 1:
        raise ValueError(
            f"val_fraction={fraction} is invalid: must be between 0 and 1. Set it to 0 to disable validation."
        )
    cameras: dict[int, set[int]] = defaultdict(set)
    for sample in samples:
        cameras[sample.pid].add(sample.camid)
    eligible = sorted(pid for pid, seen in cameras.items() if len(seen) > 1)
    count = round(fraction * len(cameras))
    if not 0 < count <= len(eligible) or count == len(cameras):
        raise ValueError(
            f"val_fraction={fraction} selects {count} of {len(cameras)} identities, but only {len(eligible)} were seen "
            "by at least two cameras and at least one must remain for training. Choose another val_fraction."
        )
    generator = np.random.default_rng([seed, 1])
    held = {eligible[i] for i in generator.permutation(len(eligible))[:count]}
    by_camera: dict[tuple[int, int], list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.pid in held:
            by_camera[sample.pid, sample.camid].append(sample)
    chosen = {key: int(generator.integers(len(group))) for key, group in sorted(by_camera.items())}
    query = [by_camera[key][position] for key, position in chosen.items()]
    picked = {id(sample) for sample in query}
    gallery = [sample for group in by_camera.values() for sample in group if id(sample) not in picked]
    # If the only image of a camera became a query, add it to the gallery too, or that camera would be missing there.
    present = {(sample.pid, sample.camid) for sample in gallery}
    gallery += [sample for sample in query if (sample.pid, sample.camid) not in present]
    return [sample for sample in samples if sample.pid not in held], EvalSet(query, gallery)


def drawn_order(count: int, seed: int) -> list[int]:
    """Return a random permutation of 0 to count - 1 that never changes between releases.

    Datasets without official splits use it. The order depends only on the arguments, so no file has to be stored.
    """
    # RandomState is frozen; the streams of NumPy's newer generators may change between releases.
    order: list[int] = np.random.RandomState(seed).permutation(count).tolist()
    return order


def check_split_id(name: str, split_id: int, count: int) -> int:
    """Return `split_id` after checking its range.

    Args:
        name: Dataset name, for the message.
        split_id: Number of the split.
        count: Number of splits of the dataset.

    Raises:
        ValueError: If `split_id` is out of range.
    """
    if not 0 <= split_id < count:
        raise ValueError(f"data.split_id={split_id} is invalid: {name} has splits 0 to {count - 1}.")
    return split_id
