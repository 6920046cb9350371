"""Centre loss, and the table of one vector an identity that it moves by a rule."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reidlit.losses.triplet import HasFeatures


class CenterLoss(nn.Module):
    """Half the squared Euclidean distance from features to the centre of their identity; the mean over branches.

    Source: Wen, Zhang, Li, Qiao, "A Discriminative Feature Learning Approach for Deep Face Recognition", ECCV 2016. The
    loss is the mean over the images, where the paper has their sum, so that its weight is one for all batch sizes.

    Centres are no parameters: no gradient trains them and no weight decay shrinks them. In training, after the loss is
    computed, the centre c of an identity with n images x in the batch moves by alpha * sum(x - c) / (1 + n); those of
    other identities stay. Centres start at zero, which favours no direction, and are in the checkpoints.

    Args:
        num_classes: C, the training identities.
        feature_sizes: D_i, the size of each branch's features.
        alpha: rate of the centres, 0 to 1.

    Raises:
        ValueError: if the rate is outside 0 to 1.
    """

    compares = True  # not images with each other, but only those of all devices move the centres alike on each

    def __init__(self, num_classes: int, feature_sizes: Sequence[int], alpha: float = 0.5) -> None:
        super().__init__()
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha={alpha} must lie in 0 to 1.")
        self.alpha = alpha
        self.centers: Tensor
        self.register_buffer("centers", torch.zeros(num_classes, sum(feature_sizes)))

    def forward(self, output: HasFeatures, pid: Tensor) -> Tensor:
        """Scalar loss of (B, D_i) features and (B,) labels, in fp32."""
        with torch.autocast(pid.device.type, enabled=False):
            # The same rule holds for each component, so those of all branches lie side by side.
            features = torch.cat([branch.float() for branch in output.features], dim=1)
            apart = features - self.centers[pid].float()
            if moves(self):
                self._move(apart.detach(), pid)
            return apart.square().sum(1).mean() / (2 * len(output.features))

    def _move(self, apart: Tensor, pid: Tensor) -> None:
        same = pid[:, None] == pid[None, :]
        step = same.float() @ apart / (1 + same.sum(1, keepdim=True))
        write(self.centers, pid, self.centers[pid].float() + self.alpha * step)


def moves(loss: nn.Module) -> bool:
    """Whether a loss may change its own state: in training, not where it is only evaluated."""
    return loss.training and torch.is_grad_enabled()


def write(table: Tensor, pid: Tensor, rows: Tensor) -> None:
    """Set the rows of a table (C, D) that labels (B,) name to rows (B, D), which are equal for one identity."""
    # Up to rounding: of several rows for one place a GPU keeps any, and devices must not differ, so all give the first.
    first = (pid[:, None] == pid[None, :]).int().argmax(1)
    with torch.no_grad():
        table[pid] = rows[first].to(table.dtype)
