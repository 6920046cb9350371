"""Where a vision transformer looks: the attention of all its blocks, followed from the last to the patches."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from reidlit.models.model import ReIDModel
from reidlit.visualize.activation_map import Hook, dry_run, embed_watched, scaled


def attention_rollout(attention: Sequence[Tensor]) -> Tensor:
    """How much of each input token reaches each output token, if attention alone moves information.

    A block hands on half of its attention and, along the residual branch, half of the token itself.

    Source: Abnar, Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020.

    Args:
        attention: of each block from first to last, (B, N, N), the mean over heads; each row sums to 1.

    Returns:
        (B, N, N): of output token i, the shares of the input tokens j, which sum to 1.

    Raises:
        ValueError: if there is no block.
    """
    if not attention:
        raise ValueError("attention is empty: give that of at least one block.")
    flow = torch.eye(attention[0].shape[-1], device=attention[0].device).expand_as(attention[0])
    for block in attention:
        mixed = block + torch.eye(block.shape[-1], device=block.device)
        flow = mixed / mixed.sum(-1, keepdim=True) @ flow
    return flow


def attention_map(model: ReIDModel, image: Tensor, camid: Tensor | None = None) -> Tensor:
    """The roll-out from what the embedding is made of to the patches.

    That is the class token, or where there is none, or `backbone.tokens=patches`, the mean of the patches. Class and
    register tokens are left out of the map. Of TransReID it is the class token of the whole image, not those of the parts.

    Args:
        model: in evaluation mode, with a vision transformer of timm; its fused attention is off meanwhile.
        image: (B, 3, H, W) uint8, or float and normalised already.
        camid: (B,) the camera of each, for a model that uses cameras.

    Returns:
        (B, H, W) float32 in 0 to 1, each image scaled by itself.

    Raises:
        ValueError: if not each block attends to all patches, or the model is in training mode.
    """
    transformer = _transformer(model)
    seen: list[Tensor] = []
    with _unfused(transformer.blocks):
        embed_watched(model, image, camid, _hooks(transformer, seen))
    prefix, (rows, columns) = _layout(model, transformer, seen, len(image))
    flow = attention_rollout(seen)
    shares = (flow[:, 0] if _reads_class_token(model, transformer) else flow[:, prefix:].mean(1))[:, prefix:]
    return scaled(shares.reshape(-1, rows, columns), image.shape[2:])


def can_roll_out(model: ReIDModel, image_size: Sequence[int]) -> bool:
    """Whether `attention_map` knows the model; one black image tells.

    Args:
        model: in evaluation mode.
        image_size: height and width in pixels.
    """
    seen: list[Tensor] = []
    try:
        transformer = _transformer(model)
        with _unfused(transformer.blocks):
            dry_run(model, image_size, _hooks(transformer, seen))
        _layout(model, transformer, seen, 1)
    except NoRolloutError:
        return False
    return True


class NoRolloutError(ValueError):
    """The model is not one whose attention can be rolled out."""

    def __init__(self, model: ReIDModel, why: str) -> None:
        super().__init__(
            f"model: this {type(model.backbone).__name__} {why}; attention is rolled out for vision transformers whose "
            "blocks all attend to all patches. Use method=activation."
        )


def _transformer(model: ReIDModel) -> Any:
    for module in model.modules():
        if isinstance(getattr(module, "blocks", None), nn.Module) and hasattr(module, "patch_embed"):
            return module
    raise NoRolloutError(model, "has no blocks over patches")


def _hooks(transformer: Any, seen: list[Tensor]) -> dict[nn.Module, Hook]:
    """Hooks that append the mean over heads of each block's attention, which passes through a dropout."""

    def note(_: nn.Module, inputs: tuple[Any, ...], __: Any) -> None:
        seen.append(inputs[0].float().mean(1))

    dropouts = [getattr(module, "attn_drop", None) for module in transformer.blocks.modules()]
    return {dropout: note for dropout in dropouts if isinstance(dropout, nn.Module)}


@contextmanager
def _unfused(blocks: nn.Module) -> Iterator[None]:
    """Let attention be computed step by step: the fused kernel never holds the matrix."""
    fused: list[Any] = [module for module in blocks.modules() if getattr(module, "fused_attn", False)]
    try:
        for module in fused:
            module.fused_attn = False
        yield
    finally:
        for module in fused:
            module.fused_attn = True


def _layout(model: ReIDModel, transformer: Any, seen: Sequence[Tensor], images: int) -> tuple[int, tuple[int, int]]:
    """How many tokens precede the patches, and rows and columns of these."""
    grid = getattr(transformer.patch_embed, "grid_size", None)
    if grid is None:
        raise NoRolloutError(model, "does not tell the grid of its patches")
    rows, columns = grid
    prefix = int(getattr(transformer, "num_prefix_tokens", 0))
    tokens = prefix + rows * columns
    if len(seen) != len(transformer.blocks) or any(each.shape != (images, tokens, tokens) for each in seen):
        found = sorted({tuple(each.shape[1:]) for each in seen})
        raise NoRolloutError(
            model,
            f"has {len(transformer.blocks)} blocks and {rows} x {columns} patches after {prefix} other tokens, but "
            f"{len(seen)} attention matrices of {found}",
        )
    return prefix, (int(rows), int(columns))


def _reads_class_token(model: ReIDModel, transformer: Any) -> bool:
    return (
        getattr(transformer, "cls_token", None) is not None and getattr(model.backbone, "tokens", "auto") != "patches"
    )
