"""Features from images in every form."""

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


def test_the_features_are_the_models(extractor, weights, files):
    model = build_model("osnet_x0_25", num_classes=5)
    reidlit.load_weights(model, weights)
    image = torch.stack([torch.from_numpy(resize(each, *SIZE, True)).permute(2, 0, 1) for each in arrays(files)])
    with torch.inference_mode():
        expected = model.eval().embed(image)
    found = extractor(files)
    assert found.shape == (7, extractor.embedding_size) == (7, 512)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_every_form_gives_the_same(extractor, files):
    expected = extractor(files)
    pixels = arrays(files)
    tensors = [torch.from_numpy(each.copy()).permute(2, 0, 1) for each in pixels]
    forms = {
        "arrays": pixels,
        "one array": np.stack(pixels),
        "PIL": [Image.open(file) for file in files],
        "uint8": tensors,
        "one tensor": torch.stack(tensors),
        "floats": [each / 255 for each in tensors],
        "mixed": [files[0], pixels[1], tensors[2], Image.open(files[3]), *files[4:]],
    }
    for name, form in forms.items():
        assert torch.equal(extractor(form), expected), name
    for number, file in enumerate(files):
        torch.testing.assert_close(extractor(file)[0], expected[number], atol=1e-5, rtol=1e-5)
    assert extractor([]).shape == (0, 512)


@pytest.mark.parametrize("change", [{"batch_size": 1}, {"batch_size": 64}, {"num_workers": 0}, {"progress": True}])
def test_batches_and_threads_change_nothing(change, extractor, weights, files):
    options = {"image_size": SIZE, "device": "cpu", "batch_size": 3} | change
    other = reidlit.FeatureExtractor("osnet_x0_25", weights, **options)
    torch.testing.assert_close(other(files), extractor(files), atol=1e-5, rtol=1e-5)
    assert other.fingerprint == extractor.fingerprint


def test_opencvs_arrays(extractor, weights, files):
    bgr = reidlit.FeatureExtractor("osnet_x0_25", weights, image_size=SIZE, device="cpu", bgr=True)
    found = bgr([each[:, :, ::-1] for each in arrays(files)])
    torch.testing.assert_close(found, extractor(files), atol=1e-5, rtol=1e-5)
    assert (bgr(arrays(files)) - found).abs().max() > 1e-3


def test_flip_and_length(extractor, weights, files):
    options = {"image_size": SIZE, "device": "cpu"}
    flipped = reidlit.FeatureExtractor("osnet_x0_25", weights, flip=True, **options)
    mirrored = [each[:, ::-1] for each in arrays(files)]
    torch.testing.assert_close(flipped(files), (extractor(files) + extractor(mirrored)) / 2, atol=1e-5, rtol=1e-4)
    unit = reidlit.FeatureExtractor("osnet_x0_25", weights, normalize=True, **options)
    torch.testing.assert_close(unit(files).norm(dim=1), torch.ones(7))
    assert len({extractor.fingerprint, flipped.fingerprint, unit.fingerprint}) == 3


@pytest.mark.slow
def test_onnx_gives_the_same(extractor, weights, files):
    onnx = reidlit.FeatureExtractor("osnet_x0_25", weights, image_size=SIZE, device="cpu", backend="onnx")
    torch.testing.assert_close(onnx(files), extractor(files), atol=1e-4, rtol=1e-4)


def test_bf16_is_near(extractor, weights, files):
    half = reidlit.FeatureExtractor("osnet_x0_25", weights, image_size=SIZE, device="cpu", precision="bf16")
    assert torch.cosine_similarity(half(files), extractor(files)).min() > 0.99


def test_a_model_in_memory(extractor, weights, files):
    model = build_model("osnet_x0_25", num_classes=5)
    reidlit.load_weights(model, weights)
    found = reidlit.FeatureExtractor(model=model.eval(), image_size=SIZE, device="cpu")(files)
    torch.testing.assert_close(found, extractor(files), atol=1e-5, rtol=1e-5)


def test_crops_of_a_frame(extractor, files):
    person = arrays(files)[0]
    frame = np.zeros((200, 300, 3), np.uint8)
    frame[50:146, 100:148] = person
    boxes = [[100, 50, 148, 146], [-20.0, -5.0, 60.5, 90.0]]
    found = extractor.crops(frame, boxes)
    torch.testing.assert_close(found[:1], extractor(person), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1:], extractor(frame[:90, :61]), atol=1e-5, rtol=1e-5)
    assert extractor.crops(frame, []).shape == (0, 512)
    with pytest.raises(ValueError, match=r"boxes\[1\]=.* has no pixel in the frame of 300 x 200"):
        extractor.crops(frame, [boxes[0], [400, 10, 500, 90]])
    with pytest.raises(ValueError, match=r"boxes must be \(N, 4\)"):
        extractor.crops(frame, [1, 2, 3])


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((8, 4), np.uint8), "images has the shape"),
        ([np.zeros((8, 4, 3), np.float32)], r"\(H, W, 3\) uint8"),
        ([torch.randn(3, 8, 4)], "uint8, or of 0 to 1"),
        ([torch.full((3, 8, 4), torch.nan)], "uint8, or of 0 to 1"),
        ([torch.zeros(8, 4, 3)], r"\(3, H, W\)"),
        ([7], "a int"),
        (7, "a int"),
    ],
)
def test_what_is_no_image_is_refused(image, words, extractor):
    with pytest.raises(ValueError, match=words):
        extractor(image)


def test_files_that_are_not_there_or_no_images(extractor, files, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg"):
        extractor([*files, "nowhere.jpg"])
    video = tmp_path / "film.mp4"
    video.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(500))
    with pytest.raises(ValueError, match=r"film\.mp4"):
        extractor([str(video)])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_path": None}, "give model_path"),
        ({"model_name": None}, "architecture must be named"),
        ({"model_name": "resnet18"}, "does not fit this model"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"backend": "caffe"}, "backend='caffe'"),
        ({"precision": "int4"}, "precision='int4'"),
        ({"image_size": (0, 3)}, "image_size"),
        ({"device": "toaster"}, "device='toaster'"),
        ({"backend": "onnx", "precision": "bf16"}, "in fp32"),
    ],
)
def test_mistakes_are_named(change, words, weights):
    options = {"model_name": "osnet_x0_25", "model_path": weights, "device": "cpu"} | change
    with pytest.raises(ValueError, match=words):
        reidlit.FeatureExtractor(**options)
    with pytest.raises(FileNotFoundError, match=r"missing\.pth"):
        reidlit.FeatureExtractor("osnet_x0_25", "missing.pth")
