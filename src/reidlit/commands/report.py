"""`reidlit report`: one HTML page of a run."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from reidlit.commands import common
from reidlit.commands._data import build_datamodule
from reidlit.commands._results import remarks, result_rows
from reidlit.data.datamodule import ReIDDataModule, count
from reidlit.data.decode import decode
from reidlit.data.sample import Sample, first_frame
from reidlit.spec import check_saved
from reidlit.visualize.curves import camera_heat_map, cmc_curve, distance_histogram, roc_curve, training_curve
from reidlit.visualize.faces import blurring
from reidlit.visualize.report_page import Answer, Asked, Confusion, Plot, Report, write_report

Columns = dict[str, NDArray[Any]]
# What was logged in training, a plot each: the label, and how the columns begin.
LOGGED = {
    "loss": ("train/loss", "train/softmax", "train/triplet"),
    "accuracy in training": ("train/accuracy",),
    "mean distance of pairs": ("train/positive_distance", "train/negative_distance"),
    "validation": ("val/mAP", "val/rank1"),
    "learning rate": ("lr-",),
}

BUILT = ("data", "sampler", "transforms")  # of a run's settings, to list its dataset anew


def run(cfg: DictConfig) -> None:
    """Write the page.

    Raises:
        FileNotFoundError: if the folder is not there.
        ValueError: if it is of no run, or a number is out of range.
    """
    folder = Path(cfg.run).expanduser()
    for name in ("queries", "top_k", "confusions"):
        if not isinstance(cfg[name], int) or cfg[name] < (name == "top_k"):
            raise ValueError(f"{name}={cfg[name]} must be an integer from {int(name == 'top_k')}.")
    if not folder.is_dir():
        raise FileNotFoundError(f"run={cfg.run} does not exist: give the folder of a reidlit train or test.")
    settings = folder / ".hydra" / "config.yaml"
    if not settings.is_file():
        raise ValueError(f"run={cfg.run} is of no run: there is no .hydra/config.yaml in it.")
    output = Path(cfg.output).expanduser() if cfg.output else folder / "report.html"
    read = blurring(decode) if cfg.blur_faces else decode
    common.say(f"report: {write_report(build_report(folder, settings, cfg), output, read)}")


def build_report(folder: Path, settings: Path, cfg: DictConfig) -> Report:
    """What is known of a run.

    Raises:
        ValueError: if it has left neither scores nor a log.
    """
    metrics = _json(folder / "metrics.json")
    logged = read_log(folder / "csv" / "metrics.csv")
    if not metrics and not logged:
        raise ValueError(f"run={folder} has neither metrics.json nor csv/metrics.csv: let it finish first.")
    try:
        config = OmegaConf.load(settings)
    except (YAMLError, OmegaConfBaseException, OSError, ValueError) as error:
        raise ValueError(f"run={folder}: {settings} cannot be read ({type(error).__name__}).") from error
    prefixes = [name.removesuffix("/mAP") for name in metrics if name.endswith("/mAP")]
    told = [f"{prefix}: {remark}" for prefix in prefixes for remark in remarks(metrics, prefix)]
    told += list(dict.fromkeys(metrics[f"{prefix}/protocol"] for prefix in prefixes if f"{prefix}/protocol" in metrics))
    datamodule, missing = dataset(config, cfg.data_root)
    results = per_query(folder / "per_query.parquet")
    lists = answered(results, datamodule) if datamodule is not None else {}
    return Report(
        title=f"{_name(config)}: {folder.resolve().name}",
        facts=_facts(metrics, prefixes),
        results=result_rows(metrics, prefixes),
        result_names=prefixes,
        remarks=[*told, *missing],
        plots=plots(metrics, prefixes, results, logged),
        queries=chosen(lists, cfg.queries, cfg.top_k, cfg.seed),
        confusions=confused(lists)[: cfg.confusions],
        sizes=[] if datamodule is None else sizes(datamodule),
        config=OmegaConf.to_yaml(config),
        environment=_json(folder / "environment.json"),
    )


def read_log(file: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Steps and values of each column of Lightning's CSV log; empty where there is none."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    if not file.is_file():
        return found
    with file.open(newline="", encoding="utf-8") as opened:
        for row in csv.DictReader(opened):
            for name, value in row.items():
                if value and name not in ("step", "epoch"):
                    steps, values = found.setdefault(name, ([], []))
                    steps.append(float(row["step"]))
                    values.append(float(value))
    return found


def dataset(config: Any, root: str | None) -> tuple[ReIDDataModule | None, list[str]]:
    """The run's data, and what to say if they are not there."""
    try:
        named = {part: OmegaConf.to_container(config[part], resolve=False) for part in BUILT if part in config}
        check_saved(named, "the run's config.yaml", ("reidlit.data", "albumentations"))
        config.data.pack = None  # pictures are read from the files
        if root is not None:
            config.data.root = root
        datamodule = build_datamodule(config)
        datamodule.setup("test")
    except (OSError, ValueError) as error:
        return None, [f"Without pictures: the data of the run were not found ({str(error).splitlines()[0]})."]
    return datamodule, []


def per_query(file: Path) -> dict[str, Columns]:
    """The results of each query by dataset, without queries that do not count."""
    if not file.is_file():
        return {}
    table = pyarrow.parquet.read_table(file)
    columns: Columns = {
        name: np.array(table[name].to_pylist() if name in ("nearest", "distance") else table[name].to_numpy())
        for name in table.column_names
    }
    return {
        str(name): {
            key: values[(columns["dataset"] == name) & (columns["num_matches"] > 0)] for key, values in columns.items()
        }
        for name in np.unique(columns["dataset"])
    }


def answered(results: Mapping[str, Columns], datamodule: ReIDDataModule) -> dict[str, tuple[Columns, list[Sample]]]:
    """The results of those test sets whose queries are images and have ranked lists, with the gallery's samples."""
    sets = datamodule.test_sets
    return {
        name: (columns, list(sets[name].gallery))
        for name, columns in results.items()
        if name in sets
        and {"path", "nearest"} <= set(columns)
        and columns["nearest"].max(initial=-1) < len(sets[name].gallery)
    }


def chosen(lists: Mapping[str, tuple[Columns, list[Sample]]], number: int, top_k: int, seed: int) -> list[Asked]:
    """A third each of the worst, the best and drawn queries of all test sets; all of them if there are few."""
    places = [(name, row) for name, (columns, _) in lists.items() for row in range(len(columns["ap"]))]
    if len(places) > number:
        ap = np.concatenate([columns["ap"] for columns, _ in lists.values()])
        order = ap.argsort(kind="stable")
        worst, best = order[: number // 3], order[len(order) - number // 3 :]
        others = np.setdiff1d(order, [*worst, *best])
        drawn = np.random.default_rng(seed).choice(others, number - len(worst) - len(best), replace=False)
        places = [places[place] for place in (*worst, *sorted(drawn.tolist()), *best[::-1])]
    return [_asked(name, row, *lists[name], top_k) for name, row in places]


def _asked(name: str, row: int, columns: Columns, gallery: Sequence[Sample], top_k: int) -> Asked:
    pid = int(columns["pid"][row])
    answers = []
    for index, distance in zip(columns["nearest"][row][:top_k], columns["distance"][row], strict=False):
        if index < 0:
            break
        sample = gallery[int(index)]
        answers.append(Answer(first_frame(sample.path), sample.pid, sample.camid, float(distance), sample.pid == pid))
    return Asked(
        name,
        str(columns["path"][row]),
        pid,
        int(columns["camid"][row]),
        float(columns["ap"][row]),
        int(columns["first_match"][row]),
        answers,
    )


def confused(lists: Mapping[str, tuple[Columns, list[Sample]]]) -> list[Confusion]:
    """Pairs of the queries' identities of which one came first for the other, most frequent first, then nearest."""
    found: dict[tuple[str, int, int], Confusion] = {}
    for name, (columns, gallery) in lists.items():
        known = set(columns["pid"].tolist())  # others are distractors
        for row in np.flatnonzero(columns["first_match"] > 1):
            sample, pid = gallery[int(columns["nearest"][row][0])], int(columns["pid"][row])
            if sample.pid not in known:
                continue
            low, high = sorted((pid, sample.pid))
            new = Confusion(
                name,
                low,
                high,
                1,
                str(columns["path"][row]),
                first_frame(sample.path),
                float(columns["distance"][row][0]),
            )
            old = found.get((name, low, high))
            if old is not None:
                new = (new if new.distance < old.distance else old)._replace(times=old.times + 1)
            found[name, low, high] = new
    return sorted(found.values(), key=lambda pair: (-pair.times, pair.distance))


def plots(
    metrics: Mapping[str, Any],
    prefixes: Sequence[str],
    results: Mapping[str, Columns],
    logged: Mapping[str, tuple[list[float], list[float]]],
) -> dict[str, list[Plot]]:
    """The figures, by heading; those of which nothing is known are left out."""
    return {heading: found for heading, found in (
        ("Retrieval", _retrieval(metrics, prefixes, results)),
        ("Verification", _verification(metrics, prefixes)),
        ("Training", _training(logged)),
    ) if found}  # fmt: skip


def _retrieval(metrics: Mapping[str, Any], prefixes: Sequence[str], results: Mapping[str, Columns]) -> list[Plot]:
    found = []
    if results:
        ranks = {name: columns["first_match"] for name, columns in results.items()}
        told = "; ".join(f"{name}: rank-1 {100 * (ranked <= 1).mean():.1f} %" for name, ranked in ranks.items())
        found.append(Plot("CMC, with 95 % intervals", cmc_curve(ranks), told))
    for prefix in prefixes:
        pairs = metrics.get(f"{prefix}/camera_pairs")
        if pairs and pairs["q_camids"] and pairs["g_camids"]:
            values = [value for row in pairs["mAP"] for value in row if value is not None]
            if values:
                told = f"from {100 * min(values):.0f} to {100 * max(values):.0f} % between cameras"
                found.append(Plot(f"mAP (%) between cameras, {prefix}", camera_heat_map(pairs), told))
    return found


def _verification(metrics: Mapping[str, Any], prefixes: Sequence[str]) -> list[Plot]:
    found = []
    curves = {prefix: metrics[f"{prefix}/roc"] for prefix in prefixes if metrics.get(f"{prefix}/AUC") is not None}
    if curves:
        told = "; ".join(f"{prefix}: AUC {100 * metrics[f'{prefix}/AUC']:.2f} %" for prefix in curves)
        found.append(Plot("ROC", roc_curve(curves), told))
    for prefix in curves:
        if histogram := metrics.get(f"{prefix}/histogram"):
            svg = distance_histogram(histogram, metrics.get(f"{prefix}/thresholds", {}).get("EER"))
            told = f"equal error rate {100 * metrics[f'{prefix}/EER']:.2f} %"
            found.append(Plot(f"Distances of pairs, {prefix}", svg, told))
    return found


def _training(logged: Mapping[str, tuple[list[float], list[float]]]) -> list[Plot]:
    found = []
    for label, beginnings in LOGGED.items():
        curves = {name: curve for name, curve in logged.items() if name.startswith(beginnings)}
        if curves:
            told = "; ".join(f"{name} from {values[0]:.4g} to {values[-1]:.4g}" for name, (_, values) in curves.items())
            found.append(Plot(label.capitalize(), training_curve(label, curves), told))
    return found


def sizes(datamodule: ReIDDataModule) -> list[list[str]]:
    """Rows of dataset, part, identities, images and cameras."""
    trained_on = [part for part in datamodule.sources if "train" in part.splits]
    rows = [(part.name, "training", count(part.training_samples())) for part in trained_on]
    for name, sets in datamodule.test_sets.items():
        rows += [(name, "query", count(sets.query)), (name, "gallery", count(sets.gallery))]
    return [[name, split, *(f"{number:,}" for number in counted)] for name, split, counted in rows]


def _facts(metrics: Mapping[str, Any], prefixes: Sequence[str]) -> dict[str, str]:
    return {
        f"{prefix}/{name}": f"{100 * metrics[f'{prefix}/{name}']:.2f} %"
        for prefix in prefixes
        for name in ("mAP", "rank1")
    }


def _name(config: Any) -> str:
    """The model's name as far as the configuration tells it."""
    model = config.get("model") or {}
    return str(model.get("weights") or (model.get("backbone") or {}).get("name") or "reidlit")


def _json(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}
