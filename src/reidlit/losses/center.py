"""Center loss, and the update of tables with one vector per identity."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reidlit.losses.triplet import HasFeatures


class CenterLoss(nn.Module):
    """Center loss: distances of features to the center of their identity.

        loss = 1 / (2 B) * sum_i |x_i - c_(pid_i)|^2

    for B images with features x and identity centers c. The loss is also averaged over branches. The paper uses the sum
    over images, which makes the weight of the loss depend on the batch size.

    Centers are buffers, so the optimizer and weight decay do not change them. In training, after the loss is computed,
    the center c of an identity with n images x in the batch moves by alpha * sum(x - c) / (1 + n). Centers of other
    identities do not change. Centers are initialized to zero and saved in checkpoints.

    Source: Wen, Zhang, Li, Qiao, "A Discriminative Feature Learning Approach for Deep Face Recognition", ECCV 2016.

    Args:
        num_classes: Number of training identities, C.
        feature_sizes: Feature size D_i of each branch.
        alpha: Update rate of the centers, between 0 and 1.

    Raises:
        ValueError: If alpha is not between 0 and 1.

    Example:
        >>> import torch
        >>> from reidlit.losses import CenterLoss
        >>> from reidlit.models import ReIDOutput
        >>> features = torch.tensor([[3.0, 4.0]])
        >>> output = ReIDOutput(embedding=features, features=(features,), logits=())
        >>> loss = CenterLoss(num_classes=751, feature_sizes=[2])
        >>> loss(output, torch.tensor([7])).item()
        12.5
        >>> loss.centers[7]
        tensor([0.7500, 1.0000])
    """

    # Images are compared with centers only, but all devices need the same batch to keep their centers equal.
    compares = True

    def __init__(self, num_classes: int, feature_sizes: Sequence[int], alpha: float = 0.5) -> None:
        super().__init__()
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha={alpha} is invalid: must be between 0 and 1.")
        self.alpha = alpha
        self.centers: Tensor
        self.register_buffer("centers", torch.zeros(num_classes, sum(feature_sizes)))

    def forward(self, output: HasFeatures, pid: Tensor) -> Tensor:
        """Return the scalar loss in fp32, and update the centers in training.

        Args:
            output: Model output with `features`, a (B, D_i) tensor per branch.
            pid: (B,) labels.
        """
        with torch.autocast(pid.device.type, enabled=False):
            # Each component is updated independently, so the branches can be concatenated.
            features = torch.cat([branch.float() for branch in output.features], dim=1)
            difference = features - self.centers[pid].float()
            if updates_state(self):
                self._update(difference.detach(), pid)
            return difference.square().sum(1).mean() / (2 * len(output.features))

    def _update(self, difference: Tensor, pid: Tensor) -> None:
        same = pid[:, None] == pid[None, :]
        step = same.float() @ difference / (1 + same.sum(1, keepdim=True))
        write_rows(self.centers, pid, self.centers[pid].float() + self.alpha * step)


def updates_state(loss: nn.Module) -> bool:
    """Return True if a loss may update its state, which it does in training only."""
    return loss.training and torch.is_grad_enabled()


def write_rows(table: Tensor, pid: Tensor, rows: Tensor) -> None:
    """Write rows to a table in place.

    Args:
        table: (C, D) table with a row per identity.
        pid: (B,) labels, which select the rows to set.
        rows: (B, D) new rows, equal for images of one identity up to rounding.
    """
    # With duplicate indices, a GPU keeps an arbitrary row. All devices must keep the same one, so use the first.
    first = (pid[:, None] == pid[None, :]).int().argmax(1)
    with torch.no_grad():
        table[pid] = rows[first].to(table.dtype)
