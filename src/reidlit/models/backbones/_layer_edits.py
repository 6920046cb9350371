"""Changes to networks of other libraries, found by watching a forward pass instead of by the networks' names."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

DOWNSAMPLING = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)


def watch(
    network: nn.Module, run: Callable[[Tensor], Any], image_size: Sequence[int]
) -> tuple[Any, dict[nn.Module, tuple[int, ...]]]:
    """Run a network once and note which of its modules were called, and with what size of map.

    Args:
        network: whose modules.
        run: image (1, 3, H, W) -> output.
        image_size: (H, W).

    Returns:
        The output, and the shape of the first input of each module that was called with a tensor.
    """
    called: dict[nn.Module, tuple[int, ...]] = {}

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        called.setdefault(module, tuple(inputs[0].shape) if inputs and isinstance(inputs[0], Tensor) else ())

    training = network.training
    hooks = [module.register_forward_pre_hook(note) for module in network.modules()]
    try:
        with torch.no_grad():
            output = run_in_eval(network, run, image_size)
    finally:
        for hook in hooks:
            hook.remove()
        network.train(training)
    return output, called


def run_in_eval(network: nn.Module, run: Callable[[Tensor], Any], image_size: Sequence[int]) -> Any:
    """One image of zeros through a network that keeps its statistics."""
    network.eval()
    return run(torch.zeros(1, 3, *image_size))


def drop_unused(network: nn.Module, called: dict[nn.Module, tuple[int, ...]]) -> None:
    """Replace each part of a network that has parameters and was never called: no gradient would reach it."""
    for name, part in list(network.named_children()):
        if next(part.parameters(), None) is not None and not any(module in called for module in part.modules()):
            setattr(network, name, nn.Identity())


def keep_last_resolution(network: nn.Module, called: dict[nn.Module, tuple[int, ...]]) -> None:
    """Set the stride of the last stage to 1, without dilation.

    Source: Sun, Zheng, Yang, Tian, Wang, "Beyond Part Models: Person Retrieval with Refined Part Pooling", ECCV 2018.

    Raises:
        ValueError: if no convolution or pooling halves the map.
    """
    names = {module: name for name, module in network.named_modules()}
    halving = [
        module
        for module, shape in called.items()  # in the order of the calls
        if isinstance(module, DOWNSAMPLING) and _stride(module) == 2 and len(shape) == 4 and shape[-2] > 1
    ]
    if not halving:
        raise ValueError("last_stride=1: no layer of this network halves its map, so there is nothing to keep.")
    last = halving[-1]
    for module in halving:
        # The main path and the shortcut halve it in one block; attention of the stage before may halve a copy.
        if called[module][-2:] == called[last][-2:] and _block(names[module]) == _block(names[last]):
            if isinstance(module, nn.AvgPool2d):
                module.kernel_size = 1  # the mean of one
            module.stride = (1, 1)


def _block(name: str) -> list[str]:
    """The stage and the block that a dotted name begins with."""
    return name.split(".")[:2]


def _stride(module: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) -> int:
    stride = module.stride
    return int(stride[0] if isinstance(stride, tuple) else stride)
