"""Feature extraction from images of all supported types."""

import numpy as np
import pytest
import torch
from PIL import Image

import reidlit
from reidlit.data.synthetic.pedestrians import Pedestrians
from reidlit.data.transforms import resize
from reidlit.models import build_model

SIZE = (64, 32)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    model = build_model("osnet_x0_25", num_classes=5)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.1)
    path = tmp_path_factory.mktemp("weights") / "osnet.pth.tar"
    torch.save({"state_dict": {f"module.{name}": value for name, value in model.state_dict().items()}}, path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    pedestrians = Pedestrians(3, 2, 2, 96, 48)
    return [str(path) for path in pedestrians.write(tmp_path_factory.mktemp("pedestrians"), pedestrians.keys())][:7]


@pytest.fixture(scope="module")
def extractor(weights):
    return reidlit.FeatureExtractor("osnet_x0_25", weights, image_size=SIZE, device="cpu", batch_size=3)


def arrays(files):
    return [np.asarray(Image.open(file)) for file in files]


def test_features_match_model_embeddings(extractor, weights, files):
    model = build_model("osnet_x0_25", num_classes=5)
    reidlit.load_weights(model, weights)
    image = torch.stack([torch.from_numpy(resize(each, *SIZE, True)).permute(2, 0, 1) for each in arrays(files)])
    with torch.inference_mode():
        expected = model.eval().embed(image)
    embeddings = extractor(files)
    assert embeddings.shape == (7, extractor.embedding_size) == (7, 512)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings, expected, atol=1e-5, rtol=1e-5)


def test_image_types_give_equal_embeddings(extractor, files):
    expected = extractor(files)
    pixels = arrays(files)
    tensors = [torch.from_numpy(each.copy()).permute(2, 0, 1) for each in pixels]
    forms = {
        "array": pixels,
        "batch array": np.stack(pixels),
        "PIL": [Image.open(file) for file in files],
        "uint8 tensor": tensors,
        "batch tensor": torch.stack(tensors),
        "float tensor": [each / 255 for each in tensors],
        "mixed": [files[0], pixels[1], tensors[2], Image.open(files[3]), *files[4:]],
    }
    for name, images in forms.items():
        assert torch.equal(extractor(images), expected), name
    for number, file in enumerate(files):
        torch.testing.assert_close(extractor(file)[0], expected[number], atol=1e-5, rtol=1e-5)
    assert extractor([]).shape == (0, 512)


@pytest.mark.parametrize("change", [{"batch_size": 1}, {"batch_size": 64}, {"num_workers": 0}, {"progress": True}])
def test_batch_size_and_workers_do_not_change_embeddings(change, extractor, weights, files):
    options = {"image_size": SIZE, "device": "cpu", "batch_size": 3} | change
    changed = reidlit.FeatureExtractor("osnet_x0_25", weights, **options)
    torch.testing.assert_close(changed(files), extractor(files), atol=1e-5, rtol=1e-5)
    assert changed.fingerprint == extractor.fingerprint


def test_bgr_arrays(extractor, weights, files):
    bgr = reidlit.FeatureExtractor("osnet_x0_25", weights, image_size=SIZE, device="cpu", bgr=True)
    embeddings = bgr([each[:, :, ::-1] for each in arrays(files)])
    torch.testing.assert_close(embeddings, extractor(files), atol=1e-5, rtol=1e-5)
    assert (bgr(arrays(files)) - embeddings).abs().max() > 1e-3


def test_flip_and_normalize(extractor, weights, files):
    options = {"image_size": SIZE, "device": "cpu"}
    flipped = reidlit.FeatureExtractor("osnet_x0_25", weights, flip=True, **options)
    mirrored = [each[:, ::-1] for each in arrays(files)]
    torch.testing.assert_close(flipped(files), (extractor(files) + extractor(mirrored)) / 2, atol=1e-5, rtol=1e-4)
    unit = reidlit.FeatureExtractor("osnet_x0_25", weights, normalize=True, **options)
    torch.testing.assert_close(unit(files).norm(dim=1), torch.ones(7))
    assert len({extractor.fingerprint, flipped.fingerprint, unit.fingerprint}) == 3


@pytest.mark.slow
def test_onnx_backend_matches_torch(extractor, weights, files):
    onnx = reidlit.FeatureExtractor("osnet_x0_25", weights, image_size=SIZE, device="cpu", backend="onnx")
    torch.testing.assert_close(onnx(files), extractor(files), atol=1e-4, rtol=1e-4)


def test_bf16_is_close_to_fp32(extractor, weights, files):
    half = reidlit.FeatureExtractor("osnet_x0_25", weights, image_size=SIZE, device="cpu", precision="bf16")
    assert torch.cosine_similarity(half(files), extractor(files)).min() > 0.99


def test_model_in_memory(extractor, weights, files):
    model = build_model("osnet_x0_25", num_classes=5)
    reidlit.load_weights(model, weights)
    embeddings = reidlit.FeatureExtractor(model=model.eval(), image_size=SIZE, device="cpu")(files)
    torch.testing.assert_close(embeddings, extractor(files), atol=1e-5, rtol=1e-5)


def test_crops_are_clipped_to_frame(extractor, files):
    person = arrays(files)[0]
    frame = np.zeros((200, 300, 3), np.uint8)
    frame[50:146, 100:148] = person
    boxes = [[100, 50, 148, 146], [-20.0, -5.0, 60.5, 90.0]]
    embeddings = extractor.crops(frame, boxes)
    torch.testing.assert_close(embeddings[:1], extractor(person), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(embeddings[1:], extractor(frame[:90, :61]), atol=1e-5, rtol=1e-5)
    assert extractor.crops(frame, []).shape == (0, 512)
    with pytest.raises(ValueError, match=r"boxes\[1\]=\[400\.0, 10\.0, 500\.0, 90\.0\].* 300 x 200 "):
        extractor.crops(frame, [boxes[0], [400, 10, 500, 90]])
    with pytest.raises(ValueError, match=r"boxes has shape \(3,\).*\(N, 4\)"):
        extractor.crops(frame, [1, 2, 3])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 4), np.uint8), r"images.*\(8, 4\)"),
        ([np.zeros((8, 4, 3), np.float32)], r"\(8, 4, 3\).*float32.*uint8"),
        ([torch.linspace(-2.5, 2.5, 96).view(3, 8, 4)], r"float32.*-2\.5, 2\.5.*uint8"),
        ([torch.full((3, 8, 4), torch.nan)], r"float32.*nan.*uint8"),
        ([torch.zeros(8, 4, 3)], r"\(8, 4, 3\).*\(3, H, W\)"),
        ([7], r"\bint\b"),
        (7, r"images.*\bint\b"),
    ],
)
def test_unsupported_images_raise(image, message, extractor):
    with pytest.raises(ValueError, match=message):
        extractor(image)


def test_missing_and_invalid_files_raise(extractor, files, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg"):
        extractor([*files, "nowhere.jpg"])
    video = tmp_path / "film.mp4"
    video.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(500))
    with pytest.raises(ValueError, match=r"film\.mp4"):
        extractor([str(video)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_path": None}, "model_path"),
        ({"model_name": None}, r"osnet\.pth\.tar.*model_name"),
        ({"model_name": "resnet18"}, r"osnet\.pth\.tar.* 0 of \d+"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"backend": "caffe"}, "backend='caffe'"),
        ({"precision": "int4"}, "precision='int4'"),
        ({"image_size": (0, 3)}, "image_size"),
        ({"device": "toaster"}, "device='toaster'"),
        ({"backend": "onnx", "precision": "bf16"}, "backend='onnx'.*precision='bf16'"),
    ],
)
def test_invalid_arguments_raise(change, message, weights):
    options = {"model_name": "osnet_x0_25", "model_path": weights, "device": "cpu"} | change
    with pytest.raises(ValueError, match=message):
        reidlit.FeatureExtractor(**options)
    with pytest.raises(FileNotFoundError, match=r"missing\.pth"):
        reidlit.FeatureExtractor("osnet_x0_25", "missing.pth")
