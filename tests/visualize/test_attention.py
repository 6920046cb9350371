"""Attention rollout."""

import pytest
import torch

import reidlit
from reidlit.config import option
from reidlit.spec import build
from reidlit.visualize.activation_map import scaled
from reidlit.visualize.attention import attention_map, attention_rollout, can_roll_out

SIZE = (64, 32)


def model_of(name, size=SIZE, **backbone):
    torch.manual_seed(0)
    spec = option("model", "timm")
    spec["backbone"] |= {"name": name, **backbone}
    spec["image_size"] = list(size)
    model = build(spec, num_classes=3)
    for parameter in model.parameters():  # far from uniform attention
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.fixture
def image():
    return torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def naive_rollout(network, image):
    """Compute the rollout (B, N, N) from the query and key weights, one image and one head at a time."""
    tokens = []
    hooks = [block.norm1.register_forward_hook(lambda _, __, output: tokens.append(output)) for block in network.blocks]
    with torch.no_grad():
        network.forward_features(image)
    for hook in hooks:
        hook.remove()
    flows = []
    for number in range(len(image)):
        flow = None
        for block, x in zip(network.blocks, tokens, strict=True):
            heads, size = block.attn.num_heads, block.attn.head_dim
            width = heads * size
            mean = 0
            for head in range(heads):
                rows = slice(head * size, (head + 1) * size)
                projected = []
                for weight, bias in ((0, 0), (width, width)):
                    w = block.attn.qkv.weight[weight : weight + width][rows]
                    b = 0 if block.attn.qkv.bias is None else block.attn.qkv.bias[bias : bias + width][rows]
                    projected.append(x[number] @ w.T + b)
                q, k = block.attn.q_norm(projected[0]), block.attn.k_norm(projected[1])
                mean = mean + torch.softmax(q @ k.T / size**0.5, dim=1) / heads
            mixed = 0.5 * mean + 0.5 * torch.eye(len(mean))
            flow = mixed if flow is None else mixed @ flow
        flows.append(flow)
    return torch.stack(flows).detach()


def test_rollout_equals_hand_computed_values():
    first = torch.tensor([[[1.0, 0], [1, 0]]])  # both tokens attend to the first
    second = torch.tensor([[[0.0, 1], [0, 1]]])  # both tokens attend to the second
    # After the first block, half of the second token comes from the first. The second block mixes again.
    torch.testing.assert_close(attention_rollout([first, second]), torch.tensor([[[0.75, 0.25], [0.5, 0.5]]]))
    torch.testing.assert_close(attention_rollout([second, first]), torch.tensor([[[0.5, 0.5], [0.25, 0.75]]]))
    with pytest.raises(ValueError, match="attention"):
        attention_rollout([])


@pytest.mark.parametrize(
    ("name", "options", "prefix", "row"),
    [
        ("test_vit", {}, 1, "class"),
        ("test_vit", {"tokens": "patches"}, 1, "patches"),  # the embedding is the mean of the patches
        ("test_vit3", {}, 1, "patches"),  # no class token, but a register
        ("deit_tiny_distilled_patch16_224", {}, 2, "class"),
    ],
)
def test_attention_map_equals_naive_rollout(name, options, prefix, row, image):
    model = model_of(name, **options)
    network = model.backbone.network
    fused = [block.attn.fused_attn for block in network.blocks]
    assert all(fused)
    flow = naive_rollout(network, model.normalize(image))
    assert flow.shape[1] == prefix + 4 * 2
    expected = flow[:, 0, prefix:] if row == "class" else flow[:, prefix:, prefix:].mean(1)
    heat = attention_map(model, image)
    torch.testing.assert_close(heat, scaled(expected.reshape(2, 4, 2), SIZE), atol=1e-4, rtol=1e-3)
    assert [block.attn.fused_attn for block in network.blocks] == fused
    assert not any(module._forward_hooks for module in model.modules())
    assert can_roll_out(model, SIZE)


@pytest.mark.parametrize("parts", [0, 4])
def test_transreid_with_overlapping_patches_and_cameras_is_supported(parts, image):
    spec = option("model", "transreid")
    spec["backbone"] |= {"name": "test_vit", "patch_stride": 12, "num_cameras": 3, "parts": parts}
    spec |= {"image_size": list(SIZE), "pool": {**spec["pool"], "num_branches": 1 + parts}}
    torch.manual_seed(0)
    model = build(spec, num_classes=3).eval()
    assert can_roll_out(model, SIZE)
    first, second = (attention_map(model, image, torch.full((2,), camid)) for camid in (0, 2))
    assert first.shape == (2, *SIZE)
    assert not torch.equal(first, second)
    with pytest.raises(ValueError, match="camid"):
        attention_map(model, image)
    assert all(block.attn.fused_attn for block in model.backbone.network.blocks)  # also after an error


def test_rotary_positions_and_registers_are_supported():
    model = model_of("vit_small_patch16_dinov3")  # class token and four registers
    heat = attention_map(model, torch.randint(0, 256, (1, 3, *SIZE), dtype=torch.uint8))
    assert (heat.min(), heat.max()) == (0, 1)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "resnet18", "xcit_nano_12_p16_224"])
def test_networks_without_global_attention_are_refused(name):
    size = (224, 224) if name.startswith("xcit") else SIZE
    model = model_of(name, size)
    assert not can_roll_out(model, size)
    with pytest.raises(ValueError, match="method=activation"):
        attention_map(model, torch.zeros(1, 3, *size))


def test_training_mode_is_refused(image):
    with pytest.raises(ValueError, match="training mode"):
        attention_map(model_of("test_vit").train(), image)


def test_timm_model_from_build_model_is_supported():
    model = reidlit.build_model("timm/test_vit", 3, image_size=SIZE).eval()
    assert can_roll_out(model, SIZE)
