"""What every option of conf/model promises."""

from copy import deepcopy

import pytest
import torch

import reidlit
from reidlit.config import options

# What a network is made for, where the small size of the others does not do.
SIZES = {"hacnn": (160, 64), "mudeep": (256, 128), "inceptionv4": (96, 96), "inceptionresnetv2": (96, 96)}


@pytest.fixture(scope="module", params=options("model"))
def case(request):
    """A model and the size of its images."""
    size = SIZES.get(request.param, (64, 32))
    torch.manual_seed(0)
    return reidlit.build_model(request.param, num_classes=7, image_size=size), size


def test_output_is_the_same_in_train_and_eval(case):
    model, size = case
    for mode in (True, False):
        output = model.train(mode)(torch.randn(2, 3, *size))
        assert isinstance(output, reidlit.models.ReIDOutput)
        assert output.embedding.shape == (2, model.embedding_size)
        assert len(output.features) == len(output.logits) == model.pool.num_branches
        assert {feature.shape[0] for feature in output.features} == {2}
        assert {logit.shape for logit in output.logits} == {(2, 7)}


def test_gradient_reaches_every_parameter(case):
    model, size = case
    output = model.train()(torch.randn(4, 3, *size))
    losses = [logit.logsumexp(1).sum() + logit.square().sum() for logit in output.logits]
    sum(losses, start=output.embedding.pow(2).sum()).backward()
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert [name for name, p in trained if p.grad is None or not p.grad.isfinite().all()] == []


def test_state_dict_round_trip(case, tmp_path):
    model, _ = case
    copy = deepcopy(model)
    for tensor in copy.state_dict().values():
        tensor.zero_()
    torch.save(model.state_dict(), tmp_path / "own.pth")
    report = reidlit.load_weights(copy, tmp_path / "own.pth")
    assert (report.missing, report.unexpected, report.mismatched) == ((), (), {})
    loaded = copy.state_dict()
    assert all(torch.equal(tensor, loaded[key]) for key, tensor in model.state_dict().items())


def test_uint8_is_normalised_inside(case):
    model, size = case
    model.eval()
    image = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (image / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.no_grad():
        found, expected = model.embed(image), model.embed(normalised)
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found / scale, expected / scale, rtol=1e-4, atol=1e-5)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="osnet_x1_0"):
        reidlit.build_model("osnet_x9", num_classes=2)
    with pytest.raises(ValueError, match="softmax_triplet"):
        reidlit.build_model("osnet_x0_25", num_classes=2, loss="tripplet")
    with pytest.raises(ValueError, match="num_classes=0"):
        reidlit.build_model("osnet_x0_25", num_classes=0)
