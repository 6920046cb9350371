"""MuDeep: multi-scale streams with learned fusion per channel.

Source: Qian, Fu, Jiang, Xiang, Xue, "Multi-scale Deep Learning Architectures for Person Re-identification", ICCV 2017.
Module names match Torchreid's weights, so that these load unchanged.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reidlit.models.layers import require_size

IMAGE_SIZE = (256, 128)
ROW, COLUMN = (1, 3), (3, 1)  # kernels that factorize a 3 x 3 convolution
SCALES = 256  # channels per stream of the last multi-scale layer
POOL = 4  # kernel size and stride of the pooling after the fusion


class ConvNorm(nn.Module):
    """Same-padded convolution, batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: tuple[int, int] = (1, 1), stride: int = 1) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""
        return torch.relu_(self.bn(self.conv(x)))


class Stem(nn.Sequential):
    """Two convolutions and a pooling, which extract low-level features for all scales."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, 48, (3, 3))
        self.conv2 = ConvNorm(48, 96, (3, 3))
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)


class MultiScaleA(nn.Module):
    """Four streams of 24 channels with receptive fields 3 x 3, 3 x 3 (by pooling), 1 x 1 and 5 x 5."""

    def __init__(self) -> None:
        super().__init__()
        self.stream1 = nn.Sequential(ConvNorm(96, 96), ConvNorm(96, 24, (3, 3)))
        self.stream2 = nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), ConvNorm(96, 24))
        self.stream3 = ConvNorm(96, 24)
        self.stream4 = nn.Sequential(ConvNorm(96, 16), ConvNorm(16, 24, (3, 3)), ConvNorm(24, 24, (3, 3)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 96, H, W) -> (B, 96, H, W)."""
        return torch.cat([stream(x) for stream in self.children()], dim=1)


class Reduction(nn.Module):
    """Reduction to half the resolution in three streams of 96, 96 and 64 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stream1 = nn.MaxPool2d(3, stride=2, padding=1)
        self.stream2 = ConvNorm(96, 96, (3, 3), stride=2)
        self.stream3 = nn.Sequential(ConvNorm(96, 48), ConvNorm(48, 56, (3, 3)), ConvNorm(56, 64, (3, 3), stride=2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 96, H, W) -> (B, 256, H / 2, W / 2)."""
        return torch.cat([stream(x) for stream in self.children()], dim=1)


class MultiScaleB(nn.Module):
    """Four streams of 256 channels with receptive fields 3 x 3 (by pooling), 3 x 3, 1 x 1 and 5 x 5."""

    def __init__(self) -> None:
        super().__init__()
        self.stream1 = nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), ConvNorm(256, SCALES))
        self.stream2 = nn.Sequential(ConvNorm(256, 64), ConvNorm(64, 128, ROW), ConvNorm(128, SCALES, COLUMN))
        self.stream3 = ConvNorm(256, SCALES)
        self.stream4 = nn.Sequential(
            ConvNorm(256, 64),
            *(ConvNorm(64, 64, ROW), ConvNorm(64, 128, COLUMN)),
            *(ConvNorm(128, 128, ROW), ConvNorm(128, SCALES, COLUMN)),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, 256, H, W) -> four maps (B, 256, H, W)."""
        return tuple(stream(x) for stream in self.children())


class Fusion(nn.Module):
    """Saliency-based fusion: sum of four streams with a learned weight per stream and channel."""

    def __init__(self) -> None:
        super().__init__()
        self.a1, self.a2, self.a3, self.a4 = (nn.Parameter(torch.rand(1, SCALES, 1, 1)) for _ in range(4))
        self.avgpool = nn.AvgPool2d(POOL)

    def forward(self, streams: tuple[Tensor, ...]) -> Tensor:
        """Four maps (B, 256, H, W) -> (B, 256, H / 4, W / 4)."""
        first, second, third, fourth = streams
        fused = self.a1 * first + self.a2 * second + self.a3 * third + self.a4 * fourth
        result: Tensor = self.avgpool(fused)
        return result


class MuDeep(nn.Module):
    """Identification branch of the multi-scale deep learning network, for images of 256 x 128.

    The size of its vector, `num_features`, is 4096.

    Source: Qian, Fu, Jiang, Xiang, Xue, "Multi-scale Deep Learning Architectures for Person Re-identification", ICCV
    2017.

    Args:
        image_size: Height and width in pixels.

    Raises:
        ValueError: If `image_size` is not 256 x 128.
    """

    def __init__(self, image_size: Sequence[int] = IMAGE_SIZE) -> None:
        super().__init__()
        require_size("MuDeep", image_size, IMAGE_SIZE)
        self.num_features = 4096
        self.block1 = Stem()
        self.block2 = MultiScaleA()
        self.block3 = Reduction()
        self.block4 = MultiScaleB()
        self.block5 = Fusion()
        height, width = (size // 4 // POOL for size in IMAGE_SIZE)
        self.fc = nn.Sequential(
            nn.Linear(SCALES * height * width, self.num_features), nn.BatchNorm1d(self.num_features), nn.ReLU()
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return vectors (B, 4096) of normalized images (B, 3, 256, 128).

        Raises:
            ValueError: If the images have another size.
        """
        require_size("MuDeep", image.shape[2:], IMAGE_SIZE)
        x = self.block3(self.block2(self.block1(image)))
        fused: Tensor = self.block5(self.block4(x))
        result: Tensor = self.fc(fused.flatten(1))
        return result
