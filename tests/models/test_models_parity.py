"""The models are Torchreid's, tensor for tensor."""

import pytest
import torch
from torch import nn

import reidlit
from reidlit.config import options

BACKBONES = {  # parameters without the classifier, of the reference
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
CLASSES = 12
# Networks that are made for one size; the others see small images, so that the test is quick.
SIZES = {"hacnn": (160, 64), "mudeep": (256, 128), "inceptionv4": (96, 96), "inceptionresnetv2": (96, 96)}


@pytest.fixture(scope="module", params=BACKBONES)
def pair(request, tmp_path_factory):
    """A key of Torchreid's, its randomly initialised model, and ours with the same weights."""
    theirs = pytest.importorskip("torchreid.reid.models")

    name = request.param
    torch.manual_seed(0)
    oracle = theirs.build_model(name, CLASSES, loss="softmax", pretrained=False, use_gpu=False)
    randomize(oracle)
    file = tmp_path_factory.mktemp("weights") / f"{name}.pth"
    torch.save(oracle.state_dict(), file)
    ours = reidlit.build_model(name, num_classes=CLASSES)
    report = reidlit.load_weights(ours, file)
    assert (report.missing, report.unexpected, report.mismatched) == ((), (), {}), f"{name}: {report}"
    yield name, oracle, ours
    file.unlink()


def randomize(model):
    """Norms and biases that are not what every model starts with, so that a mix-up shows."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.InstanceNorm2d) and module.affine:
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.uniform_(module.bias, -0.1, 0.1)


def test_every_key_of_torchreid_is_an_option():
    factory = pytest.importorskip("torchreid.reid.models").__model_factory
    assert set(factory) == set(BACKBONES)
    assert {*BACKBONES, *UNREGISTERED} <= set(options("model"))


def test_parameter_count(pair):
    name, _, ours = pair
    assert backbone_parameters(ours) == BACKBONES[name]


@pytest.mark.parametrize("name", UNREGISTERED)
def test_parameter_count_of_what_torchreid_left_unregistered(name):
    assert backbone_parameters(reidlit.build_model(name, num_classes=2)) == UNREGISTERED[name]


def backbone_parameters(model):
    return sum(p.numel() for name, p in model.named_parameters() if not name.startswith("classifier."))


def test_same_embedding_and_logits(pair):
    name, oracle, ours = pair
    torch.manual_seed(1)
    image = torch.randn(3, 3, *SIZES.get(name, (64, 32)))
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
        state = torch.get_rng_state()
        expected = oracle.train()(image)
        torch.set_rng_state(state)  # dropout draws the same
        logits = ours.train()(image).logits
    expected = expected if isinstance(expected, list | tuple) else [expected]
    assert len(logits) == len(expected)
    for found, wanted in zip(logits, expected, strict=True):
        scale = max(1.0, float(wanted.abs().max()))
        torch.testing.assert_close(found / scale, wanted / scale, rtol=0, atol=1e-4)


def test_last_stride_one_does_not_dilate():
    model = reidlit.build_model("resnet50_fc512", num_classes=2)
    convolutions = [m for m in model.backbone.modules() if isinstance(m, torch.nn.Conv2d)]
    assert {m.dilation for m in convolutions} == {(1, 1)}
    assert model.backbone(torch.zeros(1, 3, 64, 32)).shape == (1, 2048, 4, 2)
