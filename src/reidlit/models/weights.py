"""Load weights from files: Torchreid's, fast-reid's or reidlit's own."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reidlit.models.backbones import Backbone

WRAPPERS = ("state_dict", "model")  # where Torchreid and Lightning, and fast-reid, put the tensors
PREFIXES = ("module.", "model.")  # DataParallel's, and that of a LightningModule
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class LoadReport:
    """What became of the tensors of a file.

    `matched` were loaded. `missing` are in the model and not in the file, `unexpected` the other way round,
    `mismatched` are in both with other shapes: name -> (shape in the file, shape in the model).
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]

    @property
    def embeds(self) -> bool:
        """Whether all that makes the embedding was loaded, so that only the classifier may be new."""
        return all(name.startswith("classifier.") for name in (*self.missing, *self.mismatched))

    def __str__(self) -> str:
        lines = [f"{len(self.matched)} tensors loaded"]
        shapes = [f"{name} is {found} there and {wanted} here" for name, (found, wanted) in self.mismatched.items()]
        for what, names in (
            ("of another shape", shapes),
            ("not in the file", self.missing),
            ("not in the model", self.unexpected),
        ):
            if names:
                lines.append(f"  {what} ({len(names)}): {_some(names)}")
        return "\n".join(lines)


def load_weights(model: nn.Module, path: str | Path) -> LoadReport:
    """Load a file's tensors into a model, by name and shape.

    Names of Torchreid and torchvision are translated; `module.` prefixes and `{"state_dict": ...}` are taken off.
    A classifier for another number of identities is left as it is and reported.

    Args:
        model: a `ReIDModel`.
        path: a `.pth`, `.pth.tar` or `.ckpt` file. Only tensors and numbers are read, no code in it runs.

    Returns:
        What matched, what did not, and why.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no weight file, or nothing of the backbone fits.
    """
    own = model.state_dict()
    renames = renames_of(model)
    found = {own_name(name, renames, own): tensor for name, tensor in read_tensors(path).items()}
    fitting = {name: tensor for name, tensor in found.items() if name in own and tensor.shape == own[name].shape}
    report = LoadReport(
        matched=tuple(fitting),
        # Files from before PyTorch 0.4 lack the counters of batch norm, which evaluation does not read.
        missing=tuple(name for name in own if name not in found and not _optional(name)),
        unexpected=tuple(name for name in found if name not in own),
        mismatched={
            name: (tuple(tensor.shape), tuple(own[name].shape))
            for name, tensor in found.items()
            if name in own and tensor.shape != own[name].shape
        },
    )
    weights = [name for name in own if name.startswith("backbone.") and not name.endswith(COUNTER)]
    fits = sum(name in fitting for name in weights)
    if 2 * fits < len(weights) or not fits:
        raise ValueError(
            f"{path} does not fit this model: {fits} of the backbone's {len(weights)} tensors match by name and shape. "
            f"It belongs to another architecture; choose the model that it was trained with.\n{report}"
        )
    model.load_state_dict(fitting, strict=False)
    return report


def load_embedding_weights(model: nn.Module, path: str | Path, setting: str) -> None:
    """Load a file that must contain everything except the classifier; see `load_weights`.

    Args:
        model: A `ReIDModel`.
        path: Weight file or checkpoint.
        setting: How messages name the file, such as `weights=a.pth`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not a weight file, or a part of the embedding is missing.
    """
    report = load_weights(model, path)
    if not report.embeds:
        raise ValueError(f"{setting} does not hold all that makes an embedding of this model.\n{report}")


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The named tensors of a weight file or checkpoint, on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read safely or holds no tensors.
    """
    content: Any = read_checkpoint(path)
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        raise ValueError(f"{path} holds no named tensors; it must be a state dict or a checkpoint that contains one.")
    return tensors


def read_checkpoint(path: str | Path) -> Any:
    """Read a file written by `torch.save`, running no code from it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no such file, or holds more than tensors, numbers and containers.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"{path} does not exist: give the path of a weight file or checkpoint.")
    try:
        # Torchreid stores its rank-1 score as a NumPy scalar; these three only rebuild a number.
        with torch.serialization.safe_globals(_numpy_scalar_globals()):
            return torch.load(file, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, KeyError, AttributeError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"{path} is not a readable weight file ({reason}). It must be written by torch.save and hold tensors, "
            "numbers and containers only; anything else could run code and is refused."
        ) from error


def _numpy_scalar_globals() -> list[Any]:
    scalar = np.float64(0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")  # before and since NumPy 2
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32)]
    return [*((scalar, name) for name in names), np.dtype, *kinds]


def renames_of(model: nn.Module) -> dict[str, str]:
    """How the names of other projects begin here: a part's `renames`, the longest beginning first."""
    found = {"": "backbone.", "classifier.": "classifier.0.", "heads.weight": "classifier.0.weight"}
    found["heads.pool_layer."] = "pool."  # fast-reid's, where it has a learned power
    parts = [model.get_submodule("backbone"), *model.get_submodule("neck").children()]
    for part in parts:
        found |= getattr(part, "renames", Backbone.renames)
    return dict(sorted(found.items(), key=lambda rename: len(rename[0]), reverse=True))


def own_name(name: str, renames: Mapping[str, str], own: Container[str]) -> str:
    """The name that a tensor of another project has here."""
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    if name in own:
        return name
    name = name.removeprefix("backbone.")  # fast-reid's
    theirs = next(beginning for beginning in renames if name.startswith(beginning))
    return renames[theirs] + name.removeprefix(theirs)


def _optional(name: str) -> bool:
    return name.endswith(COUNTER) or name in ("mean", "std")


def _some(names: Sequence[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
