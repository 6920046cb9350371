"""Query and gallery, and splits made by us."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from reidlit.data.sample import Sample


class EvalSet(NamedTuple):
    """What is searched for, and where."""

    query: list[Sample]
    gallery: list[Sample]


def hold_out(samples: Sequence[Sample], fraction: float, seed: int) -> tuple[list[Sample], EvalSet]:
    """Carve a validation set from the training identities.

    Whole identities leave the training list. Of each, one image of each camera becomes a query and the others the
    gallery; an identity that only one camera saw cannot be a query and stays in training.

    Args:
        samples: the training list.
        fraction: share of the identities to hold out, between 0 and 1.
        seed: of the draw; the same seed gives the same identities on every machine.

    Raises:
        ValueError: if the fraction is out of range or leaves nothing to train or to validate on.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"val_fraction={fraction} must lie between 0 and 1; 0 holds nothing out.")
    cameras: dict[int, set[int]] = defaultdict(set)
    for sample in samples:
        cameras[sample.pid].add(sample.camid)
    eligible = sorted(pid for pid, seen in cameras.items() if len(seen) > 1)
    count = round(fraction * len(cameras))
    if not 0 < count <= len(eligible) or count == len(cameras):
        raise ValueError(
            f"val_fraction={fraction} asks for {count} of {len(cameras)} identities; {len(eligible)} of them were seen "
            "by two cameras or more, and one must remain for training."
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
    # A camera that gave only its query leaves its identity without gallery entries there; keep the query in both then.
    present = {(sample.pid, sample.camid) for sample in gallery}
    gallery += [sample for sample in query if (sample.pid, sample.camid) not in present]
    return [sample for sample in samples if sample.pid not in held], EvalSet(query, gallery)


def drawn_order(count: int, seed: int) -> list[int]:
    """The numbers 0 to count - 1 in an order that is drawn once and for all.

    A split that a dataset leaves to chance is drawn with this: it depends on nothing but the two numbers, so it needs no
    file, and the data may be moved or read-only.
    """
    # The legacy generator is frozen; the streams of numpy's newer ones may change with a release.
    order: list[int] = np.random.RandomState(seed).permutation(count).tolist()
    return order


def check_split_id(name: str, split_id: int, count: int) -> int:
    """Returns `split_id` if the dataset has so many splits.

    Raises:
        ValueError: if not.
    """
    if not 0 <= split_id < count:
        raise ValueError(f"data.split_id={split_id}: {name} has the splits 0 to {count - 1}.")
    return split_id
