"""TransReID: vision transformer with overlapping patches, camera embeddings and shuffled parts, all optional."""

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
    """Plain timm vision transformer that returns its class token, and one more token per part.

    The parts use a copy of the last block. Its input patches are shifted, shuffled and split into parts that each cover
    the whole person; each part is processed together with the class token.

    With `num_cameras`, the tokens depend on the camera. Such a model requires the camera of every image, and works only
    with the cameras of the training set. Its metrics are not comparable to those of models that use only the image.

    `num_features` is the size of a class token. `branch_weights` are the factors of the branches in the embedding: as
    in the paper, each part is divided by the number of parts, so that together they do not outweigh the global token.
    With pretrained weights, it has their `mean` and `std`.

    Source: He, Luo, Wang, Wang, Li, Jiang, "TransReID: Transformer-based Object Re-Identification", ICCV 2021.

    Args:
        name: Name in timm such as `vit_base_patch16_224`. `vit_base_patch16_224.augreg_in21k` also selects the weights.
        pretrained: Whether to load pretrained weights.
        image_size: Height and width in pixels. Position embeddings are resampled to it.
        patch_stride: Distance between patches in pixels. Patches overlap if it is smaller than their size. Default: the
            size of a patch.
        num_cameras: Number of cameras, with ids from 0; 0 to ignore cameras.
        camera_weight: Factor of the camera embedding, which is added to all tokens.
        parts: Number of parts; 0 for the class token only.
        shift: Number of patches that are moved from the beginning to the end.
        groups: Number of groups for shuffling; patches are taken from the groups in turn.
        drop_path: Fraction of samples that skip a residual branch (stochastic depth).
        grad_checkpointing: Whether to recompute activations in the backward pass to save memory.
        lora: Arguments of `reidlit.models.lora.add_lora`, to train only low-rank updates of the transformer.

    Raises:
        ValueError: If timm does not have the network, it is not a plain vision transformer with a class token, its
            weights cannot be downloaded, or a number is out of range.
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
                f"backbone.num_cameras={num_cameras}, backbone.parts={parts} or backbone.groups={groups} is invalid: the "
                "first two must be at least 0, groups at least 1."
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
                raise ValueError(
                    f"backbone.parts={parts} is invalid: images of {list(image_size)} have only {patches} patches."
                )
            self.local = nn.Sequential(deepcopy(self.network.blocks[-1]), deepcopy(self.network.norm))
            self.order: Tensor
            self.register_buffer("order", jigsaw(patches, shift, groups), persistent=False)

    def forward(self, image: Tensor, camid: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the class token of the image and of each part.

        Args:
            image: Normalized images (B, 3, H, W).
            camid: Camera of each image (B,), required if the model uses cameras and otherwise ignored.

        Returns:
            1 + `parts` vectors (B, C).

        Raises:
            ValueError: If the model uses cameras and `camid` is missing or contains unknown cameras.
        """
        network = self.network
        x = network._pos_embed(network.patch_embed(image))
        if self.uses_cameras:
            x = x + self._camera_embedding(camid)
        x = network.norm_pre(network.patch_drop(x))
        blocks, last = network.blocks[:-1], network.blocks[-1]
        x = checkpoint_seq(blocks, x) if network.grad_checkpointing else blocks(x)
        global_token: Tensor = network.norm(last(x)[:, 0])
        if not self.parts:
            return (global_token,)
        token, patches = x[:, :1], x[:, network.num_prefix_tokens :][:, self.order]
        parts = patches.tensor_split(self.parts, dim=1)
        return global_token, *(self.local(torch.cat((token, part), dim=1))[:, 0] for part in parts)

    def _camera_embedding(self, camid: Tensor | None) -> Tensor:
        """Return the embedding (B, 1, C) of cameras (B,), which is added to all tokens."""
        num_cameras = len(self.camera)
        if camid is None:
            raise ValueError(f"camid=None: this model uses {num_cameras} cameras, so pass the camera of each image.")
        if len(unknown := camid[(camid < 0) | (camid >= num_cameras)]):
            raise ValueError(
                f"camid={sorted(set(unknown.tolist()))} is invalid: this model has cameras 0 to {num_cameras - 1} "
                f"(backbone.num_cameras={num_cameras})."
            )
        return self.camera_weight * self.camera[camid]


def jigsaw(patches: int, shift: int, groups: int) -> Tensor:
    """Return the order (patches,) in which the patches of a map are split into parts.

    The first `shift` patches move to the end. The sequence is then cut into `groups` runs, of which the last may be
    shorter, and one patch is taken from each run in turn.
    """
    moved = torch.arange(patches).roll(-shift)
    run = -(-patches // groups)
    return moved[torch.argsort(torch.arange(patches) % run, stable=True)]


def _plain_transformer(name: str, pretrained: bool, image_size: Sequence[int], drop_path: float) -> Any:
    """Create a vision transformer with the position embedding size of its pretrained weights.

    Raises:
        ValueError: If it is not a plain vision transformer with a class token.
    """
    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    network = create(name, pretrained, config.input_size[1:] if config else image_size, drop_path)
    # Subclasses have other tokens or blocks.
    is_plain = type(network) is VisionTransformer and type(network.patch_embed) is PatchEmbed
    if not is_plain or not network.has_class_token:
        raise ValueError(
            f"backbone.name={name!r} is a {type(network).__name__}: TransReID requires a plain VisionTransformer with a "
            "class token, such as vit_base_patch16_224 or deit_small_patch16_224. Use model=timm for other networks."
        )
    network.fc_norm = nn.Identity()  # normalizes the mean of the patches, which is not used
    return network


def _fit(network: Any, image_size: Sequence[int], patch_stride: int | None) -> None:
    """Set the patch stride of a network and adapt it to the resulting grid of patches.

    Raises:
        ValueError: If the stride is out of range, or the image is smaller than a patch.
    """
    embed = network.patch_embed
    height, width = embed.patch_size
    stride = min(height, width) if patch_stride is None else patch_stride
    if not 1 <= stride <= min(height, width):
        raise ValueError(
            f"backbone.patch_stride={stride} is invalid: must be from 1 to {min(height, width)}, the size of a patch."
        )
    grid = ((image_size[0] - height) // stride + 1, (image_size[1] - width) // stride + 1)
    if min(grid) < 1:
        raise ValueError(
            f"image_size={list(image_size)} is smaller than a patch of {height} x {width}: use larger images."
        )
    if network.pos_embed is not None:
        prefix = 0 if network.no_embed_class else network.num_prefix_tokens
        # Resample once, from the size of the weights, because every resampling blurs.
        resized = resample_abs_pos_embed(network.pos_embed.detach(), list(grid), list(embed.grid_size), prefix)
        network.pos_embed = nn.Parameter(resized)
    embed.proj.stride = (stride, stride)
    embed.img_size, embed.grid_size, embed.num_patches = tuple(image_size), grid, grid[0] * grid[1]
