"""Low-rank adaptation of transformers."""

from copy import deepcopy

import pytest
import timm
import torch
from torch import nn

import reidlit
from reidlit.config import option
from reidlit.models.backbones.timm_network import TimmNetwork
from reidlit.models.lora import LoRALinear, add_lora, merge_lora
from reidlit.spec import build

TINY = "vit_tiny_patch16_224"
SIZE = (64, 32)


def adapted(**lora):
    spec = option("model", "timm")
    spec["backbone"] |= {"name": TINY, "lora": {"rank": 4} | lora}
    torch.manual_seed(0)
    return build(spec | {"image_size": list(SIZE)}, num_classes=3)


def trained(model):
    """Train two steps, after which no low-rank update is zero."""
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(4, 3, *SIZE)).logits[0].square().sum().backward()
        optimizer.step()
    return model


def test_initial_output_equals_plain_network():
    plain = TimmNetwork(TINY, image_size=SIZE).eval()
    ours = TimmNetwork(TINY, image_size=SIZE, lora={"rank": 8}).eval()
    report = ours.load_state_dict(plain.state_dict(), strict=False)
    assert report.unexpected_keys == []
    assert {name.rpartition(".")[2] for name in report.missing_keys} == {"down", "up"}
    image = torch.randn(2, 3, *SIZE)
    assert torch.equal(ours(image), plain(image))


def test_layer_adds_scaled_product_of_two_matrices():
    torch.manual_seed(0)
    linear = nn.Linear(5, 7)
    plain = deepcopy(linear)
    layer = LoRALinear(linear, rank=2, alpha=6.0)
    assert layer.weight is linear.weight
    assert not layer.weight.requires_grad
    assert (layer.down.shape, layer.up.shape) == ((2, 5), (7, 2))
    nn.init.normal_(layer.up)
    x = torch.randn(3, 4, 5)
    torch.testing.assert_close(layer(x), plain(x) + 6 / 2 * (x @ layer.down.T @ layer.up.T))


def test_only_updates_norms_and_outer_layers_train():
    model = trained(adapted())
    trained_names = {
        name for name, p in model.named_parameters() if p.grad is not None and name.startswith("backbone.network.")
    }
    assert {name for name in trained_names if name.endswith((".down", ".up"))} == {
        f"backbone.network.blocks.{block}.attn.{layer}.{matrix}"
        for block in range(12)
        for layer in ("qkv", "proj")
        for matrix in ("down", "up")
    }
    assert all(".norm" in name for name in trained_names if not name.endswith((".down", ".up")))
    assert {"backbone.network.norm.weight", "backbone.network.blocks.0.norm1.bias"} <= trained_names
    assert model.classifier[0].weight.grad is not None
    assert model.neck[0].bn.weight.grad is not None


def test_merged_model_equals_unmerged():
    model = trained(adapted(alpha=8.0)).eval()
    image = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        expected = model.embed(image)
        plain = adapted().eval()
        plain.load_state_dict({name: tensor for name, tensor in model.state_dict().items() if ".up" not in name}, False)
        assert (plain.embed(image) - expected).abs().max() > 1e-3  # the updates have an effect
        merge_lora(model)
        torch.testing.assert_close(model.embed(image), expected, rtol=1e-5, atol=1e-5)
    assert not any(isinstance(module, LoRALinear) for module in model.modules())
    names = {name.removeprefix("backbone.network.") for name in model.state_dict() if name.startswith("backbone.")}
    assert names == set(timm.create_model(TINY, num_classes=0).state_dict())


@pytest.mark.parametrize("bias", [True, False])
def test_merging_keeps_bias_and_dtype(bias):
    layer = LoRALinear(nn.Linear(5, 7, bias=bias, dtype=torch.float64), rank=2, alpha=2.0)
    nn.init.normal_(layer.up)
    merged = layer.merged()
    assert type(merged) is nn.Linear
    assert merged.weight.dtype == torch.float64
    assert (merged.bias is not None) is bias
    x = torch.randn(3, 5, dtype=torch.float64)
    torch.testing.assert_close(merged(x), layer(x))


def test_weights_of_plain_network_load(tmp_path):
    plain = timm.create_model(TINY, img_size=SIZE, num_classes=0)
    torch.save(plain.state_dict(), tmp_path / "vit.pth")
    model = adapted()
    report = reidlit.load_weights(model, tmp_path / "vit.pth")
    assert len(report.matched) == len(plain.state_dict())
    assert (report.unexpected, report.mismatched) == ((), {})
    new_layers = ("neck.", "classifier.")
    assert {name.rpartition(".")[2] for name in report.missing if not name.startswith(new_layers)} == {"down", "up"}
    image = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        expected = plain.eval().forward_features(image)[:, 0]
        torch.testing.assert_close(model.eval().backbone(image).flatten(1), expected)


def test_state_dict_round_trip(tmp_path):
    model, copy = trained(adapted()), adapted()
    torch.save(model.state_dict(), tmp_path / "own.pth")
    report = reidlit.load_weights(copy, tmp_path / "own.pth")
    assert (report.missing, report.unexpected, report.mismatched) == ((), (), {})
    image = torch.randn(2, 3, *SIZE)
    assert torch.equal(copy.eval().embed(image), model.eval().embed(image))


def test_invalid_arguments_raise():
    with pytest.raises(ValueError, match=r"lora.targets=\['qvk'\]"):
        adapted(targets=["qvk"])
    for rank in (0, -1):
        with pytest.raises(ValueError, match=f"lora.rank={rank} "):
            adapted(rank=rank)
    with pytest.raises(ValueError, match="rnak"):
        adapted(rnak=3)


@pytest.mark.parametrize(
    "name", ["beit_base_patch16_224", "eva_giant_patch14_224", "swinv2_tiny_window8_256"], ids=lambda name: name[:5]
)
def test_layers_that_are_not_called_raise(name):
    with torch.device("meta"):
        network = timm.create_model(name, num_classes=0, **{} if name.startswith("swin") else {"depth": 1})
        before = {key: p.requires_grad for key, p in network.named_parameters()}
        with pytest.raises(ValueError, match=r"lora.targets=.*\.qkv .*'qkv'"):
            add_lora(network)
        assert {key: p.requires_grad for key, p in network.named_parameters()} == before
        add_lora(network, targets=["proj"])


def test_attention_of_torch_raises():
    with pytest.raises(ValueError, match=r"self_attn\.out_proj"):
        add_lora(nn.TransformerEncoderLayer(8, 2), targets=["out_proj"])
