"""Export of weights under Torchreid's names, for Torchreid and for trackers that read its files."""

from pathlib import Path

import torch
from torch import Tensor

from reidlit.models.model import ReIDModel
from reidlit.models.weights import reidlit_name, renames_of

FAST_REID = "heads."  # prefix of names in fast-reid, which are only supported for loading


def torchreid_tensors(model: ReIDModel) -> dict[str, Tensor]:
    """Return the tensors of a model by Torchreid's names, without the mean and std that Torchreid does not store.

    Raises:
        ValueError: If Torchreid does not have this model.
    """
    state = model.state_dict()
    renames = {
        torchreid_prefix: prefix
        for torchreid_prefix, prefix in renames_of(model).items()
        if not torchreid_prefix.startswith(FAST_REID)
    }
    if len(model.classifier) > 1:  # a list of classifiers, as in Torchreid's PCB
        renames.pop("classifier.")
    tensors: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name in ("mean", "std"):
            continue
        candidates = [
            (-len(prefix), torchreid_prefix + name.removeprefix(prefix))
            for torchreid_prefix, prefix in renames.items()
            if name.startswith(prefix)
            and reidlit_name(torchreid_prefix + name.removeprefix(prefix), renames, state) == name
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
