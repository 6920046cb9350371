"""Modification of timm networks, based on a forward pass instead of layer names."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

DOWNSAMPLING = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)


def watch(
    network: nn.Module, run: Callable[[Tensor], Any], image_size: Sequence[int]
) -> tuple[Any, dict[nn.Module, tuple[int, ...]]]:
    """Run a network once and record which modules are called, with their input shapes.

    Args:
        network: Network whose modules are recorded.
        run: Function that runs the network on an image (1, 3, H, W).
        image_size: Height and width in pixels.

    Returns:
        The output of `run`, and the shape of the first input of each called module; empty if it is not a tensor.
    """
    called: dict[nn.Module, tuple[int, ...]] = {}

    def record(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        called.setdefault(module, tuple(inputs[0].shape) if inputs and isinstance(inputs[0], Tensor) else ())

    training = network.training
    hooks = [module.register_forward_pre_hook(record) for module in network.modules()]
    try:
        with torch.no_grad():
            output = run_in_eval(network, run, image_size)
    finally:
        for hook in hooks:
            hook.remove()
        network.train(training)
    return output, called


def run_in_eval(network: nn.Module, run: Callable[[Tensor], Any], image_size: Sequence[int]) -> Any:
    """Run a network in evaluation mode on a black image, so that batch norm statistics do not change."""
    network.eval()
    return run(torch.zeros(1, 3, *image_size))


def drop_unused(network: nn.Module, called: dict[nn.Module, tuple[int, ...]]) -> None:
    """Replace children with parameters that were never called, because they would not receive gradients."""
    for name, child in list(network.named_children()):
        if next(child.parameters(), None) is not None and not any(module in called for module in child.modules()):
            setattr(network, name, nn.Identity())


def keep_last_resolution(network: nn.Module, called: dict[nn.Module, tuple[int, ...]]) -> None:
    """Set the stride of the last stage to 1, without dilation.

    Source: Sun, Zheng, Yang, Tian, Wang, "Beyond Part Models: Person Retrieval with Refined Part Pooling", ECCV 2018.

    Raises:
        ValueError: If no convolution or pooling halves the map.
    """
    names = {module: name for name, module in network.named_modules()}
    downsampling = [
        module
        for module, shape in called.items()  # in call order
        if isinstance(module, DOWNSAMPLING) and _stride(module) == 2 and len(shape) == 4 and shape[-2] > 1
    ]
    if not downsampling:
        raise ValueError("last_stride=1 has no effect: no layer of this network halves its map. Set last_stride=null.")
    last = downsampling[-1]
    for module in downsampling:
        # The main path and the shortcut of a block both halve the map. Attention in the previous stage may do so too.
        if called[module][-2:] == called[last][-2:] and _block(names[module]) == _block(names[last]):
            if isinstance(module, nn.AvgPool2d):
                module.kernel_size = 1  # pooling over one position, the identity
            module.stride = (1, 1)


def _block(name: str) -> list[str]:
    """Return the stage and the block of a dotted name."""
    return name.split(".")[:2]


def _stride(module: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) -> int:
    stride = module.stride
    return int(stride[0] if isinstance(stride, tuple) else stride)
