"""Damaged and tampered files of every format: one message that names the file, no traceback, no code, bounded memory."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from helpers import tampered
from helpers.cli_settings import TRAIN
from helpers.datasets import loading
from reidlit import build_model, load_weights
from reidlit.commands.report import build_report
from reidlit.data.datasets.csv_file import CSVFile
from reidlit.engine.reid import ReIDModule
from reidlit.inference.calibration import stored
from reidlit.inference.features import Features
from reidlit.inference.loading import load_trained
from reidlit.inference.search.gallery import Gallery
from reidlit.runs.finished import find_runs
from reidlit.runs.per_query import read_per_query
from reidlit.runs.run_folder import RunFolder

pytestmark = pytest.mark.slow

OPTIONS = OmegaConf.create({"data_root": "/nowhere", "queries": 3, "top_k": 3, "confusions": 3, "seed": 1})


def report(file):
    build_report(RunFolder(next(folder for folder in file.parents if (folder / ".hydra").is_dir())), OPTIONS)


def aggregated(file):
    find_runs([str(next(folder for folder in file.parents if (folder / ".hydra").is_dir()))])


def weights(file):
    load_weights(build_model("osnet_x0_25", 3, pretrained=False), file)


# File of a run folder or of `others`, its tampered versions, and its reader.
READERS = {
    "metrics": ("metrics.json", tampered.METRICS, report),
    "metrics of several runs": ("metrics.json", tampered.METRICS, aggregated),
    "environment": ("environment.json", tampered.ENVIRONMENT, report),
    "settings": (".hydra/config.yaml", tampered.CONFIG, report),
    "command": (".hydra/hydra.yaml", tampered.YAML, aggregated),
    "overrides": (".hydra/overrides.yaml", tampered.YAML, aggregated),
    "each query": ("per_query.parquet", tampered.TABLE, read_per_query),
    "log": ("csv/metrics.csv", tampered.LOG, report),
    "thresholds": ("calibration.json", tampered.CALIBRATION, stored),
    "weights": ("checkpoints/weights.pth", tampered.WEIGHTS, weights),
    "checkpoint": ("checkpoints/last.ckpt", tampered.WEIGHTS | tampered.CHECKPOINT, ReIDModule.load_from_checkpoint),
    "checkpoint for inference": ("checkpoints/last.ckpt", tampered.WEIGHTS | tampered.CHECKPOINT, load_trained),
    "checkpoint for its thresholds": ("checkpoints/last.ckpt", tampered.CHECKPOINT, stored),
    "features": ("features.npz", tampered.FEATURES, Features.load),
    "features in a table": ("features.parquet", {"no columns": tampered.TABLE["no columns"]}, Features.load),
    "gallery": ("gallery.npz", tampered.GALLERY, Gallery.load),
    "list of images": (
        "images.csv",
        tampered.TABLE_OF_IMAGES,
        lambda file: CSVFile(str(file), **loading()).samples("train"),
    ),
}
CASES = [(reader, kind) for reader, (_, kinds, _) in READERS.items() for kind in (*tampered.ANY, *kinds)]


@pytest.fixture(scope="session")
def intact(trained, tmp_path_factory):
    """Run folder with a file of every format."""
    folder = tmp_path_factory.mktemp("intact") / "run"
    shutil.copytree(trained, folder)
    (folder / "csv").mkdir(exist_ok=True)
    (folder / "csv" / "metrics.csv").write_text("epoch,step,train/loss\n0,1,0.5\n")
    features = Features(
        torch.rand(3, 8).numpy(),
        *(
            tampered.np.array(values)
            for values in (["a", "b", "c"], [1, 2, 1], [0, 1, 1], ["query", "gallery", ""], [-1] * 3)
        ),
        fingerprint="abc",
    )
    features.save(folder / "features.npz")
    features.save(folder / "features.parquet")
    gallery = Gallery()
    gallery.add(features)
    gallery.save(folder / "gallery.npz")
    torch.save(build_model("osnet_x0_25", 3, pretrained=False).state_dict(), folder / "checkpoints" / "weights.pth")
    (folder / "images.csv").write_text("path,pid\n")
    return folder


@pytest.fixture
def run(intact, tmp_path):
    """Copy of the run folder."""
    return SimpleNamespace(path=shutil.copytree(intact, tmp_path / "run"))


def test_intact_files_are_read(run):
    for reader, (name, _, read) in READERS.items():
        if reader != "list of images":
            read(run.path / name)


@pytest.mark.parametrize(("reader", "kind"), CASES, ids=[f"{reader}: {kind}" for reader, kind in CASES])
@pytest.mark.filterwarnings("ignore")
def test_tampered_file_is_read_or_refused_by_name(reader, kind, run):
    name, kinds, read = READERS[reader]
    file = run.path / name
    (tampered.ANY | kinds)[kind](file)
    message = None
    try:
        read(file)
    except (ValueError, FileNotFoundError) as error:  # some changes are harmless
        message = str(error)
    assert message is None or (file.name in message and len(message) < 6000)


COMMANDS = {
    "report": (["report", "run=run"], "metrics.json", ("list", "text as score", "ROC without tpr")),
    "aggregate": (["aggregate", "run", "hydra.run.dir=x"], ".hydra/overrides.yaml", ("text", "alias bomb")),
    "verify": (
        ["verify", "a.jpg", "b.jpg", "ckpt_path=run/checkpoints/last.ckpt", "hydra.run.dir=x"],
        "checkpoints/last.ckpt",
        ("quantized", "calibration without keys", "shared dicts"),
    ),
    "test": (
        ["test", *TRAIN[:9], "callbacks.progress=null", "ckpt_path=run/checkpoints/last.ckpt", "hydra.run.dir=x"],
        "checkpoints/last.ckpt",
        ("a list", "image_size=3", "pids=x", "other shapes", "cyclic dicts"),
    ),
    "extract": (
        ["extract", "weights=run/checkpoints/weights.pth", "model=osnet_x0_25", "images=.", "hydra.run.dir=x"],
        "checkpoints/weights.pth",
        ("all scalars", "expanded", "numbers as names", "meta"),
    ),
    "train": (
        [
            "train",
            *TRAIN,
            "trainer.max_epochs=3",
            "test=false",
            "ckpt_path=run/checkpoints/last.ckpt",
            "hydra.run.dir=x",
        ],
        "checkpoints/last.ckpt",
        ("optimizer_states as text", "without loops", "loop as text", "shared settings"),
    ),
}
COMMAND_CASES = [(command, kind) for command, (_, _, kinds) in COMMANDS.items() for kind in kinds]
EVERY = tampered.METRICS | tampered.YAML | tampered.WEIGHTS | tampered.CHECKPOINT | tampered.RESUMED


@pytest.mark.slow
@pytest.mark.parametrize(("name_of_command", "kind"), COMMAND_CASES)
def test_commands_end_with_one_message(name_of_command, kind, run, reidlit):
    arguments, name, _ = COMMANDS[name_of_command]
    file = run.path / name
    kinds = tampered.METRICS if name == "metrics.json" else EVERY
    kinds[kind](file)
    done = reidlit(*arguments)
    assert done.status == (0 if kind in ("without loops", "numbers as names") else done.status)
    assert "Traceback" not in done.err
    if done.status:
        assert done.status == 1
        assert file.name in done.err


def test_unknown_user_in_a_path_is_named(reidlit):
    for setting in ("weights=~nobody-x/a.pth", "ckpt_path=~nobody-x/a.ckpt", "features=~nobody-x/a.npz"):
        done = reidlit("test", setting, "hydra.run.dir=x")
        assert done.status == 1
        assert "~nobody-x" in done.err
        assert "Traceback" not in done.err
