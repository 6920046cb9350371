"""Embedding of tracklets from their clips."""

from collections.abc import Callable

import torch
from torch import Tensor

FRAMES_AT_ONCE = 512  # more frames are not faster, and long tracklets would not fit into memory

Embed = Callable[[Tensor, Tensor, Tensor], Tensor]


def embed_tracklets(embed: Embed, image: Tensor, frame_mask: Tensor, tracklet: Tensor, camid: Tensor) -> Tensor:
    """Return the mean clip embedding of each tracklet, weighted by the number of real frames per clip.

    Args:
        embed: Function that embeds clips (k, S, 3, H, W) with cameras (k,) and a frame mask (k, S) as (k, D).
        image: Clips (K, S, 3, H, W).
        frame_mask: Boolean mask (K, S) of real frames; the others are padding.
        tracklet: Index of the tracklet of each clip (K,), from 0 to B - 1.
        camid: Camera of each tracklet (B,).

    Returns:
        Embeddings (B, D).
    """
    size = max(1, FRAMES_AT_ONCE // image.shape[1])
    batches = zip(*(torch.split(each, size) for each in (image, camid[tracklet], frame_mask)), strict=True)
    clips = torch.cat([embed(*batch) for batch in batches])
    count = frame_mask.sum(1, keepdim=True).to(clips.dtype)
    total = clips.new_zeros(len(camid), clips.shape[1]).index_add_(0, tracklet, clips * count)
    return total / clips.new_zeros(len(camid), 1).index_add_(0, tracklet, count)
