"""Run and sweep folders of strangers: they reveal nothing about the user, and their names are only text."""

import csv
import json
import re
import shutil

import pyarrow as pa
import pytest
import torch
from omegaconf import OmegaConf
from pyarrow import parquet

from helpers.datasets import draw
from helpers.tampered import edit_json
from reidlit.engine.reid import ReIDModule

SECRET = "hunter2"


@pytest.fixture
def foreign(trained, tmp_path, monkeypatch):
    """Run folder whose files a stranger may have changed, and a secret in the environment and in a file."""
    monkeypatch.setenv("SECRET", SECRET)
    (tmp_path / "secret.txt").write_text(f"https://me:{SECRET}@host\n")
    return shutil.copytree(trained, tmp_path / "run")


def set_setting(folder, name, value):
    file = folder / ".hydra" / "config.yaml"
    config = OmegaConf.load(file)
    OmegaConf.update(config, name, value, force_add=True)
    file.write_text(OmegaConf.to_yaml(config))


@pytest.mark.parametrize("setting", ["model.weights", "data.name", "data.root", "transforms.test.0"])
def test_report_reveals_no_environment_variable(setting, foreign, reidlit):
    set_setting(foreign, setting, "${oc.env:SECRET}")
    done = reidlit("report", "run=run")
    assert done.status == 0, done.err
    page = (foreign / "report.html").read_text()
    assert "${oc.env:SECRET}" in page
    assert SECRET not in page + done.out + done.err


@pytest.mark.parametrize("name", ["hydra.yaml", "overrides.yaml"])
def test_aggregate_reveals_no_environment_variable(name, foreign, reidlit, tmp_path):
    file = foreign / ".hydra" / name
    content = OmegaConf.load(file)
    if name == "hydra.yaml":
        content.hydra.job.config_name = "${oc.env:SECRET}"
    else:
        content.append("x=${oc.env:SECRET}")
    file.write_text(OmegaConf.to_yaml(content))
    done = reidlit("aggregate", "run", "hydra.run.dir=out")
    assert done.status == 0, done.err
    written = "".join(path.read_text() for path in (tmp_path / "out").glob("aggregate.*"))
    assert "oc.env:SECRET" in written
    assert SECRET not in written + done.out + done.err


def test_resumed_sweep_reveals_no_environment_variable(foreign, reidlit):
    sweep = {
        "job": {"config_name": "${oc.env:SECRET}"},
        "overrides": {"task": [], "hydra": []},
        "sweeper": {"_target_": "x"},
    }
    (foreign / "multirun.yaml").write_text(json.dumps({"hydra": sweep}))
    done = reidlit("train", "resume_sweep=run")
    assert done.status == 1
    assert "run" in done.err
    assert SECRET not in done.out + done.err


@pytest.mark.parametrize(
    "name",
    ["metrics.json", "environment.json", "per_query.parquet", "csv/metrics.csv", ".hydra/config.yaml", "error.txt"],
)
def test_links_out_of_a_run_folder_are_refused(name, foreign, reidlit, tmp_path):
    file = foreign / name
    file.parent.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)
    file.symlink_to(tmp_path / "secret.txt")
    done = reidlit("report", "run=run")
    assert done.status == (0 if name == "error.txt" else 1)
    assert name == "error.txt" or file.name in done.err
    page = foreign / "report.html"
    assert SECRET not in done.out + done.err + (page.read_text() if page.exists() else "")


def test_report_shows_no_image_outside_the_data_root(foreign, reidlit, tmp_path):
    draw(tmp_path / "private.png", 200)
    reidlit("report", "run=run")
    before = set(re.findall(r"data:image/jpeg;base64,([\w+/=]+)", (foreign / "report.html").read_text()))
    file = foreign / "per_query.parquet"
    table = parquet.read_table(file)
    paths = pa.array([str(tmp_path / "private.png")] * len(table))
    parquet.write_table(table.set_column(table.column_names.index("path"), "path", paths), file)
    assert reidlit("report", "run=run").status == 0
    after = set(re.findall(r"data:image/jpeg;base64,([\w+/=]+)", (foreign / "report.html").read_text()))
    assert len(after - before) == 1  # a gray placeholder


NAMES = ["[/b].jpg", "=cmd|' ' !A0.jpg", "a\x1b[2J.jpg", "$x^.jpg", ":smile:.jpg"]


@pytest.mark.parametrize("name", NAMES)
def test_search_prints_and_writes_any_name(name, checkpoint, reidlit, tmp_path, monkeypatch):
    """The instance that was reported: a query `[/b].jpg` ended the search after all images were embedded."""
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "gallery" / name, 3)
    draw(tmp_path / "gallery" / "b.jpg", 9)
    shutil.copy(tmp_path / "gallery" / name, tmp_path / "query.jpg")
    done = reidlit("search", "query=query.jpg", "gallery=gallery", f"ckpt_path={checkpoint()}", "hydra.run.dir=x")
    assert done.status == 0, done.err
    assert "\x1b" not in done.out
    assert name.replace("\x1b", "\\x1b") in done.out.replace("\n", "")
    with (tmp_path / "x" / "search.csv").open(newline="", encoding="utf-8") as opened:
        assert any(row["path"].endswith(name) for row in csv.DictReader(opened))


def test_names_in_a_run_are_text_everywhere(foreign, reidlit, tmp_path):
    """A test set whose name is markup, HTML, a formula of Matplotlib and of a spreadsheet, and a control sequence."""
    name = "=[/b]<script>$\\x^\x1b[2J"
    file = foreign / "metrics.json"
    metrics = {
        key.replace("test/synthetic", f"test/{name}".replace("/b", "b")): v
        for key, v in json.loads(file.read_text()).items()
    }
    file.write_text(json.dumps(metrics))
    edit_json(file, protocol="=[/b]<script>\x1b[2J")
    (foreign / ".hydra" / "overrides.yaml").write_text(json.dumps(["a==[/b]<script>\x1b[2J"]))
    for command in (["report", "run=run"], ["aggregate", "run", "hydra.run.dir=out"]):
        done = reidlit(*command)
        assert done.status == 0, done.err
        assert "\x1b" not in done.out + done.err
    assert "<script>" not in (foreign / "report.html").read_text().replace("<script>\n", "")
    with (tmp_path / "out" / "aggregate.csv").open(newline="", encoding="utf-8") as opened:
        rows = list(csv.reader(opened))
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "@"))]


def test_settings_in_a_checkpoint_are_printed_as_text(checkpoint, reidlit):
    path = checkpoint(other_keys={"run_settings": {"data.batch_size": "\x1b[2J[/b]"}})
    assert isinstance(ReIDModule.load_from_checkpoint(path), torch.nn.Module)
    done = reidlit("train", "data.batch_size=12", "test=false", f"ckpt_path={path}", "hydra.run.dir=x")
    assert done.status == 1
    assert "\x1b" not in done.out + done.err
