"""Folding of batch norms: same embeddings with fewer layers."""

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import reidlit
from reidlit.config import option
from reidlit.export.batch_norm_folding import folded
from reidlit.spec import build

SIZE = (64, 32)


def random_model(name):
    """Return a model with random norm parameters, so that an omitted norm changes the output."""
    torch.manual_seed(0)
    model = reidlit.build_model(name, num_classes=2, image_size=SIZE)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            for tensor, low, high in ((module.running_mean, -0.3, 0.3), (module.running_var, 0.5, 1.5)):
                nn.init.uniform_(tensor, low, high)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.3, 0.3)
    return model.eval()


def norms(model):
    return sum(isinstance(module, _BatchNorm) for module in model.modules())


@pytest.mark.parametrize(
    ("name", "remaining"),
    [
        ("osnet_x0_25", 0),
        ("osnet_ain_x0_25", 0),
        ("resnet18", 0),
        ("resnet50_fc512", 0),
        ("timm/efficientnet_b0", 1),  # BNNeck after pooling
        ("timm/densenet121", 63),  # norms before a convolution, and the BNNeck
        ("pcb_p4", 0),
        ("shufflenet", 0),
    ],
)
@torch.no_grad()
def test_same_embeddings_with_fewer_norms(name, remaining):
    model = random_model(name)
    image = torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8)
    expected = model.embed(image)
    faster = folded(model, SIZE)
    assert norms(faster) == remaining
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(faster.embed(image) / scale, expected / scale, rtol=0, atol=1e-5)
    assert torch.equal(model.embed(image), expected)  # the original model is not changed
    assert norms(model) > remaining


@torch.no_grad()
def test_norm_is_kept_if_other_modules_read_its_input():
    class Twice(nn.Module):
        num_features = 4

        def __init__(self):
            super().__init__()
            self.conv, self.first, self.second = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

        def forward(self, image):
            x = self.conv(image)
            return self.first(x) + self.second(x)

    model = random_model("resnet18")
    model.backbone, model.neck[0] = Twice(), build(option("model/neck", "no_neck"), in_features=4)
    model.eval()
    image = torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8)
    faster = folded(model, SIZE)
    assert norms(faster) == 2
    torch.testing.assert_close(faster.embed(image), model.embed(image))


@torch.no_grad()
def test_lora_layers_are_merged():
    spec = option("model", "timm")
    spec["backbone"] |= {"name": "vit_tiny_patch16_224", "lora": {"rank": 2}}
    model = build({**spec, "image_size": list(SIZE)}, num_classes=2).eval()
    for name, parameter in model.named_parameters():
        if name.endswith(".up"):
            nn.init.normal_(parameter, std=0.1)
    image = torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8)
    faster = folded(model, SIZE)
    assert not [name for name, _ in faster.named_parameters() if name.endswith((".up", ".down"))]
    torch.testing.assert_close(faster.embed(image), model.embed(image), rtol=1e-4, atol=1e-5)
