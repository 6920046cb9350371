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


class Known(nn.Module):
    """Two channels, the second of them negative: red, and -2 times blue."""

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
    """One module for all regions of an image, after one for the whole, which gives something beside its map."""

    def __init__(self):
        super().__init__()
        self.whole = Pair()
        self.region = nn.Conv2d(3, 2, 1)

    def forward(self, x):
        x, _ = self.whole(x)
        return self.region(x[:, :, :2]) + self.region(x[:, :, 2:4])


class Pair(nn.Module):
    def forward(self, x):
        return x + 1, None


def model_of(backbone, channels=2):
    return ReIDModel(backbone, AveragePool(), [NoNeck(channels)], [nn.Linear(channels, 2)]).eval()


@pytest.fixture
def image():
    """Red is 1 in one row, blue 1 in one column; elsewhere all is 0."""
    image = torch.zeros(1, 3, 4, 6)
    image[0, 0, 1] = 1
    image[0, 2, :, 5] = 1
    return image


def test_a_known_activation_gives_its_map(image):
    model = model_of(Known())
    expected = torch.zeros(4, 6)
    expected[1] += 1
    expected[:, 5] += 4
    for both in (image, torch.cat([image, 3 * image])):  # a brighter image of a batch changes neither itself nor others
        found = activation_map(model, both, "backbone.first")
        assert found.shape == (len(both), 4, 6)
        for one in found:
            torch.testing.assert_close(one, expected / 5)


def test_the_last_layer_with_more_than_one_position_is_found(image):
    model = model_of(Known())
    assert find_layer(model, (4, 6)) == "backbone.again"
    expected = torch.zeros(4, 6)
    expected[1] = 1  # without the negative channel
    torch.testing.assert_close(activation_map(model, image)[0], expected)


def test_a_layer_that_sees_regions_is_passed_over(image):
    model = model_of(Regions())
    assert find_layer(model, (4, 6)) == "backbone"  # the sum of the regions; it is called once
    model = model_of(nn.Sequential(Regions(), nn.AdaptiveAvgPool2d(1)))
    model.backbone[0].register_forward_hook(lambda *_: torch.zeros(1, 2, 1, 1))
    assert find_layer(model, (4, 6)) == "backbone.0.whole"
    with pytest.raises(ValueError, match=r"layer='backbone.0.region' gives \(1, 2, 2, 6\), \(1, 2, 2, 6\)"):
        activation_map(model, image, "backbone.0.region")


@pytest.mark.parametrize(
    ("name", "size", "layer"),
    [("osnet_x0_25", SIZE, "backbone"), ("resnet18", SIZE, "backbone"), ("hacnn", (160, 64), "backbone.ha3")],
)
def test_networks(name, size, layer):
    torch.manual_seed(0)
    model = reidlit.build_model(name, 3, image_size=size).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    image = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    assert find_layer(model, size) == layer
    found = activation_map(model, image)
    assert found.shape == (2, *size)
    assert found.amin((1, 2)).tolist() == [0, 0]
    assert found.amax((1, 2)).tolist() == [1, 1]
    assert not torch.equal(found[0], found[1])
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_map_is_that_of_the_backbone():
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


def test_scaling_is_of_each_image_and_keeps_corners():
    maps = torch.tensor([[[0.0, 1], [2, 4]], [[7, 7], [7, 7]]])
    found = scaled(maps, (8, 4))
    assert found.shape == (2, 8, 4)
    assert [found[0, row, column].item() for row in (0, -1) for column in (0, -1)] == [0, 0.25, 0.5, 1]
    assert found[1].abs().max() == 0  # no division by zero


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("layer4", r"layer='layer4' is no module of the model. Similar: backbone.network.layer4, "),
        ("backbone.network.leyer3", "Similar: backbone.network.layer3"),
        ("?", "Similar: backbone, pool, temporal, neck, classifier"),
        ("", "layer='' is no module"),
        ("classifier.0", "layer='classifier.0' is not called"),
        ("pool", "layer='pool' gives tuple"),
        ("backbone.network", "layer='backbone.network' is not called"),
    ],
)
def test_mistakes_are_named(layer, words):
    model = reidlit.build_model("resnet18", 3, image_size=SIZE).eval()
    with pytest.raises(ValueError, match=words):
        activation_map(model, torch.zeros(1, 3, *SIZE), layer)
    assert not any(module._forward_hooks for module in model.modules())


def test_models_that_cannot_be_drawn_say_so():
    with pytest.raises(ValueError, match="no module of this Flatten gives a feature map"):
        find_layer(ReIDModel(nn.Flatten(), lambda x: (x,), [NoNeck(6)], [nn.Linear(6, 2)]).eval(), (1, 2))
    with pytest.raises(ValueError, match="model is in training mode"):
        find_layer(model_of(Known()).train(), SIZE)
