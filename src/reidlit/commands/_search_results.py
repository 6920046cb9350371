"""Results of `reidlit search`: as columns, a file, tables in the terminal and a picture."""

import os
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from reidlit.console import say
from reidlit.data.decode import decode
from reidlit.data.sample import readable
from reidlit.inference.features import Features
from reidlit.inference.search.entries import SearchResult
from reidlit.inference.search.gallery import Gallery
from reidlit.tables import write_table
from reidlit.visualize.faces import blurring
from reidlit.visualize.ranked_list import ListedImage, RankedList, draw_ranked_lists

PRINTED = 3  # queries in the terminal
DRAWN = 20  # entries of a list in the picture

Columns: TypeAlias = dict[str, NDArray[Any]]
"""A row for each query and rank."""


def list_nearest(query: Features, gallery: Gallery, nearest: SearchResult, top_k: int, keep_own: bool) -> Columns:
    """Return the `top_k` nearest of each query as columns; unless `keep_own`, without the query's own file.

    Raises:
        ValueError: If no row is left.
    """
    dropped = nearest.ids < 0
    if not keep_own:
        dropped |= _absolute(gallery.about(nearest.ids).paths) == _absolute(query.path)[:, None]
    order = dropped.argsort(axis=1, kind="stable")[:, :top_k]
    kept = ~np.take_along_axis(dropped, order, 1)
    ids, distance = (np.take_along_axis(values, order, 1)[kept] for values in nearest)
    number, place = np.nonzero(kept)
    if not len(ids):
        raise ValueError("no image of the gallery may be listed: see cameras, not_cameras and cross_camera.")
    info = gallery.about(ids)
    return {
        "query": number,
        "query_path": query.path[number],
        "rank": place + 1,
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
    """Print the lists of the first queries."""
    labels = [name for name in ("pid", "camid") if (results[name] >= 0).any()]
    for number in range(min(PRINTED, len(query))):
        table = Table("rank", "distance", *labels, title=readable(query.path[number]), title_justify="left")
        table.add_column("image", overflow="fold")
        for row in np.flatnonzero(results["query"] == number):
            values = [str(results[name][row]) for name in labels]
            name = readable(results["path"][row]) or f"id {results['id'][row]}"
            table.add_row(str(results["rank"][row]), f"{results['distance'][row]:.4g}", *values, name)
        Console().print(table, highlight=False, markup=False)
    if len(query) > PRINTED:
        say(f"the first {PRINTED} of {len(query):,} queries")


def draw_lists(query: Features, results: Columns, file: Path, count: int, blur_faces: bool) -> None:
    """Draw the lists of the first `count` queries if all their images exist."""
    lists = [_ranked_list(number, query, results) for number in range(min(count, len(query)))]
    paths = [image.path for ranked in lists for image in (ranked.query, *ranked.entries)]
    if missing := [path for path in paths if not Path(path).is_file()]:
        example = readable(missing[0]) or "one without a path"
        say(f"no picture: {len(missing)} of {len(paths)} images are not there, such as {example}")
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
    """Return full paths in the same shape; empty ones stay empty."""
    flat = [os.path.abspath(path) if path else "" for path in paths.reshape(-1).tolist()]  # noqa: PTH100 - links stay
    return np.array(flat, object).reshape(paths.shape)
