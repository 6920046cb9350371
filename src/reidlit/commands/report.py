"""`reidlit report`: one HTML page of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from reidlit.commands._data import build_datamodule
from reidlit.console import say
from reidlit.data.datamodule import ReIDDataModule, count
from reidlit.data.decode import decode
from reidlit.data.sample import Sample, first_frame
from reidlit.runs.per_query import Columns, read_per_query
from reidlit.runs.result import TestResult
from reidlit.runs.result_tables import remarks, result_rows
from reidlit.runs.run_folder import RunFolder
from reidlit.spec import check_saved
from reidlit.visualize.curves import camera_heat_map, cmc_curve, distance_histogram, roc_curve, training_curve
from reidlit.visualize.faces import blurring
from reidlit.visualize.ranked_list import ListedImage
from reidlit.visualize.report_page import Confusion, Plot, QueryResult, Report, write_report

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
    for name in ("queries", "top_k", "confusions"):
        if not isinstance(cfg[name], int) or cfg[name] < (name == "top_k"):
            raise ValueError(f"{name}={cfg[name]} must be an integer from {int(name == 'top_k')}.")
    folder = RunFolder.open(cfg.run)
    output = Path(cfg.output).expanduser() if cfg.output else folder.path / "report.html"
    read = blurring(decode) if cfg.blur_faces else decode
    say(f"report: {write_report(build_report(folder, cfg), output, read)}")


def build_report(folder: RunFolder, cfg: DictConfig) -> Report:
    """Collect what a run has left.

    Raises:
        ValueError: If it has left neither scores nor a log.
    """
    result, logged = folder.result(), folder.training_log()
    if result is None and not logged:
        raise ValueError(f"run={folder.path} has neither metrics.json nor csv/metrics.csv: let it finish first.")
    config = folder.config()
    tests = [] if result is None else [test for test in result if "mAP" in test.metrics]
    told = [f"{test.prefix}: {remark}" for test in tests for remark in remarks(test)]
    told += list(dict.fromkeys(test.protocol for test in tests if test.protocol))
    datamodule, missing = dataset(config, cfg.data_root)
    queries = read_per_query(folder.per_query_file)
    lists = answered(queries, datamodule) if datamodule is not None else {}
    return Report(
        title=f"{_name(config)}: {folder.path.resolve().name}",
        facts=_facts(tests),
        results=result_rows(tests),
        result_names=[test.prefix for test in tests],
        remarks=[*told, *missing],
        plots=plots(tests, queries, logged),
        queries=chosen(lists, cfg.queries, cfg.top_k, cfg.seed),
        confusions=confused(lists)[: cfg.confusions],
        sizes=[] if datamodule is None else sizes(datamodule),
        config=OmegaConf.to_yaml(config),
        environment=folder.environment(),
    )


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


def chosen(lists: Mapping[str, tuple[Columns, list[Sample]]], number: int, top_k: int, seed: int) -> list[QueryResult]:
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


def _asked(name: str, row: int, columns: Columns, gallery: Sequence[Sample], top_k: int) -> QueryResult:
    pid = int(columns["pid"][row])
    answers = []
    for index, distance in zip(columns["nearest"][row][:top_k], columns["distance"][row], strict=False):
        if index < 0:
            break
        sample = gallery[int(index)]
        answers.append(
            ListedImage(first_frame(sample.path), sample.pid, sample.camid, float(distance), sample.pid == pid)
        )
    return QueryResult(
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
    tests: Sequence[TestResult], queries: Mapping[str, Columns], logged: Mapping[str, tuple[list[float], list[float]]]
) -> dict[str, list[Plot]]:
    """Draw the plots by heading; those without data are left out."""
    headings = {
        "Retrieval": _retrieval(tests, queries),
        "Verification": _verification(tests),
        "Training": _training(logged),
    }
    return {heading: drawn for heading, drawn in headings.items() if drawn}


def _retrieval(tests: Sequence[TestResult], queries: Mapping[str, Columns]) -> list[Plot]:
    drawn = []
    if queries:
        ranks = {name: columns["first_match"] for name, columns in queries.items()}
        caption = "; ".join(f"{name}: rank-1 {100 * (ranked <= 1).mean():.1f} %" for name, ranked in ranks.items())
        drawn.append(Plot("CMC, with 95 % intervals", cmc_curve(ranks), caption))
    for test in tests:
        pairs = test.metrics.get("camera_pairs")
        if pairs and pairs["q_camids"] and pairs["g_camids"]:
            values = [value for row in pairs["mAP"] for value in row if value is not None]
            if values:
                caption = f"from {100 * min(values):.0f} to {100 * max(values):.0f} % between cameras"
                drawn.append(Plot(f"mAP (%) between cameras, {test.prefix}", camera_heat_map(pairs), caption))
    return drawn


def _verification(tests: Sequence[TestResult]) -> list[Plot]:
    measured = [test for test in tests if test.metrics.get("AUC") is not None]
    if not measured:
        return []
    caption = "; ".join(f"{test.prefix}: AUC {100 * test.metrics['AUC']:.2f} %" for test in measured)
    drawn = [Plot("ROC", roc_curve({test.prefix: test.metrics["roc"] for test in measured}), caption)]
    for test in measured:
        if histogram := test.metrics.get("histogram"):
            svg = distance_histogram(histogram, test.metrics.get("thresholds", {}).get("EER"))
            caption = f"equal error rate {100 * test.metrics['EER']:.2f} %"
            drawn.append(Plot(f"Distances of pairs, {test.prefix}", svg, caption))
    return drawn


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


def _facts(tests: Sequence[TestResult]) -> dict[str, str]:
    return {test.named(name): f"{100 * test.metrics[name]:.2f} %" for test in tests for name in ("mAP", "rank1")}


def _name(config: Any) -> str:
    """The model's name as far as the configuration tells it."""
    model = config.get("model") or {}
    return str(model.get("weights") or (model.get("backbone") or {}).get("name") or "reidlit")
