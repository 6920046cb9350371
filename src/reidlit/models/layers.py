"""Layers and checks that several networks share."""

from collections.abc import Sequence

from torch import nn


def conv_norm(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """Return a same-padded convolution without bias and its batch norm."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
    return conv, nn.BatchNorm2d(out_channels)


def initialize(module: nn.Module) -> None:
    """Initialize all layers of a module in place like the re-ID baselines.

    Convolutions are Kaiming-normal (fan-out), norms have weight one and bias zero, linear layers are drawn from
    N(0, 0.01), and all other biases are zero.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)


def require_size(network: str, image_size: Sequence[int], only: Sequence[int]) -> None:
    """Check that images have the only size that a network supports.

    Args:
        network: Name of the network for the message.
        image_size: Height and width in pixels.
        only: Supported height and width in pixels.

    Raises:
        ValueError: If the sizes differ.
    """
    if tuple(image_size) != tuple(only):
        raise ValueError(
            f"image_size={' x '.join(map(str, image_size))} is invalid: {network} requires {only[0]} x {only[1]}. "
            f"Set image_size=[{only[0]}, {only[1]}], or data.height={only[0]} data.width={only[1]} on the command line."
        )
