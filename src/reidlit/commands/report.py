"""`reidlit report`: write the results of a run as one HTML page."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from omegaconf import DictConfig

from reidlit.commands._run_dataset import dataset_of
from reidlit.console import say
from reidlit.data.datamodule import ReIDDataModule, count
from reidlit.data.decode import decode
from reidlit.data.images import Read
from reidlit.data.sample import Sample, first_frame
from reidlit.foreign_files import expanded, reading
from reidlit.locks import locked
from reidlit.runs.per_query import Columns, read_per_query
from reidlit.runs.result import TestResult
from reidlit.runs.result_tables import remarks, result_rows
from reidlit.runs.run_folder import RunFolder
from reidlit.visualize.curves import camera_heat_map, cmc_curve, distance_histogram, roc_curve, training_curve
from reidlit.visualize.faces import blurring
from reidlit.visualize.ranked_list import ListedImage
from reidlit.visualize.report_page import Confusion, Plot, QueryResult, Report, write_report

# Label of each training plot, and prefixes of the logged metrics that it shows.
LOGGED = {
    "loss": ("train/loss", "train/softmax", "train/triplet"),
    "training accuracy": ("train/accuracy",),
    "mean pair distance": ("train/positive_distance", "train/negative_distance"),
    "validation": ("val/mAP", "val/rank1"),
    "learning rate": ("lr-",),
}


def run(cfg: DictConfig) -> None:
    """Write the page.

    Raises:
        FileNotFoundError: If the folder `run` does not exist.
        ValueError: If it is not a run folder, or a number is out of range.
    """
    for name in ("queries", "top_k", "confusions"):
        if not isinstance(cfg[name], int) or cfg[name] < (name == "top_k"):
            raise ValueError(f"{name}={cfg[name]} is invalid: must be an integer of at least {int(name == 'top_k')}.")
    folder = RunFolder.open(cfg.run)
    output = expanded(cfg.output) if cfg.output else folder.path / "report.html"
    with locked(output, wait=False, name="output"):
        report, read = build_report(folder, cfg)
        try:
            write_report(report, output, blurring(read) if cfg.blur_faces else read)
        except OSError as error:
            raise OSError(
                f"output={output} cannot be written ({error}). Choose another file with output=<file.html>."
            ) from error
    say(f"report: {output}")


def build_report(folder: RunFolder, cfg: DictConfig) -> tuple[Report, Read]:
    """Collect the contents of the page from the files of a run, and the function that reads its images.

    Raises:
        ValueError: If the run has neither scores nor a training log, or a file is damaged.
    """
    result, logged = folder.result(), folder.training_log()
    if result is None and not logged:
        raise ValueError(
            f"run={folder.path} contains neither metrics.json nor csv/metrics.csv: wait until the run has finished."
        )
    settings = folder.settings()
    tests = [] if result is None else [test for test in result if "mAP" in test.metrics]
    notes = [f"{test.prefix}: {remark}" for test in tests for remark in remarks(test)]
    notes += list(dict.fromkeys(test.protocol for test in tests if test.protocol))
    has_queries = folder.per_query_file.exists()
    queries = read_per_query(folder.own(folder.per_query_file)) if has_queries else {}
    try:
        data = dataset_of(settings, cfg.data_root)
    except (OSError, ValueError) as error:
        data = None
        notes.append(
            f"Images are not shown, because the dataset of the run is not available: {str(error).splitlines()[0]}"
        )
    with reading(folder.settings_file, "Repeat the run."):
        title = f"{_name(settings)}: {folder.path.resolve().name}"
    with reading(f"run={folder.path}", "Repeat the run, or delete the damaged file."):
        lists = {} if data is None else image_results(queries, data.datamodule)
        report = Report(
            title=title,
            facts=_facts(tests),
            results=result_rows(tests),
            result_names=[test.prefix for test in tests],
            remarks=notes,
            plots=plots(tests, queries, logged),
            queries=choose_queries(lists, cfg.queries, cfg.top_k, cfg.seed),
            confusions=confused(lists)[: cfg.confusions],
            sizes=[] if data is None else sizes(data.datamodule),
            config=folder.config_text(),
            environment=folder.environment(),
        )
    return report, decode if data is None else data.confined(decode)


def image_results(
    results: Mapping[str, Columns], datamodule: ReIDDataModule
) -> dict[str, tuple[Columns, list[Sample]]]:
    """Return the results and the gallery of each test set whose queries are images with ranked lists."""
    sets = datamodule.test_sets
    return {
        name: (columns, list(sets[name].gallery))
        for name, columns in results.items()
        if name in sets
        and {"path", "nearest"} <= set(columns)
        and columns["nearest"].max(initial=-1) < len(sets[name].gallery)
    }


def choose_queries(
    lists: Mapping[str, tuple[Columns, list[Sample]]], number: int, top_k: int, seed: int
) -> list[QueryResult]:
    """Choose the queries of the page: one third worst, one third best and one third random, or all if there are few.

    Args:
        lists: Results of each query and gallery of each test set.
        number: Number of queries.
        top_k: Number of gallery images per query.
        seed: Random seed of the choice.
    """
    rows = [(name, row) for name, (columns, _) in lists.items() for row in range(len(columns["ap"]))]
    if len(rows) > number:
        ap = np.concatenate([columns["ap"] for columns, _ in lists.values()])
        order = ap.argsort(kind="stable")
        worst, best = order[: number // 3], order[len(order) - number // 3 :]
        others = np.setdiff1d(order, [*worst, *best])
        sampled = np.random.default_rng(seed).choice(others, number - len(worst) - len(best), replace=False)
        rows = [rows[index] for index in (*worst, *sorted(sampled.tolist()), *best[::-1])]
    return [_query_result(name, row, *lists[name], top_k) for name, row in rows]


def _query_result(name: str, row: int, columns: Columns, gallery: Sequence[Sample], top_k: int) -> QueryResult:
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
    """Return the pairs of identities in which an image of one is rank 1 for a query of the other.

    Returns:
        Confusions, the most frequent first; equally frequent ones by increasing distance.
    """
    confusions: dict[tuple[str, int, int], Confusion] = {}
    for name, (columns, gallery) in lists.items():
        query_pids = set(columns["pid"].tolist())  # other identities are distractors
        for row in np.flatnonzero(columns["first_match"] > 1):
            sample, pid = gallery[int(columns["nearest"][row][0])], int(columns["pid"][row])
            if sample.pid not in query_pids:
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
            old = confusions.get((name, low, high))
            if old is not None:
                new = (new if new.distance < old.distance else old)._replace(times=old.times + 1)
            confusions[name, low, high] = new
    return sorted(confusions.values(), key=lambda pair: (-pair.times, pair.distance))


def plots(
    tests: Sequence[TestResult], queries: Mapping[str, Columns], logged: Mapping[str, tuple[list[float], list[float]]]
) -> dict[str, list[Plot]]:
    """Draw the plots of each heading; omit headings without data."""
    headings = {
        "Retrieval": _retrieval(tests, queries),
        "Verification": _verification(tests),
        "Training": _training(logged),
    }
    return {heading: figures for heading, figures in headings.items() if figures}


def _retrieval(tests: Sequence[TestResult], queries: Mapping[str, Columns]) -> list[Plot]:
    drawn = []
    if queries:
        ranks = {name: columns["first_match"] for name, columns in queries.items()}
        caption = "; ".join(f"{name}: rank-1 {100 * (ranked <= 1).mean():.1f}%" for name, ranked in ranks.items())
        drawn.append(Plot("CMC with 95% intervals", cmc_curve(ranks), caption))
    for test in tests:
        pairs = test.metrics.get("camera_pairs")
        if pairs and pairs["q_camids"] and pairs["g_camids"]:
            values = [value for row in pairs["mAP"] for value in row if value is not None]
            if values:
                caption = f"{100 * min(values):.0f}% to {100 * max(values):.0f}%"
                drawn.append(Plot(f"mAP (%) by camera pair, {test.prefix}", camera_heat_map(pairs), caption))
    return drawn


def _verification(tests: Sequence[TestResult]) -> list[Plot]:
    measured = [test for test in tests if test.metrics.get("AUC") is not None]
    if not measured:
        return []
    caption = "; ".join(f"{test.prefix}: AUC {100 * test.metrics['AUC']:.2f}%" for test in measured)
    curves = {test.prefix: test.metrics["roc"] for test in measured if "roc" in test.metrics}
    drawn = [Plot("ROC", roc_curve(curves), caption)] if curves else []
    for test in measured:
        if histogram := test.metrics.get("histogram"):
            svg = distance_histogram(histogram, test.metrics.get("thresholds", {}).get("EER"))
            eer = test.metrics.get("EER")
            caption = "" if eer is None else f"equal error rate {100 * eer:.2f}%"
            drawn.append(Plot(f"Pair distances, {test.prefix}", svg, caption))
    return drawn


def _training(logged: Mapping[str, tuple[list[float], list[float]]]) -> list[Plot]:
    drawn = []
    for label, prefixes in LOGGED.items():
        curves = {name: curve for name, curve in logged.items() if name.startswith(prefixes)}
        if curves:
            caption = "; ".join(
                f"{name} from {values[0]:.4g} to {values[-1]:.4g}" for name, (_, values) in curves.items()
            )
            drawn.append(Plot(label.capitalize(), training_curve(label, curves), caption))
    return drawn


def sizes(datamodule: ReIDDataModule) -> list[list[str]]:
    """Return rows of dataset, split, identities, images and cameras."""
    trained_on = [part for part in datamodule.sources if "train" in part.splits]
    rows = [(part.name, "train", count(part.training_samples())) for part in trained_on]
    for name, sets in datamodule.test_sets.items():
        rows += [(name, "query", count(sets.query)), (name, "gallery", count(sets.gallery))]
    return [[name, split, *(f"{number:,}" for number in counted)] for name, split, counted in rows]


def _facts(tests: Sequence[TestResult]) -> dict[str, str]:
    values = {test.named(name): test.metrics.get(name) for test in tests for name in ("mAP", "rank1")}
    return {name: f"{100 * value:.2f}%" for name, value in values.items() if value is not None}


def _name(settings: Mapping[str, Any]) -> str:
    """Return the name of the weights or of the backbone, or a placeholder."""
    model = settings.get("model") or {}
    return str(model.get("weights") or (model.get("backbone") or {}).get("name") or "reidlit")
