"""OSNet-IBN: OSNet with instance norm in early layers, where images differ in style.

Source: Zhou, Yang, Cavallaro, Xiang, "Omni-Scale Feature Learning for Person Re-Identification", ICCV 2019; Pan, Luo,
Shi, Tang, "Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net", ECCV 2018.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import nn

from reidlit.models.backbones.osnet import OSNet


class OSNetIBN(OSNet):
    """OSNet with instance norm after the stem, and on the output sum of each block in the first stage.

    Source: Zhou, Yang, Cavallaro, Xiang, "Omni-Scale Feature Learning for Person Re-Identification", ICCV 2019.

    Args:
        width: Channel multiplier. Weights are published for 1.0.

    Raises:
        ValueError: If `width` is not positive.
    """

    renames: ClassVar = {f"conv2.{block}.IN.": f"backbone.conv2.{block}.norm." for block in range(2)}

    def __init__(self, width: float = 1.0) -> None:
        super().__init__(width)
        use_instance_norm(self, ["conv1.bn"])
        for name in ("conv2.0", "conv2.1"):
            block: Any = self.get_submodule(name)
            block.norm = nn.InstanceNorm2d(block.conv3.bn.num_features, affine=True)


def use_instance_norm(network: nn.Module, names: Sequence[str]) -> None:
    """Replace batch norms with the given names by affine instance norms, in place."""
    for name in names:
        batch_norm: Any = network.get_submodule(name)
        network.set_submodule(name, nn.InstanceNorm2d(batch_norm.num_features, affine=True))
