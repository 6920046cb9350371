"""Logs of W&B and TensorBoard, read back from their files."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from helpers.cli_settings import TRAIN
from helpers.wandb_files import clean, column, runs, table
from reidlit.commands.dashboard import build_workspace

pytestmark = pytest.mark.slow

SETTINGS = [*TRAIN, "callbacks=best", "callbacks.progress=null", "data.val_fraction=0.3", "data.batch_size=4"]
SETTINGS += ["trainer.log_every_n_steps=2", "callbacks.ranked_lists.queries=4", "callbacks.ranked_lists.top_k=3"]
SETTINGS += ["callbacks.ranked_lists.choose=worst", "logger=wandb", "logger.wandb.log_model=true"]


@pytest.fixture
def no_account(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name, value in clean(tmp_path, {}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdin", None)


@pytest.fixture(scope="module")
def swept(tmp_path_factory, drawn) -> Path:
    """Run a sweep over two seeds; return its folder."""
    folder = tmp_path_factory.mktemp("swept")
    result = subprocess.run(
        [sys.executable, "-m", "reidlit", "train", "-m", *SETTINGS, "seed=1,2", "hydra.sweep.dir=seeds"],
        cwd=folder,
        env=clean(folder, os.environ) | {"REIDLIT_DATA": str(drawn)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (folder / "printed.txt").write_text(result.stdout)
    return folder / "seeds"


@pytest.fixture(scope="module")
def jobs(swept):
    """Return the W&B runs of both jobs."""
    return [run for job in "01" for run in runs(swept / job)]


@pytest.fixture(scope="module")
def first(jobs):
    return jobs[0]


def test_each_sweep_job_is_a_run_in_one_group(swept, jobs):
    first, second = jobs
    for number, run in enumerate([first.run, second.run]):
        assert run.display_name == f"osnet_x0_25-synthetic-softmax-seed{number + 1}-job{number}"
        assert (run.project, run.run_group, run.job_type) == ("reidlit", "seeds", "train")
        assert list(run.tags) == ["osnet_x0_25", "synthetic", "softmax"]
        assert json.loads((swept / str(number) / "wandb_run.json").read_text())["id"] == run.run_id
    assert first.run.run_id != second.run.run_id
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.config["optimizer"]["lr"] == 0.0015
    assert first.config["options"]["model"] == "osnet_x0_25"
    assert second.config["seed"] == 2
    printed = (swept.parent / "printed.txt").read_text()
    assert f"wandb sync {first.folder}" in printed
    # All files of a run are in its folder; `wandb sync` would not find others.
    assert all(swept in path.parents for path in table(first, "test/synthetic/ranked_lists")[2].values())


def test_rows_contain_the_logged_metrics(swept, first):
    metrics = json.loads((swept / "0" / "metrics.json").read_text())
    names = ["train/loss", "train/accuracy", "train/grad_norm", "train/images_per_second"]
    steps = [list(column(first, name)) for name in names]
    assert steps[0] == steps[1] == steps[2] == [1, 3, 5, 7, 9, 11]
    assert len(steps[3]) == 6
    assert all(value > 0 for name in names for value in column(first, name).values() if name != "train/accuracy")
    assert list(column(first, "lr-Adam")) == [0, 6]
    assert list(column(first, "val/mAP")) == [5, 11]
    for name in ("test/synthetic/mAP", "test/synthetic/rank1", "test/synthetic/AUC"):
        assert column(first, name) == {12: pytest.approx(metrics[name])}
    assert [row["_step"] for row in first.rows] == sorted({row["_step"] for row in first.rows})
    assert all(row["trainer/global_step"] == row["_step"] for row in first.rows)


def test_curves_and_camera_pairs_match_the_test(swept, first):
    metrics = json.loads((swept / "0" / "metrics.json").read_text())
    assert set(first.charts) == {"test/synthetic/cmc", "test/synthetic/roc"}
    for chart in first.charts.values():
        assert chart["panel_config"]["panelDefId"] == "wandb/line/v0"
    columns, cmc, _ = table(first, "test/synthetic/cmc_table")
    assert columns == ["rank", "CMC"]
    assert cmc == [[rank, fraction] for rank, fraction in enumerate(metrics["test/synthetic/cmc"], start=1)]
    columns, points, _ = table(first, "test/synthetic/roc_table")
    assert columns == ["log10_FPR", "TPR", "FPR", "threshold"]
    assert [point[1] for point in points] == metrics["test/synthetic/roc"]["tpr"]
    assert points[0][0] == pytest.approx(-6)
    columns, rows, _ = table(first, "test/synthetic/camera_pairs")
    assert columns == ["query camera", "gallery camera", "queries", "mAP", "rank1"]
    pairs = metrics["test/synthetic/camera_pairs"]
    assert [row[:2] for row in rows] == [[1, 2], [2, 1]]
    assert [row[3] for row in rows] == [pairs["mAP"][0][1], pairs["mAP"][1][0]]
    (image,) = column(first, "test/synthetic/camera_map").values()
    assert image["_type"] == "image-file"
    assert (first.folder / "files" / image["path"]).is_file()


def test_ranked_lists_are_a_table_of_images(swept, first):
    columns, rows, files = table(first, "test/synthetic/ranked_lists")
    assert columns == ["query", "pid", "camera", "AP", "first match", "verdicts", "rank 1", "rank 2", "rank 3"]
    with (swept / "0" / "ranked_lists" / "synthetic.csv").open(newline="") as file:
        entries = list(csv.DictReader(file))
    assert len(rows) == 4
    ap = [row[3] for row in rows]
    assert ap == sorted(ap)  # callbacks.ranked_lists.choose=worst
    for number, row in enumerate(rows):
        listed = entries[3 * number : 3 * number + 3]
        assert [row[1], row[2]] == [int(listed[0]["query_pid"]), int(listed[0]["query_camid"]) + 1]
        assert row[5].split() == [entry["verdict"] for entry in listed]
        for cell, frame in zip([row[0], *row[6:]], ["query", *row[5].split()], strict=True):
            with Image.open(files[cell["path"]]) as image:
                assert image.size == (88, 168)
                colour = image.getpixel((40, 1))
            assert colour.index(max(colour)) == {"other": 0, "same": 1, "query": 2}[frame]
        assert row[6]["caption"].startswith(f"{row[5].split()[0]} {float(listed[0]['distance']):.3g}, id ")


def test_checkpoint_artifacts_have_metadata(swept, first):
    versions = first.artifacts["model", f"model-{first.run.run_id}"]
    metadata = {json.loads(version.metadata)["file"]: json.loads(version.metadata) for version in versions}
    assert set(metadata) == {"last.ckpt", "best.ckpt"}
    val = column(first, "val/mAP")
    assert metadata["last.ckpt"]["val/mAP"] == pytest.approx(val[11])
    assert metadata["best.ckpt"]["val/mAP"] == pytest.approx(max(val.values()))
    metrics = json.loads((swept / "0" / "metrics.json").read_text())
    assert metadata["last.ckpt"]["test/synthetic/mAP"] == pytest.approx(metrics["test/synthetic/mAP"])
    for name, value in {"epoch": 1, "step": 12, "model": "osnet_x0_25", "optimizer.lr": 0.0015, "seed": 1}.items():
        assert metadata["last.ckpt"][name] == value
    for version in versions:
        name = json.loads(version.metadata)["file"]
        assert name.removesuffix(".ckpt") in version.aliases
        (entry,) = version.manifest.contents
        assert Path(entry.local_path).read_bytes() == (swept / "0" / "checkpoints" / name).read_bytes()


@pytest.mark.usefixtures("no_account")
def test_resumed_run_continues_the_wandb_run(swept, jobs, reidlit):
    folder = swept / "1"
    settings = ["seed=2", "ckpt_path=last", "trainer.max_epochs=3", "logger.wandb.log_model=all"]
    result = reidlit("train", *SETTINGS, *settings, f"hydra.run.dir={folder}")
    assert result.status == 0, result.err
    before, after = runs(folder)
    assert after.run.run_id == before.run.run_id == jobs[1].run.run_id
    assert after.run.resume
    assert list(column(after, "train/loss")) == [13, 15, 17]
    assert list(column(after, "test/synthetic/mAP")) == [18]
    versions = after.artifacts["model", f"model-{after.run.run_id}"]
    steps = [json.loads(version.metadata)["step"] for version in versions if "last" in version.aliases]
    assert steps == [18, 18]  # after the epoch, and after the test has stored its thresholds
    # The best score before the interruption is kept.
    callbacks = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]
    (best,) = (state["best_model_score"] for name, state in callbacks.items() if "val/mAP" in name)
    scores = [*column(before, "val/mAP").values(), *column(after, "val/mAP").values()]
    assert float(best) == pytest.approx(max(scores))


@pytest.mark.usefixtures("no_account")
def test_resumed_attribute_run_continues_the_wandb_run(reidlit, tmp_path):
    settings = ["engine=attributes", "data=synthetic_attributes", "data.num_identities=24", "data.num_val=6", "data.num_test=6",
                "data.image_height=64", "data.image_width=32", "data.height=64", "data.width=32", "data.num_workers=0",
                "data.batch_size=6", "model=timm", "model.backbone.name=test_resnet", "transforms=default", "test=false",
                "logger=wandb", "callbacks.progress=null"]  # fmt: skip
    folders = [tmp_path / "runs" / "train" / name for name in ("first", "second")]
    for folder, options in zip(
        folders, (["trainer.max_epochs=1"], ["trainer.max_epochs=2", "ckpt_path=last"]), strict=True
    ):
        result = reidlit("train", *settings, *options, f"hydra.run.dir={folder}")
        assert result.status == 0, result.err
    (before,), (after,) = (runs(folder) for folder in folders)
    assert after.run.run_id == before.run.run_id


@pytest.mark.usefixtures("no_account")
def test_failed_run_is_closed_as_failed(reidlit, tmp_path):
    result = reidlit("train", *SETTINGS, "optimizer.lr=1e30", "data.val_fraction=0", "callbacks=default",
                     "callbacks.progress=null", f"hydra.run.dir={tmp_path}/run")  # fmt: skip
    assert result.status == 1
    (run,) = runs(tmp_path / "run")
    assert run.exit_code == 1
    assert "wandb sync" in result.out


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("offline=false", "logger.wandb.offline=false"),
        ("log_model=last", "log_model=last"),
    ],
)
@pytest.mark.usefixtures("no_account")
def test_invalid_wandb_settings_are_named(setting, expected, reidlit):
    result = reidlit("train", *SETTINGS, f"logger.wandb.{setting}")
    assert result.status == 1
    assert expected in result.err


def test_tensorboard_contains_curves_images_and_hyperparameters(trained):
    events = EventAccumulator(str(trained / "tensorboard"), size_guidance={"images": 0, "tensors": 0}).Reload()
    tags = events.Tags()
    assert {"train/loss", "train/grad_norm", "lr-Adam", "test/synthetic/mAP"} <= set(tags["scalars"])
    pictures = {}
    for name in ("cmc", "roc", "camera_map", "ranked_lists"):
        (event,) = events.Images(f"test/synthetic/{name}")
        pictures[name] = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
    with Image.open(trained / "ranked_lists" / "synthetic.png") as image:
        assert np.array_equal(pictures["ranked_lists"], np.asarray(image))
    assert all(picture.std() > 10 for picture in pictures.values())
    (event,) = events.Tensors("test/synthetic/camera_pairs/text_summary")
    lines = event.tensor_proto.string_val[0].decode().splitlines()
    assert lines[0] == "| query camera | gallery camera | queries | mAP | rank1 |"
    assert len(lines) == 4
    plugins = {name: HParamsPluginData.FromString(found.plugin_data.content)
               for name, found in events.summary_metadata.items() if name.startswith("_hparams_")}  # fmt: skip
    settings = plugins["_hparams_/session_start_info"].session_start_info.hparams
    assert settings["model"].string_value == "osnet_x0_25"
    assert settings["data.num_identities"].number_value == 12
    shown = {metric.name.tag for metric in plugins["_hparams_/experiment"].experiment.metric_infos}
    assert {"test/synthetic/mAP", "test/synthetic/rank1"} <= shown <= set(tags["scalars"])


class WandbServer(BaseHTTPRequestHandler):
    """A W&B server that accepts the first workspace, refuses the second, and records the requests."""

    sent: ClassVar = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        request = json.loads(body) if body.startswith(b"{") else {"query": ""}
        response = {"data": {"viewer": {"id": "1", "username": "me", "entity": "me", "flags": "{}"}}}
        if "upsertView" in request["query"]:
            self.sent.append(request["variables"])
            response = {"data": {"upsertView": {"view": {"id": "1", "name": "nw-abc-v"}, "inserted": True}}}
            if len(self.sent) > 1:
                response = {"data": None, "errors": [{"message": "permission denied"}]}
        written = json.dumps(response).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(written)))
        self.end_headers()
        self.wfile.write(written)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    """Start a local W&B server; return the environment variables of an account there."""
    with ThreadingHTTPServer(("127.0.0.1", 0), WandbServer) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        WandbServer.sent = []
        yield {"WANDB_BASE_URL": f"http://127.0.0.1:{served.server_port}", "WANDB_API_KEY": "a" * 40}
        served.shutdown()


def test_dashboard_shows_all_logged_metrics(first):
    """Every metric of the test has a panel, and the charts query the same tables as the charts of a run."""
    workspace = build_workspace("me", "reidlit", ["synthetic"])
    spec = json.loads(workspace._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))
    sections = spec["section"]["panelBankConfig"]["sections"]
    headings = ["Training", "Validation", "Retrieval", "Verification", "Cameras", "Ranked lists"]
    assert [section["name"] for section in sections] == headings
    panels = [panel["config"] for section in sections for panel in section["panels"]]
    names = {name for row in first.rows for name in row}
    written = json.dumps(spec)
    assert {name for name in names if name.startswith("test/") and f'"{name}"' not in written} == {
        "test/synthetic/rank20"
    }
    plots = [panel["metricRegex"] for panel in panels if "metricRegex" in panel]
    unplotted = {name for name in names if not any(re.search(plot, name) for plot in plots)}
    assert not {name for name in unplotted if name.startswith(("train/", "val/", "lr-"))}
    assert all(any(re.search(plot, name) for name in {*names, "train/triplet"}) for plot in plots)
    charts = [panel for panel in panels if "fieldSettings" in panel]
    for panel, (name, x, y) in zip(charts, [("cmc", "rank", "CMC"), ("roc", "log10_FPR", "TPR")], strict=True):
        run_chart = first.charts[f"test/synthetic/{name}"]["panel_config"]
        assert panel["panelDefId"] == run_chart["panelDefId"]
        assert panel["fieldSettings"] == {"x": x, "y": y}
        assert panel["fieldSettings"].items() <= run_chart["fieldSettings"].items()
        fields = [each["userQuery"]["queryFields"][0]["fields"] for each in (panel, run_chart)]
        assert fields[0][-1] == fields[1][-1]


def test_dashboard_command_creates_the_workspace(server, tmp_path):
    twice = "from reidlit import cli\nfor _ in 1, 2:\n"
    twice += "    try: cli.main()\n    except SystemExit: pass"
    result = subprocess.run(
        [sys.executable, "-c", twice, "dashboard", "project=me/reidlit", "datasets=[synthetic]"],
        cwd=tmp_path,
        env=clean(tmp_path, os.environ) | server,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "/me/reidlit?nw=abc" in result.stdout
    (first, _) = WandbServer.sent
    assert (first["entityName"], first["projectName"], first["displayName"]) == ("me", "reidlit", "reidlit")
    assert "test/synthetic/ranked_lists" in first["spec"]
    assert "project=me/reidlit" in result.stderr
    assert "permission denied" in " ".join(result.stderr.split())


@pytest.mark.usefixtures("no_account")
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["project=me/reidlit", "datasets=[synthetic]"], "WANDB_API_KEY"),
        (["project=reidlit", "datasets=[synthetic]"], "project=reidlit"),
        (["project=me/reidlit"], "datasets=[]"),
    ],
)
def test_missing_dashboard_settings_are_named(settings, expected, reidlit):
    result = reidlit("dashboard", *settings)
    assert result.status == 1
    assert expected in result.err
