"""From an embedding to one logit a training identity."""

from torch import nn

from reidlit.models.layers import initialize


class LinearClassifier(nn.Linear):
    """A linear layer with bias, initialised N(0, 0.01)."""

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, num_classes)
        initialize(self)
