"""Embeddings of tracklets, and pooling of stored frames."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from reidlit.config import option
from reidlit.data.sample import Sample
from reidlit.inference.extractor import FeatureExtractor
from reidlit.inference.features import Features, of_samples
from reidlit.spec import build


def model(temporal="average", name="osnet_x0_25", **changes):
    torch.manual_seed(0)
    spec = option("model", name) | {"temporal": option("model/temporal", temporal), "image_size": [64, 32]} | changes
    network = build(spec, num_classes=3).eval()
    torch.manual_seed(1)
    for parameter in network.temporal.parameters():
        parameter.data += torch.randn_like(parameter) * 0.3
    return network


def images(count):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (64, 32, 3), np.uint8) for _ in range(count)]


def extractor(network, **options):
    return FeatureExtractor(model=network, image_size=(64, 32), device="cpu", **options)


@pytest.mark.parametrize("temporal", ["average", "max", "attention", "transformer", "frame_average", "frame_max"])
@torch.no_grad()
def test_tracklet_embedding_uses_temporal_pooling_of_model(temporal):
    network, frames = model(temporal), images(7)
    stacked = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    embedding = extractor(network).tracklet(frames, seq_len=10)
    assert torch.allclose(embedding, network.embed(stacked[None])[0], atol=1e-4)
    clips = torch.stack([network.embed(part[None])[0] for part in (stacked[:4], stacked[4:])])
    expected = (clips * torch.tensor([[4.0], [3.0]])).sum(0) / 7
    assert torch.allclose(extractor(network, batch_size=2).tracklet(frames, seq_len=4), expected, atol=1e-4)
    flipped = extractor(network, flip=True, normalize=True).tracklet(frames, seq_len=10)
    mean = (network.embed(stacked[None]) + network.embed(stacked[None].flip(-1)))[0]
    assert torch.allclose(flipped, functional.normalize(mean, dim=0), atol=1e-4)


def test_norms_are_folded_only_through_mean_pooling():
    """A norm after max pooling must not be folded into the last layer of the backbone."""
    spec = option("model", "resnet18") | {"neck": option("model/neck", "bnneck"), "image_size": [64, 32]}
    spec["pool"] = {"_target_": f"{__name__}.Projected"}
    spec["temporal"] = option("model/temporal", "max")
    torch.manual_seed(0)
    network = build(spec, num_classes=3).eval()
    torch.nn.init.normal_(network.neck[0].bn.weight)  # negative scales exchange minimum and maximum
    frames = images(5)
    stacked = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = network.embed(stacked[None])[0]
    assert torch.allclose(extractor(network).tracklet(frames), expected, atol=1e-4)


class Projected(torch.nn.Module):
    """Pooling that ends in a linear layer, into which a norm could be folded."""

    num_branches = 1

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(512, 512)

    def forward(self, x):
        return (self.linear(x.mean((2, 3))),)


@pytest.mark.slow
def test_invalid_tracklets_raise():
    with pytest.raises(ValueError, match="images"):
        extractor(model()).tracklet([])
    with pytest.raises(ValueError, match="backend='onnx'"):
        extractor(model(), backend="onnx").tracklet(images(2))


def test_stored_frames_are_pooled():
    embedding = np.random.default_rng(0).standard_normal((6, 4), dtype=np.float32)
    columns = of_samples([Sample(f"{n}.jpg", n // 3, n % 2) for n in range(6)], "query")
    frames = Features(embedding, **columns | {"tracklet": np.array([1, 0, 1, 2, 0, 0])}, fingerprint="abc")
    groups = [[1, 4, 5], [0, 2], [3]]
    for way, expected in (("average", np.mean), ("max", np.max)):
        pooled = frames.pooled(way)
        np.testing.assert_allclose(pooled.embedding, [expected(embedding[g], 0) for g in groups], rtol=1e-6)
        assert pooled.path.tolist() == ["1.jpg", "0.jpg", "3.jpg"]
        assert pooled.pid.tolist() == [0, 0, 1]
        assert pooled.tracklet.tolist() == [-1, -1, -1]
    with pytest.raises(ValueError, match=r"temporal=median.*average, max"):
        frames.pooled("median")
    with pytest.raises(ValueError, match=r"temporal=average.*frames=true"):
        pooled.pooled("average")
