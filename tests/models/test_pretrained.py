"""ImageNet weights that no library provides, read from file:// addresses instead of the internet."""

import hashlib
import re

import pytest
import torch
from torch import nn

import reidlit
from reidlit.config import option, options
from reidlit.models import pretrained

NAMES = [name for name in options("model") if "weights" in option("model", name)]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Empty folder for PyTorch's downloads."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Function that saves tensors and makes them the published weights of a name."""

    def put(name, tensors, digest=None, **fields):
        file = tmp_path / f"{name}-published.pth"
        torch.save(tensors, file)
        if digest == "true":
            digest = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
        source = pretrained.SOURCES[name]._replace(url=file.as_uri(), sha256=digest, **fields)
        monkeypatch.setitem(pretrained.SOURCES, name, source)
        return file

    return put


def imagenet_file(torchreid_model, name="osnet_x0_25"):
    """Return published weights: Torchreid's names with DataParallel's prefix, and a classifier of 1000 classes."""
    state = torchreid_model(name, num_classes=1000).state_dict()
    return {f"module.{key}": tensor for key, tensor in state.items()}


def test_weights_are_downloaded_once_and_loaded(home, publish, torchreid_model):
    tensors = imagenet_file(torchreid_model)
    file = publish("osnet_x0_25", tensors, digest="true")
    model = reidlit.build_model("osnet_x0_25", num_classes=5, pretrained=True)
    torch.testing.assert_close(model.backbone.conv1.conv.weight, tensors["module.conv1.conv.weight"])
    torch.testing.assert_close(model.neck[0][0].weight, tensors["module.fc.0.weight"])
    assert model.classifier[0].weight.shape == (5, 512)
    file.unlink()  # only the downloaded copy remains
    again = reidlit.build_model("osnet_x0_25", num_classes=5, pretrained=True)
    assert torch.equal(again.backbone.conv1.conv.weight, model.backbone.conv1.conv.weight)
    assert [path.name for path in (home / "checkpoints").iterdir()] == ["osnet_x0_25_imagenet.pth"]


@pytest.mark.usefixtures("home")
def test_normalization_of_weights_is_used(publish, torchreid_model):
    publish("osnet_x0_25", imagenet_file(torchreid_model), mean=(0.5, 0.5, 0.5), std=(0.25, 0.5, 1.0))
    model = reidlit.build_model("osnet_x0_25", num_classes=5, pretrained=True)
    assert model.mean.flatten().tolist() == [0.5, 0.5, 0.5]
    assert model.std.flatten().tolist() == [0.25, 0.5, 1.0]


def test_checksum_mismatch_raises_and_removes_file(home, publish, torchreid_model):
    publish("osnet_x0_25", imagenet_file(torchreid_model), digest="00000000")
    with pytest.raises(ValueError, match=r"pretrained=True.*'osnet_x0_25'.*00000000"):
        reidlit.build_model("osnet_x0_25", num_classes=5, pretrained=True)
    assert list((home / "checkpoints").iterdir()) == []


@pytest.mark.usefixtures("home")
def test_incomplete_weights_raise(publish, torchreid_model):
    tensors = imagenet_file(torchreid_model)
    del tensors["module.conv4.1.conv3.bn.running_mean"]
    publish("osnet_x0_25", tensors)
    with pytest.raises(ValueError, match=r"pretrained=True(.|\n)*conv4\.1\.conv3\.bn\.running_mean"):
        reidlit.build_model("osnet_x0_25", num_classes=5, pretrained=True)


def test_failed_download_names_address_and_file(home, monkeypatch):
    source = pretrained.SOURCES["osnet_x0_25"]._replace(url="file:///nowhere/osnet.pth")
    monkeypatch.setitem(pretrained.SOURCES, "osnet_x0_25", source)
    with pytest.raises(ValueError, match=r"pretrained=True.*file:///nowhere/osnet\.pth") as error:
        reidlit.build_model("osnet_x0_25", num_classes=5, pretrained=True)
    assert str(home / "checkpoints" / "osnet_x0_25_imagenet.pth") in str(error.value)


def test_networks_without_published_weights_raise():
    for name in ("hacnn", "mudeep"):
        with pytest.raises(ValueError, match=r"pretrained=True.*reidlit\.models"):
            reidlit.build_model(name, num_classes=2, pretrained=True)


def test_every_name_in_conf_is_in_table():
    named = {option("model", name)["weights"] for name in NAMES}
    assert named == set(pretrained.SOURCES)


@pytest.mark.parametrize("name", pretrained.SOURCES)
def test_table(name):
    source = pretrained.SOURCES[name]
    assert source.url.startswith(("https://", "http://"))
    assert source.licence
    assert source.sha256 is None or re.fullmatch("[0-9a-f]{8,64}", source.sha256)
    assert len(source.mean) == len(source.std) == 3


def test_fast_reid_weights_load(tmp_path):
    model = reidlit.build_model("timm/resnet18", num_classes=4)
    network = model.backbone.network
    tensors = {f"backbone.{key}": torch.rand_like(value) for key, value in network.state_dict().items() if value.ndim}
    tensors["heads.bottleneck.0.weight"] = torch.rand(512)
    tensors["heads.weight"] = torch.rand(4, 512)
    torch.save({"model": tensors}, tmp_path / "model_best.pth")
    report = reidlit.load_weights(model, tmp_path / "model_best.pth")
    assert not report.unexpected
    assert {name.split(".")[0] for name in report.missing} == {"neck"}  # bias and statistics of its batch norm
    assert isinstance(model.neck[0].bn, nn.BatchNorm1d)
    torch.testing.assert_close(model.neck[0].bn.weight.detach(), tensors["heads.bottleneck.0.weight"])
    torch.testing.assert_close(network.layer4[1].conv2.weight.detach(), tensors["backbone.layer4.1.conv2.weight"])
