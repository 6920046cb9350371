"""Properties of all models in conf/model, and numerical agreement with Torchreid."""

from copy import deepcopy

import pytest
import torch
from torch import nn

import reidlit
from helpers.slow import FAST_MODELS, mostly_slow
from reidlit.config import options

TORCHREID = {  # number of parameters in Torchreid, without the classifier
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
# Torchreid's names come first: tests of one network then have the same index and run one after the other.
NAMES = [*TORCHREID, *UNREGISTERED, *sorted(set(options("model")) - {*TORCHREID, *UNREGISTERED})]
# Input sizes of networks with a fixed or minimum size; all others use the default of the fixture.
SIZES = {"hacnn": (160, 64), "mudeep": (256, 128), "inceptionv4": (96, 96), "inceptionresnetv2": (96, 96)}
CLASSES = 7


@pytest.fixture(scope="module", params=mostly_slow(NAMES, FAST_MODELS))
def network(request):
    """Name, model and image size of a choice of conf/model; built once for all tests."""
    size = SIZES.get(request.param, (64, 32))
    torch.manual_seed(0)
    return request.param, reidlit.build_model(request.param, num_classes=CLASSES, image_size=size), size


def test_torchreid_models_exist():
    factory = pytest.importorskip("torchreid.reid.models").__model_factory
    assert set(factory) == set(TORCHREID)
    assert {*TORCHREID, *UNREGISTERED} <= set(options("model"))


def test_output_types_are_equal_in_train_and_eval(network):
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


def test_uint8_images_are_normalized(network):
    _, model, size = network
    model.eval()
    image = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalized = (image / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.no_grad():
        actual, expected = model.embed(image), model.embed(normalized)
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(actual / scale, expected / scale, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "network", mostly_slow([*TORCHREID, *UNREGISTERED], FAST_MODELS & {*TORCHREID, *UNREGISTERED}), indirect=True
)
def test_number_of_parameters(network):
    name, model, _ = network
    count = sum(p.numel() for key, p in model.named_parameters() if not key.startswith("classifier."))
    assert count == (TORCHREID | UNREGISTERED)[name]


@pytest.mark.parametrize("network", mostly_slow(TORCHREID, FAST_MODELS & {*TORCHREID}), indirect=True)
def test_embedding_and_logits_equal_torchreid(network, torchreid_model, tmp_path):
    name, model, size = network
    torchreid_network = torchreid_model(name, CLASSES)
    randomize(torchreid_network)
    file = tmp_path / f"{name}.pth"
    torch.save(torchreid_network.state_dict(), file)
    report = reidlit.load_weights(model, file)
    file.unlink()
    assert (report.missing, report.unexpected, report.mismatched) == ((), (), {}), f"{name}: {report}"
    torch.manual_seed(1)
    image = torch.randn(3, 3, *size)
    with torch.no_grad():
        expected, embedding = torchreid_network.eval()(image), model.eval().embed(image)
        if name.startswith("pcb"):
            # Torchreid flattens (channel, part), reidlit (part, channel).
            expected = expected.unflatten(1, (2048, -1)).transpose(1, 2).flatten(1)
            for module in (*torchreid_network.modules(), *model.modules()):
                if isinstance(module, nn.Dropout):  # applied to different shapes, so random masks would differ
                    module.p = 0.0
        assert embedding.shape == (3, model.embedding_size)
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(embedding / scale, expected / scale, rtol=0, atol=1e-5)
        # Batch statistics of three images amplify rounding errors, which differ between processors, so use double
        # precision. Torchreid's HACNN computes its regions in single precision.
        dtype = torch.float32 if name == "hacnn" else torch.float64
        state = torch.get_rng_state()
        expected = torchreid_network.to(dtype).train()(image.to(dtype))
        torch.set_rng_state(state)  # so that dropout uses the same masks
        logits = model.to(dtype).train()(image.to(dtype)).logits
    expected = expected if isinstance(expected, list | tuple) else [expected]
    assert len(logits) == len(expected)
    for actual, target in zip(logits, expected, strict=True):
        scale = max(1.0, float(target.abs().max()))
        torch.testing.assert_close(actual / scale, target / scale, rtol=0, atol=2e-3 if name == "hacnn" else 1e-8)


def randomize(model):
    """Give norms and biases random values, because default values would hide mix-ups."""
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


def test_unknown_names_raise():
    with pytest.raises(ValueError, match="osnet_x1_0"):
        reidlit.build_model("osnet_x9", num_classes=2)
    with pytest.raises(ValueError, match="softmax_triplet"):
        reidlit.build_model("osnet_x0_25", num_classes=2, loss="tripplet")
    with pytest.raises(ValueError, match="num_classes=0"):
        reidlit.build_model("osnet_x0_25", num_classes=0)
