"""Activation maps."""

import pytest
import torch
from torch import nn

import reidlit
from reidlit.models.model import ReIDModel
from reidlit.models.neck import NoNeck
from reidlit.models.pooling import AveragePool
from reidlit.visualize.activation_map import activation_map, find_layer, scaled

SIZE = (64, 32)


class TwoChannels(nn.Module):
    """Network with two output channels: red, and -2 times blue."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 2, 1, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 0, -2]])[:, :, None, None])
        self.again = nn.ReLU(inplace=True)
        self.token = nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        x = self.again(self.first(x))
        return self.token(x)


class Regions(nn.Module):
    """Network that applies one layer to several regions, after a layer that returns its map in a tuple."""

    def __init__(self):
        super().__init__()
        self.first = TupleOutput()
        self.region = nn.Conv2d(3, 2, 1)

    def forward(self, x):
        x, _ = self.first(x)
        return self.region(x[:, :, :2]) + self.region(x[:, :, 2:4])


class TupleOutput(nn.Module):
    """Layer that returns a tuple of a feature map and None."""

    def forward(self, x):
        return x + 1, None


def model_of(backbone, channels=2):
    return ReIDModel(backbone, AveragePool(), [NoNeck(channels)], [nn.Linear(channels, 2)]).eval()


@pytest.fixture
def image():
    """Return an image with red=1 in one row, blue=1 in one column, and 0 elsewhere."""
    image = torch.zeros(1, 3, 4, 6)
    image[0, 0, 1] = 1
    image[0, 2, :, 5] = 1
    return image


def test_activation_map_of_known_activation(image):
    model = model_of(TwoChannels())
    expected = torch.zeros(4, 6)
    expected[1] += 1
    expected[:, 5] += 4
    for batch in (image, torch.cat([image, 3 * image])):  # brightness does not matter: each map is scaled separately
        maps = activation_map(model, batch, "backbone.first")
        assert maps.shape == (len(batch), 4, 6)
        for heat in maps:
            torch.testing.assert_close(heat, expected / 5)


def test_find_layer_returns_last_spatial_layer(image):
    model = model_of(TwoChannels())
    assert find_layer(model, (4, 6)) == "backbone.again"
    expected = torch.zeros(4, 6)
    expected[1] = 1  # ReLU removes the negative channel
    torch.testing.assert_close(activation_map(model, image)[0], expected)


def test_find_layer_skips_layers_that_are_called_several_times(image):
    model = model_of(Regions())
    assert find_layer(model, (4, 6)) == "backbone"  # the sum of the regions; it is called once
    model = model_of(nn.Sequential(Regions(), nn.AdaptiveAvgPool2d(1)))
    model.backbone[0].register_forward_hook(lambda *_: torch.zeros(1, 2, 1, 1))
    assert find_layer(model, (4, 6)) == "backbone.0.first"
    with pytest.raises(ValueError, match=r"layer='backbone.0.region'.*\(1, 2, 2, 6\), \(1, 2, 2, 6\)"):
        activation_map(model, image, "backbone.0.region")


@pytest.mark.parametrize(
    ("name", "size", "layer"),
    [("osnet_x0_25", SIZE, "backbone"), ("resnet18", SIZE, "backbone"), ("hacnn", (160, 64), "backbone.ha3")],
)
def test_activation_maps_of_networks(name, size, layer):
    torch.manual_seed(0)
    model = reidlit.build_model(name, 3, image_size=size).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    image = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    assert find_layer(model, size) == layer
    result = activation_map(model, image)
    assert result.shape == (2, *size)
    assert result.amin((1, 2)).tolist() == [0, 0]
    assert result.amax((1, 2)).tolist() == [1, 1]
    assert not torch.equal(result[0], result[1])
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_activation_map_equals_squared_backbone_output():
    torch.manual_seed(0)
    model = reidlit.build_model("resnet18", 3, image_size=SIZE).eval()
    image = torch.randint(0, 256, (1, 3, *SIZE), dtype=torch.uint8)
    with torch.no_grad():
        last = model.backbone(model.normalize(image))
        earlier = model.backbone.network.layer1(
            model.backbone.network.maxpool(
                model.backbone.network.act1(
                    model.backbone.network.bn1(model.backbone.network.conv1(model.normalize(image)))
                )
            )
        )
    torch.testing.assert_close(activation_map(model, image), scaled((last**2).sum(1), SIZE))
    named = activation_map(model, image, "backbone.network.layer1")
    torch.testing.assert_close(named, scaled((earlier**2).sum(1), SIZE))


def test_maps_are_scaled_separately_and_keep_corners():
    maps = torch.tensor([[[0.0, 1], [2, 4]], [[7, 7], [7, 7]]])
    result = scaled(maps, (8, 4))
    assert result.shape == (2, 8, 4)
    assert [result[0, row, column].item() for row in (0, -1) for column in (0, -1)] == [0, 0.25, 0.5, 1]
    assert result[1].abs().max() == 0  # no division by zero


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ("layer4", r"layer='layer4'.*backbone\.network\.layer4, "),
        ("backbone.network.leyer3", r"leyer3.*backbone\.network\.layer3"),
        ("?", "backbone, pool, temporal, neck, classifier"),
        ("", "layer=''"),
        ("classifier.0", r"layer='classifier\.0'"),
        ("pool", "layer='pool'.*tuple"),
        ("backbone.network", r"layer='backbone\.network'"),
    ],
)
def test_invalid_layer_is_named(layer, expected):
    model = reidlit.build_model("resnet18", 3, image_size=SIZE).eval()
    with pytest.raises(ValueError, match=expected):
        activation_map(model, torch.zeros(1, 3, *SIZE), layer)
    assert not any(module._forward_hooks for module in model.modules())


def test_models_without_activation_map_are_refused():
    with pytest.raises(ValueError, match="Flatten"):
        find_layer(ReIDModel(nn.Flatten(), lambda x: (x,), [NoNeck(6)], [nn.Linear(6, 2)]).eval(), (1, 2))
    with pytest.raises(ValueError, match="training mode"):
        find_layer(model_of(TwoChannels()).train(), SIZE)
