"""Binary cross entropy over the attributes of an image."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidlit.losses.cross_entropy import HasLogits

WEIGHTINGS = ("attribute", "label")


class AttributeBCE(nn.Module):
    """Binary cross entropy over attributes.

        loss = -w * (y * log(sigmoid(x)) + (1 - y) * log(1 - sigmoid(x)))

    for a logit x and a label y. The loss is the mean over known labels and over branches. Labels are weighted by the
    fraction r of positive labels that their attribute has in training:

    - None: w = 1.
    - "attribute": w = exp(-r), which gives rare attributes more weight. Torchreid's attribute project uses this.
    - "label": w = exp(1 - r) for positive and w = exp(r) for negative labels, which gives the rarer label of each
      attribute more weight. Most of the literature uses this.

    Sources: Li, Chen, Huang, "Multi-attribute Learning for Pedestrian Attribute Recognition in Surveillance Scenarios",
    ACPR 2015 (weights from the fraction of positives); Li, Zhang, Chen, Huang, "A Richly Annotated Pedestrian Dataset
    for Person Retrieval in Real Surveillance Scenarios", TIP 2019 (one weight per label).

    Args:
        weighting: "attribute", "label" or None.
        ratios: (A,) fraction of positive labels of each attribute, between 0 and 1; required for a weighting.

    Raises:
        ValueError: If weighting is unknown, ratios are required but missing, or a ratio is not between 0 and 1.

    Example:
        >>> import torch
        >>> from reidlit.losses.attribute_bce import AttributeBCE
        >>> from reidlit.models import ReIDOutput
        >>> logits = torch.tensor([[2.0, -1.0, 5.0]])
        >>> output = ReIDOutput(embedding=logits, features=(), logits=(logits,))
        >>> attributes = torch.tensor([[1, 0, -1]])  # yes, no, unknown
        >>> loss = AttributeBCE(weighting="label", ratios=[0.5, 0.1, 0.9])(output, attributes)
        >>> round(loss.item(), 4)
        0.2777
    """

    def __init__(self, weighting: str | None = None, ratios: Sequence[float] | None = None) -> None:
        super().__init__()
        if weighting not in (None, *WEIGHTINGS):
            raise ValueError(f"weighting={weighting!r} is invalid: must be one of {', '.join(WEIGHTINGS)}, or null.")
        if weighting is not None and ratios is None:
            raise ValueError(
                f"weighting={weighting!r} requires ratios: pass the fraction of positive labels of each attribute."
            )
        values = [] if ratios is None else list(ratios)
        if not all(0 <= ratio <= 1 for ratio in values):
            raise ValueError(f"ratios={values} is invalid: each must be between 0 and 1.")
        self.weighting = weighting
        self.ratios: Tensor
        # Not saved in checkpoints: only training needs the ratios, and computes them from its data.
        self.register_buffer("ratios", torch.tensor(values, dtype=torch.float32), persistent=False)

    def forward(self, output: HasLogits, attributes: Tensor) -> Tensor:
        """Return the scalar loss in fp32; zero if no label is known.

        Args:
            output: Model output with `logits`, a (B, A) tensor per branch.
            attributes: (B, A) labels: 1 for yes, 0 for no, negative if unknown.

        Raises:
            ValueError: If labels and logits have different shapes.
        """
        if (shape := output.logits[0].shape) != attributes.shape:
            raise ValueError(
                f"attributes have shape {tuple(attributes.shape)}, but the logits of the model have shape "
                f"{tuple(shape)}."
            )
        known = attributes >= 0
        positive = (attributes > 0).float()
        weight = known * self._weights(positive)
        losses = [
            functional.binary_cross_entropy_with_logits(logits.float(), positive, weight, reduction="sum")
            for logits in output.logits
        ]
        return torch.stack(losses).mean() / known.sum().clamp(min=1)

    def _weights(self, positive: Tensor) -> Tensor:
        """Return the weights of the labels, with a shape that broadcasts to (B, A)."""
        if self.weighting is None:
            return positive.new_ones(())
        if self.weighting == "attribute":
            return torch.exp(-self.ratios)
        return torch.exp(positive * (1 - self.ratios) + (1 - positive) * self.ratios)
