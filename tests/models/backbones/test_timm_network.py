"""Timm networks as backbones."""

import pytest
import timm
import torch
from torch import nn

import reidlit
from reidlit.models.backbones.timm_network import TimmNetwork

FAMILIES = {  # a small network of each family, with the number of channels of its map
    "resnet10t": 512,
    "resnext50_32x4d": 2048,
    "legacy_seresnet18": 512,
    "densenet121": 1024,
    "efficientnet_b0": 1280,
    "convnext_atto": 320,
    "regnety_002": 368,
    "mobilenetv3_small_050": 288,
    "mobilenetv4_conv_small_035": 336,
    "repvit_m0_9": 384,
    "fastvit_t8": 768,
    "ghostnet_050": 480,
    "vit_tiny_patch16_224": 192,
    "deit_tiny_distilled_patch16_224": 192,
    "vit_small_patch14_dinov2": 384,
    "vit_small_patch16_dinov3": 384,
    "vit_base_patch32_clip_224": 768,
    "eva02_tiny_patch14_224": 192,
    "vit_base_patch32_siglip_256": 768,
    "swin_tiny_patch4_window7_224": 768,
    "swinv2_cr_tiny_ns_224": 768,
    "swinv2_tiny_window8_256": 768,
    "maxvit_rmlp_pico_rw_256": 256,
    "pvt_v2_b0": 256,
    "hiera_tiny_224": 768,
    "tiny_vit_5m_224": 320,
    "volo_d1_224": 384,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_families_train_on_non_square_images(name):
    torch.manual_seed(0)
    model = reidlit.build_model(f"timm/{name}", num_classes=3)
    assert model.embedding_size == model.backbone.num_features == FAMILIES[name]
    output = model.train()(torch.randint(0, 256, (2, 3, 256, 128), dtype=torch.uint8))
    assert output.embedding.shape == (2, FAMILIES[name])
    (output.logits[0].square().sum() + output.features[0].square().sum()).backward()
    trained = [(key, parameter) for key, parameter in model.named_parameters() if parameter.requires_grad]
    assert [key for key, parameter in trained if parameter.grad is None or not parameter.grad.isfinite().all()] == []


@pytest.mark.parametrize(
    "name",
    ["resnet10t", "resnet26d", "densenet121", "efficientnet_b0", "regnety_002", "mobilenetv3_small_050", "pvt_v2_b0"],
)
def test_last_stride_one_only_doubles_the_map(name):
    plain, finer = (TimmNetwork(name, image_size=(128, 64), last_stride=stride) for stride in (2, 1))
    finer.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 128, 64)
    assert plain(image).shape[2:] == (4, 2)
    assert finer(image).shape[2:] == (8, 4)
    convolutions = [m for m in finer.modules() if isinstance(m, nn.Conv2d)]
    assert {m.dilation for m in convolutions} == {(1, 1)}
    strides = [
        [m.stride for m in network.modules() if isinstance(m, nn.Conv2d | nn.AvgPool2d)] for network in (plain, finer)
    ]
    assert 1 <= sum(a != b for a, b in zip(*strides, strict=True)) <= 3


def test_unsupported_last_stride_raises():
    with pytest.raises(ValueError, match="last_stride=1"):
        TimmNetwork("vit_tiny_patch16_224", last_stride=1)
    with pytest.raises(ValueError, match="last_stride=3"):
        TimmNetwork("resnet10t", last_stride=3)
    with pytest.raises(ValueError, match=r"last_stride=1.*volo_d1_224"):
        TimmNetwork("volo_d1_224", last_stride=1)


@pytest.mark.parametrize("size", [(256, 128), (384, 128), (224, 224)])
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch16_dinov3"])
def test_token_modes(name, size):
    torch.manual_seed(0)
    chosen = {
        tokens: TimmNetwork(name, image_size=size, tokens=tokens).eval() for tokens in ("class", "patches", "auto")
    }
    for network in chosen.values():
        network.load_state_dict(chosen["class"].state_dict())
    image = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = chosen["class"].network.forward_features(image)
        maps = {tokens: network(image) for tokens, network in chosen.items()}
    assert maps["class"].shape == (2, expected.shape[2], 1, 1)
    torch.testing.assert_close(maps["class"].flatten(1), expected[:, 0])
    assert torch.equal(maps["auto"], maps["class"])
    rows, columns = size[0] // 16, size[1] // 16
    assert maps["patches"].shape[2:] == (rows, columns)
    prefix = expected.shape[1] - rows * columns
    torch.testing.assert_close(maps["patches"][:, :, 1, 0], expected[:, prefix + columns])


def test_channels_last_maps_are_permuted():
    network = TimmNetwork("swin_tiny_patch4_window7_224", image_size=(64, 64)).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(image), network.network.forward_features(image).permute(0, 3, 1, 2))


def test_layers_for_classifier_are_removed():
    ours = TimmNetwork("mobilenetv3_small_050", image_size=(64, 64))
    complete = timm.create_model("mobilenetv3_small_050", num_classes=0)
    assert sum(p.numel() for p in complete.conv_head.parameters()) > 0
    assert not list(ours.network.conv_head.parameters())


def test_position_embeddings_are_resized(tmp_path, monkeypatch):
    """timm loads a pretrained file of the network's default size."""
    torch.manual_seed(0)
    square = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    torch.save(square.state_dict(), tmp_path / "vit.pth")
    create = timm.create_model

    def from_file(name, pretrained, **arguments):
        overlay = {"file": str(tmp_path / "vit.pth"), "num_classes": 0}
        return create(name, pretrained=pretrained, pretrained_cfg_overlay=overlay, **arguments)

    monkeypatch.setattr(timm, "create_model", from_file)
    network = TimmNetwork("vit_tiny_patch16_224", pretrained=True, image_size=(256, 128)).network
    assert network.pos_embed.shape == (1, 129, 192)
    torch.testing.assert_close(network.pos_embed[:, :1], square.pos_embed[:, :1])  # class token
    ours, theirs = network.pos_embed[0, 1:].detach().std(), square.pos_embed[0, 1:].detach().std()
    assert 0.5 < float(ours / theirs) < 1.1
    torch.testing.assert_close(network.blocks[0].mlp.fc1.weight, square.blocks[0].mlp.fc1.weight)


def test_normalization_is_that_of_weights(tmp_path, monkeypatch):
    create = timm.create_model
    file = tmp_path / "w.pth"
    torch.save(create("legacy_xception", num_classes=0).state_dict(), file)

    def from_file(name, pretrained, **arguments):
        return create(
            name, pretrained=pretrained, pretrained_cfg_overlay={"file": str(file), "num_classes": 0}, **arguments
        )

    monkeypatch.setattr(timm, "create_model", from_file)
    assert reidlit.build_model("xception", 2, pretrained=True).mean.flatten().tolist() == [0.5, 0.5, 0.5]
    plain = reidlit.build_model("xception", 2)
    torch.testing.assert_close(plain.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))


def test_pretrained_without_internet_raises(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", offline)
    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_url", offline)
    with pytest.raises(ValueError, match=r"pretrained=True.*'resnet18.tv_in1k'.*\(no route"):
        reidlit.build_model("resnet18", num_classes=2, pretrained=True)


def test_drop_path_and_checkpointing():
    network = TimmNetwork("vit_tiny_patch16_224", image_size=(64, 32), drop_path=0.5, grad_checkpointing=True).train()
    image = torch.randn(8, 3, 64, 32)
    assert not torch.equal(network(image), network(image))  # random residual branches are skipped
    assert torch.equal(network.eval()(image), network(image))
    plain = TimmNetwork("vit_tiny_patch16_224", image_size=(64, 32))
    stored = []
    for each in (network, plain):
        seen = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, seen=seen: seen.append(t.numel()) or t, lambda t: t):
            each.train()(image)
        stored.append(sum(seen))
    assert stored[0] < stored[1] / 2
    with pytest.raises(ValueError, match=r"drop_path=0\.1"):
        TimmNetwork("densenet121", drop_path=0.1)


def test_unknown_names_raise():
    with pytest.raises(ValueError, match=r"backbone\.name='resnet50x"):
        TimmNetwork("resnet50x")
    with pytest.raises(ValueError, match=r"tokens='clas'"):
        TimmNetwork("resnet10t", tokens="clas")
    with pytest.raises(ValueError, match="tokens='class'"):
        TimmNetwork("resnet10t", tokens="class")
