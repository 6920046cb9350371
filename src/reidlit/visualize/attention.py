"""Attention rollout: attention maps of vision transformers, combined over all blocks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from reidlit.models.model import ReIDModel
from reidlit.visualize.activation_map import Hook, dry_run, embed_watched, scaled


def attention_rollout(attention: Sequence[Tensor]) -> Tensor:
    """Compute how much each input token contributes to each output token through attention.

    Each block passes on half of its attention and, through the residual connection, half of the token itself.

    Source: Abnar, Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020.

    Args:
        attention: (B, N, N) attention of each block from first to last, averaged over heads. Rows sum to 1.

    Returns:
        (B, N, N) contribution of input token j to output token i. Rows sum to 1.

    Raises:
        ValueError: If `attention` is empty.
    """
    if not attention:
        raise ValueError("attention is empty: give the attention of at least one block.")
    flow = torch.eye(attention[0].shape[-1], device=attention[0].device).expand_as(attention[0])
    for block in attention:
        mixed = block + torch.eye(block.shape[-1], device=block.device)
        flow = mixed / mixed.sum(-1, keepdim=True) @ flow
    return flow


def attention_map(model: ReIDModel, image: Tensor, camid: Tensor | None = None) -> Tensor:
    """Compute the contribution of each patch to the embedding by attention rollout.

    The rollout starts at the class token. If there is none, or with `backbone.tokens=patches`, it starts at the mean of
    the patches. Class and register tokens are not part of the map. For TransReID, the class token of the global branch
    is used.

    Args:
        model: Model in evaluation mode with a timm vision transformer. Its fused attention is temporarily disabled.
        image: (B, 3, H, W) images, uint8 or normalized float.
        camid: (B,) camera of each image, for camera-aware models.

    Returns:
        (B, H, W) float32 maps, each scaled to [0, 1].

    Raises:
        ValueError: If a block does not attend to all patches, or the model is in training mode.
    """
    transformer = _transformer(model)
    attention: list[Tensor] = []
    with _unfused(transformer.blocks):
        embed_watched(model, image, camid, _hooks(transformer, attention))
    prefix, (rows, columns) = _layout(model, transformer, attention, len(image))
    flow = attention_rollout(attention)
    patches = (flow[:, 0] if _uses_class_token(model, transformer) else flow[:, prefix:].mean(1))[:, prefix:]
    return scaled(patches.reshape(-1, rows, columns), image.shape[2:])


def can_roll_out(model: ReIDModel, image_size: Sequence[int]) -> bool:
    """Return True if `attention_map` supports the model, which is tested with one black image.

    Args:
        model: Model in evaluation mode.
        image_size: Height and width in pixels.
    """
    attention: list[Tensor] = []
    try:
        transformer = _transformer(model)
        with _unfused(transformer.blocks):
            dry_run(model, image_size, _hooks(transformer, attention))
        _layout(model, transformer, attention, 1)
    except NoRolloutError:
        return False
    return True


class NoRolloutError(ValueError):
    """Error for models without attention over all patches."""

    def __init__(self, model: ReIDModel, reason: str) -> None:
        super().__init__(
            f"model does not support attention rollout: its {type(model.backbone).__name__} {reason}. Rollout needs a "
            "vision transformer in which every block attends to all patches; use method=activation instead."
        )


def _transformer(model: ReIDModel) -> Any:
    for module in model.modules():
        if isinstance(getattr(module, "blocks", None), nn.Module) and hasattr(module, "patch_embed"):
            return module
    raise NoRolloutError(model, "has no transformer blocks over patches")


def _hooks(transformer: Any, attention: list[Tensor]) -> dict[nn.Module, Hook]:
    """Return hooks that append the attention of each block, averaged over heads; it is the input of a dropout."""

    def record(_: nn.Module, inputs: tuple[Any, ...], __: Any) -> None:
        attention.append(inputs[0].float().mean(1))

    dropouts = [getattr(module, "attn_drop", None) for module in transformer.blocks.modules()]
    return {dropout: record for dropout in dropouts if isinstance(dropout, nn.Module)}


@contextmanager
def _unfused(blocks: nn.Module) -> Iterator[None]:
    """Disable fused attention, which never materializes the attention matrix."""
    fused: list[Any] = [module for module in blocks.modules() if getattr(module, "fused_attn", False)]
    try:
        for module in fused:
            module.fused_attn = False
        yield
    finally:
        for module in fused:
            module.fused_attn = True


def _layout(
    model: ReIDModel, transformer: Any, attention: Sequence[Tensor], batch_size: int
) -> tuple[int, tuple[int, int]]:
    """Return the number of prefix tokens, and the rows and columns of the patch grid.

    Raises:
        NoRolloutError: If the attention matrices do not match the grid.
    """
    grid = getattr(transformer.patch_embed, "grid_size", None)
    if grid is None:
        raise NoRolloutError(model, "has no patch_embed.grid_size")
    rows, columns = grid
    prefix = int(getattr(transformer, "num_prefix_tokens", 0))
    tokens = prefix + rows * columns
    expected = (batch_size, tokens, tokens)
    if len(attention) != len(transformer.blocks) or any(matrix.shape != expected for matrix in attention):
        shapes = sorted({tuple(matrix.shape[1:]) for matrix in attention})
        raise NoRolloutError(
            model,
            f"has {len(transformer.blocks)} blocks and {tokens} tokens ({rows} x {columns} patches), but "
            f"{len(attention)} attention matrices of shape {shapes}",
        )
    return prefix, (int(rows), int(columns))


def _uses_class_token(model: ReIDModel, transformer: Any) -> bool:
    return (
        getattr(transformer, "cls_token", None) is not None and getattr(model.backbone, "tokens", "auto") != "patches"
    )
