"""OSNet-AIN: instance norm where an architecture search found it to generalise best.

Source: Zhou, Yang, Cavallaro, Xiang, "Learning Generalisable Omni-Scale Representations for Person Re-Identification",
TPAMI 2021.
"""

from itertools import product
from typing import ClassVar

from reidlit.models.backbones.osnet import OSNet
from reidlit.models.backbones.osnet_ibn import use_instance_norm

BLOCKS = [f"conv{stage}.{block}" for stage, block in product((2, 3, 4), (0, 1))]
FOUND = ("conv2.0", "conv2.1", "conv3.1", "conv4.0")  # the blocks that normalise their residual by instance


class OSNetAIN(OSNet):
    """OSNet with instance norm after the stem and, in four of its six blocks, of the residual before the addition.

    It has the layers of OSNet; only the published weights name some of them otherwise.

    Source: Zhou, Yang, Cavallaro, Xiang, "Learning Generalisable Omni-Scale Representations for Person
    Re-Identification", TPAMI 2021.

    Args:
        width: channels relative to the paper's x1.0; published weights exist for 1, 0.75, 0.5 and 0.25.

    Raises:
        ValueError: if the width is not positive.
    """

    renames: ClassVar = (
        {f"{block}.IN.": f"backbone.{block}.conv3.bn." for block in FOUND}
        | {f"{block}.conv2.0.layers.0.": f"backbone.{block}.conv2a." for block in BLOCKS}
        | {
            f"{block}.conv2.{number}.layers.": f"backbone.{block}.conv2{letter}."
            for block, (number, letter) in product(BLOCKS, enumerate("bcd", start=1))
        }
        | {"pool2.": "backbone.conv2.2.", "pool3.": "backbone.conv3.2."}
    )

    def __init__(self, width: float = 1.0) -> None:
        super().__init__(width)
        use_instance_norm(self, ["conv1.bn", *(f"{block}.conv3.bn" for block in FOUND)])
