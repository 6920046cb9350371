"""The models are Torchreid's, tensor for tensor."""

import pytest
import torch

import reidlit

NAMES = ["osnet_x1_0", "osnet_x0_75", "osnet_x0_5", "osnet_x0_25", "resnet50", "resnet50_fc512"]
PARAMETERS = {  # with 751 identities, as published
    "osnet_x1_0": 2_554_771,
    "osnet_x0_75": 1_671_017,
    "osnet_x0_5": 1_015_297,
    "osnet_x0_25": 587_127,
    "resnet50": 25_046_831,
    "resnet50_fc512": 24_943_407,
}


@pytest.mark.parametrize("name", NAMES)
def test_parameter_count(name):
    model = reidlit.build_model(name, num_classes=751)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", NAMES)
def test_same_embedding_and_logits(name, tmp_path, torchreid_model):
    theirs = torchreid_model(name)
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    ours = reidlit.build_model(name, num_classes=20)
    report = reidlit.load_weights(ours, tmp_path / "w.pth")
    assert not report.missing
    assert not report.unexpected
    assert not report.mismatched

    image = torch.randn(4, 3, 128, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(image).embedding, theirs.eval()(image), rtol=0, atol=1e-5)
        torch.testing.assert_close(ours.train()(image).logits[0], theirs.train()(image), rtol=0, atol=1e-4)


def test_last_stride_one_does_not_dilate():
    model = reidlit.build_model("resnet50_fc512", num_classes=2)
    convolutions = [m for m in model.backbone.modules() if isinstance(m, torch.nn.Conv2d)]
    assert {m.dilation for m in convolutions} == {(1, 1)}
    assert model.backbone(torch.zeros(1, 3, 64, 32)).shape == (1, 2048, 4, 2)
