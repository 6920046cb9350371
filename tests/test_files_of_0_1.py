"""Files written by reidlit 0.1.0 can be read and give the same results; files_of_0_1/README.md says how they were made."""

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
OF_IDENTITIES = [name for name in CHECKPOINTS if name != "attributes"]
TINY = [item for item in CHECKPOINTS["identity"]["arguments"] if item.startswith("data.")]
# Another CPU differs in the last digits. With 12 queries, two images that swap ranks may change mAP by a hundredth.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}
ABOUT = 0.02


@pytest.fixture
def images():
    """Those whose embeddings are in expected.json."""
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, shape, np.uint8) for shape in ((64, 32, 3), (100, 50, 3))]


@pytest.fixture
def image_files(images, tmp_path):
    """The same, written losslessly, in a folder of their own."""
    (tmp_path / "images").mkdir()
    files = [tmp_path / "images" / f"{number}.png" for number in range(len(images))]
    for image, file in zip(images, files, strict=True):
        Image.fromarray(image).save(file)
    return files


@pytest.fixture
def shown(images):
    """The first of them as a module takes it."""
    return torch.from_numpy(images[0]).permute(2, 0, 1)[None]


@pytest.fixture
def kept(tmp_path):
    """Copies one of the files or folders into the working folder."""

    def copy(name):
        copied = shutil.copytree if (FILES / name).is_dir() else shutil.copy
        return Path(copied(FILES / name, tmp_path / name))

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
def test_a_checkpoint_embeds(name, images):
    extractor = FeatureExtractor(model_path=FILES / f"{name}.ckpt", device="cpu")
    expected = CHECKPOINTS[name]
    assert list(extractor.image_size) == expected["image_size"]
    np.testing.assert_allclose(extractor(images), expected["embeddings"], **CLOSE)
    # Stored features and galleries are matched to their model by it.
    assert extractor.fingerprint == expected["fingerprint"]


@pytest.mark.parametrize("name", OF_IDENTITIES)
def test_the_module_of_a_checkpoint(name, shown):
    module = ReIDModule.load_from_checkpoint(FILES / f"{name}.ckpt", map_location="cpu").eval()
    assert module.hparams["pids"] == CHECKPOINTS[name]["pids"]
    with torch.inference_mode():
        np.testing.assert_allclose(module(shown)[0], CHECKPOINTS[name]["embeddings"][0], **CLOSE)


@torch.inference_mode()
def test_the_attributes_of_a_checkpoint(shown):
    expected = CHECKPOINTS["attributes"]
    module = AttributeModule.load_from_checkpoint(FILES / "attributes.ckpt", map_location="cpu").eval()
    assert module.hparams["attributes"] == expected["attributes"]
    np.testing.assert_allclose(module(shown)[0], expected["probabilities"], **CLOSE)


@torch.inference_mode()
def test_the_attribute_head_beside_the_weights(shown):
    expected = CHECKPOINTS["joint"]
    module = JointAttributeModule.load_from_checkpoint(FILES / "joint.ckpt", map_location="cpu").eval()
    assert module.hparams["attributes"] == expected["attributes"]
    np.testing.assert_allclose(module.attribute_probabilities(shown)[0], expected["probabilities"], **CLOSE)


@torch.inference_mode()
def test_the_peers_beside_the_weights(shown):
    module = MutualModule.load_from_checkpoint(FILES / "mutual.ckpt", map_location="cpu", ensemble=True).eval()
    np.testing.assert_allclose(module(shown)[0], CHECKPOINTS["mutual"]["ensemble"], **CLOSE)


def test_the_evaluation_that_a_checkpoint_names():
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
def test_scores_of_a_checkpoint(name, reidlit, tmp_path):
    then = [item for item in CHECKPOINTS[name]["arguments"] if item.startswith("eval.")]
    checkpoint = f"ckpt_path={FILES / name}.ckpt"
    done = reidlit("test", checkpoint, *TINY, *then, "callbacks.progress=null", "hydra.run.dir=run")
    assert done.status == 0, done.err
    found, expected = read_json(tmp_path / "run" / "metrics.json"), CHECKPOINTS[name]["scores"]
    for key in ("test/synthetic/mAP", "test/synthetic/mINP", "test/synthetic/AUC"):
        assert found[key] == pytest.approx(expected[key], abs=ABOUT)


@pytest.mark.usefixtures("image_files")
@pytest.mark.parametrize("name", ["attributes", "joint"])
def test_attributes_are_predicted(name, reidlit, tmp_path):
    arguments = ["images=images", "num_workers=0", "device=cpu", "output=found.csv"]
    done = reidlit("predict", f"ckpt_path={FILES / name}.ckpt", *arguments)
    assert done.status == 0, done.err
    first = read_csv(tmp_path / "found.csv")[0]
    found = [float(first[f"{attribute}_probability"]) for attribute in CHECKPOINTS[name]["attributes"]]
    np.testing.assert_allclose(found, CHECKPOINTS[name]["probabilities"], **CLOSE)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_training_goes_on(name, kept, images, reidlit, tmp_path):
    for needed in ("identity.ckpt", "identity_attributes.csv"):  # the teacher, and the labels of joint training
        kept(needed)
    arguments = [*CHECKPOINTS[name]["arguments"], "trainer.max_epochs=2", "test=false", "hydra.run.dir=run"]
    done = reidlit("train", *arguments, f"ckpt_path={kept(f'{name}.ckpt')}")
    assert done.status == 0, done.err
    expected = CHECKPOINTS[name]["resumed"]
    resumed = tmp_path / "run" / "checkpoints" / "last.ckpt"
    content = torch.load(resumed, weights_only=True)
    assert (content["epoch"], content["global_step"]) == (expected["epoch"], expected["global_step"])
    # Without the optimiser's momentum, the embeddings of identity.ckpt would be off by 2.
    found = FeatureExtractor(model_path=resumed, device="cpu")(images)
    np.testing.assert_allclose(found, expected["embeddings"], rtol=0.01, atol=0.05)


@pytest.mark.parametrize("source", ["checkpoint", "file"])
def test_thresholds(source, image_files, reidlit):
    expected = EXPECTED["verify"] if source == "checkpoint" else EXPECTED["run"]["verify"]
    given = [f"calibration={FILES / 'run' / 'calibration.json'}"] if source == "file" else []
    checkpoint = f"ckpt_path={FILES / 'identity.ckpt'}"
    done = reidlit("verify", *image_files, checkpoint, *given, "json=true", "fpr=0.1", "extractor.device=cpu")
    assert done.status == 0, done.err
    found = json.loads(done.out.splitlines()[-1])
    assert numbers(found) == pytest.approx(numbers(expected), rel=1e-4)
    assert (found["same"], found["metric"]) == (expected["same"], expected["metric"])


# --- embeddings


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_features(suffix):
    features, expected = Features.load(FILES / f"features.{suffix}"), EXPECTED["features"]
    for column in ("path", "pid", "camid", "split", "tracklet"):
        assert getattr(features, column).tolist() == expected[column]
    assert features.fingerprint == expected["fingerprint"]
    np.testing.assert_allclose(features.embedding[0], expected["first"], rtol=1e-6)
    assert features.embedding.sum(dtype=np.float64) == pytest.approx(expected["sum"], rel=1e-6)


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
@pytest.mark.parametrize("kind", ["scores", "reranked"])
def test_scores_of_features(suffix, kind, reidlit, tmp_path):
    steps = ["eval.postprocess=[k_reciprocal]", "eval.steps.k_reciprocal.k1=6"] if kind == "reranked" else []
    done = reidlit("test", f"features={FILES}/features.{suffix}", *steps, "hydra.run.dir=run")
    assert done.status == 0, done.err
    found, expected = read_json(tmp_path / "run" / "metrics.json"), EXPECTED["features"][kind]
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-5)


def test_a_gallery():
    gallery, expected = Gallery.load(FILES / "gallery.npz"), EXPECTED["gallery"]
    assert (gallery.metric, gallery.fingerprint) == (expected["metric"], expected["fingerprint"])
    assert gallery.ids.tolist() == expected["ids"]
    assert gallery.stamps.tolist() == expected["stamps"]
    about = gallery.about(gallery.ids)
    for column in ("pids", "camids", "paths"):
        assert getattr(about, column).tolist() == expected[column]
    found = gallery.search(Features.load(FILES / "features.parquet").of_split("query"), 4, cross_camera=True)
    assert found.ids.tolist() == expected["found"]["ids"]
    np.testing.assert_allclose(found.distances, expected["found"]["distances"], **CLOSE)
    assert gallery.add(torch.ones(1, 16)).tolist() == [expected["next_id"]]  # ids are not reused


def test_a_gallery_is_that_of_a_checkpoint(images):
    extractor = FeatureExtractor(model_path=FILES / "identity.ckpt", device="cpu")
    found = Gallery.load(FILES / "gallery.npz", extractor=extractor).search(images, 4)
    expected = EXPECTED["gallery"]["by_image"]
    assert found.ids.tolist() == expected["ids"]
    np.testing.assert_allclose(found.distances, expected["distances"], **CLOSE)


def test_a_gallery_is_searched(reidlit, tmp_path):
    files = [f"query={FILES / 'features.npz'}", f"gallery={FILES / 'gallery.npz'}"]
    done = reidlit("search", *files, "top_k=4", "cross_camera=true", "pictures=0", "hydra.run.dir=run")
    assert done.status == 0, done.err
    found = [int(row["id"]) for row in read_csv(tmp_path / "run" / "search.csv")]
    assert np.reshape(found, (-1, 4)).tolist() == EXPECTED["gallery"]["found"]["ids"]


# --- folders


def test_a_run_is_reported(kept, drawn, reidlit, tmp_path):
    (tmp_path / "data").symlink_to(drawn)  # the paths in per_query.parquet begin with it
    data = [item for item in TINY if not item.startswith("data.batch_size")]
    assert reidlit("prepare", "data=synthetic", *data).status == 0
    done = reidlit("report", f"run={kept('run')}")
    assert done.status == 0, done.err
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert f"{100 * EXPECTED['run']['scores']['test/synthetic/mAP']:.2f}" in page
    precisions = sorted(float(value) for value in re.findall(r'data-ap="([\d.]+)"', page))
    np.testing.assert_allclose(precisions, sorted(100 * ap for ap in EXPECTED["run"]["ap"]), atol=1e-5)
    # The dataset was found: a missing image is shown as the same grey picture.
    assert len(set(re.findall(r"data:image/jpeg;base64,[\w+/=]+", page))) > len(precisions)
    losses = [float(row["train/loss"]) for row in read_csv(FILES / "run" / "csv" / "metrics.csv") if row["train/loss"]]
    assert all(f"{loss:.4g}" in page for loss in (losses[0], losses[-1]))


def test_runs_are_aggregated(kept, reidlit, tmp_path):
    kept("sweep")
    kept("run")
    expected = EXPECTED["sweep"]
    assert reidlit("aggregate", "runs=sweep", "hydra.run.dir=seeds").status == 0
    (group,) = read_json(tmp_path / "seeds" / "aggregate.json")["groups"]
    assert group["command"] == "train"
    for part in ("settings", "repeated", "runs"):
        assert group[part] == expected["group"][part]
    assert list(group["metrics"]) == list(expected["group"]["metrics"])
    for name, figure in group["metrics"].items():
        assert figure == pytest.approx(expected["group"]["metrics"][name])
    assert reidlit("aggregate", "runs=[sweep,run]", "hydra.run.dir=both").status == 0
    groups = read_json(tmp_path / "both" / "aggregate.json")["groups"]
    assert sorted(len(each["runs"]) for each in groups) == expected["sizes"]


def test_a_finished_sweep_is_gone_on_with(kept, reidlit):
    sweep = kept("sweep")
    before = {file: file.read_bytes() for file in sweep.rglob("*.json")}
    rows = read_csv(sweep / "summary.csv")
    (sweep / "summary.csv").unlink()
    done = reidlit("train", f"resume_sweep={sweep}")
    assert done.status == 0, done.err
    assert read_csv(sweep / "summary.csv") == rows
    assert {file: file.read_bytes() for file in sweep.rglob("*.json")} == before
    assert not list(sweep.rglob("*.ckpt"))  # nothing was trained


# --- _target_ of specs


@pytest.mark.parametrize("package", ["data", "engine", "losses", "metrics", "models", "tasks"])
def test_every_target_of_0_1_is_found(package):
    named = {old: name for old, name in EXPECTED["targets"].items() if old.startswith(f"reidlit.{package}.")}
    assert named
    for old, name in named.items():
        present = current_name(old).rpartition(".")[2]
        assert locate(old).__qualname__ == (name if present == old.rpartition(".")[2] else present), old
