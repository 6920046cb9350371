"""Weights under the names that Torchreid gives them, for it and for the trackers that read its files."""

from pathlib import Path

import torch
from torch import Tensor

from reidlit.models.model import ReIDModel
from reidlit.models.weights import own_name, renames_of

FAST_REID = "heads."  # how its names begin, which are read too


def torchreid_tensors(model: ReIDModel) -> dict[str, Tensor]:
    """The tensors of a model by Torchreid's names; what Torchreid does not have, such as the normalisation, is left out.

    Raises:
        ValueError: if the model is none of Torchreid's.
    """
    own = model.state_dict()
    renames = {theirs: ours for theirs, ours in renames_of(model).items() if not theirs.startswith(FAST_REID)}
    if len(model.classifier) > 1:  # a list of classifiers, as in Torchreid's PCB
        renames.pop("classifier.")
    found: dict[str, Tensor] = {}
    for name, tensor in own.items():
        if name in ("mean", "std"):
            continue
        theirs = [
            (-len(ours), beginning + name.removeprefix(ours))
            for beginning, ours in renames.items()
            if name.startswith(ours) and own_name(beginning + name.removeprefix(ours), renames, own) == name
        ]
        if name.startswith("classifier.") and not theirs:
            theirs = [(0, name)]
        if not theirs:
            raise ValueError(f"format=torchreid: Torchreid has no name for {name}, so this is none of its models.")
        found[min(theirs)[1]] = tensor.detach().cpu().clone()  # by the most particular of its renames
    return found


def write_torchreid(model: ReIDModel, path: Path) -> None:
    """Write `{"state_dict": ...}` as Torchreid's own checkpoints have it.

    Raises:
        ValueError: if the model is none of Torchreid's.
    """
    torch.save({"state_dict": torchreid_tensors(model)}, path)
