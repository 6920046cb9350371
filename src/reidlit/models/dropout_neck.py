"""A neck that only drops out."""

from torch import Tensor, nn

from reidlit.models.neck import NeckOutput


class DropoutNeck(nn.Module):
    """Dropout in training: losses read the vector with holes, what is compared at test time has none.

    Source: Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov, "Dropout: A Simple Way to Prevent Neural Networks
    from Overfitting", JMLR 2014.

    Args:
        in_features: size of the vector.
        p: share of the values that are dropped.

    Raises:
        ValueError: if p is not in 0 to 1.
    """

    def __init__(self, in_features: int, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"neck.p={p} must be 0 or more and less than 1.")
        self.num_features = self.embedding_size = in_features
        self.dropout = nn.Dropout(p)

    def forward(self, x: Tensor) -> NeckOutput:
        """(B, C) -> three vectors (B, C)."""
        dropped = self.dropout(x)
        return NeckOutput(x, dropped, dropped)
