"""Folding of batch norms into the layers before them, for inference."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from reidlit.models.lora import merge_lora
from reidlit.models.model import ReIDModel
from reidlit.models.temporal import TemporalAverage


def folded(model: ReIDModel, image_size: tuple[int, int]) -> ReIDModel:
    """Return an equivalent copy of a model in evaluation mode, with batch norms folded into other layers.

    In evaluation, a batch norm is a scale and shift per channel. The preceding layer can absorb it if no other module
    uses the output of that layer. A forward pass finds these pairs.

    Args:
        model: Model to copy; it is not changed.
        image_size: Height and width of the images in pixels.
    """
    copy = deepcopy(model).eval()
    merge_lora(copy)
    producers: dict[int, nn.Conv2d | nn.Linear] = {}  # layer by id of its output
    kept: list[Tensor] = []  # keeps outputs alive, so that ids are unique
    readers: dict[nn.Conv2d | nn.Linear, list[nn.Module]] = {}

    def note_output(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(module, nn.Conv2d | nn.Linear) and isinstance(output, Tensor):
            kept.append(output)
            producers[id(output)] = module
            readers.setdefault(module, [])

    def note_input(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        is_layer = isinstance(module, _BatchNorm) or next(module.children(), None) is None
        if is_layer and inputs and isinstance(inputs[0], Tensor) and id(inputs[0]) in producers:
            readers[producers[id(inputs[0])]].append(module)

    hooks: list[Any] = []
    for module in copy.modules():
        hooks += [module.register_forward_hook(note_output), module.register_forward_pre_hook(note_input)]
    camid = torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        # Mean pooling over frames commutes with a norm, other temporal poolings do not.
        shape = (1, 3) if isinstance(copy.temporal, TemporalAverage) else (1, 2, 3)
        copy.embed(torch.zeros(*shape, *image_size, dtype=torch.uint8), camid if copy.uses_cameras else None)
    for hook in hooks:
        hook.remove()

    names = {module: name for name, module in copy.named_modules()}
    for layer, layer_readers in readers.items():
        if (
            len(layer_readers) == 1
            and isinstance(norm := layer_readers[0], _BatchNorm)
            and _follows_one_layer(norm, readers)
        ):
            copy.set_submodule(names[layer], _fuse(layer, norm))
            copy.set_submodule(names[norm], _remaining_layers(norm))
    return copy


def _follows_one_layer(norm: nn.Module, readers: dict[Any, list[nn.Module]]) -> bool:
    """Return True if a norm follows exactly one layer, once."""
    return sum(norm in layer_readers for layer_readers in readers.values()) == 1


def _fuse(layer: nn.Conv2d | nn.Linear, norm: _BatchNorm) -> nn.Module:
    return fuse_conv_bn_eval(layer, norm) if isinstance(layer, nn.Conv2d) else fuse_linear_bn_eval(layer, norm)


def _remaining_layers(norm: nn.Module) -> nn.Module:
    """Return the dropout and activation that timm fuses into its norm layers."""
    return nn.Sequential(*(child for name, child in norm.named_children() if name in ("drop", "act")))
