"""Weight files: supported formats and invalid files."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import reidlit
from reidlit.models.weights import read_checkpoint


@pytest.fixture
def model():
    return reidlit.build_model("osnet_x0_25", num_classes=20)


def test_torchreid_training_file(model, tmp_path, torchreid_model):
    """Such files contain `module.` prefixes and a NumPy scalar, which weights-only loading rejects by default."""
    theirs = torchreid_model("osnet_x0_25")
    state = {f"module.{name}": tensor for name, tensor in theirs.state_dict().items()}
    content = {"state_dict": state, "epoch": 60, "rank1": np.float64(0.912), "optimizer": {"state": {}}}
    torch.save(content, tmp_path / "model.pth.tar-60")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "model.pth.tar-60", weights_only=True)
    report = reidlit.load_weights(model, tmp_path / "model.pth.tar-60")
    assert report.embeds
    torch.testing.assert_close(model.state_dict()["neck.0.0.weight"], theirs.state_dict()["fc.0.weight"])


def test_numpy_scalar_written_by_numpy_1(tmp_path):
    """NumPy 2 renamed the module that creates scalars; older files must load too."""
    torch.save({"rank1": np.float64(0.5)}, tmp_path / "new.pth")
    renamed = (tmp_path / "new.pth").read_bytes()
    assert b"numpy._core.multiarray" in renamed
    torch.save({"rank1": np.float64(0.5)}, tmp_path / "old.pth", pickle_module=_numpy_1_pickle())
    assert b"numpy.core.multiarray" in (tmp_path / "old.pth").read_bytes()
    assert read_checkpoint(tmp_path / "old.pth") == {"rank1": 0.5}


def _numpy_1_pickle():
    class Module:
        class Pickler(pickle._Pickler):
            def save_global(self, obj, name=None):
                if getattr(obj, "__name__", "") == "scalar":
                    self.write(b"cnumpy.core.multiarray\nscalar\n")
                    self.memoize(obj)
                else:
                    super().save_global(obj, name)

            dispatch = pickle._Pickler.dispatch.copy()

        dump = staticmethod(pickle.dump)

    return Module


def test_other_classifier_is_reported_and_not_loaded(model, tmp_path, torchreid_model):
    torch.save(torchreid_model("osnet_x0_25", num_classes=5).state_dict(), tmp_path / "w.pth")
    before = model.classifier[0].weight.clone()
    report = reidlit.load_weights(model, tmp_path / "w.pth")
    assert report.embeds
    assert report.mismatched["classifier.0.weight"] == ((5, 512), (20, 512))
    assert "classifier.0.weight" in str(report)
    assert "(5, 512)" in str(report)
    assert "(20, 512)" in str(report)
    assert torch.equal(model.classifier[0].weight, before)


@pytest.mark.parametrize("other", ["osnet_x1_0", "resnet50"])
def test_other_architecture_raises_and_changes_nothing(other, model, tmp_path, torchreid_model):
    torch.save(torchreid_model(other).state_dict(), tmp_path / "w.pth")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"w\.pth .*\b\d+ of \d+"):
        reidlit.load_weights(model, tmp_path / "w.pth")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_missing_file_raises(model):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        reidlit.load_weights(model, "nowhere.pth")


@pytest.mark.parametrize("content", [b"", b"not a weight file", b"PK\x03\x04 cut short"])
def test_damaged_file_raises(content, model, tmp_path):
    (tmp_path / "bad.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.pth"):
        reidlit.load_weights(model, tmp_path / "bad.pth")


def test_file_without_tensors_raises(model, tmp_path):
    torch.save({"state_dict": {}, "epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(ValueError, match=r"empty\.pth .*'state_dict'"):
        reidlit.load_weights(model, tmp_path / "empty.pth")


def test_code_in_file_is_not_run(model, tmp_path):
    class Payload:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    for name, save in (("zip.pth", torch.save), ("raw.pth", lambda obj, path: path.write_bytes(pickle.dumps(obj)))):
        save({"state_dict": Payload()}, tmp_path / name)
        with pytest.raises(ValueError, match=rf"{name}\b"):
            reidlit.load_weights(model, tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_unused_embedding_tensors_are_refused_with_the_fitting_model(tmp_path):
    """Another normalization family leaves four tensors unused although every tensor of the model matches."""
    file = tmp_path / "ibn.pth"
    torch.save(reidlit.build_model("osnet_ibn_x1_0", num_classes=4).state_dict(), file)
    model = reidlit.build_model("osnet_x1_0", num_classes=4)
    before = model.state_dict()["backbone.conv1.conv.weight"].clone()
    with pytest.raises(ValueError, match=r"model=osnet_ibn_x1_0"):
        reidlit.load_weights(model, file)
    torch.testing.assert_close(model.state_dict()["backbone.conv1.conv.weight"], before)
    report = reidlit.load_weights(model, file, strict=False)
    assert report.unexpected


def test_classifier_of_another_task_is_not_refused(tmp_path):
    model = reidlit.build_model("resnet18", num_classes=4)
    tensors = {name.removeprefix("backbone.network."): tensor for name, tensor in model.state_dict().items()}
    tensors |= {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    torch.save(tensors, tmp_path / "imagenet.pth")
    assert reidlit.load_weights(model, tmp_path / "imagenet.pth").embeds
