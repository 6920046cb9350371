"""OSNet-AIN: instance norm where an architecture search found it to generalise best.

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
CANDIDATES = ("plain", "residual", "sum", "both")  # what a block may normalise by instance
PUBLISHED = ("residual", "residual", "plain", "residual", "residual", "plain")  # a candidate for each of BLOCKS


class OSNetAIN(OSNet):
    """OSNet with instance norm after the stem and, in four of its six blocks, of the residual before the addition.

    It has the layers of OSNet; only the published weights name some of them otherwise.

    Source: Zhou, Yang, Cavallaro, Xiang, "Learning Generalisable Omni-Scale Representations for Person
    Re-Identification", TPAMI 2021.

    Args:
        width: channels relative to the paper's x1.0; published weights exist for 1, 0.75, 0.5 and 0.25.
        layout: what each of the blocks conv2.0, conv2.1, conv3.0, conv3.1, conv4.0 and conv4.1 normalises by instance:
            nothing (`plain`), its `residual` in place of the batch norm there, the `sum` of residual and shortcut, or
            `both`. By default the layout that the paper found; published weights belong to it.

    Raises:
        ValueError: if the width is not positive, or the layout is not one of these words for each block.
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
                f"layout={layout} must be a list of {len(BLOCKS)} words, each one of {', '.join(CANDIDATES)}, for the "
                f"blocks {', '.join(BLOCKS)}."
            )
        use_instance_norm(self, ["conv1.bn"])
        for name, candidate in zip(BLOCKS, layout, strict=True):
            normalize_block(self.get_submodule(name), candidate)


def normalize_block(block: nn.Module, candidate: str) -> None:
    """Give an `OSBlock`, in place, the instance norms of one of `CANDIDATES`."""
    part: Any = block
    if candidate in ("residual", "both"):
        use_instance_norm(block, ["conv3.bn"])
    if candidate in ("sum", "both"):
        part.norm = nn.InstanceNorm2d(part.conv3.bn.num_features, affine=True)
