"""Embeddings of exported ONNX files."""

import onnxruntime
import pytest
import torch

import reidlit
from reidlit.config import option
from reidlit.export.onnx import export_onnx
from reidlit.spec import build

SIZE = (64, 32)


def test_file_matches_model_for_any_batch_size(tmp_path):
    torch.manual_seed(0)
    model = reidlit.build_model("osnet_x0_25", num_classes=2).eval()
    export_onnx(model, tmp_path / "model.onnx", SIZE)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    for count in (1, 5):
        image = torch.randint(0, 256, (count, 3, *SIZE), dtype=torch.uint8)
        (embedding,) = session.run(["embedding"], {"image": image.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(embedding), model.embed(image), rtol=1e-4, atol=1e-5)


def test_unsupported_models_raise(tmp_path):
    spec = option("model", "vit_reid")
    spec["backbone"] |= {"name": "vit_tiny_patch16_224", "num_cameras": 2}
    model = build({**spec, "image_size": list(SIZE)}, num_classes=2)
    with pytest.raises(ValueError, match="cameras"):
        export_onnx(model, tmp_path / "model.onnx", SIZE)
    assert not list(tmp_path.iterdir())

    class DataDependent(torch.nn.Module):
        num_features = 3

        def forward(self, image):
            return image * 2 if image.sum() > 0 else image  # control flow that depends on values

    model = reidlit.build_model("resnet18", num_classes=2).eval()
    model.backbone = DataDependent()
    model.neck[0] = build(option("model/neck", "no_neck"), in_features=3)
    with pytest.raises(ValueError, match="ONNX"):
        export_onnx(model, tmp_path / "model.onnx", SIZE)
    assert not list(tmp_path.iterdir())
