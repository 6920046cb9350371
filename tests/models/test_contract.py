"""What every option of conf/model promises."""

import pytest
import torch

import reidlit
from reidlit.config import options


@pytest.fixture(scope="module", params=options("model"))
def model(request):
    torch.manual_seed(0)
    return reidlit.build_model(request.param, num_classes=7)


def test_output_is_the_same_in_train_and_eval(model):
    for mode in (True, False):
        output = model.train(mode)(torch.randn(2, 3, 64, 32))
        assert isinstance(output, reidlit.models.ReIDOutput)
        assert output.embedding.shape == (2, model.embedding_size)
        assert [f.shape[0] for f in output.features] == [2]
        assert [logit.shape for logit in output.logits] == [(2, 7)]


def test_gradient_reaches_every_parameter(model):
    output = model.train()(torch.randn(4, 3, 64, 32))
    (output.logits[0].sum() + output.embedding.pow(2).sum()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.parametrize("name", options("model"))
def test_state_dict_round_trip(name, tmp_path):
    model, copy = reidlit.build_model(name, num_classes=3), reidlit.build_model(name, num_classes=3)
    torch.save(model.state_dict(), tmp_path / "own.pth")
    report = reidlit.load_weights(copy, tmp_path / "own.pth")
    assert (report.missing, report.unexpected, report.mismatched) == ((), (), {})
    assert all(torch.equal(tensor, copy.state_dict()[key]) for key, tensor in model.state_dict().items())


def test_uint8_is_normalised_inside(model):
    model.eval()
    image = torch.randint(0, 256, (2, 3, 64, 32), dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (image / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(model.embed(image), model.embed(normalised), rtol=1e-4, atol=1e-5)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="osnet_x1_0"):
        reidlit.build_model("osnet_x9", num_classes=2)
    with pytest.raises(ValueError, match="softmax_triplet"):
        reidlit.build_model("osnet_x0_25", num_classes=2, loss="tripplet")
    with pytest.raises(ValueError, match="weights=<file>"):
        reidlit.build_model("osnet_x0_25", num_classes=2, pretrained=True)
    with pytest.raises(ValueError, match="num_classes=0"):
        reidlit.build_model("osnet_x0_25", num_classes=0)
