"""From the frames of a clip to one vector.

A pooling over time has `after_neck`: whether it takes the frames' embeddings, so that a model of images is a model of
tracklets at once, or the vectors before the neck, so that the neck sees the clip as a whole. `frame_mask` (B, S) tells
which frames are real and do not fill a short clip up; without it all are.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class TemporalAverage(nn.Module):
    """The mean over the frames.

    Args:
        after_neck: whether it is the mean of embeddings.
    """

    def __init__(self, after_neck: bool = False) -> None:
        super().__init__()
        self.after_neck = after_neck

    def forward(self, x: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """(B, S, C) -> (B, C)."""
        if frame_mask is None:
            return x.mean(1)
        return weighted(x, frame_mask.to(x.dtype))


class TemporalMax(nn.Module):
    """The largest value over the frames.

    Args:
        after_neck: whether it is that of embeddings.
    """

    def __init__(self, after_neck: bool = False) -> None:
        super().__init__()
        self.after_neck = after_neck

    def forward(self, x: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """(B, S, C) -> (B, C)."""
        if frame_mask is not None:
            x = x.masked_fill(~frame_mask[..., None], -torch.inf)
        return x.amax(1)


class TemporalAttention(nn.Module):
    """A weighted mean, whose weights are learned from each frame and its neighbours.

    Source: Gao, Nevatia, "Revisiting Temporal Modeling for Video-based Person ReID", BMVC Workshops 2018. At first all
    weights are equal: it starts as the mean.

    Args:
        in_features: C.
        hidden: channels between the two layers.
        kernel: frames that a weight depends on; an odd number.

    Raises:
        ValueError: if the kernel is not odd.
    """

    after_neck = False

    def __init__(self, in_features: int, hidden: int = 256, kernel: int = 3) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"temporal.kernel={kernel} must be an odd number of frames.")
        self.reduce = nn.Linear(in_features, hidden)
        self.score = nn.Conv1d(hidden, 1, kernel, padding=kernel // 2)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)  # type: ignore[arg-type]  # it has one

    def forward(self, x: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """(B, S, C) -> (B, C)."""
        hidden = functional.relu(self.reduce(x))
        if frame_mask is not None:
            hidden = hidden * frame_mask[..., None]  # what fills up counts as the zeros beyond the ends
        scores = self.score(hidden.transpose(1, 2))[:, 0].float()
        if frame_mask is not None:
            scores = scores.masked_fill(~frame_mask, -torch.inf)
        return weighted(x, scores.softmax(1).to(x.dtype))


class TemporalTransformer(nn.Module):
    """Frames that look at each other, then their mean.

    Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017, in its form with norms first, as video models of the
    field have it, e.g. Liu et al., "A Video Is Worth Three Views: Trigeminal Transformers for Video-based Person
    Re-identification", arXiv 2021. There are no positions: frames are sampled at any pace, and appearance has no order. At
    first each layer adds nothing: it starts as the mean.

    Args:
        in_features: C.
        layers: one after the other.
        heads: of the attention; must divide C.
        expansion: hidden size of the feed-forward part, relative to C.
        dropout: within the layers.

    Raises:
        ValueError: if the heads do not divide C.
    """

    after_neck = False

    def __init__(
        self, in_features: int, layers: int = 1, heads: int = 8, expansion: float = 2.0, dropout: float = 0.1
    ) -> None:
        super().__init__()
        if in_features % heads:
            raise ValueError(f"temporal.heads={heads} must divide the {in_features} channels of the backbone.")
        hidden = round(in_features * expansion)
        self.layers = nn.ModuleList(_layer(in_features, heads, hidden, dropout) for _ in range(layers))

    def forward(self, x: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """(B, S, C) -> (B, C)."""
        filling = None if frame_mask is None else ~frame_mask
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=filling)
        return x.mean(1) if frame_mask is None else weighted(x, frame_mask.to(x.dtype))


def _layer(in_features: int, heads: int, hidden: int, dropout: float) -> nn.TransformerEncoderLayer:
    """One that adds nothing yet."""
    layer = nn.TransformerEncoderLayer(
        in_features, heads, hidden, dropout, functional.gelu, batch_first=True, norm_first=True
    )
    for last in (layer.self_attn.out_proj, layer.linear2):
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    return layer


def weighted(x: Tensor, weights: Tensor) -> Tensor:
    """The mean of (B, S, C) over S with weights (B, S), which need not sum to one -> (B, C)."""
    total = (x * weights[..., None]).sum(1)
    return total / weights.sum(1, keepdim=True)
