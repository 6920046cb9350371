"""OSNet-AIN: OSNet with instance norms at positions found by architecture search.

Source: Zhou, Yang, Cavallaro, Xiang, "Learning Generalisable Omni-Scale Representations for Person Re-Identification",
TPAMI 2021.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any, ClassVar

from torch import nn

from reidlit.models.backbones.osnet import OSNet
from reidlit.models.backbones.osnet_ibn import use_instance_norm

BLOCKS = [f"conv{stage}.{block}" for stage, block in product((2, 3, 4), (0, 1))]
CANDIDATES = ("plain", "residual", "sum", "both")  # positions of the instance norm in a block
PUBLISHED = ("residual", "residual", "plain", "residual", "residual", "plain")  # candidate for each of BLOCKS


class OSNetAIN(OSNet):
    """OSNet with instance norm after the stem and on the residual of four of its six blocks.

    Its layers are those of OSNet. Only the published weights use other names for some of them.

    Source: Zhou, Yang, Cavallaro, Xiang, "Learning Generalisable Omni-Scale Representations for Person
    Re-Identification", TPAMI 2021.

    Args:
        width: Channel multiplier. Weights are published for 1.0, 0.75, 0.5 and 0.25.
        layout: Use of instance norm in each of the blocks conv2.0, conv2.1, conv3.0, conv3.1, conv4.0 and conv4.1: none
            (`plain`), instead of the batch norm of the `residual`, on the `sum` of residual and shortcut, or `both`.
            The default is the layout of the paper, which the published weights use.

    Raises:
        ValueError: If `width` is not positive, or `layout` is invalid.
    """

    renames: ClassVar = (
        {
            f"{block}.IN.": f"backbone.{block}.conv3.bn."
            for block, candidate in zip(BLOCKS, PUBLISHED, strict=True)
            if candidate == "residual"
        }
        | {f"{block}.conv2.0.layers.0.": f"backbone.{block}.conv2a." for block in BLOCKS}
        | {
            f"{block}.conv2.{number}.layers.": f"backbone.{block}.conv2{letter}."
            for block, (number, letter) in product(BLOCKS, enumerate("bcd", start=1))
        }
        | {"pool2.": "backbone.conv2.2.", "pool3.": "backbone.conv3.2."}
    )

    def __init__(self, width: float = 1.0, layout: Sequence[str] = PUBLISHED) -> None:
        super().__init__(width)
        if isinstance(layout, str) or len(layout) != len(BLOCKS) or not set(layout) <= set(CANDIDATES):
            raise ValueError(
                f"layout={layout} is invalid: must be a list of {len(BLOCKS)} words, one of {', '.join(CANDIDATES)} "
                f"for each of the blocks {', '.join(BLOCKS)}."
            )
        use_instance_norm(self, ["conv1.bn"])
        for name, candidate in zip(BLOCKS, layout, strict=True):
            normalize_block(self.get_submodule(name), candidate)


def normalize_block(block: nn.Module, candidate: str) -> None:
    """Add the instance norms of a candidate to an `OSBlock` in place."""
    os_block: Any = block
    if candidate in ("residual", "both"):
        use_instance_norm(block, ["conv3.bn"])
    if candidate in ("sum", "both"):
        os_block.norm = nn.InstanceNorm2d(os_block.conv3.bn.num_features, affine=True)
