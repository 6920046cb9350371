"""TransReID: overlapping patches, camera embeddings and shuffled parts."""

import pytest
import timm
import torch
from torch import nn

import reidlit
from reidlit.config import option
from reidlit.models.backbones.timm_network import TimmNetwork
from reidlit.models.backbones.transreid import TransReID, jigsaw
from reidlit.spec import build

TINY = "vit_tiny_patch16_224"


def tiny(name="transreid", num_classes=5, size=(64, 32), **backbone):
    spec = option("model", name)
    spec["backbone"] |= {"name": TINY} | backbone
    torch.manual_seed(0)
    return build(spec | {"image_size": list(size)}, num_classes=num_classes)


@pytest.mark.parametrize(("name", "branches"), [("transreid", 5), ("vit_reid", 1)])
@pytest.mark.parametrize("size", [(256, 128), (80, 50)])
def test_outputs_and_gradients(name, branches, size):
    model = tiny(name, size=size)
    assert model.embedding_size == branches * 192
    for training in (False, True):
        output = model.train(training)(torch.randint(0, 256, (4, 3, *size), dtype=torch.uint8))
        assert output.embedding.shape == (4, branches * 192)
        assert [feature.shape for feature in output.features] == [(4, 192)] * branches
        assert [logit.shape for logit in output.logits] == [(4, 5)] * branches
    sum(logit.square().sum() for logit in output.logits).backward()
    trained = [(key, parameter) for key, parameter in model.named_parameters() if parameter.requires_grad]
    assert [key for key, p in trained if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()] == []


def test_state_dict_round_trip(tmp_path):
    model, copy = tiny(num_cameras=3), tiny(num_cameras=3)
    for tensor in copy.state_dict().values():
        tensor.zero_()
    torch.save(model.state_dict(), tmp_path / "own.pth")
    report = reidlit.load_weights(copy, tmp_path / "own.pth")
    assert (report.missing, report.unexpected, report.mismatched) == ((), (), {})
    image, camid = torch.randn(2, 3, 64, 32), torch.tensor([0, 2])
    assert torch.equal(copy.eval().embed(image, camid), model.eval().embed(image, camid))


@pytest.mark.parametrize(
    "name", [TINY, "deit_tiny_patch16_224", "vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"]
)
def test_plain_model_returns_class_token(name):
    ours = TransReID(name, image_size=(126, 70)).eval()
    theirs = TimmNetwork(name, image_size=(126, 70), tokens="class").eval()
    ours.load_state_dict(theirs.state_dict())
    image = torch.randn(2, 3, 126, 70)
    with torch.no_grad():
        torch.testing.assert_close(ours(image)[0], theirs(image).flatten(1), rtol=1e-6, atol=1e-6)


def test_weights_of_plain_network_load(tmp_path):
    torch.save(timm.create_model(TINY, img_size=(64, 32), num_classes=0).state_dict(), tmp_path / "vit.pth")
    report = reidlit.load_weights(tiny("vit_reid"), tmp_path / "vit.pth")
    assert report.mismatched == {}
    assert not [name for name in report.missing if name.startswith("backbone.")]


@pytest.mark.parametrize(
    ("size", "stride", "grid"),
    [((256, 128), 12, (21, 10)), ((256, 128), None, (16, 8)), ((256, 128), 16, (16, 8)), ((384, 128), 12, (31, 10))],
)
def test_grid_of_overlapping_patches(size, stride, grid):
    network = TransReID(TINY, image_size=size, patch_stride=stride).network
    patches = network.patch_embed.proj(torch.zeros(1, 3, *size))
    assert patches.shape[2:] == network.patch_embed.grid_size == grid
    assert network.pos_embed.shape == (1, 1 + grid[0] * grid[1], 192)


def test_position_embedding_is_resized_only_for_other_grids(monkeypatch):
    torch.manual_seed(0)
    source = timm.create_model(TINY, num_classes=0)
    rows = torch.linspace(0, 1, 14).view(14, 1, 1).expand(14, 14, 192).reshape(1, 196, 192)
    with torch.no_grad():
        source.pos_embed[:, 1:] = rows
    before = source.pos_embed.detach().clone()
    calls = []

    def create(name, pretrained, image_size, drop_path):
        calls.append((name, pretrained, tuple(image_size), drop_path))
        return source

    monkeypatch.setattr("reidlit.models.backbones.transreid.create", create)
    assert torch.equal(TransReID(TINY, image_size=(224, 224)).network.pos_embed, before)
    assert calls == [(TINY, False, (224, 224), 0.0)]
    resized = TransReID(TINY, image_size=(256, 128), patch_stride=12).network.pos_embed
    assert calls[-1] == (TINY, False, (224, 224), 0.0)  # the size of the weights, not of the images
    assert torch.equal(resized[:, 0], before[:, 0])
    heights = resized[0, 1:].reshape(21, 10, 192)
    torch.testing.assert_close(heights, heights[:, :1, :1].expand(21, 10, 192))  # constant within each row
    assert (heights[:, 0, 0].diff() > 0).all()


def naive_jigsaw(patches, shift, groups):
    row = list(range(patches))
    for _ in range(shift):
        row.append(row.pop(0))
    run = (patches + groups - 1) // groups
    runs = [row[start : start + run] for start in range(0, patches, run)]
    order = []
    while any(runs):
        order += [each.pop(0) for each in runs if each]
    return order


@pytest.mark.parametrize("patches", [10, 128, 210, 441, 7])
@pytest.mark.parametrize(("shift", "groups"), [(5, 2), (0, 1), (8, 3), (13, 4)])
def test_jigsaw_is_a_permutation(patches, shift, groups):
    order = jigsaw(patches, shift, groups).tolist()
    assert sorted(order) == list(range(patches))
    assert order == naive_jigsaw(patches, shift, groups)


def test_parts_are_class_tokens_of_shuffled_groups():
    network = TransReID(TINY, image_size=(256, 128), patch_stride=12, parts=4).eval()
    vit = network.network
    image = torch.randn(2, 3, 256, 128)
    inputs_of_last_block = []
    vit.blocks[-1].register_forward_pre_hook(lambda _, inputs: inputs_of_last_block.append(inputs[0]))
    with torch.no_grad():
        global_token, *parts = network(image)
        torch.testing.assert_close(global_token, vit.forward_features(image)[:, 0], rtol=1e-6, atol=1e-6)
        token, patches = inputs_of_last_block[0][:, :1], inputs_of_last_block[0][:, 1:]
        order = naive_jigsaw(210, 5, 2)
        groups = [order[:53], order[53:106], order[106:158], order[158:]]
        for part, group in zip(parts, groups, strict=True):
            # The copied block and norm have the weights of the originals at initialization.
            expected = vit.norm(vit.blocks[-1](torch.cat([token, patches[:, group]], 1)))[:, 0]
            torch.testing.assert_close(part, expected, rtol=1e-5, atol=1e-5)
    assert not {id(p) for p in network.local.parameters()} & {id(p) for p in vit.parameters()}


@pytest.mark.parametrize("test", ["before", "after"])
def test_only_embedding_divides_parts_by_their_number(test):
    spec = option("model", "transreid")
    spec["backbone"]["name"] = TINY
    spec["neck"]["test"] = test
    model = build(spec | {"image_size": [64, 32]}, num_classes=5)
    model.train()(torch.randn(8, 3, 64, 32))  # updates the statistics of the batch norms
    image = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        output, tokens = model.eval()(image), model.backbone(image)
        compared = [neck(token).embedding for neck, token in zip(model.neck, tokens, strict=True)]
    global_token, *parts = compared
    torch.testing.assert_close(output.embedding, torch.cat([global_token, *(part / 4 for part in parts)], dim=1))
    for feature, token in zip(output.features, tokens, strict=True):
        torch.testing.assert_close(feature, token)


def test_camera_is_added_to_all_tokens():
    network = TransReID(TINY, image_size=(64, 32), num_cameras=3, camera_weight=3.0).eval()
    assert network.uses_cameras
    image = torch.randn(2, 3, 64, 32)
    seen = []
    network.network.norm_pre.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        first, second = (network(image, torch.tensor([0, camera]))[0] for camera in (0, 2))
    torch.testing.assert_close(first[0], second[0])
    assert (first[1] - second[1]).abs().max() > 1e-3
    difference = 3 * (network.camera[2] - network.camera[0])
    torch.testing.assert_close(seen[1][1] - seen[0][1], difference.expand(9, 192), rtol=1e-4, atol=1e-5)


def test_camera_embeddings_receive_gradients():
    model = tiny(num_cameras=4).train()
    assert model.uses_cameras
    output = model(torch.randn(4, 3, 64, 32), torch.tensor([0, 1, 1, 3]))
    sum(logit.square().sum() for logit in output.logits).backward()
    assert [bool(gradient.any()) for gradient in model.backbone.camera.grad] == [True, True, False, True]


@pytest.mark.parametrize("training", [True, False])
def test_unknown_cameras_raise(training):
    model = tiny(num_cameras=3).train(training)
    image = torch.randn(4, 3, 64, 32)
    with pytest.raises(ValueError, match=r"camid=None.*\b3 cameras"):
        model(image)
    with pytest.raises(ValueError, match=r"camid=\[-1, 3\].* 0 to 2 .*num_cameras=3"):
        model.embed(image, torch.tensor([3, 0, 3, -1]))


def test_model_without_cameras_ignores_camids():
    model = tiny().eval()
    assert not model.uses_cameras
    image = torch.randn(2, 3, 64, 32)
    assert torch.equal(model.embed(image, torch.tensor([0, 99])), model.embed(image))


def test_checkpointing_drop_path_and_lora():
    image = torch.randn(4, 3, 64, 32)
    plain, saving = (tiny(drop_path=0.0, grad_checkpointing=each).train() for each in (False, True))
    for model in (plain, saving):
        sum(logit.square().sum() for logit in model(image).logits).backward()
    for (name, ours), theirs in zip(saving.named_parameters(), plain.parameters(), strict=True):
        if ours.requires_grad:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4, msg=name)

    dropping = TransReID(TINY, image_size=(64, 32), drop_path=0.5, parts=2).train()
    assert not torch.equal(dropping(image)[1], dropping(image)[1])

    model = tiny(lora={"rank": 2}, grad_checkpointing=True, num_cameras=2).train()
    assert isinstance(model.backbone.local[0].attn.qkv, nn.Linear)
    output = model(image, torch.tensor([0, 1, 0, 1]))
    sum(logit.square().sum() for logit in output.logits).backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert {"backbone.local.0.attn.qkv.up", "backbone.network.blocks.0.attn.qkv.up", "backbone.camera"} <= trained
    assert not {"backbone.local.0.attn.qkv.weight", "backbone.network.blocks.0.mlp.fc1.weight"} & trained


def test_normalization_is_that_of_weights(tmp_path, monkeypatch):
    """timm loads a pretrained file of the network's default size."""
    square = timm.create_model(TINY, num_classes=0)
    torch.save(square.state_dict(), tmp_path / "vit.pth")
    create = timm.create_model

    def from_file(name, pretrained, **arguments):
        overlay = {"file": str(tmp_path / "vit.pth"), "num_classes": 0}
        return create(name, pretrained=pretrained, pretrained_cfg_overlay=overlay, **arguments)

    monkeypatch.setattr(timm, "create_model", from_file)
    spec = option("model", "transreid")
    spec["backbone"]["name"] = TINY
    model = build(spec | {"pretrained": True}, num_classes=2)
    assert model.mean.flatten().tolist() == [0.5, 0.5, 0.5]
    assert model.std.flatten().tolist() == [0.5, 0.5, 0.5]
    assert torch.equal(model.backbone.local[0].mlp.fc1.weight, square.blocks[-1].mlp.fc1.weight)
    plain = TransReID(TINY, pretrained=True).network
    assert torch.equal(plain.pos_embed, TimmNetwork(TINY, pretrained=True).network.pos_embed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet10t"}, "name='resnet10t' .*ResNet"),
        ({"name": "deit_tiny_distilled_patch16_224"}, r"name='deit_tiny.*VisionTransformerDistilled"),
        ({"name": "vit_base_patch32_siglip_256"}, "name='vit_base_patch32_siglip_256' .*class token"),
        ({"name": "vit_tiny_r_s16_p8_224"}, "name='vit_tiny_r_s16_p8_224' .*plain"),
        ({"name": "vit_tiny_patch61"}, "name='vit_tiny_patch61'"),
        ({"patch_stride": 0}, r"patch_stride=0\b.* 1 to 16"),
        ({"patch_stride": 17}, r"patch_stride=17\b.* 1 to 16"),
        ({"image_size": (64, 8)}, r"image_size=\[64, 8\].* 16 x 16"),
        ({"image_size": (32, 16), "parts": 4}, "parts=4.* 2 patches"),
        ({"parts": -1}, "parts=-1"),
        ({"num_cameras": -1}, "num_cameras=-1"),
        ({"groups": 0}, "groups=0"),
    ],
)
def test_invalid_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        TransReID(**{"name": TINY} | arguments)
