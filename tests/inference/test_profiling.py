"""What a model costs: figures that are counted by hand, or published."""

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


class Once(nn.Module):
    """3 x 3 convolution, 3 -> 3 channels."""

    num_features = 3

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1, bias=False)

    def forward(self, image):
        return self.conv(image)


class Twice(Once):
    def forward(self, image):
        return self.conv(self.conv(image))


class Attention(nn.Module):
    """One head over all pixels, by torch's function or by its layer."""

    num_features = 3

    def __init__(self, layer):
        super().__init__()
        self.layer = nn.MultiheadAttention(3, 1, batch_first=True) if layer else None

    def forward(self, image):
        tokens = image.flatten(2).transpose(1, 2).contiguous()
        if self.layer:
            attended = self.layer(tokens, tokens, tokens, need_weights=False)[0]
        else:
            attended = functional.scaled_dot_product_attention(tokens, tokens, tokens)
        return attended.transpose(1, 2).unflatten(2, image.shape[2:])


def toy(backbone):
    """With a linear layer 3 -> 5 and its batch norm; the classifier is large, to be seen if it counts."""
    return ReIDModel(backbone, AveragePool(), [FCNeck(3, dim=5)], [LinearClassifier(5, 1000)])


def count(model, size=(8, 4)):
    return measure(model, size, CPU, timed=False)


def test_counted_by_hand():
    found = count(toy(Once()))
    image, pooled, embedding = 4 * 3 * PIXELS, 4 * 3, 4 * 5
    assert found.parameters == 3 * 3 * 9 + (3 * 5 + 5) + 2 * 5
    assert found.macs == 3 * 3 * 9 * PIXELS + 3 * 5
    # What the convolution, the linear layer, batch norm and ReLU keep; the classifier keeps what ReLU does.
    assert found.activation_bytes == image + pooled + embedding + embedding
    assert (found.image_size, found.embedding_size) == ((8, 4), 5)
    assert found.latency_ms is found.images_per_second is None


def test_a_shared_layer_counts_its_weights_once_and_its_work_each_time():
    once, twice = count(toy(Once())), count(toy(Twice()))
    assert twice.parameters == once.parameters
    assert twice.macs - once.macs == 3 * 3 * 9 * PIXELS
    assert twice.activation_bytes - once.activation_bytes == 4 * 3 * PIXELS


@pytest.mark.parametrize("layer", [False, True])
def test_attention_is_counted(layer):
    products, projections = 2 * PIXELS * PIXELS * 3, 4 * 3 * 3 * PIXELS
    assert count(toy(Attention(layer))).macs == products + (projections if layer else 0) + 3 * 5


@pytest.mark.parametrize(
    ("name", "size", "parameters", "gmacs"),  # of Torchreid, without its classifier
    [
        ("osnet_x1_0", (256, 128), 2_169_508, 0.979),
        ("resnet50", (256, 128), 23_508_032, 2.669),
    ],
)
def test_published_models(name, size, parameters, gmacs):
    found = count(reidlit.build_model(name, num_classes=2, image_size=size), size)
    assert found.parameters == parameters
    assert found.macs / 1e9 == pytest.approx(gmacs, abs=0.0005)


def test_the_model_stays_as_it_is():
    model = toy(Once())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    count(model)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_latency_is_of_one_image_and_throughput_of_a_batch(monkeypatch):
    sizes = []
    embed = ReIDModel.embed
    monkeypatch.setattr(ReIDModel, "embed", lambda model, *a: sizes.append(len(a[0])) or embed(model, *a))
    monkeypatch.setattr("reidlit.inference.profiling.MIN_SECONDS", 0.01)
    monkeypatch.setattr(Measurement, "median", property(lambda _: 3.0))
    found = measure(toy(Once()), (8, 4), CPU, batch_size=6)
    assert (found.latency_ms, found.images_per_second) == (3000, 2)
    assert {1, 6} <= set(sizes)
