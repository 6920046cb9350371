"""Attribute recognition on the command line: training, testing and prediction on synthetic pedestrians."""

import csv
import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest
import torch

from reidlit.data.datasets.synthetic_attributes import attributes_of
from reidlit.data.synthetic.pedestrians import Pedestrians
from reidlit.inference.extractor import FeatureExtractor

pytestmark = pytest.mark.slow

DATA = ["data=synthetic_attributes", "data.image_height=64", "data.image_width=32", "data.num_workers=0"]
PEOPLE = ["data.num_identities=400", "data.num_val=40", "data.num_test=60"]
SIZE = ["data.height=64", "data.width=32"]
MODEL = ["model=timm", "model.backbone.name=test_resnet", "transforms=default", "callbacks.progress=null"]
RUN = ["engine=attributes", *DATA, *PEOPLE, *SIZE, *MODEL, "data.batch_size=32", "logger=csv"]
FEW = [item for item in RUN if item not in PEOPLE] + [
    "data.num_identities=24", "data.num_val=6", "data.num_test=6", "data.batch_size=6", "trainer.max_epochs=1",
]  # fmt: skip
FIGURES = ("mA", "accuracy", "precision", "recall", "f1")
SET = "test/synthetic_attributes"
TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def checkpoint(folder, name):
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def recognised(tmp_path_factory, command):
    """Return the folder of a training run that several tests read."""
    folder = tmp_path_factory.mktemp("recognised")
    printed = command(folder, "train", *RUN, "trainer.max_epochs=10", "hydra.run.dir=run")
    (folder / "run" / "printed.txt").write_text(printed)
    return folder / "run"


def test_short_training_beats_any_constant_prediction(recognised):
    """Any constant prediction has an mA of 0.5."""
    found = metrics(recognised)
    assert found[f"{SET}/mA"] > 0.56
    assert found["val/mA"] > 0.56
    assert found[f"{SET}/attributes/dark_top/mA"] > 0.65
    assert found[f"{SET}/attributes/dark_trousers/mA"] > 0.65
    assert found[f"{SET}/num_images"] == 120
    assert found[f"{SET}/attributes/hat/num_known"] == 120
    assert found[f"{SET}/attributes/dark_trousers/num_known"] < 120  # trousers that a dress hides have no label
    assert all(0 <= found[f"{SET}/{name}"] <= 1 for name in FIGURES)
    printed = (recognised / "printed.txt").read_text()
    assert all(text in printed for text in ("11 attributes", "600", "80", "120", "dark_trousers", "best.ckpt"))
    logged = (recognised / "csv" / "metrics.csv").read_text()
    assert all(name in logged for name in ("train/loss", "val/mA", "val/f1", f"{SET}/mA"))
    assert not (recognised / "ranked_lists").exists()


def test_best_checkpoint_is_tested_and_reproduces_its_scores(recognised, reidlit, tmp_path):
    with (recognised / "csv" / "metrics.csv").open() as file:
        history = [float(row["val/mA"]) for row in csv.DictReader(file) if row["val/mA"]]
    best = checkpoint(recognised, "best")
    assert len(history) == 10
    assert best["scores"]["mA"] == pytest.approx(max(history), abs=1e-6) == metrics(recognised)["val/mA"]
    assert best["epoch"] == int(np.argmax(history))
    path = recognised / "checkpoints" / "best.ckpt"
    tested = {name: value for name, value in metrics(recognised).items() if name.startswith("test/")}
    for engine in ([], ["engine=attributes"]):
        done = reidlit("test", *engine, *DATA, *PEOPLE, f"ckpt_path={path}", f"hydra.run.dir={tmp_path}/t")
        assert done.status == 0, done.err
        assert metrics(tmp_path / "t") == pytest.approx(tested)


def test_backbone_of_attribute_model_embeds_and_has_activation_maps(recognised, reidlit, tmp_path):
    path = recognised / "checkpoints" / "best.ckpt"
    done = reidlit("visualize", f"ckpt_path={path}", *DATA, *PEOPLE, "split=test", "count=2", "hydra.run.dir=shown")
    assert done.status == 0, done.err
    assert (tmp_path / "shown" / "visualize.png").is_file()
    (embedding,) = FeatureExtractor(model_path=path)(np.zeros((64, 32, 3), np.uint8))
    assert embedding.norm() > 0


def test_doctor_skips_identity_checks(reidlit, tmp_path):
    done = reidlit("doctor", *DATA, *PEOPLE, "hydra.run.dir=looked")
    assert done.status == 0, done.err
    kinds = {
        each["kind"] for each in json.loads((tmp_path / "looked/doctor.json").read_text())["datasets"][0]["findings"]
    }
    assert not kinds & {"too_few_identities", "shared_identities"}


@pytest.mark.slow
def test_two_processes_give_identical_scores(recognised, process, tmp_path):
    path = recognised / "checkpoints" / "best.ckpt"
    common = [*DATA, *PEOPLE, f"ckpt_path={path}", "data.test_batch_size=7", "callbacks.progress=null"]
    running = [
        process("test", *common, "hydra.run.dir=one"),
        process("test", *common, *TWO, "hydra.run.dir=two"),
    ]
    for each in running:
        printed, _ = each.communicate(timeout=280)
        assert each.returncode == 0, printed
    assert metrics(tmp_path / "one") == metrics(tmp_path / "two")


def test_predictions_reproduce_the_test_scores(recognised, reidlit, tmp_path):
    path = f"ckpt_path={recognised}/checkpoints/best.ckpt"
    done = reidlit("predict", *DATA, *PEOPLE, path, "num_workers=0", "output=sub/predicted.csv")
    assert done.status == 0, done.err
    assert "11 attributes of 120 images" in done.out
    with (tmp_path / "sub" / "predicted.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = checkpoint(recognised, "best")["hyper_parameters"]["attributes"]
    assert list(rows[0]) == ["path", *names, *(f"{name}_probability" for name in names)]
    people = Pedestrians(400, 2, 1, 64, 32, 0)
    truth = [attributes_of(people.person(int(row["path"].rpartition("/")[2][:4]))) for row in rows]
    scored = metrics(recognised)
    for name in names:
        pairs = [(int(row[name]), true[name]) for row, true in zip(rows, truth, strict=True) if true[name] >= 0]
        accuracy = sum(found == label for found, label in pairs) / len(pairs)
        assert accuracy == pytest.approx(scored[f"{SET}/attributes/{name}/accuracy"])
        assert all((float(row[f"{name}_probability"]) >= 0.5) == (row[name] == "1") for row in rows)


def test_predict_folder_with_threshold(recognised, reidlit, drawn, tmp_path):
    folder = tmp_path / "people"
    folder.mkdir()
    images = sorted((drawn / "synthetic" / "seed0_64x32").glob("*.jpg"))[:5]
    for image in images:
        (folder / image.name).symlink_to(image)
    path = f"ckpt_path={recognised}/checkpoints/last.ckpt"
    done = reidlit("predict", "images=people", path, "threshold=0.9", "num_workers=0", "output=a.parquet")
    assert done.status == 0, done.err
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pydict()
    assert [name.rpartition("/")[2] for name in table["path"]] == [image.name for image in images]
    probabilities, decided = np.array(table["hat_probability"]), np.array(table["hat"])
    assert (decided == (probabilities >= 0.9)).all()
    code = f"""
import sys
sys.modules["hydra"] = None
from reidlit.engine.attributes import AttributeModule
from reidlit.inference.image_inputs import as_size
import torch, numpy
module = AttributeModule.load_from_checkpoint({str(recognised / "checkpoints" / "last.ckpt")!r}).eval()
images = torch.from_numpy(numpy.stack([as_size(path, (64, 32)) for path in {table["path"]!r}])).permute(0, 3, 1, 2)
print(*module(images)[:, 0].tolist())
"""
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert [float(value) for value in loaded.stdout.split()] == pytest.approx(probabilities, abs=1e-5), loaded.stderr


@pytest.mark.slow
def test_csv_with_unknown_labels_trains_and_tests_with_other_columns(recognised, reidlit, drawn, tmp_path):
    people = Pedestrians(400, 2, 1, 64, 32, 0)
    files = sorted((drawn / "synthetic" / "seed0_64x32").glob("*_00.jpg"))[:160]
    lines = ["path,pid,coat,hat,note"]
    for file in files:
        worn = attributes_of(people.person(int(file.name[:4])))
        lines.append(f"{file},{file.name[:4]},{worn['jacket'] if worn['hat'] else ''},{worn['hat']},x")
    (tmp_path / "people.csv").write_text("\n".join(lines))
    own = ["data=attribute_csv", "data.file=people.csv", "data.attributes=[coat,hat]", "data.num_workers=0"]
    run = [*own, *SIZE, *MODEL, "engine=attributes", "data.batch_size=8", "trainer.max_epochs=1", "logger=csv"]
    done = reidlit("train", *run, "loss.losses.bce.weighting=attribute", "hydra.run.dir=own")
    assert done.status == 0, done.err
    found = metrics(tmp_path / "own")
    assert found["test/people/attributes/coat/num_known"] == found["test/people/attributes/hat/num_positive"] > 0
    assert checkpoint(tmp_path / "own", "last")["hyper_parameters"]["attributes"] == ["coat", "hat"]
    other = reidlit("test", *own, f"ckpt_path={recognised}/checkpoints/best.ckpt", "hydra.run.dir=other")
    assert other.status == 0, other.err
    assert all(text in other.out for text in ("data=people", "long_hair"))
    tested = metrics(tmp_path / "other")
    assert tested["test/people/attributes/hat/num_known"] == tested["test/people/num_images"]
    assert tested["test/people/attributes/jacket/mA"] is None


@pytest.mark.slow
def test_resumed_run_equals_uninterrupted_run(reidlit, tmp_path):
    """Both runs average their weights; the best checkpoint is tested with the averaged weights."""
    run = [*FEW, "averaging=ema", "callbacks.ema.decay=0.5", "scheduler=constant"]
    assert reidlit("train", *run, "trainer.max_epochs=3", "hydra.run.dir=uninterrupted").status == 0
    assert reidlit("train", *run, "hydra.run.dir=interrupted", "test=false").status == 0
    resumed = reidlit("train", *run, "trainer.max_epochs=3", "ckpt_path=last", "hydra.run.dir=interrupted")
    assert resumed.status == 0, resumed.err
    for name in ("last", "best"):
        one, two = (checkpoint(tmp_path / run, name) for run in ("uninterrupted", "interrupted"))
        assert one["epoch"] == two["epoch"]
        assert all(torch.equal(value, two["state_dict"][key]) for key, value in one["state_dict"].items())
    assert metrics(tmp_path / "interrupted") == metrics(tmp_path / "uninterrupted")
    best = f"ckpt_path={tmp_path}/uninterrupted/checkpoints/best.ckpt"
    people = [item for item in FEW if item.startswith("data") and item not in SIZE]
    assert reidlit("test", *people, best, "hydra.run.dir=t").status == 0
    assert metrics(tmp_path / "t")[f"{SET}/mA"] == pytest.approx(metrics(tmp_path / "uninterrupted")[f"{SET}/mA"])


@pytest.mark.slow
def test_two_processes_train_and_select_a_checkpoint(process, tmp_path):
    running = process("train", *FEW, *TWO, "trainer.max_epochs=2", "hydra.run.dir=two")
    printed, _ = running.communicate(timeout=280)
    assert running.returncode == 0, printed
    assert checkpoint(tmp_path / "two", "best")["scores"]["mA"] == metrics(tmp_path / "two")["val/mA"]


def test_last_checkpoint_is_tested_without_selection(reidlit, tmp_path):
    done = reidlit("train", *FEW, "callbacks.best=null", "score_untrained=true", "hydra.run.dir=run")
    assert done.status == 0, done.err
    assert not (tmp_path / "run" / "checkpoints" / "best.ckpt").exists()
    found = metrics(tmp_path / "run")
    assert found["val/mA"] == checkpoint(tmp_path / "run", "last")["scores"]["mA"]
    assert {f"untrained/synthetic_attributes/{name}" for name in FIGURES} <= set(found)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "data=synthetic_attributes"], ["data=synthetic_attributes", "engine=attributes"]),
        (["train", "engine=attributes", "data=synthetic"], ["data=synthetic"]),
        (["train", *FEW, "callbacks=best", "callbacks.best.monitor=val/mAP"], ["val/mAP"]),
        (["train", *FEW, "loss=softmax"], ["softmax"]),
        (["train", *RUN, "model/neck=no_neck", "ckpt_path=BEST"], ["ckpt_path=BEST", "model"]),
        (["test", "ckpt_path=BEST"], ["ckpt_path=BEST", "data=synthetic"]),
        (["test", *DATA, "ckpt_path=IDENTITIES"], ["ckpt_path=IDENTITIES", "engine=attributes"]),
        (["test", *DATA], ["ckpt_path", "weights"]),
        (["predict", "images=."], ["ckpt_path=null"]),
        (["predict", "ckpt_path=BEST"], ["data=", "images="]),
        (["predict", "ckpt_path=BEST", "images=nowhere"], ["images=nowhere"]),
        (["predict", "ckpt_path=BEST", "images=."], ["images=."]),
        (["predict", "ckpt_path=IDENTITIES", "images=."], ["ckpt_path=IDENTITIES", "engine=attributes"]),
        (["predict", "ckpt_path=BEST", "images=.", "threshold=1.5"], ["threshold=1.5"]),
        (["predict", "ckpt_path=BEST", "images=.", "output=a.txt"], ["output=a.txt", ".csv"]),
        (["predict", "ckpt_path=BEST", *DATA, *PEOPLE, "splits=[query]"], ["'query'", "'train', 'val', 'test'"]),
    ],
)
def test_invalid_arguments_are_named(arguments, expected, recognised, trained, reidlit):
    paths = {"BEST": f"{recognised}/checkpoints/best.ckpt", "IDENTITIES": f"{trained}/checkpoints/last.ckpt"}
    for name, path in paths.items():
        arguments = [item.replace(name, path) for item in arguments]
        expected = [item.replace(name, path) for item in expected]
    done = reidlit(*arguments)
    assert done.status == 1
    assert all(text in done.err for text in expected), done.err


def test_untrusted_target_in_checkpoint_is_refused(recognised, reidlit, tmp_path):
    content = checkpoint(recognised, "best")
    content["hyper_parameters"]["model"]["backbone"] = {"_target_": "os.mkdir", "path": "harm"}
    torch.save(content, tmp_path / "hostile.ckpt")
    for command in (["predict", "images=."], ["test", *DATA]):
        done = reidlit(*command, "ckpt_path=hostile.ckpt")
        assert done.status == 1
        assert "'os.mkdir'" in done.err
    assert not (tmp_path / "harm").exists()
