"""Temporal pooling, which reduces the frames of a clip to one vector.

A temporal pooling has `after_neck`. If True, it pools the embeddings of frames, so that an image model embeds tracklets
without training. If False, it pools vectors before the neck, so that the neck sees the complete clip. `frame_mask` (B,
S) marks real frames; the others are padding of short clips. Without it, all frames are real.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class TemporalAverage(nn.Module):
    """Average pooling over frames.

    Args:
        after_neck: Whether to pool embeddings instead of vectors before the neck.
    """

    def __init__(self, after_neck: bool = False) -> None:
        super().__init__()
        self.after_neck = after_neck

    def forward(self, x: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Pool vectors of frames (B, S, C) to (B, C)."""
        if frame_mask is None:
            return x.mean(1)
        return weighted(x, frame_mask.to(x.dtype))


class TemporalMax(nn.Module):
    """Maximum pooling over frames.

    Args:
        after_neck: Whether to pool embeddings instead of vectors before the neck.
    """

    def __init__(self, after_neck: bool = False) -> None:
        super().__init__()
        self.after_neck = after_neck

    def forward(self, x: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Pool vectors of frames (B, S, C) to (B, C)."""
        if frame_mask is not None:
            x = x.masked_fill(~frame_mask[..., None], -torch.inf)
        return x.amax(1)


class TemporalAttention(nn.Module):
    """Weighted mean with learned weights, which depend on each frame and its neighbors.

    All weights are equal at initialization, so it starts as the mean.

    Source: Gao, Nevatia, "Revisiting Temporal Modeling for Video-based Person ReID", BMVC Workshops 2018.

    Args:
        in_features: Number of channels C.
        hidden: Number of channels between the two layers.
        kernel: Number of frames that a weight depends on; must be odd.

    Raises:
        ValueError: If `kernel` is not a positive odd number.
    """

    after_neck = False

    def __init__(self, in_features: int, hidden: int = 256, kernel: int = 3) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"temporal.kernel={kernel} is invalid: must be a positive odd number of frames.")
        self.reduce = nn.Linear(in_features, hidden)
        self.score = nn.Conv1d(hidden, 1, kernel, padding=kernel // 2)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)  # type: ignore[arg-type]  # not None, because bias=True is the default

    def forward(self, x: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Pool vectors of frames (B, S, C) to (B, C)."""
        hidden = functional.relu(self.reduce(x))
        if frame_mask is not None:
            hidden = hidden * frame_mask[..., None]  # treat padding like the zeros beyond the ends of the clip
        scores = self.score(hidden.transpose(1, 2))[:, 0].float()
        if frame_mask is not None:
            scores = scores.masked_fill(~frame_mask, -torch.inf)
        return weighted(x, scores.softmax(1).to(x.dtype))


class TemporalTransformer(nn.Module):
    """Transformer encoder over frames, followed by the mean.

    There are no position embeddings, because frames are sampled at varying rates and appearance has no order. All
    layers return their input at initialization, so it starts as the mean.

    Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017, in the pre-norm form that video re-ID models use,
    for example Liu et al., "A Video Is Worth Three Views: Trigeminal Transformers for Video-based Person
    Re-identification", arXiv 2021.

    Args:
        in_features: Number of channels C.
        layers: Number of encoder layers.
        heads: Number of attention heads; must divide C.
        expansion: Hidden size of the feed-forward layers relative to C.
        dropout: Dropout probability within the layers.

    Raises:
        ValueError: If `heads` does not divide `in_features`.
    """

    after_neck = False

    def __init__(
        self, in_features: int, layers: int = 1, heads: int = 8, expansion: float = 2.0, dropout: float = 0.1
    ) -> None:
        super().__init__()
        if in_features % heads:
            raise ValueError(
                f"temporal.heads={heads} is invalid: must divide the {in_features} channels of the backbone."
            )
        hidden = round(in_features * expansion)
        self.layers = nn.ModuleList(_layer(in_features, heads, hidden, dropout) for _ in range(layers))

    def forward(self, x: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Pool vectors of frames (B, S, C) to (B, C)."""
        padding = None if frame_mask is None else ~frame_mask
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=padding)
        return x.mean(1) if frame_mask is None else weighted(x, frame_mask.to(x.dtype))


def _layer(in_features: int, heads: int, hidden: int, dropout: float) -> nn.TransformerEncoderLayer:
    """Return an encoder layer that is the identity at initialization."""
    layer = nn.TransformerEncoderLayer(
        in_features, heads, hidden, dropout, functional.gelu, batch_first=True, norm_first=True
    )
    for last in (layer.self_attn.out_proj, layer.linear2):
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    return layer


def weighted(x: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of (B, S, C) over S as (B, C); weights (B, S) need not sum to one."""
    total = (x * weights[..., None]).sum(1)
    return total / weights.sum(1, keepdim=True)
