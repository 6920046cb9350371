"""TransReID: a vision transformer with overlapping patches, cameras and shuffled parts, each of which can be left out."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, ClassVar

import timm
import torch
from timm.layers.patch_embed import PatchEmbed
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models import checkpoint_seq
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from reidlit.models.backbones.timm_network import create
from reidlit.models.lora import add_lora


class TransReID(nn.Module):
    """A plain vision transformer of timm that gives its class token, and with `parts` one more for each part.

    The parts come from a copy of the last block. The patches that enter it are shifted, shuffled and dealt out, so that
    each part sees some of the whole person; it reads them together with the class token.

    With `num_cameras` the tokens depend on the camera that took the image. Such a model has to be told the camera of
    every image, and knows only the cameras that it was trained with: its scores are a protocol of their own, which is not
    to be compared with that of models which see the image alone, and it cannot be used in another place.

    `num_features` is the size of each class token. `branch_weights` are what the branches count in the joined embedding:
    as in the paper each part is divided by their number, so that all parts together do not outweigh the whole. With
    pretrained weights it has their `mean` and `std`.

    Source: He, Luo, Wang, Wang, Li, Jiang, "TransReID: Transformer-based Object Re-Identification", ICCV 2021.

    Args:
        name: of timm, e.g. `vit_base_patch16_224`; `vit_base_patch16_224.augreg_in21k` names the weights too.
        pretrained: whether to load its weights.
        image_size: height and width in pixels; position embeddings are fitted to it.
        patch_stride: from one patch to the next, in pixels; below the size of a patch they overlap. None for that size.
        num_cameras: how many cameras there are, numbered from 0; 0 to know nothing of cameras.
        camera_weight: what the embedding of the camera is multiplied by before it is added to all tokens.
        parts: how many; 0 for the class token alone.
        shift: how many patches are moved from the beginning to the end.
        groups: into how many runs the patches are cut, which are then taken from in turn.
        drop_path: share of examples that skip a residual branch (stochastic depth).
        grad_checkpointing: whether to compute activations again in the backward pass, which saves memory.
        lora: the arguments of `reidlit.models.lora.add_lora`, to train only low-rank additions to the transformer.

    Raises:
        ValueError: if timm has no such network, it is no plain vision transformer with a class token, its weights cannot
            be fetched, or a number is out of range.
    """

    renames: ClassVar = {"": "backbone.network."}

    def __init__(
        self,
        name: str,
        pretrained: bool = False,
        image_size: Sequence[int] = (256, 128),
        patch_stride: int | None = None,
        num_cameras: int = 0,
        camera_weight: float = 3.0,
        parts: int = 0,
        shift: int = 5,
        groups: int = 2,
        drop_path: float = 0.0,
        grad_checkpointing: bool = False,
        lora: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if num_cameras < 0 or parts < 0 or groups < 1:
            raise ValueError(
                f"backbone.num_cameras={num_cameras} and backbone.parts={parts} must be 0 or more, "
                f"backbone.groups={groups} must be 1 or more."
            )
        self.network = _plain_transformer(name, pretrained, image_size, drop_path)
        _fit(self.network, image_size, patch_stride)
        self.num_features = int(self.network.num_features)
        if pretrained:
            self.mean, self.std = (self.network.pretrained_cfg[key] for key in ("mean", "std"))
        self.network.set_grad_checkpointing(grad_checkpointing)
        if lora is not None:
            add_lora(self.network, **lora)

        self.uses_cameras = num_cameras > 0
        self.camera_weight = camera_weight
        if self.uses_cameras:
            self.camera = nn.Parameter(torch.empty(num_cameras, 1, self.num_features))
            nn.init.trunc_normal_(self.camera, std=0.02)

        self.parts = parts
        self.branch_weights = (1.0, *(1 / parts for _ in range(parts)))
        if parts:
            patches = self.network.patch_embed.num_patches
            if parts > patches:
                raise ValueError(f"backbone.parts={parts}: images of {list(image_size)} have only {patches} patches.")
            self.local = nn.Sequential(deepcopy(self.network.blocks[-1]), deepcopy(self.network.norm))
            self.order: Tensor
            self.register_buffer("order", jigsaw(patches, shift, groups), persistent=False)

    def forward(self, image: Tensor, camid: Tensor | None = None) -> tuple[Tensor, ...]:
        """The class token of the whole image and of each part.

        Args:
            image: (B, 3, H, W) normalised.
            camid: (B,) the camera of each, for a model with cameras; others do not read it.

        Returns:
            1 + `parts` vectors (B, C).

        Raises:
            ValueError: if the model has cameras and `camid` is missing or names one that it does not have.
        """
        network = self.network
        x = network._pos_embed(network.patch_embed(image))
        if self.uses_cameras:
            x = x + self._of_cameras(camid)
        x = network.norm_pre(network.patch_drop(x))
        blocks, last = network.blocks[:-1], network.blocks[-1]
        x = checkpoint_seq(blocks, x) if network.grad_checkpointing else blocks(x)
        whole: Tensor = network.norm(last(x)[:, 0])
        if not self.parts:
            return (whole,)
        token, patches = x[:, :1], x[:, network.num_prefix_tokens :][:, self.order]
        pieces = patches.tensor_split(self.parts, dim=1)
        return whole, *(self.local(torch.cat((token, piece), dim=1))[:, 0] for piece in pieces)

    def _of_cameras(self, camid: Tensor | None) -> Tensor:
        """(B,) -> (B, 1, C), what is added to the tokens."""
        known = len(self.camera)
        if camid is None:
            raise ValueError(f"camid=None: this model has {known} cameras and must be told which one took each image.")
        if len(unknown := camid[(camid < 0) | (camid >= known)]):
            raise ValueError(
                f"camid={sorted(set(unknown.tolist()))}: this model knows the cameras 0 to {known - 1} only "
                f"(backbone.num_cameras={known})."
            )
        return self.camera_weight * self.camera[camid]


def jigsaw(patches: int, shift: int, groups: int) -> Tensor:
    """The order (patches,) in which the patches of a map are dealt out to its parts.

    The first `shift` go to the end. The row is then cut into `groups` runs, of which the last may be shorter, and one is
    taken from each in turn.
    """
    moved = torch.arange(patches).roll(-shift)
    run = -(-patches // groups)
    return moved[torch.argsort(torch.arange(patches) % run, stable=True)]


def _plain_transformer(name: str, pretrained: bool, image_size: Sequence[int], drop_path: float) -> Any:
    """A network whose position embedding has the size that its weights were trained with.

    Raises:
        ValueError: if it is no plain vision transformer with a class token.
    """
    known = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    network = create(name, pretrained, known.input_size[1:] if known else image_size, drop_path)
    # Classes derived from it have other tokens or other blocks.
    plain = type(network) is VisionTransformer and type(network.patch_embed) is PatchEmbed
    if not plain or not network.has_class_token:
        raise ValueError(
            f"backbone.name={name!r} is a {type(network).__name__}; TransReID is made of a plain VisionTransformer with a "
            "class token, e.g. vit_base_patch16_224 or deit_small_patch16_224. For others there is model=timm."
        )
    network.fc_norm = nn.Identity()  # serves the mean of the patches, which is not read
    return network


def _fit(network: Any, image_size: Sequence[int], patch_stride: int | None) -> None:
    """Move the patches of a network closer, and fit it to the grid that they then have in images of a size.

    Raises:
        ValueError: if the stride is out of range, or the image smaller than a patch.
    """
    embed = network.patch_embed
    height, width = embed.patch_size
    stride = min(height, width) if patch_stride is None else patch_stride
    if not 1 <= stride <= min(height, width):
        raise ValueError(f"backbone.patch_stride={stride} must be 1 to {min(height, width)}, the size of a patch.")
    grid = ((image_size[0] - height) // stride + 1, (image_size[1] - width) // stride + 1)
    if min(grid) < 1:
        raise ValueError(f"image_size={list(image_size)} is smaller than a patch of {height} x {width}.")
    if network.pos_embed is not None:
        prefix = 0 if network.no_embed_class else network.num_prefix_tokens
        # Once, from the size of the weights: each time costs sharpness.
        resized = resample_abs_pos_embed(network.pos_embed.detach(), list(grid), list(embed.grid_size), prefix)
        network.pos_embed = nn.Parameter(resized)
    embed.proj.stride = (stride, stride)
    embed.img_size, embed.grid_size, embed.num_patches = tuple(image_size), grid, grid[0] * grid[1]
