"""Activation maps of any network, computed with forward hooks."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidlit.models.model import ReIDModel

Hook = Callable[[nn.Module, tuple[Any, ...], Any], None]
SIMILAR = 5  # similar layer names in an error message


def activation_map(model: ReIDModel, image: Tensor, layer: str | None = None, camid: Tensor | None = None) -> Tensor:
    """Compute the activation energy at each position: the sum over channels of the squared activations.

    The papers normalize a map to unit length. This has no effect here, because each map is scaled to [0, 1].

    Source: Zhou, Yang, Cavallaro, Xiang, "Omni-Scale Feature Learning for Person Re-Identification", ICCV 2019, after
    Zagoruyko, Komodakis, "Paying More Attention to Attention", ICLR 2017.

    Args:
        model: Model in evaluation mode.
        image: (B, 3, H, W) images, uint8 or normalized float.
        layer: Dotted name of a module that returns a feature map (B, C, h, w). By default the layer of `find_layer`.
        camid: (B,) camera of each image, for camera-aware models.

    Returns:
        (B, H, W) float32 maps, each scaled to [0, 1].

    Raises:
        ValueError: If there is no such layer, it does not return one feature map, or the model is in training mode.
    """
    if layer is None:
        layer = find_layer(model, image.shape[2:])
    module = _module(model, layer)
    energies: list[Tensor] = []
    shapes: list[str] = []

    def record(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        shapes.append(str(tuple(output.shape)) if isinstance(output, Tensor) else type(output).__name__)
        if (feature_map := _map(output)) is not None:
            # Computed here, because a later layer may overwrite the feature map in place.
            energies.append(feature_map.float().square().sum(1))

    embed_watched(model, image, camid, {module: record})
    if len(shapes) != 1 or len(energies) != 1:
        reason = "is not called" if not shapes else f"returns {', '.join(shapes)}"
        raise ValueError(
            f"layer={layer!r} {reason}: must return one feature map (B, C, h, w) with more than one position. Omit "
            "layer to use the last such layer."
        )
    return scaled(energies[0], image.shape[2:])


def find_layer(model: ReIDModel, image_size: Sequence[int]) -> str:
    """Return the dotted name of the last module that returns a feature map (B, C, h, w) with more than one position.

    Modules that are called several times are skipped, because they may process one image region at a time, as in HACNN.

    Args:
        model: Model in evaluation mode.
        image_size: Height and width in pixels.

    Raises:
        ValueError: If no module returns a feature map, or the model is in training mode.
    """
    calls: Counter[str] = Counter()
    maps: list[str] = []

    def recorder(name: str) -> Hook:
        def record(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
            calls[name] += 1
            if _map(output) is not None:
                maps.append(name)

        return record

    dry_run(model, image_size, {module: recorder(name) for name, module in model.named_modules() if name})
    once = [name for name in maps if calls[name] == 1]
    if not once:
        raise ValueError(
            f"model has no activation map: no module of its {type(model.backbone).__name__} returns a feature map (B, "
            "C, h, w) with more than one position."
        )
    return once[-1]


def embed_watched(model: ReIDModel, image: Tensor, camid: Tensor | None, hooks: Mapping[nn.Module, Hook]) -> None:
    """Embed images with temporary forward hooks.

    Args:
        model: Model in evaluation mode.
        image: (B, 3, H, W) images.
        camid: (B,) camera of each image, or None.
        hooks: Forward hook of each watched module.

    Raises:
        ValueError: If the model is in training mode, in which batch norm would update its statistics.
    """
    if model.training:
        raise ValueError("model is in training mode: call model.eval() first.")
    handles = [module.register_forward_hook(hook) for module, hook in hooks.items()]
    try:
        with torch.no_grad():
            model.embed(image, camid)
    finally:
        for handle in handles:
            handle.remove()


def dry_run(model: ReIDModel, image_size: Sequence[int], hooks: Mapping[nn.Module, Hook]) -> None:
    """Embed one black image of camera 0 with temporary forward hooks."""
    device = model.mean.device
    black = torch.zeros(1, 3, *image_size, dtype=torch.uint8, device=device)
    embed_watched(model, black, torch.zeros(1, dtype=torch.long, device=device), hooks)


def scaled(maps: Tensor, image_size: Sequence[int]) -> Tensor:
    """Resize maps to the image size and scale each to [0, 1]; a constant map becomes 0.

    Args:
        maps: (B, h, w) maps.
        image_size: Height H and width W in pixels.

    Returns:
        (B, H, W) maps.
    """
    resized = functional.interpolate(maps[:, None], tuple(image_size), mode="bilinear", align_corners=False)[:, 0]
    above = resized - resized.amin((1, 2), keepdim=True)
    highest = above.amax((1, 2), keepdim=True)
    return above / highest.where(highest > 0, 1)


def _map(output: Any) -> Tensor | None:
    """Return the feature map in the output of a module, or None; in a tuple, the feature map comes first."""
    first = output[0] if isinstance(output, tuple) and output else output
    return first if isinstance(first, Tensor) and first.ndim == 4 and first.shape[2:].numel() > 1 else None


def _module(model: nn.Module, layer: str) -> nn.Module:
    modules: dict[str, nn.Module] = {name: module for name, module in model.named_modules() if name}
    if layer in modules:
        return modules[layer]
    # `layer4` most likely means the shortest dotted name that contains it.
    containing = sorted((name for name in modules if f".{layer}." in f".{name}."), key=len)
    similar = (
        containing or get_close_matches(layer, modules, SIMILAR, 0.4) or [name for name, _ in model.named_children()]
    )
    raise ValueError(f"layer={layer!r} is not a module of the model. Similar: {', '.join(similar[:SIMILAR])}.")
