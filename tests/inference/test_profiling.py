"""Costs of models, compared with values counted by hand and published values."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.benchmark import Measurement

import reidlit
from reidlit.inference.profiling import measure
from reidlit.models.classifier import LinearClassifier
from reidlit.models.model import ReIDModel
from reidlit.models.neck import FCNeck
from reidlit.models.pooling import AveragePool

CPU = torch.device("cpu")
PIXELS = 8 * 4


class OneConv(nn.Module):
    """A 3 x 3 convolution with 3 input and 3 output channels."""

    num_features = 3

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1, bias=False)

    def forward(self, image):
        return self.conv(image)


class SharedConv(OneConv):
    def forward(self, image):
        return self.conv(self.conv(image))


class Attention(nn.Module):
    """Single-head attention over all pixels, as a function or as a layer."""

    num_features = 3

    def __init__(self, use_layer):
        super().__init__()
        self.layer = nn.MultiheadAttention(3, 1, batch_first=True) if use_layer else None

    def forward(self, image):
        tokens = image.flatten(2).transpose(1, 2).contiguous()
        if self.layer:
            attended = self.layer(tokens, tokens, tokens, need_weights=False)[0]
        else:
            attended = functional.scaled_dot_product_attention(tokens, tokens, tokens)
        return attended.transpose(1, 2).unflatten(2, image.shape[2:])


def tiny_model(backbone):
    """Return a model with a linear layer 3 -> 5, its batch norm, and a large classifier, which must not count."""
    return ReIDModel(backbone, AveragePool(), [FCNeck(3, dim=5)], [LinearClassifier(5, 1000)])


def profile_of(model, size=(8, 4)):
    return measure(model, size, CPU, timed=False)


def test_costs_equal_values_counted_by_hand():
    profile = profile_of(tiny_model(OneConv()))
    image, pooled, embedding = 4 * 3 * PIXELS, 4 * 3, 4 * 5
    assert profile.parameters == 3 * 3 * 9 + (3 * 5 + 5) + 2 * 5
    assert profile.macs == 3 * 3 * 9 * PIXELS + 3 * 5
    # Tensors saved by convolution, linear layer, batch norm and ReLU. The classifier saves the output of the ReLU.
    assert profile.activation_bytes == image + pooled + embedding + embedding
    assert (profile.image_size, profile.embedding_size) == ((8, 4), 5)
    assert profile.latency_ms is profile.images_per_second is None


def test_shared_layer_counts_parameters_once_and_macs_per_call():
    once, twice = profile_of(tiny_model(OneConv())), profile_of(tiny_model(SharedConv()))
    assert twice.parameters == once.parameters
    assert twice.macs - once.macs == 3 * 3 * 9 * PIXELS
    assert twice.activation_bytes - once.activation_bytes == 4 * 3 * PIXELS


@pytest.mark.parametrize("layer", [False, True])
def test_attention_is_counted(layer):
    products, projections = 2 * PIXELS * PIXELS * 3, 4 * 3 * 3 * PIXELS
    assert profile_of(tiny_model(Attention(layer))).macs == products + (projections if layer else 0) + 3 * 5


@pytest.mark.parametrize(
    ("name", "size", "parameters", "gmacs"),  # of Torchreid's models without classifier
    [
        ("osnet_x1_0", (256, 128), 2_169_508, 0.979),
        ("resnet50", (256, 128), 23_508_032, 2.669),
    ],
)
def test_published_models(name, size, parameters, gmacs):
    profile = profile_of(reidlit.build_model(name, num_classes=2, image_size=size), size)
    assert profile.parameters == parameters
    assert profile.macs / 1e9 == pytest.approx(gmacs, abs=0.0005)


def test_measure_does_not_change_model():
    model = tiny_model(OneConv())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    profile_of(model)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_latency_uses_one_image_and_throughput_a_batch(monkeypatch):
    sizes = []
    embed = ReIDModel.embed
    monkeypatch.setattr(ReIDModel, "embed", lambda model, *a: sizes.append(len(a[0])) or embed(model, *a))
    monkeypatch.setattr("reidlit.inference.profiling.MIN_SECONDS", 0.01)
    monkeypatch.setattr(Measurement, "median", property(lambda _: 3.0))
    profile = measure(tiny_model(OneConv()), (8, 4), CPU, batch_size=6)
    assert (profile.latency_ms, profile.images_per_second) == (3000, 2)
    assert {1, 6} <= set(sizes)
