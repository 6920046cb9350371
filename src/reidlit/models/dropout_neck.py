"""Neck that applies dropout."""

from torch import Tensor, nn

from reidlit.models.neck import NeckOutput


class DropoutNeck(nn.Module):
    """Dropout before the classifier and the losses; the embedding is not changed.

    Source: Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov, "Dropout: A Simple Way to Prevent Neural Networks
    from Overfitting", JMLR 2014.

    Args:
        in_features: Size of the input vector.
        p: Dropout probability.

    Raises:
        ValueError: If `p` is not in [0, 1).
    """

    def __init__(self, in_features: int, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"neck.p={p} is invalid: must be at least 0 and less than 1.")
        self.num_features = self.embedding_size = in_features
        self.dropout = nn.Dropout(p)

    def forward(self, x: Tensor) -> NeckOutput:
        """Return embedding, feature and bottleneck (B, C) of vectors (B, C)."""
        dropped = self.dropout(x)
        return NeckOutput(x, dropped, dropped)
