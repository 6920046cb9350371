"""Mean and spread of several runs."""

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
    """Makes the folder of a run by hand; without metrics it has failed."""

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
    """Runs the command; gives what it printed, its JSON, and the rows of its CSV."""

    def run(*arguments):
        folder = tmp_path / "out" / str(len(list(tmp_path.glob("out/*"))))
        result = reidlit("aggregate", *arguments, f"hydra.run.dir={folder}")
        assert result.status == 0, result.err
        found = json.loads((folder / "aggregate.json").read_text())
        with (folder / "aggregate.csv").open(newline="") as opened:
            return result.out, found, list(csv.DictReader(opened))

    return run


def scored(mAP, **others):
    return {"test/market1501/mAP": mAP} | {f"test/market1501/{name}": value for name, value in others.items()}


# --- runs of reidlit


def test_mean_and_spread_of_the_runs_of_a_folder(aggregate, make_run):
    for seed, mAP in enumerate((0.6, 0.7, 0.8)):
        others = {"rank1": 0.9, "num_queries": 100, "EER": None, "has_cameras": True, "cmc": [1.0], "protocol": "p q r"}
        make_run(f"runs/deep/{seed}", ["data=market1501", f"seed={seed}"], scored(mAP, **others))
    printed, found, rows = aggregate("runs")
    (group,) = found["groups"]
    assert (group["command"], group["settings"]) == ("train", {"data": "market1501"})
    assert group["protocols"] == ["p q r"]
    assert group["repeated"] == {"seed": 3}
    assert set(group["metrics"]) == {f"test/market1501/{name}" for name in ("mAP", "rank1", "num_queries")}
    assert found["level"] == 0.95
    figure = group["metrics"]["test/market1501/mAP"]
    # t of 0.975 with 2 degrees of freedom is 4.3027
    expected = {
        "n": 3,
        "mean": 0.7,
        "std": 0.1,
        "low": 0.7 - 4.3027 * 0.1 / 3**0.5,
        "high": 0.7 + 4.3027 * 0.1 / 3**0.5,
    }
    assert figure == pytest.approx(expected, abs=1e-5)
    assert [row["metric"] for row in rows] == list(group["metrics"])
    assert {key: float(rows[0][key]) for key in figure} == pytest.approx(figure)
    assert rows[0]["group"] == "train data=market1501"
    for words in (
        "mAP, %",
        "70.00",
        "10.00",
        "45.16 to 94.84",
        "p q r",
        "3 runs, over seed (3 values)",
        "num_queries ",
    ):
        assert words in printed, words


def test_runs_differ_in_seed_split_and_paths_within_a_group_and_in_nothing_else(make_run, tmp_path):
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


def test_by_says_what_is_ignored(aggregate, make_run):
    for seed in (1, 2):
        for lr in (3, 4):
            make_run(f"runs/{seed}{lr}", [f"seed={seed}", f"optimizer.lr={lr}", "data.root=/x"], scored(seed / lr))
    assert len(aggregate("runs")[1]["groups"]) == 2
    _, found, _ = aggregate("runs", "by=['optimizer.*', sed]")
    assert [group["settings"] for group in found["groups"]] == [
        {"data.root": "/x", "seed": "1"},
        {"data.root": "/x", "seed": "2"},
    ]
    assert found["remarks"] == ["by=sed: no run was given it."]
    assert len(aggregate("runs", "by=[]")[1]["groups"]) == 4


def test_a_figure_that_a_run_does_not_know_does_not_count_it(aggregate, make_run):
    for seed, auc in enumerate((0.5, None, 0.7)):
        make_run(f"runs/{seed}", [f"seed={seed}"], scored(0.5, AUC=auc))
    figures = aggregate("runs")[1]["groups"][0]["metrics"]
    assert figures["test/market1501/mAP"]["n"] == 3
    assert figures["test/market1501/AUC"]["n"] == 2
    assert figures["test/market1501/AUC"]["mean"] == pytest.approx(0.6)


def test_a_single_run_has_no_interval(aggregate, make_run):
    make_run("a", [], scored(0.5))
    printed, found, rows = aggregate("a")
    figure = found["groups"][0]["metrics"]["test/market1501/mAP"]
    assert figure == {"n": 1, "mean": 0.5, "std": None, "low": None, "high": None}
    assert rows[0]["std"] == rows[0]["low"] == ""
    assert "nan" not in printed
    assert "1 run\n" in printed


def test_what_does_not_count_is_told(aggregate, make_run, tmp_path):
    for seed in (1, 2):
        make_run(f"runs/{seed}", [f"seed={seed}"], scored(0.5))
    make_run("runs/failed", ["seed=3"], None)
    make_run("runs/examined", [], None, "doctor")  # leaves no scores, and has not failed
    (tmp_path / "runs" / "bare").mkdir()
    (tmp_path / "runs" / "bare" / "metrics.json").write_text("{}")
    printed, found, _ = aggregate("runs")
    assert len(found["groups"][0]["runs"]) == 2
    bare, failed = found["remarks"]
    assert bare == "runs/bare is not counted: without .hydra/ its settings are unknown."
    assert failed == "runs/failed is not counted: it left no metrics.json, so it failed or still runs."
    assert bare in printed
    assert failed in printed


def test_a_run_that_is_named_twice_counts_once(aggregate, make_run):
    make_run("runs/1", [], scored(0.5))
    _, found, _ = aggregate("runs=[runs,runs/1]")
    assert found["groups"][0]["metrics"]["test/market1501/mAP"]["n"] == 1


def test_settings_are_printed_as_they_are(aggregate, make_run):
    make_run("runs/1", ["eval.postprocess=[rerank]"], scored(0.5))
    assert "train eval.postprocess=[rerank]" in aggregate("runs")[0]


@pytest.mark.slow
def test_a_real_sweep(aggregate, reidlit, tmp_path):
    sweep = [*TRAIN, "trainer.max_epochs=1", "logger=csv", f"hydra.sweep.dir={tmp_path}/sweep"]
    assert reidlit("train", "-m", *sweep, "seed=1,2").status == 0
    values = [json.loads((tmp_path / "sweep" / job / "metrics.json").read_text()) for job in "01"]
    _, found, _ = aggregate("sweep")
    (group,) = found["groups"]
    assert group["command"] == "train"
    assert "seed" not in group["settings"]
    assert set(TINY) <= {f"{key}={value}" for key, value in group["settings"].items()}
    assert group["repeated"] == {"seed": 2}
    for name, figure in group["metrics"].items():
        each = [value[name] for value in values]
        assert figure["mean"] == pytest.approx(statistics.mean(each)), name
        assert figure["std"] == pytest.approx(statistics.stdev(each)), name
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


def test_logs_of_torchreid(aggregate, tmp_path):
    for seed, mAP in ((1, 74.9), (2, 75.9)):
        for loss in ("softmax", "triplet"):
            text = CONFIGURATION.format(seed=seed, loss=loss, space=" ")
            text += results("market1501", 12.3, 45.6) + results("grid", 1.0, 2.0) + results("market1501", mAP, 91.2)
            write_log(tmp_path / "log" / f"{loss}{seed}", text)
    write_log(tmp_path / "log" / "stopped", "=> Start training\n")
    printed, found, rows = aggregate("log")
    softmax, _ = found["groups"]
    assert softmax["repeated"] == {"data.save_dir": 2, "train.seed": 2}
    assert softmax["settings"] == {
        "data.height": "256",
        "data.sources": "['market1501']",
        "loss.name": "softmax",
        "loss.triplet.margin": "0.3",
        "model.name": "osnet_x1_0",
    }
    assert rows[0]["group"] == "torchreid train data.sources=['market1501'] loss.name=softmax model.name=osnet_x1_0"
    assert {name: figure["mean"] for name, figure in softmax["metrics"].items()} == pytest.approx(
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
    assert "log/stopped/train.log-2024-01-01-00-00-00 is not counted: there are no results in it." in found["remarks"]


def test_logs_without_settings_belong_together_as_the_folders_are_given(aggregate, tmp_path):
    for name in ("a/1", "a/2", "b"):
        write_log(tmp_path / name, results("viper", 50.0, 60.0), "test.log")
    _, found, _ = aggregate("a", "b")
    assert [(group["settings"]["folder"], len(group["runs"])) for group in found["groups"]] == [("a", 2), ("b", 1)]
    assert {group["command"] for group in found["groups"]} == {"torchreid test"}


def test_what_torchreid_itself_prints(aggregate, tmp_path, monkeypatch):
    """Its engine scores four one-hot features, of which the gallery has two swapped, into a file of its own logger."""
    engine = pytest.importorskip("torchreid.reid.engine.engine")
    loggers = pytest.importorskip("torchreid.reid.utils.loggers")
    labels = torch.arange(4)
    query = [{"img": torch.eye(4), "pid": labels, "camid": labels * 0}]
    gallery = [{"img": torch.eye(4)[[0, 1, 3, 2]], "pid": labels, "camid": labels * 0 + 1}]
    loaders = {"market1501": {"query": query, "gallery": gallery}}
    scored = engine.Engine(
        SimpleNamespace(train_loader=None, test_loader=loaders, sources=["market1501"]), use_gpu=False
    )
    scored.extract_features = lambda images: images
    console = sys.stdout
    log = loggers.Logger(str(tmp_path / "log" / "test.log-2024-01-01-00-00-00"))
    monkeypatch.setattr(sys, "stdout", log)
    rank1 = scored.test(ranks=[1, 2, 4])
    log.file.close()
    monkeypatch.setattr(sys, "stdout", console)
    _, found, _ = aggregate("log")
    figures = {name: figure["mean"] for name, figure in found["groups"][0]["metrics"].items()}
    assert figures.keys() == {f"test/market1501/{name}" for name in ("mAP", "rank1", "rank2", "rank4")}
    assert figures["test/market1501/rank1"] == rank1 == 0.5
    assert 0.5 < figures["test/market1501/mAP"] < 1


# --- bad input


def failure(reidlit, *arguments):
    result = reidlit("aggregate", *arguments)
    assert result.status == 1
    assert result.err.startswith("reidlit aggregate: ")
    return result.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "runs=[] names no folder: give folders"),
        (["nowhere"], "runs=nowhere"),
        (["runs=5"], "runs=5 must be a list of names"),
        (["empty"], "runs=empty"),
        (["good", "empty"], "runs=empty"),
        (["good", "by=3"], "by=3 must be a list of names"),
    ],
)
def test_bad_arguments(reidlit, make_run, tmp_path, arguments, words):
    make_run("good", [], scored(0.5))
    (tmp_path / "empty").mkdir()
    assert words in failure(reidlit, *arguments)


def test_runs_that_all_failed_are_named(reidlit, make_run):
    make_run("runs/1", [], None)
    err = failure(reidlit, "runs")
    assert "runs=runs contains no run with scores" in err
    assert "runs/1 is not counted: it left no metrics.json" in err


@pytest.mark.parametrize("text", ['{"test/x/mAP": 0.', "[1, 2]", "\xff"])
def test_broken_metrics(reidlit, make_run, text):
    (make_run("runs/1", [], {}) / "metrics.json").write_text(text, encoding="latin-1")
    err = failure(reidlit, "runs")
    assert "runs: runs/1/metrics.json" in err
    assert "run it again" in err


@pytest.mark.parametrize("name", ["overrides.yaml", "hydra.yaml"])
def test_broken_settings(reidlit, make_run, name):
    folder = make_run("runs/1", [], {})
    (folder / ".hydra" / name).write_text("[a")
    assert "runs: runs/1/.hydra/" in failure(reidlit, "runs")
    (folder / ".hydra" / name).unlink()
    assert "runs: runs/1/.hydra/" in failure(reidlit, "runs")


def test_different_metrics_within_a_group(reidlit, make_run):
    make_run("runs/1", ["seed=1"], scored(0.5))
    make_run("runs/2", ["seed=2"], scored(0.5, AUC=0.6))
    err = failure(reidlit, "runs")
    assert "runs/1 and runs/2" in err
    assert "only one has test/market1501/AUC" in err
