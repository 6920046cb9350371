"""Files of reidlit 0.1.0 can be read and give the same results; files_of_0_1/README.md describes them."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reidlit import FeatureExtractor, Gallery, ReIDModule, evaluate
from reidlit._moved import current_name
from reidlit.engine.attributes import AttributeModule
from reidlit.engine.joint_attributes import JointAttributeModule
from reidlit.engine.mutual import MutualModule
from reidlit.inference.features import Features
from reidlit.spec import build, locate

pytestmark = pytest.mark.slow

FILES = Path(__file__).parent / "files_of_0_1"
EXPECTED = json.loads((FILES / "expected.json").read_text(encoding="utf-8"))
CHECKPOINTS = EXPECTED["checkpoints"]
IDENTITY_CHECKPOINTS = [name for name in CHECKPOINTS if name != "attributes"]
TINY = [item for item in CHECKPOINTS["identity"]["arguments"] if item.startswith("data.")]
# Results of another CPU differ in the last digits. With 12 queries, a swap of two ranks may change mAP by 0.01.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}
ABOUT = 0.02


@pytest.fixture
def images():
    """Images with embeddings in expected.json."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, shape, np.uint8) for shape in ((64, 32, 3), (100, 50, 3))]


@pytest.fixture
def image_files(images, tmp_path):
    """The same images as PNG files in a separate folder."""
    (tmp_path / "images").mkdir()
    files = [tmp_path / "images" / f"{number}.png" for number in range(len(images))]
    for image, file in zip(images, files, strict=True):
        Image.fromarray(image).save(file)
    return files


@pytest.fixture
def image_batch(images):
    """The first image as a batch (1, 3, H, W)."""
    return torch.from_numpy(images[0]).permute(2, 0, 1)[None]


@pytest.fixture
def copy_file(tmp_path):
    """Function that copies a stored file or folder into the working folder."""

    def copy(name):
        copy_function = shutil.copytree if (FILES / name).is_dir() else shutil.copy
        return Path(copy_function(FILES / name, tmp_path / name))

    return copy


def read_json(file):
    return json.loads(file.read_text(encoding="utf-8"))


def read_csv(file):
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def numbers(values):
    return {name: value for name, value in values.items() if isinstance(value, float)}


# --- checkpoints


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoint_computes_the_same_embeddings(name, images):
    extractor = FeatureExtractor(model_path=FILES / f"{name}.ckpt", device="cpu")
    expected = CHECKPOINTS[name]
    assert list(extractor.image_size) == expected["image_size"]
    np.testing.assert_allclose(extractor(images), expected["embeddings"], **CLOSE)
    # Stored features and galleries identify their model by the fingerprint.
    assert extractor.fingerprint == expected["fingerprint"]


@pytest.mark.parametrize("name", IDENTITY_CHECKPOINTS)
def test_module_is_loaded_from_checkpoint(name, image_batch):
    module = ReIDModule.load_from_checkpoint(FILES / f"{name}.ckpt", map_location="cpu").eval()
    assert module.hparams["pids"] == CHECKPOINTS[name]["pids"]
    with torch.inference_mode():
        np.testing.assert_allclose(module(image_batch)[0], CHECKPOINTS[name]["embeddings"][0], **CLOSE)


@torch.inference_mode()
def test_attribute_module_is_loaded_from_checkpoint(image_batch):
    expected = CHECKPOINTS["attributes"]
    module = AttributeModule.load_from_checkpoint(FILES / "attributes.ckpt", map_location="cpu").eval()
    assert module.hparams["attributes"] == expected["attributes"]
    np.testing.assert_allclose(module(image_batch)[0], expected["probabilities"], **CLOSE)


@torch.inference_mode()
def test_joint_attribute_head_is_loaded_from_checkpoint(image_batch):
    expected = CHECKPOINTS["joint"]
    module = JointAttributeModule.load_from_checkpoint(FILES / "joint.ckpt", map_location="cpu").eval()
    assert module.hparams["attributes"] == expected["attributes"]
    np.testing.assert_allclose(module.attribute_probabilities(image_batch)[0], expected["probabilities"], **CLOSE)


@torch.inference_mode()
def test_mutual_ensemble_is_loaded_from_checkpoint(image_batch):
    module = MutualModule.load_from_checkpoint(FILES / "mutual.ckpt", map_location="cpu", ensemble=True).eval()
    np.testing.assert_allclose(module(image_batch)[0], CHECKPOINTS["mutual"]["ensemble"], **CLOSE)


def test_evaluation_options_are_loaded_from_checkpoint():
    module = ReIDModule.load_from_checkpoint(FILES / "reranked.ckpt", map_location="cpu")
    options = {key: value for key, value in module.hparams["evaluation"].items() if key != "flip"}
    options["postprocess"] = [build(step) for step in options["postprocess"]]
    steps = [type(step).__name__ for step in options["postprocess"]]
    assert steps == ["QueryExpansion", "NeighbourCentralisation", "KReciprocal"]
    features = Features.load(FILES / "features.npz")
    query, gallery = features.of_split("query"), features.of_split("gallery")
    labels = (query.pid, gallery.pid, query.camid, gallery.camid)
    scores = evaluate(query.embedding, gallery.embedding, *labels, **options).as_dict()
    expected = EXPECTED["features"]["evaluated"]
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["identity", "reranked"])
def test_checkpoint_has_the_same_scores(name, reidlit, tmp_path):
    evaluation = [item for item in CHECKPOINTS[name]["arguments"] if item.startswith("eval.")]
    checkpoint = f"ckpt_path={FILES / name}.ckpt"
    result = reidlit("test", checkpoint, *TINY, *evaluation, "callbacks.progress=null", "hydra.run.dir=run")
    assert result.status == 0, result.err
    actual, expected = read_json(tmp_path / "run" / "metrics.json"), CHECKPOINTS[name]["scores"]
    for key in ("test/synthetic/mAP", "test/synthetic/mINP", "test/synthetic/AUC"):
        assert actual[key] == pytest.approx(expected[key], abs=ABOUT)


@pytest.mark.usefixtures("image_files")
@pytest.mark.parametrize("name", ["attributes", "joint"])
def test_predict_reads_checkpoint(name, reidlit, tmp_path):
    arguments = ["images=images", "num_workers=0", "device=cpu", "output=found.csv"]
    result = reidlit("predict", f"ckpt_path={FILES / name}.ckpt", *arguments)
    assert result.status == 0, result.err
    first = read_csv(tmp_path / "found.csv")[0]
    actual = [float(first[f"{attribute}_probability"]) for attribute in CHECKPOINTS[name]["attributes"]]
    np.testing.assert_allclose(actual, CHECKPOINTS[name]["probabilities"], **CLOSE)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_training_resumes_from_checkpoint(name, copy_file, images, reidlit, tmp_path):
    for file in ("identity.ckpt", "identity_attributes.csv"):  # the teacher, and the labels of joint training
        copy_file(file)
    arguments = [*CHECKPOINTS[name]["arguments"], "trainer.max_epochs=2", "test=false", "hydra.run.dir=run"]
    result = reidlit("train", *arguments, f"ckpt_path={copy_file(f'{name}.ckpt')}")
    assert result.status == 0, result.err
    expected = CHECKPOINTS[name]["resumed"]
    resumed = tmp_path / "run" / "checkpoints" / "last.ckpt"
    content = torch.load(resumed, weights_only=True)
    assert (content["epoch"], content["global_step"]) == (expected["epoch"], expected["global_step"])
    # Without the momentum of the optimizer, the embeddings of identity.ckpt would differ by 2.
    actual = FeatureExtractor(model_path=resumed, device="cpu")(images)
    np.testing.assert_allclose(actual, expected["embeddings"], rtol=0.01, atol=0.05)


@pytest.mark.parametrize("source", ["checkpoint", "file"])
def test_verify_reads_thresholds(source, image_files, reidlit):
    expected = EXPECTED["verify"] if source == "checkpoint" else EXPECTED["run"]["verify"]
    calibration = [f"calibration={FILES / 'run' / 'calibration.json'}"] if source == "file" else []
    checkpoint = f"ckpt_path={FILES / 'identity.ckpt'}"
    result = reidlit("verify", *image_files, checkpoint, *calibration, "json=true", "fpr=0.1", "extractor.device=cpu")
    assert result.status == 0, result.err
    actual = json.loads(result.out.splitlines()[-1])
    assert numbers(actual) == pytest.approx(numbers(expected), rel=1e-4)
    assert (actual["same"], actual["metric"]) == (expected["same"], expected["metric"])


# --- embeddings


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_features_are_loaded(suffix):
    features, expected = Features.load(FILES / f"features.{suffix}"), EXPECTED["features"]
    for column in ("path", "pid", "camid", "split", "tracklet"):
        assert getattr(features, column).tolist() == expected[column]
    assert features.fingerprint == expected["fingerprint"]
    np.testing.assert_allclose(features.embedding[0], expected["first"], rtol=1e-6)
    assert features.embedding.sum(dtype=np.float64) == pytest.approx(expected["sum"], rel=1e-6)


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
@pytest.mark.parametrize("key", ["scores", "reranked"])
def test_features_have_the_same_scores(suffix, key, reidlit, tmp_path):
    steps = ["eval.postprocess=[k_reciprocal]", "eval.steps.k_reciprocal.k1=6"] if key == "reranked" else []
    result = reidlit("test", f"features={FILES}/features.{suffix}", *steps, "hydra.run.dir=run")
    assert result.status == 0, result.err
    actual, expected = read_json(tmp_path / "run" / "metrics.json"), EXPECTED["features"][key]
    assert {name: actual[name] for name in expected} == pytest.approx(expected, abs=1e-5)


def test_gallery_is_loaded_and_searched():
    gallery, expected = Gallery.load(FILES / "gallery.npz"), EXPECTED["gallery"]
    assert (gallery.metric, gallery.fingerprint) == (expected["metric"], expected["fingerprint"])
    assert gallery.ids.tolist() == expected["ids"]
    assert gallery.stamps.tolist() == expected["stamps"]
    about = gallery.about(gallery.ids)
    for column in ("pids", "camids", "paths"):
        assert getattr(about, column).tolist() == expected[column]
    actual = gallery.search(Features.load(FILES / "features.parquet").of_split("query"), 4, cross_camera=True)
    assert actual.ids.tolist() == expected["found"]["ids"]
    np.testing.assert_allclose(actual.distances, expected["found"]["distances"], **CLOSE)
    assert gallery.add(torch.ones(1, 16)).tolist() == [expected["next_id"]]  # ids are not reused


def test_gallery_is_searched_by_image(images):
    extractor = FeatureExtractor(model_path=FILES / "identity.ckpt", device="cpu")
    actual = Gallery.load(FILES / "gallery.npz", extractor=extractor).search(images, 4)
    expected = EXPECTED["gallery"]["by_image"]
    assert actual.ids.tolist() == expected["ids"]
    np.testing.assert_allclose(actual.distances, expected["distances"], **CLOSE)


def test_search_command_reads_gallery(reidlit, tmp_path):
    files = [f"query={FILES / 'features.npz'}", f"gallery={FILES / 'gallery.npz'}"]
    result = reidlit("search", *files, "top_k=4", "cross_camera=true", "pictures=0", "hydra.run.dir=run")
    assert result.status == 0, result.err
    actual = [int(row["id"]) for row in read_csv(tmp_path / "run" / "search.csv")]
    assert np.reshape(actual, (-1, 4)).tolist() == EXPECTED["gallery"]["found"]["ids"]


# --- folders


def test_report_reads_run(copy_file, drawn, reidlit, tmp_path):
    (tmp_path / "data").symlink_to(drawn)  # prefix of the paths in per_query.parquet
    data = [item for item in TINY if not item.startswith("data.batch_size")]
    assert reidlit("prepare", "data=synthetic", *data).status == 0
    result = reidlit("report", f"run={copy_file('run')}")
    assert result.status == 0, result.err
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert f"{100 * EXPECTED['run']['scores']['test/synthetic/mAP']:.2f}" in page
    precisions = sorted(float(value) for value in re.findall(r'data-ap="([\d.]+)"', page))
    np.testing.assert_allclose(precisions, sorted(100 * ap for ap in EXPECTED["run"]["ap"]), atol=1e-5)
    # All missing images would be replaced by the same gray placeholder.
    assert len(set(re.findall(r"data:image/jpeg;base64,[\w+/=]+", page))) > len(precisions)
    losses = [float(row["train/loss"]) for row in read_csv(FILES / "run" / "csv" / "metrics.csv") if row["train/loss"]]
    assert all(f"{loss:.4g}" in page for loss in (losses[0], losses[-1]))


def test_aggregate_reads_runs(copy_file, reidlit, tmp_path):
    copy_file("sweep")
    copy_file("run")
    expected = EXPECTED["sweep"]
    assert reidlit("aggregate", "runs=sweep", "hydra.run.dir=seeds").status == 0
    (group,) = read_json(tmp_path / "seeds" / "aggregate.json")["groups"]
    assert group["command"] == "train"
    for key in ("settings", "repeated", "runs"):
        assert group[key] == expected["group"][key]
    assert list(group["metrics"]) == list(expected["group"]["metrics"])
    for name, statistics in group["metrics"].items():
        assert statistics == pytest.approx(expected["group"]["metrics"][name])
    assert reidlit("aggregate", "runs=[sweep,run]", "hydra.run.dir=both").status == 0
    groups = read_json(tmp_path / "both" / "aggregate.json")["groups"]
    assert sorted(len(group["runs"]) for group in groups) == expected["sizes"]


def test_resuming_a_finished_sweep_trains_nothing(copy_file, reidlit):
    sweep = copy_file("sweep")
    before = {file: file.read_bytes() for file in sweep.rglob("*.json")}
    rows = read_csv(sweep / "summary.csv")
    (sweep / "summary.csv").unlink()
    result = reidlit("train", f"resume_sweep={sweep}")
    assert result.status == 0, result.err
    assert read_csv(sweep / "summary.csv") == rows
    assert {file: file.read_bytes() for file in sweep.rglob("*.json")} == before
    assert not list(sweep.rglob("*.ckpt"))  # nothing was trained


# --- _target_ of specs


@pytest.mark.parametrize("package", ["data", "engine", "losses", "metrics", "models", "tasks"])
def test_every_target_of_0_1_can_be_located(package):
    targets = {old: name for old, name in EXPECTED["targets"].items() if old.startswith(f"reidlit.{package}.")}
    assert targets
    for old, name in targets.items():
        current = current_name(old).rpartition(".")[2]
        assert locate(old).__qualname__ == (name if current == old.rpartition(".")[2] else current), old
