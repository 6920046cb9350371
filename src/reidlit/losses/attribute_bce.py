"""Binary cross entropy over the attributes of an image."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidlit.losses.cross_entropy import HasLogits

WEIGHTINGS = ("attribute", "label")


class AttributeBCE(nn.Module):
    """Binary cross entropy, the mean over the labels that are known and over branches.

    Labels can be weighted by r, the share of positive ones among the known labels of their attribute in training:

    - `attribute`: all labels of an attribute by exp(-r), so that rare attributes count more; Torchreid's project does so.
    - `label`: positive labels by exp(1 - r) and negative ones by exp(r), so that the rarer label of an attribute counts
      more; what the literature uses most.

    Sources: Li, Chen, Huang, "Multi-attribute Learning for Pedestrian Attribute Recognition in Surveillance Scenarios",
    ACPR 2015 (weights by the share of positives); Li, Zhang, Chen, Huang, "A Richly Annotated Pedestrian Dataset for
    Person Retrieval in Real Surveillance Scenarios", TIP 2019 (one for each label).

    Args:
        weighting: `attribute`, `label`, or `None` for none.
        ratios: (A,) the share of each attribute, from 0 to 1; needed for a weighting.

    Raises:
        ValueError: if the weighting is unknown or lacks the shares, or a share is out of range.
    """

    def __init__(self, weighting: str | None = None, ratios: Sequence[float] | None = None) -> None:
        super().__init__()
        if weighting not in (None, *WEIGHTINGS):
            raise ValueError(f"weighting={weighting!r} must be one of {', '.join(WEIGHTINGS)}, or null for none.")
        if weighting is not None and ratios is None:
            raise ValueError(
                f"weighting={weighting}: the share of positive labels of each attribute is needed, ratios."
            )
        share = torch.as_tensor([] if ratios is None else list(ratios), dtype=torch.float32)
        if not ((share >= 0) & (share <= 1)).all():
            raise ValueError(f"ratios={share.tolist()} must lie in 0 to 1.")
        self.weighting = weighting
        self.ratios: Tensor
        self.register_buffer("ratios", share, persistent=False)  # training alone needs it, and is told it

    def forward(self, output: HasLogits, attributes: Tensor) -> Tensor:
        """Scalar loss in fp32; 0 where no label is known.

        Args:
            output: of a model, with logits (B, A).
            attributes: (B, A) labels: 1 for yes, 0 for no, below 0 where it is not known.

        Raises:
            ValueError: if the shapes do not fit.
        """
        if (shape := output.logits[0].shape) != attributes.shape:
            raise ValueError(f"attributes are {tuple(attributes.shape)}, but the model's logits {tuple(shape)}.")
        known = attributes >= 0
        positive = (attributes > 0).float()
        weight = known * self._weights(positive)
        losses = [
            functional.binary_cross_entropy_with_logits(logits.float(), positive, weight, reduction="sum")
            for logits in output.logits
        ]
        return torch.stack(losses).mean() / known.sum().clamp(min=1)

    def _weights(self, positive: Tensor) -> Tensor:
        """(B, A), or one for all."""
        if self.weighting is None:
            return positive.new_ones(())
        if self.weighting == "attribute":
            return torch.exp(-self.ratios)
        return torch.exp(positive * (1 - self.ratios) + (1 - positive) * self.ratios)
