"""MobileNetV2, in the variant with published re-ID weights.

Source: Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018.
Module names match the published weights, so that these load unchanged.
"""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from reidlit.models.layers import initialize

STEM = 32
STAGES = (  # Table 2 of the paper: expansion, channels at width 1, number of blocks, stride of the first block
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
LAST = 1280


class ConvNorm(nn.Module):
    """Convolution, batch norm and ReLU6."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""
        return functional.relu6(self.bn(self.conv(x)), inplace=True)


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution and linear projection, with a shortcut if the shapes allow it."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        mid = in_channels * expansion
        self.conv1 = ConvNorm(in_channels, mid)
        self.dwconv2 = ConvNorm(mid, mid, kernel=3, stride=stride, groups=mid)
        self.conv3 = nn.Sequential(nn.Conv2d(mid, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""
        narrow: Tensor = self.conv3(self.dwconv2(self.conv1(x)))
        return x + narrow if self.residual else narrow


class MobileNetV2(nn.Module):
    """Convolutional part of MobileNetV2 as in Torchreid.

    It differs from timm and torchvision: the first block keeps its 1 x 1 expansion, and channels are not rounded to
    multiples of 8. `num_features` is 1280, or 1280 times the width if that is larger.

    Source: Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018.

    Args:
        width: Channel multiplier. Weights are published for 1.0 and 1.4.

    Raises:
        ValueError: If `width` is so small that a layer would have no channels.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        channels = [int(number * width) for number in (STEM, *(stage[1] for stage in STAGES))]
        if min(channels) < 1:
            raise ValueError(
                f"width={width} is invalid: must be at least {1 / STAGES[0][1]}. Weights are published for 1.0 and 1.4."
            )
        self.conv1 = ConvNorm(3, channels[0], kernel=3, stride=2)
        stages = [
            _stage(in_channels, out_channels, expansion, blocks, stride)
            for (in_channels, out_channels), (expansion, _, blocks, stride) in zip(
                pairwise(channels), STAGES, strict=True
            )
        ]
        self.conv2, self.conv3, self.conv4, self.conv5, self.conv6, self.conv7, self.conv8 = stages
        self.num_features = int(LAST * max(width, 1.0))
        self.conv9 = ConvNorm(channels[-1], self.num_features)
        initialize(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return maps (B, C, H / 32, W / 32) of normalized images (B, 3, H, W)."""
        x = self.conv4(self.conv3(self.conv2(self.conv1(image))))
        x = self.conv8(self.conv7(self.conv6(self.conv5(x))))
        result: Tensor = self.conv9(x)
        return result


def _stage(in_channels: int, out_channels: int, expansion: int, blocks: int, stride: int) -> nn.Sequential:
    first = InvertedResidual(in_channels, out_channels, expansion, stride)
    others = (InvertedResidual(out_channels, out_channels, expansion, stride=1) for _ in range(blocks - 1))
    return nn.Sequential(first, *others)
