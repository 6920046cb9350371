"""NASNet-A mobile, a stack of two cell types found by architecture search.

Source: Zoph, Vasudevan, Shlens, Le, "Learning Transferable Architectures for Scalable Image Recognition", CVPR 2018.
Module names within a cell match the published weights.
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidlit.models.layers import initialize

STEM = 32
EPS = 1e-3  # epsilon of all batch norms

PREVIOUS, CURRENT, FIRST, SECOND = range(4)  # states of a cell: its two inputs, and the sums of its first two steps
SIDES = ("left", "right")
Operation = tuple[str, int]  # type of operation with kernel size, and index of the input state


class Plan(NamedTuple):
    """Wiring of a cell.

    Attributes:
        steps: Pairs of operations. The sum of each pair is a new state.
        output: Indices of the states that are concatenated as output.
        stride: Stride of the operations on the inputs of the cell.
    """

    steps: Sequence[tuple[Operation, Operation]]
    output: Sequence[int]
    stride: int


# Figure 4 of the paper.
NORMAL = Plan(
    steps=(
        (("sep5", CURRENT), ("sep3", PREVIOUS)),
        (("sep5", PREVIOUS), ("sep3", PREVIOUS)),
        (("avg3", CURRENT), ("same", PREVIOUS)),
        (("avg3", PREVIOUS), ("avg3", PREVIOUS)),
        (("sep3", CURRENT), ("same", CURRENT)),
    ),
    output=(PREVIOUS, FIRST, SECOND, 4, 5, 6),
    stride=1,
)
REDUCTION = Plan(
    steps=(
        (("sep5", CURRENT), ("sep7", PREVIOUS)),
        (("max3", CURRENT), ("sep7", PREVIOUS)),
        (("avg3", CURRENT), ("sep5", PREVIOUS)),
        (("same", SECOND), ("avg3", FIRST)),
        (("sep3", FIRST), ("max3", CURRENT)),
    ),
    output=(SECOND, 4, 5, 6),
    stride=2,
)

CELLS = (  # name in the published weights, wiring, channels per state
    ("cell_stem_0", REDUCTION, 11),
    ("cell_stem_1", REDUCTION, 22),
    *((f"cell_{n}", NORMAL, 44) for n in range(4)),
    ("reduction_cell_0", REDUCTION, 88),
    *((f"cell_{n}", NORMAL, 88) for n in range(6, 10)),
    ("reduction_cell_1", REDUCTION, 176),
    *((f"cell_{n}", NORMAL, 176) for n in range(12, 16)),
)


class Projection(nn.Module):
    """ReLU, 1 x 1 convolution and batch norm."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H, W)."""
        result: Tensor = self.bn(self.conv(torch.relu(x)))
        return result


class HalvingProjection(nn.Module):
    """ReLU, factorized reduction and batch norm.

    Half of the channels come from every other pixel, the other half from the pixels diagonally between them.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.path_1 = nn.Conv2d(in_channels, out_channels // 2, 1, stride=2, bias=False)
        self.path_2 = nn.Conv2d(in_channels, out_channels // 2, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / 2, W / 2)."""
        x = torch.relu(x)
        between = functional.pad(x, (-1, 1, -1, 1))
        result: Tensor = self.bn(torch.cat((self.path_1(x), self.path_2(between)), dim=1))
        return result


class Depthwise(nn.Conv2d):
    """Depthwise convolution.

    With stride 2 it pads like TensorFlow, in which the published weights were trained: maps of even size get one pixel
    less before than after.
    """

    def __init__(self, channels: int, kernel: int, stride: int = 1) -> None:
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(channels, channels, kernel, stride, padding, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H / stride, W / stride)."""
        if self.stride == (2, 2):
            after = self.kernel_size[0] // 2
            top, left = (after - 1 + size % 2 for size in x.shape[2:])
            x = functional.pad(x, (left, after, top, after))
        return super().forward(x)


class SeparableConv(nn.Module):
    """Two depthwise separable convolutions, each preceded by ReLU and followed by batch norm."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.separable_1 = _separable(Depthwise(in_channels, kernel, stride), out_channels)
        self.bn_sep_1 = nn.BatchNorm2d(out_channels, EPS)
        self.separable_2 = _separable(Depthwise(out_channels, kernel), out_channels)
        self.bn_sep_2 = nn.BatchNorm2d(out_channels, EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""
        x = torch.relu_(self.bn_sep_1(self.separable_1(torch.relu(x))))
        result: Tensor = self.bn_sep_2(self.separable_2(x))
        return result


class Pool(nn.Module):
    """Average or maximum pooling with 3 x 3 kernel, ignoring pixels outside the map; padded like `Depthwise`."""

    def __init__(self, mode: str, stride: int) -> None:
        super().__init__()
        self.average, self.stride = mode == "avg", stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H / stride, W / stride)."""
        padding = (1, 1) if self.stride == 1 else (x.shape[2] % 2, x.shape[3] % 2)
        if self.average:
            return functional.avg_pool2d(x, 3, self.stride, padding, ceil_mode=True, count_include_pad=False)
        return functional.max_pool2d(x, 3, self.stride, padding, ceil_mode=True)


class Cell(nn.Module):
    """Cell of five steps, each the sum of two operations on the inputs of the cell or on earlier sums.

    Args:
        plan: Wiring of the cell.
        channels: Number of channels per state.
        previous: Number of channels of the output of the second last cell.
        current: Number of channels of the output of the last cell.
        project: Layer that adapts the output of the second last cell to the size of the last output and to `channels`
            channels; None to use it unchanged.
    """

    def __init__(self, plan: Plan, channels: int, previous: int, current: int, project: type[nn.Module] | None) -> None:
        super().__init__()
        self.plan = plan
        self.conv_prev_1x1 = nn.Identity() if project is None else project(previous, channels)
        self.conv_1x1 = Projection(current, channels)
        widths = [previous if project is None else channels, *[channels] * (len(plan.steps) + 1)]
        for number, step in enumerate(plan.steps):
            for side, (name, state) in zip(SIDES, step, strict=True):
                stride = plan.stride if state in (PREVIOUS, CURRENT) else 1
                self.add_module(f"comb_iter_{number}_{side}", _operation(name, widths[state], channels, stride))
        self.num_features = channels * len(plan.output)

    def forward(self, previous: Tensor, current: Tensor) -> Tensor:
        """(B, C_0, H', W') and (B, C_1, H, W) -> (B, C, H / stride, W / stride), where H' is H or 2H."""
        states = [self.conv_prev_1x1(previous), self.conv_1x1(current)]
        for number, ((_, left), (_, right)) in enumerate(self.plan.steps):
            first, second = (self.get_submodule(f"comb_iter_{number}_{side}") for side in SIDES)
            states.append(first(states[left]) + second(states[right]))
        return torch.cat([states[number] for number in self.plan.output], dim=1)


class NASNetMobile(nn.Module):
    """NASNet-A (4 @ 1056), the mobile network of the paper, without its auxiliary classifier.

    `num_features` is 1056.

    Source: Zoph, Vasudevan, Shlens, Le, "Learning Transferable Architectures for Scalable Image Recognition", CVPR
    2018.
    """

    renames: ClassVar = {
        "last_linear.": "classifier.0.",  # name in the ImageNet weights
        "cell_": "backbone.cells.cell_",
        "reduction_cell_": "backbone.cells.reduction_cell_",
        **{
            f"{cell}.{published}.": f"backbone.cells.{cell}.conv_prev_1x1.{name}."
            for cell, *_ in CELLS
            for published, name in (
                ("path_1.conv", "path_1"),
                ("path_2.conv", "path_2"),
                ("final_path_bn", "bn"),
            )
        },
    }

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = nn.Sequential()
        self.conv0.add_module("conv", nn.Conv2d(3, STEM, 3, stride=2, bias=False))
        self.conv0.add_module("bn", nn.BatchNorm2d(STEM, EPS))
        self.cells = nn.ModuleDict()
        previous = current = STEM
        project: type[nn.Module] | None = None
        for name, plan, channels in CELLS:
            cell = Cell(plan, channels, previous, current, project)
            self.cells[name] = cell
            previous, current = current, cell.num_features
            project = HalvingProjection if plan.stride == 2 else Projection
        self.num_features = current
        initialize(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return maps (B, 1056, H / 32, W / 32) of normalized images (B, 3, H, W)."""
        previous = current = self.conv0(image)
        for cell in self.cells.values():
            previous, current = current, cell(previous, current)
        return torch.relu(current)


def _separable(depthwise: Depthwise, out_channels: int) -> nn.Sequential:
    separable = nn.Sequential()
    separable.add_module("depthwise_conv2d", depthwise)
    separable.add_module("pointwise_conv2d", nn.Conv2d(depthwise.out_channels, out_channels, 1, bias=False))
    return separable


def _operation(name: str, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if name == "same":
        return nn.Identity()
    operation, kernel = name[:3], int(name[3:])
    return SeparableConv(in_channels, out_channels, kernel, stride) if operation == "sep" else Pool(operation, stride)
