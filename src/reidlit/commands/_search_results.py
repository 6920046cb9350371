"""Results of `reidlit search`: columns, file, terminal tables and picture."""

import os
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from reidlit.console import say, show
from reidlit.data.decode import decode
from reidlit.data.sample import readable
from reidlit.inference.features import Features
from reidlit.inference.search.entries import SearchResult
from reidlit.inference.search.gallery import Gallery
from reidlit.tables import write_table
from reidlit.visualize.faces import blurring
from reidlit.visualize.ranked_list import ListedImage, RankedList, draw_ranked_lists

PRINTED = 3  # printed queries
DRAWN = 20  # drawn entries per query

Columns: TypeAlias = dict[str, NDArray[Any]]
"""Columns with one row for each query and rank."""


def list_nearest(query: Features, gallery: Gallery, nearest: SearchResult, top_k: int, keep_own: bool) -> Columns:
    """Convert a search result to columns.

    Args:
        query: Embedded queries.
        gallery: Gallery that was searched.
        nearest: Ids and distances of the nearest gallery images.
        top_k: Number of entries per query.
        keep_own: Whether to keep the query file itself.

    Raises:
        ValueError: If no entry is left.
    """
    dropped = nearest.ids < 0
    if not keep_own:
        dropped |= _absolute(gallery.about(nearest.ids).paths) == _absolute(query.path)[:, None]
    order = dropped.argsort(axis=1, kind="stable")[:, :top_k]
    kept = ~np.take_along_axis(dropped, order, 1)
    ids, distance = (np.take_along_axis(values, order, 1)[kept] for values in nearest)
    number, position = np.nonzero(kept)
    if not len(ids):
        raise ValueError(
            "No gallery image is left for any query: the filters cameras, not_cameras and cross_camera exclude all. "
            "Relax them."
        )
    info = gallery.about(ids)
    return {
        "query": number,
        "query_path": query.path[number],
        "rank": position + 1,
        "distance": distance,
        "path": info.paths.astype(str),
        "pid": info.pids,
        "camid": info.camids,
        "id": ids,
    }


def write_results(results: Columns, file: Path) -> None:
    """Write all results as a table."""
    texts = {name: np.array([readable(path) for path in results[name].tolist()]) for name in ("query_path", "path")}
    write_table(file, results | texts)


def print_lists(query: Features, results: Columns) -> None:
    """Print the ranked lists of the first queries."""
    labels = [name for name in ("pid", "camid") if (results[name] >= 0).any()]
    for number in range(min(PRINTED, len(query))):
        table = Table("rank", "distance", *labels, title=readable(query.path[number]), title_justify="left")
        table.add_column("image", overflow="fold")
        for row in np.flatnonzero(results["query"] == number):
            values = [str(results[name][row]) for name in labels]
            name = readable(results["path"][row]) or f"id {results['id'][row]}"
            table.add_row(str(results["rank"][row]), f"{results['distance'][row]:.4g}", *values, name)
        show(table)
    if len(query) > PRINTED:
        say(f"showing {PRINTED} of {len(query):,} queries")


def draw_lists(query: Features, results: Columns, file: Path, count: int, blur_faces: bool) -> None:
    """Draw the ranked lists of the first `count` queries, if all their images exist."""
    lists = [_ranked_list(number, query, results) for number in range(min(count, len(query)))]
    paths = [image.path for ranked in lists for image in (ranked.query, *ranked.entries)]
    if missing := [path for path in paths if not Path(path).is_file()]:
        example = readable(missing[0]) or "an image without a path"
        say(f"picture skipped: {len(missing)} of {len(paths)} images do not exist, for example {example}")
    elif lists:
        draw_ranked_lists(lists, file, "reidlit search", blurring(decode) if blur_faces else decode)
        say(f"picture: {file}")


def _ranked_list(number: int, query: Features, results: Columns) -> RankedList:
    pid = int(query.pid[number])
    entries = []
    for row in np.flatnonzero(results["query"] == number)[:DRAWN].tolist():
        other, camid = int(results["pid"][row]), int(results["camid"][row])
        match = other == pid if min(pid, other) >= 0 else None
        entries.append(ListedImage(results["path"][row], other, camid, float(results["distance"][row]), match))
    return RankedList(ListedImage(str(query.path[number]), pid, int(query.camid[number])), entries)


def _absolute(paths: NDArray[Any]) -> NDArray[Any]:
    """Return absolute paths in the same shape; empty paths stay empty."""
    flat = [os.path.abspath(path) if path else "" for path in paths.reshape(-1).tolist()]  # noqa: PTH100 - keeps links
    return np.array(flat, object).reshape(paths.shape)
