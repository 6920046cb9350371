"""Temporal pooling: each choice of conf/model/temporal in complete models."""

import pytest
import torch

from reidlit.config import option, options
from reidlit.spec import build

OPTIONS = options("model/temporal")
LEARNED = ("attention", "transformer")


def model(temporal, name="resnet18", **changes):
    torch.manual_seed(0)
    spec = option("model", name) | {"temporal": option("model/temporal", temporal), "image_size": [64, 32]} | changes
    return build(spec, num_classes=3).eval()


def clips(count=2, length=4):
    return torch.randint(
        0, 256, (count, length, 3, 64, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


@pytest.mark.parametrize("temporal", OPTIONS)
def test_clip_of_one_frame_equals_image(temporal):
    network, image = model(temporal), clips()
    assert torch.allclose(network.embed(image[:, :1]), network.embed(image[:, 0]), atol=1e-6)


@pytest.mark.parametrize("temporal", OPTIONS)
@torch.no_grad()
def test_padding_frames_are_ignored(temporal):
    network, image = disturbed(model(temporal)), clips()
    padded = torch.cat([image, image.flip(0)[:, :2]], dim=1)
    frame_mask = torch.tensor([[True] * 4 + [False] * 2] * 2)
    assert torch.allclose(network.embed(padded, frame_mask=frame_mask), network.embed(image), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(network.embed(padded), network.embed(image), atol=1e-3)
    all_frames = torch.ones(2, 4, dtype=torch.bool)
    assert torch.allclose(network.embed(image, frame_mask=all_frames), network.embed(image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("temporal", LEARNED)
@torch.no_grad()
def test_learned_pooling_starts_as_mean(temporal):
    image = clips()
    mean = model("average").embed(image)
    assert torch.allclose(model(temporal).embed(image), mean, atol=1e-5)
    assert not torch.allclose(disturbed(model(temporal)).embed(image), mean, atol=1e-3)


def disturbed(network):
    """Add noise to the learned weights, as if the model were trained."""
    torch.manual_seed(1)
    for parameter in network.temporal.parameters():
        parameter.data += torch.randn_like(parameter) * 0.3
    return network


@torch.no_grad()
def test_frame_pooling_pools_embeddings_of_frames():
    """Torchreid's video engines pool in the same way, so image models reach the same metrics."""
    image = clips()
    for name in ("osnet_x0_25", "pcb_p4"):
        frames = model("average", name).embed(image.flatten(0, 1)).view(2, 4, -1)
        assert torch.allclose(model("frame_average", name).embed(image), frames.mean(1), atol=1e-5)
        assert torch.allclose(model("frame_max", name).embed(image), frames.amax(1), atol=1e-5)
    # The neck of OSNet ends in a ReLU, so pooling before and after it differs.
    osnet = [model(name, "osnet_x0_25").embed(image) for name in ("average", "frame_average")]
    assert not torch.allclose(*osnet, atol=1e-4)


@pytest.mark.parametrize("temporal", OPTIONS)
@pytest.mark.parametrize("name", ["osnet_x0_25", "pcb_p4"])
def test_output_and_gradient(temporal, name):
    network = model(temporal, name).train()
    output = network(clips(3))
    assert output.embedding.shape == (3, network.embedding_size)
    assert [logits.shape for logits in output.logits] == [(3, 3)] * network.pool.num_branches
    disturbed(network)
    sum(logits.square().sum() for logits in network(clips(3)).logits).backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []


def test_weights_of_image_model_load(tmp_path):
    from reidlit.models.weights import load_weights

    torch.save(model("average").state_dict(), tmp_path / "image.pth")
    assert load_weights(model("frame_average"), tmp_path / "image.pth").embeds
    report = load_weights(model("attention"), tmp_path / "image.pth")
    assert not report.embeds
    assert all(name.startswith("temporal.") for name in report.missing)


@pytest.mark.parametrize(
    ("options", "text"), [({"kernel": 2}, "temporal.kernel=2"), ({"heads": 7}, "temporal.heads=7")]
)
def test_options_out_of_range(options, text):
    name = "attention" if "kernel" in options else "transformer"
    spec = option("model/temporal", name) | options
    with pytest.raises(ValueError, match=text):
        build(option("model", "resnet18") | {"temporal": spec, "image_size": [64, 32]}, num_classes=3)
