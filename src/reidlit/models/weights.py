"""Loading of weights from files of Torchreid, fast-reid and reidlit."""

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reidlit.config import option, options
from reidlit.foreign_files import check_nesting, check_zip, expanded, reading
from reidlit.models.backbones import Backbone
from reidlit.spec import build

TRAINING_STATE = ("state_dict", "optimizer_states", "lr_schedulers", "callbacks")  # keys of large parts of a checkpoint
WRAPPERS = ("state_dict", "model")  # keys of the tensors in files of Torchreid and Lightning, and of fast-reid
PREFIXES = ("module.", "model.")  # added by DataParallel, and by a LightningModule
COUNTER = "num_batches_tracked"
DTYPES = (
    *(torch.float32, torch.float16, torch.bfloat16, torch.float64),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)
# Tensors that a file may contain and an embedding does not need: classifiers, losses and normalization constants.
NOT_EMBEDDING = re.compile(
    r"(.*\.)?(fc|head|head\.fc|head_dist|last_linear|logits|classifier\w*(\.\d+)*|heads\.(weight|cls_layer\.\w+))\.(weight|bias)"
    r"|heads\.weight|(AuxLogits|loss|losses|criterion|center_loss)\..*|(pixel_)?(mean|std)"
)


@dataclass(frozen=True)
class LoadReport:
    """Result of loading a weight file.

    Attributes:
        matched: Names of tensors with the same name and shape in the file and the model.
        missing: Names of tensors in the model that are not in the file.
        unexpected: Names of tensors in the file that are not in the model.
        mismatched: Shapes in the file and in the model, of tensors with the same name and different shapes.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]

    @property
    def embeds(self) -> bool:
        """Whether all weights of the embedding matched, so that at most the classifier keeps its initial weights."""
        return all(name.startswith("classifier.") for name in (*self.missing, *self.mismatched))

    def __str__(self) -> str:
        lines = [f"{len(self.matched)} tensors match"]
        shapes = [
            f"{name} is {file_shape} in the file and {model_shape} in the model"
            for name, (file_shape, model_shape) in self.mismatched.items()
        ]
        for title, entries in (
            ("different shape", shapes),
            ("missing from the file", self.missing),
            ("not in the model", self.unexpected),
        ):
            if entries:
                lines.append(f"  {title} ({len(entries)}): {_abbreviate(entries)}")
        return "\n".join(lines)


def load_weights(model: nn.Module, path: str | Path, strict: bool = True) -> LoadReport:
    """Load weights from a file of Torchreid, fast-reid, torchvision, timm or reidlit into a model.

    Tensors are matched by name and shape. Names of other frameworks are translated, and `module.` prefixes and wrappers
    such as `{"state_dict": ...}` are removed. A classifier for another number of identities keeps its weights, and the
    report contains its shapes.

    Args:
        model: A `ReIDModel`, modified in place.
        path: A `.pth`, `.pth.tar` or `.ckpt` file. Only tensors and numbers are read; code in the file never runs.
        strict: Whether to refuse a file of another architecture, of which some backbone tensors are unused. If False, they
            are only reported, but at least half of the model's backbone must match.

    Returns:
        Report of matched, missing, unexpected and mismatched tensors.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is not a weight file, or belongs to another architecture. The model is not changed.

    Example:
        >>> from reidlit import build_model, load_weights
        >>> model = build_model("osnet_x0_25", num_classes=751)
        >>> report = load_weights(model, "last.ckpt")
        >>> report.embeds
        True
        >>> sorted(report.mismatched)  # the checkpoint was trained with another number of identities
        ['classifier.0.bias', 'classifier.0.weight']
    """
    state = model.state_dict()
    renames = renames_of(model)
    tensors = {reidlit_name(name, renames, state): tensor for name, tensor in read_tensors(path).items()}
    matching = {name: tensor for name, tensor in tensors.items() if name in state and tensor.shape == state[name].shape}
    report = LoadReport(
        matched=tuple(matching),
        # Files from before PyTorch 0.4 have no batch norm counters, which evaluation does not use.
        missing=tuple(name for name in state if name not in tensors and not _is_optional(name)),
        unexpected=tuple(name for name in tensors if name not in state),
        mismatched={
            name: (tuple(tensor.shape), tuple(state[name].shape))
            for name, tensor in tensors.items()
            if name in state and tensor.shape != state[name].shape
        },
    )
    weights = [name for name in state if name.startswith("backbone.") and not name.endswith(COUNTER)]
    num_matching = sum(name in matching for name in weights)
    unused = [name for name in (*report.unexpected, *report.mismatched) if not _is_dispensable(name, renames[""])]
    if 2 * num_matching < len(weights) or not num_matching or (strict and unused):
        similar = fitting_architecture(path)
        hint = f" It fits model={similar}." if similar else ""
        raise ValueError(
            f"{path} does not match this model: {num_matching} of {len(weights)} backbone tensors have the same name and "
            f"shape, and {len(unused)} tensors of the file are unused.{hint} Build the architecture that the file was "
            f"trained with.\n{report}"
        )
    model.load_state_dict(matching, strict=False)
    return report


def fitting_architecture(path: str | Path) -> str | None:
    """Return the choice of conf/model that has exactly the embedding weights of a file, or None."""
    file = read_tensors(path)
    for choice in options("model"):
        shapes, renames = _architecture(choice)
        tensors = {reidlit_name(name, renames, shapes): tuple(tensor.shape) for name, tensor in file.items()}
        names = {name for name in (*shapes, *tensors) if not _is_dispensable(name, renames[""])} if shapes else set()
        if names and all(shapes.get(name) == tensors.get(name) for name in names):
            return choice
    return None


@cache
def _architecture(choice: str) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Return the shapes of a model's tensors and its renames; no shapes if the choice cannot be built without options."""
    try:
        with torch.device("meta"):
            model = build({**option("model", choice), "pretrained": False}, num_classes=1)
    except (ValueError, TypeError, RuntimeError, NotImplementedError):
        return {}, {"": ""}  # needs an option, such as the name of a timm network
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}, renames_of(model)


def load_embedding_weights(model: nn.Module, path: str | Path, setting: str) -> None:
    """Load a file that must contain all weights except the classifier; see `load_weights`.

    Args:
        model: A `ReIDModel`.
        path: Weight file or checkpoint.
        setting: Name of the file in messages, such as `weights=a.pth`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is not a weight file, or weights of the embedding are missing.
    """
    report = load_weights(model, path)
    if not report.embeds:
        raise ValueError(
            f"{setting} is incomplete: weights of the embedding are missing or have another shape. Use a file of the "
            f"same architecture.\n{report}"
        )


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a weight file or checkpoint by name, on the CPU.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file cannot be read safely or contains no tensors.
    """
    return tensors_of(read_checkpoint(path), path)


def tensors_of(content: Any, path: str | Path) -> dict[str, Tensor]:
    """Return the tensors in the content of a file; see `read_tensors`."""
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    items = content.items() if isinstance(content, Mapping) else ()
    tensors = {name: value for name, value in items if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(
            f"{path} contains no tensors: must be a state dict, or a checkpoint with a state dict under "
            f"{' or '.join(map(repr, WRAPPERS))}."
        )
    for name, tensor in tensors.items():
        if problem := _problem(tensor):
            raise ValueError(
                f"{path} contains the tensor {name} {problem}. Convert it to a dense tensor of float32 numbers."
            )
    return tensors


def _problem(tensor: Tensor) -> str | None:
    """Return why a tensor of a file cannot be a weight, or None."""
    if tensor.is_quantized or tensor.layout is not torch.strided or tensor.dtype not in DTYPES:
        return f"of {tensor.dtype} with layout {tensor.layout}, which is not supported"
    if tensor.device.type != "cpu":
        return f"on the device {tensor.device}, so it has no values"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"of shape {tuple(tensor.shape)}, whose values are not all in the file"
    return None


def read_checkpoint(path: str | Path) -> Any:
    """Read a file written by `torch.save` without running code in it.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is damaged, or contains other objects than tensors, numbers and containers.
    """
    file = expanded(path)
    if not file.is_file():
        raise FileNotFoundError(f"{path} does not exist: pass the path of a weight file or checkpoint.")
    remedy = (
        "It must be written by torch.save and contain only tensors, numbers and containers, because other objects could run "
        "code."
    )
    # Torchreid stores the rank-1 accuracy as a NumPy scalar. These globals can only create numbers.
    with reading(path, remedy), torch.serialization.safe_globals(_numpy_scalar_globals()):
        check_zip(file)
        return torch.load(file, map_location="cpu", weights_only=True)


def read_settings(path: str | Path) -> dict[str, Any]:
    """Return the content of a checkpoint without its training state; an empty dict for a file of another kind.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file cannot be read, or its settings are nested too deeply or too large.
    """
    return settings_of(read_checkpoint(path), path)


def settings_of(content: Any, path: str | Path) -> dict[str, Any]:
    """Return the settings in the content of a file; see `read_settings`."""
    if not isinstance(content, Mapping):
        return {}
    settings = {key: value for key, value in content.items() if isinstance(key, str) and key not in TRAINING_STATE}
    with reading(path, "Use a checkpoint that reidlit train has written."):
        check_nesting(settings)
    return settings


def _numpy_scalar_globals() -> list[Any]:
    scalar = np.float64(0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")  # NumPy 1 and NumPy 2
    dtypes = [type(np.dtype(scalar_type)) for scalar_type in (np.float64, np.float32, np.int64, np.int32)]
    return [*((scalar, name) for name in names), np.dtype, *dtypes]


def renames_of(model: nn.Module) -> dict[str, str]:
    """Return prefixes of other frameworks and their replacements in a model, longest prefix first.

    They come from the attribute `renames` of the backbone and the necks.
    """
    renames = {"": "backbone.", "classifier.": "classifier.0.", "heads.weight": "classifier.0.weight"}
    renames["heads.pool_layer."] = "pool."  # learned power of GeM pooling in fast-reid
    modules = [model.get_submodule("backbone"), *model.get_submodule("neck").children()]
    for module in modules:
        renames |= getattr(module, "renames", Backbone.renames)
    return dict(sorted(renames.items(), key=lambda rename: len(rename[0]), reverse=True))


def reidlit_name(name: str, renames: Mapping[str, str], names: Container[str]) -> str:
    """Return the name in reidlit of a tensor of another framework."""
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    if name in names:
        return name
    name = name.removeprefix("backbone.")  # added by fast-reid
    prefix = next(prefix for prefix in renames if name.startswith(prefix))
    return renames[prefix] + name.removeprefix(prefix)


def _is_dispensable(name: str, prefix: str) -> bool:
    """Return True if an embedding does not need a tensor.

    Args:
        name: Name in reidlit.
        prefix: Prefix that the names of other frameworks receive, such as `backbone.`.
    """
    return _is_optional(name) or bool(NOT_EMBEDDING.fullmatch(name.removeprefix(prefix)))


def _is_optional(name: str) -> bool:
    return name.endswith(COUNTER) or name in ("mean", "std")


def _abbreviate(names: Sequence[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
