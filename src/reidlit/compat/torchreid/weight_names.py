"""Export of weights under Torchreid's names, for Torchreid and for trackers that read its files."""

from pathlib import Path

import torch
from torch import Tensor

from reidlit.models.model import ReIDModel
from reidlit.models.weights import own_name, renames_of

FAST_REID = "heads."  # prefix of fast-reid names, which can be loaded but are not exported


def torchreid_tensors(model: ReIDModel) -> dict[str, Tensor]:
    """Return the tensors of a model by Torchreid's names, without the mean and std that Torchreid does not store.

    Raises:
        ValueError: If Torchreid does not have this model.
    """
    own = model.state_dict()
    renames = {theirs: ours for theirs, ours in renames_of(model).items() if not theirs.startswith(FAST_REID)}
    if len(model.classifier) > 1:  # a list of classifiers, as in Torchreid's PCB
        renames.pop("classifier.")
    tensors: dict[str, Tensor] = {}
    for name, tensor in own.items():
        if name in ("mean", "std"):
            continue
        candidates = [
            (-len(ours), theirs + name.removeprefix(ours))
            for theirs, ours in renames.items()
            if name.startswith(ours) and own_name(theirs + name.removeprefix(ours), renames, own) == name
        ]
        if name.startswith("classifier.") and not candidates:
            candidates = [(0, name)]
        if not candidates:
            raise ValueError(f"format=torchreid: Torchreid has no name for {name}, so it does not have this model.")
        tensors[min(candidates)[1]] = tensor.detach().cpu().clone()  # the rename with the longest matching prefix
    return tensors


def write_torchreid(model: ReIDModel, path: Path) -> None:
    """Write `{"state_dict": ...}` as in Torchreid's checkpoints.

    Raises:
        ValueError: If Torchreid does not have this model.
    """
    torch.save({"state_dict": torchreid_tensors(model)}, path)
