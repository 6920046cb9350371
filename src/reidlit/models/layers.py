"""Pieces that several networks share."""

from collections.abc import Sequence

from torch import nn


def conv_norm(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """A same-padded convolution without bias, and its batch norm."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
    return conv, nn.BatchNorm2d(out_channels)


def initialize(module: nn.Module) -> None:
    """Initialise every layer in place as the re-ID baselines do.

    Convolutions Kaiming-normal by fan-out, norms one and zero, linear layers N(0, 0.01), biases zero.
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
    """Refuse images that a network is not made for.

    Args:
        network: its name.
        image_size: height and width in pixels.
        only: the size that it is made for.

    Raises:
        ValueError: if the two differ.
    """
    if tuple(image_size) != tuple(only):
        raise ValueError(
            f"image_size={' x '.join(map(str, image_size))}: {network} takes {only[0]} x {only[1]} only. "
            f"Give data.height={only[0]} data.width={only[1]}."
        )
