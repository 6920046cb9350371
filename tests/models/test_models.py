"""What every option of conf/model promises, and that Torchreid's networks are Torchreid's, tensor for tensor."""

from copy import deepcopy

import pytest
import torch
from torch import nn

import reidlit
from helpers.slow import FAST_MODELS, mostly_slow
from reidlit.config import options

TORCHREID = {  # parameters of the reference, without the classifier
    "resnet18": 11_176_512,
    "resnet34": 21_284_672,
    "resnet50": 23_508_032,
    "resnet101": 42_500_160,
    "resnet152": 58_143_808,
    "resnext50_32x4d": 22_979_904,
    "resnext101_32x8d": 86_742_336,
    "resnet50_fc512": 24_558_144,
    "se_resnet50": 26_039_024,
    "se_resnet50_fc512": 27_089_136,
    "se_resnet101": 47_277_872,
    "se_resnext50_32x4d": 25_510_896,
    "se_resnext101_32x4d": 46_906_416,
    "densenet121": 6_953_856,
    "densenet169": 12_484_480,
    "densenet201": 18_092_928,
    "densenet161": 26_472_000,
    "densenet121_fc512": 7_479_680,
    "inceptionresnetv2": 54_306_464,
    "inceptionv4": 41_142_816,
    "xception": 20_806_952,
    "resnet50_ibn_a": 23_508_032,
    "resnet50_ibn_b": 23_509_568,
    "nasnsetmobile": 4_232_978,
    "mobilenetv2_x1_0": 2_224_960,
    "mobilenetv2_x1_4": 4_291_604,
    "shufflenet": 904_728,
    "squeezenet1_0": 735_424,
    "squeezenet1_0_fc512": 999_104,
    "squeezenet1_1": 722_496,
    "shufflenet_v2_x0_5": 341_792,
    "shufflenet_v2_x1_0": 1_253_604,
    "shufflenet_v2_x1_5": 2_478_624,
    "shufflenet_v2_x2_0": 5_344_996,
    "mudeep": 134_940_304,
    "resnet50mid": 27_705_408,
    "hacnn": 2_929_112,
    "pcb_p6": 24_032_832,
    "pcb_p4": 24_032_832,
    "mlfn": 32_473_024,
    "osnet_x1_0": 2_169_508,
    "osnet_x0_75": 1_285_754,
    "osnet_x0_5": 630_034,
    "osnet_x0_25": 201_864,
    "osnet_ibn_x1_0": 2_170_532,
    "osnet_ain_x1_0": 2_169_508,
    "osnet_ain_x0_75": 1_285_754,
    "osnet_ain_x0_5": 630_034,
    "osnet_ain_x0_25": 201_864,
}
UNREGISTERED = {"senet154": 113_039_984, "se_resnet152": 64_772_848, "nasnetamobile": 4_232_978}
# Torchreid's come first: tests of one network then share its index, and pytest runs them one after the other.
NAMES = [*TORCHREID, *UNREGISTERED, *sorted(set(options("model")) - {*TORCHREID, *UNREGISTERED})]
# What a network is made for, where the small size of the others does not do.
SIZES = {"hacnn": (160, 64), "mudeep": (256, 128), "inceptionv4": (96, 96), "inceptionresnetv2": (96, 96)}
CLASSES = 7


@pytest.fixture(scope="module", params=mostly_slow(NAMES, FAST_MODELS))
def network(request):
    """The name of an option, its model and the size of its images; built once for all tests."""
    size = SIZES.get(request.param, (64, 32))
    torch.manual_seed(0)
    return request.param, reidlit.build_model(request.param, num_classes=CLASSES, image_size=size), size


def test_every_key_of_torchreid_is_an_option():
    factory = pytest.importorskip("torchreid.reid.models").__model_factory
    assert set(factory) == set(TORCHREID)
    assert {*TORCHREID, *UNREGISTERED} <= set(options("model"))


def test_output_is_the_same_in_train_and_eval(network):
    _, model, size = network
    for mode in (True, False):
        output = model.train(mode)(torch.randn(2, 3, *size))
        assert isinstance(output, reidlit.models.ReIDOutput)
        assert output.embedding.shape == (2, model.embedding_size)
        assert len(output.features) == len(output.logits) == model.pool.num_branches
        assert {feature.shape[0] for feature in output.features} == {2}
        assert {logit.shape for logit in output.logits} == {(2, CLASSES)}


def test_gradient_reaches_every_parameter(network):
    _, model, size = network
    output = model.train()(torch.randn(4, 3, *size))
    losses = [logit.logsumexp(1).sum() + logit.square().sum() for logit in output.logits]
    sum(losses, start=output.embedding.pow(2).sum()).backward()
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert [name for name, p in trained if p.grad is None or not p.grad.isfinite().all()] == []
    model.zero_grad(set_to_none=True)


def test_state_dict_round_trip(network, tmp_path):
    _, model, _ = network
    copy = deepcopy(model)
    for tensor in copy.state_dict().values():
        tensor.zero_()
    torch.save(model.state_dict(), tmp_path / "own.pth")
    report = reidlit.load_weights(copy, tmp_path / "own.pth")
    (tmp_path / "own.pth").unlink()
    assert (report.missing, report.unexpected, report.mismatched) == ((), (), {})
    loaded = copy.state_dict()
    assert all(torch.equal(tensor, loaded[key]) for key, tensor in model.state_dict().items())


def test_uint8_is_normalised_inside(network):
    _, model, size = network
    model.eval()
    image = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (image / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.no_grad():
        found, expected = model.embed(image), model.embed(normalised)
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found / scale, expected / scale, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "network", mostly_slow([*TORCHREID, *UNREGISTERED], FAST_MODELS & {*TORCHREID, *UNREGISTERED}), indirect=True
)
def test_parameter_count(network):
    name, model, _ = network
    count = sum(p.numel() for key, p in model.named_parameters() if not key.startswith("classifier."))
    assert count == (TORCHREID | UNREGISTERED)[name]


@pytest.mark.parametrize("network", mostly_slow(TORCHREID, FAST_MODELS & {*TORCHREID}), indirect=True)
def test_same_embedding_and_logits_as_torchreid(network, torchreid_model, tmp_path):
    name, ours, size = network
    oracle = torchreid_model(name, CLASSES)
    randomize(oracle)
    file = tmp_path / f"{name}.pth"
    torch.save(oracle.state_dict(), file)
    report = reidlit.load_weights(ours, file)
    file.unlink()
    assert (report.missing, report.unexpected, report.mismatched) == ((), (), {}), f"{name}: {report}"
    torch.manual_seed(1)
    image = torch.randn(3, 3, *size)
    with torch.no_grad():
        expected, embedding = oracle.eval()(image), ours.eval().embed(image)
        if name.startswith(
            "pcb"
        ):  # theirs lists the parts of a channel one after the other, ours the channels of a part
            expected = expected.unflatten(1, (2048, -1)).transpose(1, 2).flatten(1)
            for module in (*oracle.modules(), *ours.modules()):
                if isinstance(module, nn.Dropout):  # theirs drops out on the map of all parts, so the draws differ
                    module.p = 0.0
        assert embedding.shape == (3, ours.embedding_size)
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(embedding / scale, expected / scale, rtol=0, atol=1e-5)
        # Statistics of three images amplify rounding, which differs between processors, so in double precision; but
        # Torchreid's HACNN computes its regions in single precision.
        dtype = torch.float32 if name == "hacnn" else torch.float64
        state = torch.get_rng_state()
        expected = oracle.to(dtype).train()(image.to(dtype))
        torch.set_rng_state(state)  # dropout draws the same
        logits = ours.to(dtype).train()(image.to(dtype)).logits
    expected = expected if isinstance(expected, list | tuple) else [expected]
    assert len(logits) == len(expected)
    for found, wanted in zip(logits, expected, strict=True):
        scale = max(1.0, float(wanted.abs().max()))
        torch.testing.assert_close(found / scale, wanted / scale, rtol=0, atol=2e-3 if name == "hacnn" else 1e-8)


def randomize(model):
    """Norms and biases that are not what every model starts with, so that a mix-up shows."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.InstanceNorm2d) and module.affine:
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.uniform_(module.bias, -0.1, 0.1)


def test_last_stride_one_does_not_dilate():
    model = reidlit.build_model("resnet50_fc512", num_classes=2)
    convolutions = [m for m in model.backbone.modules() if isinstance(m, torch.nn.Conv2d)]
    assert {m.dilation for m in convolutions} == {(1, 1)}
    assert model.backbone(torch.zeros(1, 3, 64, 32)).shape == (1, 2048, 4, 2)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="osnet_x1_0"):
        reidlit.build_model("osnet_x9", num_classes=2)
    with pytest.raises(ValueError, match="softmax_triplet"):
        reidlit.build_model("osnet_x0_25", num_classes=2, loss="tripplet")
    with pytest.raises(ValueError, match="num_classes=0"):
        reidlit.build_model("osnet_x0_25", num_classes=0)
