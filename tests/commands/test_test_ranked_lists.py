"""Ranked lists that `reidlit test` writes."""

import csv

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from helpers.cli_settings import TINY
from reidlit.visualize.ranked_list import FRAME, GAP, HEADER, JUNK, RIGHT, WIDTH, WRONG

pytestmark = pytest.mark.slow


@pytest.fixture
def ranked_lists(trained, reidlit, tmp_path):
    """Run `reidlit test` with settings of the callback; return the result and the folder of ranked lists."""

    def run(*settings, extra=()):
        changes = [f"callbacks.ranked_lists.{setting}" for setting in settings]
        command = ["test", *TINY, f"ckpt_path={trained}/checkpoints/last.ckpt", *changes, *extra]
        done = reidlit(*command, f"hydra.run.dir={tmp_path}/run")
        return done, tmp_path / "run" / "ranked_lists"

    return run


def rows(folder):
    with (folder / "synthetic.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def queries(folder):
    return list(dict.fromkeys(row["query"] for row in rows(folder)))


@pytest.mark.parametrize("choice", ["worst", "best"])
def test_worst_and_best_queries_are_chosen_by_ap(choice, ranked_lists, tmp_path):
    done, folder = ranked_lists(f"choose={choice}", "queries=4", "top_k=3")
    assert done.status == 0, done.err
    table = pyarrow.parquet.read_table(tmp_path / "run" / "per_query.parquet")
    ap = dict(zip(table["path"].to_pylist(), table["ap"].to_pylist(), strict=True))
    written = [ap[path] for path in queries(folder)]
    assert written == sorted(ap.values(), reverse=choice == "best")[:4]


def test_csv_contains_the_ranked_lists(ranked_lists, tmp_path):
    done, folder = ranked_lists("choose=all", "top_k=9")
    assert done.status == 0, done.err
    written = rows(folder)
    table = pyarrow.parquet.read_table(tmp_path / "run" / "per_query.parquet").to_pylist()
    assert queries(folder) == [row["path"] for row in table]
    assert [row["rank"] for row in written] == [str(rank) for rank in range(1, 10)] * len(table)
    distance = np.array([float(row["distance"]) for row in written]).reshape(-1, 9)
    np.testing.assert_allclose(distance**2, [row["distance"][:9] for row in table], rtol=1e-4)
    assert {row["verdict"] for row in written} == {"same", "other"}
    for row in written:
        assert (row["verdict"] == "same") == (row["pid"] == row["query_pid"])


def test_junk_is_marked_and_each_query_gets_a_picture(ranked_lists):
    done, folder = ranked_lists("choose=[3,0]", "top_k=24", "junk=true", "each=true")
    assert done.status == 0, done.err
    written = rows(folder)
    for row in written:
        same = row["pid"] == row["query_pid"]
        junk = same and row["camid"] == row["query_camid"]
        assert row["verdict"] == ("junk" if junk else "same" if same else "other")
    first = [row["verdict"] for row in written[:24]]
    assert set(first) == {"junk", "same", "other"}  # top_k covers the whole gallery
    pictures = sorted((folder / "synthetic").iterdir())
    assert [path.name[:6] for path in pictures] == ["00000_", "00003_"]
    colours = {"junk": JUNK, "same": RIGHT, "other": WRONG}
    with Image.open(pictures[1]) as picture:
        for column, verdict in enumerate(first, start=1):
            left = 2 * GAP + column * (WIDTH + 2 * FRAME + GAP)
            assert picture.getpixel((left + 1, HEADER + 1)) == colours[verdict]


def test_query_is_chosen_by_path_and_faces_are_blurred(ranked_lists, trained):
    table = pyarrow.parquet.read_table(trained / "per_query.parquet").to_pylist()
    path = table[2]["path"]
    pictures = []
    for blur in ("false", "true"):
        done, folder = ranked_lists(f"choose=['{path}']", f"blur_faces={blur}")
        assert done.status == 0, done.err
        assert queries(folder) == [path]
        with Image.open(folder / "synthetic.png") as picture:
            pictures.append(np.asarray(picture, np.int64))
    changed = np.abs(pictures[0] - pictures[1]).sum(axis=2) > 0
    assert changed[HEADER + FRAME : HEADER + FRAME + 35].any()
    assert not changed[HEADER + FRAME + 60 :].any()


def test_post_processing_removes_junk(ranked_lists):
    done, folder = ranked_lists("junk=true", extra=["eval.postprocess=[k_reciprocal]"])
    assert done.status == 0, done.err
    assert "junk" not in {row["verdict"] for row in rows(folder)}


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("choose=nearest", "choose=nearest"),
        ("choose=[999]", "999"),
        ("choose=[no.jpg]", "no.jpg"),
        ("top_k=0", "top_k=0"),
    ],
)
def test_invalid_settings_are_named(setting, expected, ranked_lists):
    done, _ = ranked_lists(setting)
    assert done.status != 0
    assert expected in done.err
