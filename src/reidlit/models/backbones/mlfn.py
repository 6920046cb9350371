"""MLFN: multi-level factorization, where each block selects its groups per image.

Source: Chang, Hospedales, Xiang, "Multi-Level Factorisation Net for Person Re-Identification", CVPR 2018.
Module names match Torchreid's weights, so that these load unchanged.
"""

import torch
from torch import Tensor, nn

from reidlit.models.layers import initialize

GROUPS = 32  # factor modules per block
STEM = 64
# Per stage: number of blocks, channels, and widths of the two hidden layers of the factor selection module.
STAGES = (
    (3, 256, (128, 64)),
    (4, 512, (256, 128)),
    (6, 1024, (512, 128)),
    (3, 2048, (512, 128)),
)


class MLFNBlock(nn.Module):
    """Bottleneck of 32 groups (factor modules), weighted by gates that are computed from the input.

    The gates, called factor selection vector in the paper, are also returned.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, hidden: tuple[int, int]) -> None:
        super().__init__()
        mid = out_channels // 2
        self.fm_conv1 = nn.Conv2d(in_channels, mid, 1, bias=False)
        self.fm_bn1 = nn.BatchNorm2d(mid)
        self.fm_conv2 = nn.Conv2d(mid, mid, 3, stride, 1, groups=GROUPS, bias=False)
        self.fm_bn2 = nn.BatchNorm2d(mid)
        self.fm_conv3 = nn.Conv2d(mid, out_channels, 1, bias=False)
        self.fm_bn3 = nn.BatchNorm2d(out_channels)
        self.fsm = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            *(nn.Conv2d(in_channels, hidden[0], 1), nn.BatchNorm2d(hidden[0]), nn.ReLU(inplace=True)),
            *(nn.Conv2d(hidden[0], hidden[1], 1), nn.BatchNorm2d(hidden[1]), nn.ReLU(inplace=True)),
            *(nn.Conv2d(hidden[1], GROUPS, 1), nn.BatchNorm2d(GROUPS), nn.Sigmoid()),
        )
        self.downsample = (
            nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))
            if in_channels != out_channels
            else None
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C_in, H, W) -> map (B, C_out, H / stride, W / stride), and gates (B, 32, 1, 1)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        gates = self.fsm(x)
        x = torch.relu_(self.fm_bn1(self.fm_conv1(x)))
        x = torch.relu_(self.fm_bn2(self.fm_conv2(x)))
        x = x * gates.repeat_interleave(x.shape[1] // GROUPS, dim=1)
        x = torch.relu_(self.fm_bn3(self.fm_conv3(x)))
        return torch.relu_(x + shortcut), gates


class MLFN(nn.Module):
    """Multi-level factorization network, which fuses the last map and the gates of all blocks into one vector.

    The size of the vector, `num_features`, is 1024.

    Source: Chang, Hospedales, Xiang, "Multi-Level Factorisation Net for Person Re-Identification", CVPR 2018.
    """

    def __init__(self) -> None:
        super().__init__()
        self.num_features = 1024
        self.conv1 = nn.Conv2d(3, STEM, 7, 2, 3)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.feature = nn.ModuleList()
        channels = STEM
        for stage, (blocks, width, hidden) in enumerate(STAGES):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                self.feature.append(MLFNBlock(channels, width, stride, hidden))
                channels = width
        self.fc_x = _projection(channels, self.num_features)
        self.fc_s = _projection(GROUPS * len(self.feature), self.num_features)
        initialize(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return vectors (B, 1024) of normalized images (B, 3, H, W)."""
        x = self.maxpool(torch.relu_(self.bn1(self.conv1(image))))
        gates = []
        for block in self.feature:
            x, selected = block(x)
            gates.append(selected)
        appearance: Tensor = self.fc_x(x.mean((2, 3), keepdim=True))
        factors: Tensor = self.fc_s(torch.cat(gates, dim=1))
        return (0.5 * (appearance + factors)).flatten(1)


def _projection(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)
    )
