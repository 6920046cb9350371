"""From clips to tracklets."""

from collections.abc import Callable

import torch
from torch import Tensor

FRAMES_AT_ONCE = 512  # more do not go through a network faster, and a long tracklet would not fit

Embed = Callable[[Tensor, Tensor, Tensor], Tensor]


def embed_tracklets(embed: Embed, image: Tensor, frame_mask: Tensor, tracklet: Tensor, camid: Tensor) -> Tensor:
    """The mean over the clips of each tracklet, where a clip counts by its frames.

    Args:
        embed: (k, S, 3, H, W) clips, their cameras (k,) and which frames are real (k, S) -> (k, D).
        image: (K, S, 3, H, W) clips.
        frame_mask: (K, S) bool, which frames are real.
        tracklet: (K,) whose clip each is, 0 to B - 1.
        camid: (B,).

    Returns:
        (B, D).
    """
    size = max(1, FRAMES_AT_ONCE // image.shape[1])
    parts = zip(*(torch.split(each, size) for each in (image, camid[tracklet], frame_mask)), strict=True)
    clips = torch.cat([embed(*part) for part in parts])
    count = frame_mask.sum(1, keepdim=True).to(clips.dtype)
    total = clips.new_zeros(len(camid), clips.shape[1]).index_add_(0, tracklet, clips * count)
    return total / clips.new_zeros(len(camid), 1).index_add_(0, tracklet, count)
