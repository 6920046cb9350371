"""Between the pooled vector and the classifier. A neck's `num_features` is the size of the embedding."""

from torch import Tensor, nn

from reidlit.models.layers import initialize


class NoNeck(nn.Module):
    """The pooled vector as it is."""

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.num_features = in_features

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, D)."""
        return x


class FCNeck(nn.Sequential):
    """A linear layer, batch norm and ReLU, as in OSNet and `resnet50_fc512`."""

    def __init__(self, in_features: int, dim: int = 512) -> None:
        super().__init__(nn.Linear(in_features, dim), nn.BatchNorm1d(dim), nn.ReLU())
        self.num_features = dim
        initialize(self)
