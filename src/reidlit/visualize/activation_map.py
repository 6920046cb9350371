"""Where the last feature map of a network is active, read by a hook, so that any network will do."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidlit.models.model import ReIDModel

Hook = Callable[[nn.Module, tuple[Any, ...], Any], None]
SIMILAR = 5  # names that an error lists


def activation_map(model: ReIDModel, image: Tensor, layer: str | None = None, camid: Tensor | None = None) -> Tensor:
    """The energy of a feature map at each position: the sum over channels of the squared activations.

    The papers scale a map to length one before they draw it. That drops out here, as any factor does when a map is scaled
    to 0 to 1.

    Source: Zhou, Yang, Cavallaro, Xiang, "Omni-Scale Feature Learning for Person Re-Identification", ICCV 2019, after
    Zagoruyko, Komodakis, "Paying More Attention to Attention", ICLR 2017.

    Args:
        model: in evaluation mode.
        image: (B, 3, H, W) uint8, or float and normalised already.
        layer: the dotted name of the module whose map it is, with channels first; by default `find_layer`.
        camid: (B,) the camera of each, for a model that uses cameras.

    Returns:
        (B, H, W) float32 in 0 to 1, each image scaled by itself.

    Raises:
        ValueError: if there is no such layer, it gives no map of the whole image, or the model is in training mode.
    """
    if layer is None:
        layer = find_layer(model, image.shape[2:])
    module = _module(model, layer)
    energies: list[Tensor] = []
    shapes: list[str] = []

    def note(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        shapes.append(str(tuple(output.shape)) if isinstance(output, Tensor) else type(output).__name__)
        if (feature_map := _map(output)) is not None:
            # At once: a later layer may write into the same memory.
            energies.append(feature_map.float().square().sum(1))

    embed_watched(model, image, camid, {module: note})
    if len(shapes) != 1 or len(energies) != 1:
        given = "is not called" if not shapes else f"gives {', '.join(shapes)}"
        raise ValueError(
            f"layer={layer!r} {given}; a module is needed that gives one map (B, C, h, w) of more than one position. "
            "Leave layer out for the last one."
        )
    return scaled(energies[0], image.shape[2:])


def find_layer(model: ReIDModel, image_size: Sequence[int]) -> str:
    """The dotted name of the last module that gives a map (B, C, h, w) of more than one position.

    Modules that are called several times are passed over: they see one region of the image at a time, as in HACNN.

    Args:
        model: in evaluation mode.
        image_size: height and width in pixels.

    Raises:
        ValueError: if no module gives a map, or the model is in training mode.
    """
    calls: Counter[str] = Counter()
    maps: list[str] = []

    def watching(name: str) -> Hook:
        def note(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
            calls[name] += 1
            if _map(output) is not None:
                maps.append(name)

        return note

    dry_run(model, image_size, {module: watching(name) for name, module in model.named_modules() if name})
    once = [name for name in maps if calls[name] == 1]
    if not once:
        raise ValueError(
            f"model: no module of this {type(model.backbone).__name__} gives a feature map (B, C, h, w) of more than one "
            "position, so it has no activation map."
        )
    return once[-1]


def embed_watched(model: ReIDModel, image: Tensor, camid: Tensor | None, hooks: Mapping[nn.Module, Hook]) -> None:
    """Embed images for what forward hooks see; they are gone afterwards.

    Raises:
        ValueError: if the model is in training mode, in which it would learn from the images.
    """
    if model.training:
        raise ValueError("model is in training mode; call model.eval() before.")
    handles = [module.register_forward_hook(hook) for module, hook in hooks.items()]
    try:
        with torch.no_grad():
            model.embed(image, camid)
    finally:
        for handle in handles:
            handle.remove()


def dry_run(model: ReIDModel, image_size: Sequence[int], hooks: Mapping[nn.Module, Hook]) -> None:
    """`embed_watched` of one black image of camera 0."""
    device = model.mean.device
    black = torch.zeros(1, 3, *image_size, dtype=torch.uint8, device=device)
    embed_watched(model, black, torch.zeros(1, dtype=torch.long, device=device), hooks)


def scaled(maps: Tensor, image_size: Sequence[int]) -> Tensor:
    """Maps (B, h, w) as large as the image and in 0 to 1, (B, H, W), each by itself; one without differences is 0."""
    large = functional.interpolate(maps[:, None], tuple(image_size), mode="bilinear", align_corners=False)[:, 0]
    above = large - large.amin((1, 2), keepdim=True)
    highest = above.amax((1, 2), keepdim=True)
    return above / highest.where(highest > 0, 1)


def _map(output: Any) -> Tensor | None:
    """The feature map among what a module gives; some give other things after it."""
    first = output[0] if isinstance(output, tuple) and output else output
    return first if isinstance(first, Tensor) and first.ndim == 4 and first.shape[2:].numel() > 1 else None


def _module(model: nn.Module, layer: str) -> nn.Module:
    modules: dict[str, nn.Module] = {name: module for name, module in model.named_modules() if name}
    if layer in modules:
        return modules[layer]
    # Whoever writes `layer4` means the shortest name that ends so.
    within = sorted((name for name in modules if f".{layer}." in f".{name}."), key=len)
    near = within or get_close_matches(layer, modules, SIMILAR, 0.4) or [name for name, _ in model.named_children()]
    raise ValueError(f"layer={layer!r} is no module of the model. Similar: {', '.join(near[:SIMILAR])}.")
