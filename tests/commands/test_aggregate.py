"""`reidlit aggregate`: statistics over several runs."""

import csv
import json
import statistics
import sys
from types import SimpleNamespace

import pytest
import torch

from helpers.cli_settings import TINY, TRAIN
from reidlit.commands.aggregate import REPEATED, find_runs, group_runs


@pytest.fixture
def make_run(tmp_path):
    """Write the folder of a run; without metrics the run has failed."""

    def make(name, overrides, metrics, command="train"):
        hydra = tmp_path / name / ".hydra"
        hydra.mkdir(parents=True)
        (hydra / "overrides.yaml").write_text(json.dumps(overrides))
        (hydra / "hydra.yaml").write_text(f"hydra:\n  job:\n    config_name: {command}\n    name: ${{unknown:x}}\n")
        if metrics is not None:
            (hydra.parent / "metrics.json").write_text(json.dumps(metrics))
        return hydra.parent

    return make


@pytest.fixture
def aggregate(reidlit, tmp_path):
    """Run the command; return its output, its JSON, and the rows of its CSV."""

    def run(*arguments):
        folder = tmp_path / "out" / str(len(list(tmp_path.glob("out/*"))))
        result = reidlit("aggregate", *arguments, f"hydra.run.dir={folder}")
        assert result.status == 0, result.err
        written = json.loads((folder / "aggregate.json").read_text())
        with (folder / "aggregate.csv").open(newline="") as opened:
            return result.out, written, list(csv.DictReader(opened))

    return run


def scored(mAP, **others):
    return {"test/market1501/mAP": mAP} | {f"test/market1501/{name}": value for name, value in others.items()}


# --- runs of reidlit


def test_statistics_of_the_runs_in_a_folder(aggregate, make_run):
    for seed, mAP in enumerate((0.6, 0.7, 0.8)):
        others = {"rank1": 0.9, "num_queries": 100, "EER": None, "has_cameras": True, "cmc": [1.0], "protocol": "p q r"}
        make_run(f"runs/deep/{seed}", ["data=market1501", f"seed={seed}"], scored(mAP, **others))
    printed, written, rows = aggregate("runs")
    (group,) = written["groups"]
    assert (group["command"], group["settings"]) == ("train", {"data": "market1501"})
    assert group["protocols"] == ["p q r"]
    assert group["repeated"] == {"seed": 3}
    assert set(group["metrics"]) == {f"test/market1501/{name}" for name in ("mAP", "rank1", "num_queries")}
    assert written["level"] == 0.95
    statistic = group["metrics"]["test/market1501/mAP"]
    # t of 0.975 with 2 degrees of freedom is 4.3027
    expected = {
        "n": 3,
        "mean": 0.7,
        "std": 0.1,
        "low": 0.7 - 4.3027 * 0.1 / 3**0.5,
        "high": 0.7 + 4.3027 * 0.1 / 3**0.5,
    }
    assert statistic == pytest.approx(expected, abs=1e-5)
    assert [row["metric"] for row in rows] == list(group["metrics"])
    assert {key: float(rows[0][key]) for key in statistic} == pytest.approx(statistic)
    assert rows[0]["group"] == "train data=market1501"
    for text in ("mAP", "%", "70.00", "10.00", "45.16", "94.84", "p q r", "3 runs", "seed (3 values)", "num_queries "):
        assert text in printed, text


def test_runs_in_a_group_differ_only_in_seed_split_and_paths(make_run, tmp_path):
    same = (
        [],
        ["seed=2"],
        ["data.split_id=3", "hydra.run.dir=x"],
        ["+data.root=/a", "ckpt_path=b", "weights=c"],
    )
    for number, overrides in enumerate(same):
        make_run(f"runs/{number}", ["model=osnet_x0_25", "model=osnet_x1_0", *overrides], scored(0.5))
    make_run("runs/order", ["seed=1", "++model=osnet_x1_0"], scored(0.5))
    make_run("runs/other", ["model=osnet_x0_5"], scored(0.5))
    make_run("runs/test", ["model=osnet_x1_0"], scored(0.5), "test")
    make_run("runs/protocol", ["model=osnet_x1_0"], scored(0.5, protocol="flip averaged"))
    groups = group_runs(find_runs([str(tmp_path / "runs")])[0], REPEATED)
    assert [[run.path.name for run in group.runs] for group in groups] == [
        ["test"],
        ["other"],
        ["0", "1", "2", "3", "order"],
        ["protocol"],
    ]


def test_by_selects_the_ignored_settings(aggregate, make_run):
    for seed in (1, 2):
        for lr in (3, 4):
            make_run(f"runs/{seed}{lr}", [f"seed={seed}", f"optimizer.lr={lr}", "data.root=/x"], scored(seed / lr))
    assert len(aggregate("runs")[1]["groups"]) == 2
    _, written, _ = aggregate("runs", "by=['optimizer.*', sed]")
    assert [group["settings"] for group in written["groups"]] == [
        {"data.root": "/x", "seed": "1"},
        {"data.root": "/x", "seed": "2"},
    ]
    (remark,) = written["remarks"]
    assert remark.startswith("by=sed")
    assert len(aggregate("runs", "by=[]")[1]["groups"]) == 4


def test_missing_metric_of_a_run_is_not_counted(aggregate, make_run):
    for seed, auc in enumerate((0.5, None, 0.7)):
        make_run(f"runs/{seed}", [f"seed={seed}"], scored(0.5, AUC=auc))
    statistics_by_metric = aggregate("runs")[1]["groups"][0]["metrics"]
    assert statistics_by_metric["test/market1501/mAP"]["n"] == 3
    assert statistics_by_metric["test/market1501/AUC"]["n"] == 2
    assert statistics_by_metric["test/market1501/AUC"]["mean"] == pytest.approx(0.6)


def test_single_run_has_no_interval(aggregate, make_run):
    make_run("a", [], scored(0.5))
    printed, written, rows = aggregate("a")
    statistic = written["groups"][0]["metrics"]["test/market1501/mAP"]
    assert statistic == {"n": 1, "mean": 0.5, "std": None, "low": None, "high": None}
    assert rows[0]["std"] == rows[0]["low"] == ""
    assert "nan" not in printed
    assert "1 run\n" in printed


def test_skipped_folders_are_reported(aggregate, make_run, tmp_path):
    for seed in (1, 2):
        make_run(f"runs/{seed}", [f"seed={seed}"], scored(0.5))
    make_run("runs/failed", ["seed=3"], None)
    make_run("runs/examined", [], None, "doctor")  # has no scores, but did not fail
    (tmp_path / "runs" / "bare").mkdir()
    (tmp_path / "runs" / "bare" / "metrics.json").write_text("{}")
    printed, written, _ = aggregate("runs")
    assert len(written["groups"][0]["runs"]) == 2
    bare, failed = written["remarks"]
    assert "runs/bare" in bare
    assert ".hydra" in bare
    assert "runs/failed" in failed
    assert "metrics.json" in failed
    assert bare in printed
    assert failed in printed


def test_run_listed_twice_counts_once(aggregate, make_run):
    make_run("runs/1", [], scored(0.5))
    _, written, _ = aggregate("runs=[runs,runs/1]")
    assert written["groups"][0]["metrics"]["test/market1501/mAP"]["n"] == 1


def test_brackets_in_settings_are_printed(aggregate, make_run):
    make_run("runs/1", ["eval.postprocess=[rerank]"], scored(0.5))
    assert "train eval.postprocess=[rerank]" in aggregate("runs")[0]


@pytest.mark.slow
def test_statistics_of_a_sweep(aggregate, reidlit, tmp_path):
    sweep = [*TRAIN, "trainer.max_epochs=1", "logger=csv", f"hydra.sweep.dir={tmp_path}/sweep"]
    assert reidlit("train", "-m", *sweep, "seed=1,2").status == 0
    values = [json.loads((tmp_path / "sweep" / job / "metrics.json").read_text()) for job in "01"]
    _, written, _ = aggregate("sweep")
    (group,) = written["groups"]
    assert group["command"] == "train"
    assert "seed" not in group["settings"]
    assert set(TINY) <= {f"{key}={value}" for key, value in group["settings"].items()}
    assert group["repeated"] == {"seed": 2}
    for name, statistic in group["metrics"].items():
        each = [value[name] for value in values]
        assert statistic["mean"] == pytest.approx(statistics.mean(each)), name
        assert statistic["std"] == pytest.approx(statistics.stdev(each)), name
    assert {"test/synthetic/mAP", "test/synthetic/rank1", "test/synthetic/num_valid"} <= set(group["metrics"])


# --- logs of Torchreid

CONFIGURATION = """Show configuration
data:
  height: 256
  root: /data
  save_dir: log/{seed}
  sources: ['market1501']
  split_id: 0
loss:
  name: {loss}
  triplet:
    margin: 0.3
model:
  load_weights:{space}
  name: osnet_x1_0
train:
  seed: {seed}

Collecting env info ...
epoch: [1/60][20/101]\ttime 0.1 (0.2)\teta 0:01:00\tloss 5.0 (6.0) acc 1.0 (2.0)\tlr 0.001500
"""


def results(dataset, mAP, rank1):
    return (
        f"##### Evaluating {dataset} (source) #####\nSpeed: 0.0100 sec/batch\nComputing CMC and mAP ...\n"
        f"** Results **\nmAP: {mAP}%\nCMC curve\nRank-1  : {rank1}%\nRank-10 : 99.0%\nElapsed 0:01:00\n"
    )


def write_log(folder, text, name="train.log-2024-01-01-00-00-00"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_torchreid_logs_are_read(aggregate, tmp_path):
    for seed, mAP in ((1, 74.9), (2, 75.9)):
        for loss in ("softmax", "triplet"):
            text = CONFIGURATION.format(seed=seed, loss=loss, space=" ")
            text += results("market1501", 12.3, 45.6) + results("grid", 1.0, 2.0) + results("market1501", mAP, 91.2)
            write_log(tmp_path / "log" / f"{loss}{seed}", text)
    write_log(tmp_path / "log" / "stopped", "=> Start training\n")
    printed, written, rows = aggregate("log")
    softmax, _ = written["groups"]
    assert softmax["repeated"] == {"data.save_dir": 2, "train.seed": 2}
    assert softmax["settings"] == {
        "data.height": "256",
        "data.sources": "['market1501']",
        "loss.name": "softmax",
        "loss.triplet.margin": "0.3",
        "model.name": "osnet_x1_0",
    }
    assert rows[0]["group"] == "torchreid train data.sources=['market1501'] loss.name=softmax model.name=osnet_x1_0"
    assert {name: statistic["mean"] for name, statistic in softmax["metrics"].items()} == pytest.approx(
        {
            "test/market1501/mAP": 0.754,
            "test/market1501/rank1": 0.912,
            "test/market1501/rank10": 0.99,
            "test/grid/mAP": 0.01,
            "test/grid/rank1": 0.02,
            "test/grid/rank10": 0.99,
        }
    )
    assert "75.40" in printed
    assert any("log/stopped/train.log-2024-01-01-00-00-00" in remark for remark in written["remarks"])


def test_logs_without_settings_are_grouped_by_folder(aggregate, tmp_path):
    for name in ("a/1", "a/2", "b"):
        write_log(tmp_path / name, results("viper", 50.0, 60.0), "test.log")
    _, written, _ = aggregate("a", "b")
    assert [(group["settings"]["folder"], len(group["runs"])) for group in written["groups"]] == [("a", 2), ("b", 1)]
    assert {group["command"] for group in written["groups"]} == {"torchreid test"}


def test_output_of_torchreid_itself_is_read(aggregate, tmp_path, monkeypatch):
    """Torchreid's engine scores four one-hot features, two of them swapped in the gallery, and logs to a file."""
    engine = pytest.importorskip("torchreid.reid.engine.engine")
    loggers = pytest.importorskip("torchreid.reid.utils.loggers")
    labels = torch.arange(4)
    query = [{"img": torch.eye(4), "pid": labels, "camid": labels * 0}]
    gallery = [{"img": torch.eye(4)[[0, 1, 3, 2]], "pid": labels, "camid": labels * 0 + 1}]
    loaders = {"market1501": {"query": query, "gallery": gallery}}
    torchreid_engine = engine.Engine(
        SimpleNamespace(train_loader=None, test_loader=loaders, sources=["market1501"]), use_gpu=False
    )
    torchreid_engine.extract_features = lambda images: images
    console = sys.stdout
    log = loggers.Logger(str(tmp_path / "log" / "test.log-2024-01-01-00-00-00"))
    monkeypatch.setattr(sys, "stdout", log)
    rank1 = torchreid_engine.test(ranks=[1, 2, 4])
    log.file.close()
    monkeypatch.setattr(sys, "stdout", console)
    _, written, _ = aggregate("log")
    statistics_by_metric = {name: statistic["mean"] for name, statistic in written["groups"][0]["metrics"].items()}
    assert statistics_by_metric.keys() == {f"test/market1501/{name}" for name in ("mAP", "rank1", "rank2", "rank4")}
    assert statistics_by_metric["test/market1501/rank1"] == rank1 == 0.5
    assert 0.5 < statistics_by_metric["test/market1501/mAP"] < 1


# --- invalid input


def failure(reidlit, *arguments):
    result = reidlit("aggregate", *arguments)
    assert result.status == 1
    assert result.err.startswith("reidlit aggregate: ")
    return result.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "runs=[]"),
        (["nowhere"], "runs=nowhere"),
        (["runs=5"], "runs=5"),
        (["empty"], "runs=empty"),
        (["good", "empty"], "runs=empty"),
        (["good", "by=3"], "by=3"),
    ],
)
def test_invalid_arguments_are_named(reidlit, make_run, tmp_path, arguments, expected):
    make_run("good", [], scored(0.5))
    (tmp_path / "empty").mkdir()
    assert expected in failure(reidlit, *arguments)


def test_folder_of_failed_runs_is_refused(reidlit, make_run):
    make_run("runs/1", [], None)
    err = failure(reidlit, "runs")
    assert "runs=runs" in err
    assert "runs/1" in err


@pytest.mark.parametrize("text", ['{"test/x/mAP": 0.', "[1, 2]", "\xff"])
def test_invalid_metrics_are_named(reidlit, make_run, text):
    (make_run("runs/1", [], {}) / "metrics.json").write_text(text, encoding="latin-1")
    assert "runs/1/metrics.json" in failure(reidlit, "runs")


@pytest.mark.parametrize("name", ["overrides.yaml", "hydra.yaml"])
def test_invalid_settings_are_named(reidlit, make_run, name):
    folder = make_run("runs/1", [], {})
    (folder / ".hydra" / name).write_text("[a")
    assert "runs/1/.hydra/" in failure(reidlit, "runs")
    (folder / ".hydra" / name).unlink()
    assert "runs/1/.hydra/" in failure(reidlit, "runs")


def test_different_metrics_within_a_group_are_refused(reidlit, make_run):
    make_run("runs/1", ["seed=1"], scored(0.5))
    make_run("runs/2", ["seed=2"], scored(0.5, AUC=0.6))
    err = failure(reidlit, "runs")
    assert all(text in err for text in ("runs/1", "runs/2", "test/market1501/AUC"))
