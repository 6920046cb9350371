"""`reidlit export`: exported files and their comparison with the model."""

import json
import re
import shutil

import onnx
import pytest
import torch

import reidlit as package
from helpers.cli_settings import TINY
from helpers.slow import mostly_slow
from reidlit.compat.torchreid.weight_names import write_torchreid
from reidlit.export.formats import FORMATS, METADATA
from reidlit.inference.loading import load_trained

TORCHREID = ["osnet_x0_25", "osnet_ain_x0_25", "osnet_ibn_x1_0", "resnet50", "pcb_p6", "hacnn"]


@pytest.fixture
def checkpoint(trained):
    return trained / "checkpoints" / "last.ckpt"


@pytest.mark.slow
def test_every_format_reproduces_embeddings_and_has_metadata(checkpoint, reidlit, tmp_path):
    formats = ",".join(FORMATS)
    data = ["data=synthetic", *TINY[:6]]
    done = reidlit("export", f"ckpt_path={checkpoint}", f"format=[{formats}]", *data, f"output={tmp_path}/out/person")
    assert done.status == 0, done.err
    model, size, _ = load_trained(checkpoint)
    image = torch.randint(0, 256, (3, 3, *size), dtype=torch.uint8)
    with torch.inference_mode():
        expected = model.embed(image)
    for export_format in FORMATS.values():
        found = export_format.load(tmp_path / "out" / f"person{export_format.suffix}")(image)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
    metadata = json.loads((tmp_path / "out" / "person.json").read_text())
    assert metadata["input"]["shape"] == ["batch", 3, 64, 32]
    assert (metadata["training_identities"], metadata["epochs"]) == (6, 1)
    assert metadata["calibration"]["dataset"] == "synthetic"
    props = {item.key: item.value for item in onnx.load(tmp_path / "out" / "person.onnx").metadata_props}
    assert json.loads(props[METADATA]) == metadata
    assert len(re.findall(r"\d+\.\d\d to \d+\.\d\d", done.out)) == len(FORMATS)  # mAP of the model and of the file


@pytest.mark.slow
def test_fp16_and_int8_files_are_smaller_and_normalized(checkpoint, reidlit, tmp_path, drawn):
    images = f"images={next(drawn.glob('synthetic/*'))}"
    for precision in ("fp16", "int8"):
        out = tmp_path / precision
        done = reidlit(
            "export", f"ckpt_path={checkpoint}", images, f"precision={precision}", f"output={out}", "normalize=true"
        )
        assert done.status == 0, done.err
        found = FORMATS["onnx"].load(out.with_suffix(".onnx"))(torch.full((2, 3, 64, 32), 99, dtype=torch.uint8))
        torch.testing.assert_close(found.norm(dim=1), torch.ones(2), atol=1e-2, rtol=0)
    assert reidlit("export", f"ckpt_path={checkpoint}", f"output={tmp_path}/full").status == 0
    size = {name: (tmp_path / f"{name}.onnx").stat().st_size for name in ("full", "fp16", "int8")}
    assert max(size["int8"], size["fp16"]) < size["full"]


@pytest.mark.slow
def test_file_that_differs_is_not_written(checkpoint, reidlit, tmp_path):
    (tmp_path / "out" / ".model.part").mkdir(parents=True)
    (tmp_path / "out" / ".model.part" / "model.onnx").write_bytes(b"left by a killed process")
    (tmp_path / "out" / "model.onnx").write_bytes(b"previous file")
    done = reidlit("export", f"ckpt_path={checkpoint}", "max_difference=0", f"output={tmp_path}/out/model")
    assert done.status == 1
    assert "max_difference=0" in done.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.onnx"]
    assert (tmp_path / "out" / "model.onnx").read_bytes() == b"previous file"


@pytest.mark.parametrize("name", mostly_slow(TORCHREID, {"osnet_x0_25", "osnet_ain_x0_25"}))
def test_exported_weights_load_in_torchreid(name, tmp_path):
    torch.manual_seed(0)
    model = package.build_model(name, num_classes=7).eval()
    write_torchreid(model, tmp_path / "model.pth")
    torchreid_model = (
        pytest.importorskip("torchreid.reid.models").build_model(name, 7, pretrained=False, use_gpu=False).eval()
    )
    torchreid_model.load_state_dict(torch.load(tmp_path / "model.pth", weights_only=True)["state_dict"], strict=True)
    if "x0_25" in name:
        image = torch.randn(2, 3, 64, 32)
        with torch.inference_mode():
            torch.testing.assert_close(torchreid_model(image), model.embed(image), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_torchreid_format_is_reproducible(checkpoint, reidlit, tmp_path):
    done = reidlit("export", f"ckpt_path={checkpoint}", "format=torchreid", f"output={tmp_path}/model")
    assert done.status == 0, done.err
    shutil.copy(tmp_path / "model.pth", tmp_path / "again.pth")
    again = reidlit("export", "model=osnet_x0_25", f"weights={tmp_path}/again.pth", "format=torchreid", "output=twice")
    assert again.status == 0, again.err
    first, second = (
        torch.load(tmp_path / name, weights_only=True)["state_dict"] for name in ("model.pth", "twice.pth")
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["format=tflite"], ["format=['tflite']", "onnx, torchscript, torch_export, openvino, torchreid"]),
        (["precision=int4"], ["precision=int4", "fp32, fp16, int8"]),
        (["precision=int8", "format=torchscript"], ["precision=int8", "format=['torchscript']"]),
        (["precision=int8"], ["images"]),
        (["images=nowhere"], ["images=nowhere"]),
    ],
)
def test_invalid_arguments_are_named(arguments, expected, checkpoint, reidlit):
    done = reidlit("export", f"ckpt_path={checkpoint}", *arguments, "output=out/model")
    assert done.status == 1
    assert all(text in done.err for text in expected), done.err
