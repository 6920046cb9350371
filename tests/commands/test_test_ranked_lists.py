"""Ranked lists after `reidlit test`."""

import csv

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from helpers.cli_settings import TINY
from reidlit.visualize.ranked_list import FRAME, GAP, HEADER, JUNK, RIGHT, WIDTH, WRONG

pytestmark = pytest.mark.slow


@pytest.fixture
def drawn_lists(trained, reidlit, tmp_path):
    """Test the trained run with other settings of the callback."""

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
def test_worst_and_best_by_ap(choice, drawn_lists, tmp_path):
    done, folder = drawn_lists(f"choose={choice}", "queries=4", "top_k=3")
    assert done.status == 0, done.err
    table = pyarrow.parquet.read_table(tmp_path / "run" / "per_query.parquet")
    ap = dict(zip(table["path"].to_pylist(), table["ap"].to_pylist(), strict=True))
    found = [ap[path] for path in queries(folder)]
    assert found == sorted(ap.values(), reverse=choice == "best")[:4]


def test_the_table_holds_the_ranked_lists(drawn_lists, tmp_path):
    done, folder = drawn_lists("choose=all", "top_k=9")
    assert done.status == 0, done.err
    found = rows(folder)
    table = pyarrow.parquet.read_table(tmp_path / "run" / "per_query.parquet").to_pylist()
    assert queries(folder) == [row["path"] for row in table]
    assert [row["rank"] for row in found] == [str(rank) for rank in range(1, 10)] * len(table)
    distance = np.array([float(row["distance"]) for row in found]).reshape(-1, 9)
    np.testing.assert_allclose(distance**2, [row["distance"][:9] for row in table], rtol=1e-4)
    assert {row["verdict"] for row in found} == {"same", "other"}
    for row in found:
        assert (row["verdict"] == "same") == (row["pid"] == row["query_pid"])


def test_junk_is_marked_and_a_picture_is_drawn_for_each(drawn_lists):
    done, folder = drawn_lists("choose=[3,0]", "top_k=24", "junk=true", "each=true")
    assert done.status == 0, done.err
    found = rows(folder)
    for row in found:
        same = row["pid"] == row["query_pid"]
        junk = same and row["camid"] == row["query_camid"]
        assert row["verdict"] == ("junk" if junk else "same" if same else "other")
    first = [row["verdict"] for row in found[:24]]
    assert set(first) == {"junk", "same", "other"}  # of all images of the gallery
    pictures = sorted((folder / "synthetic").iterdir())
    assert [path.name[:6] for path in pictures] == ["00000_", "00003_"]
    colours = {"junk": JUNK, "same": RIGHT, "other": WRONG}
    with Image.open(pictures[1]) as picture:
        for column, verdict in enumerate(first, start=1):
            left = 2 * GAP + column * (WIDTH + 2 * FRAME + GAP)
            assert picture.getpixel((left + 1, HEADER + 1)) == colours[verdict]


def test_a_query_by_its_file_and_faces_that_are_blurred(drawn_lists, trained):
    table = pyarrow.parquet.read_table(trained / "per_query.parquet").to_pylist()
    path = table[2]["path"]
    pictures = []
    for blur in ("false", "true"):
        done, folder = drawn_lists(f"choose=['{path}']", f"blur_faces={blur}")
        assert done.status == 0, done.err
        assert queries(folder) == [path]
        with Image.open(folder / "synthetic.png") as picture:
            pictures.append(np.asarray(picture, np.int64))
    changed = np.abs(pictures[0] - pictures[1]).sum(axis=2) > 0
    assert changed[HEADER + FRAME : HEADER + FRAME + 35].any()
    assert not changed[HEADER + FRAME + 60 :].any()


def test_after_post_processing_there_is_no_junk_to_show(drawn_lists):
    done, folder = drawn_lists("junk=true", extra=["eval.postprocess=[k_reciprocal]"])
    assert done.status == 0, done.err
    assert "junk" not in {row["verdict"] for row in rows(folder)}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("choose=nearest", "choose=nearest must be one of random, worst, best, all"),
        ("choose=[999]", "numbered from 0 to"),
        ("choose=[no.jpg]", "'no.jpg', which 0 queries are called"),
        ("top_k=0", "top_k=0 1 or more"),
    ],
)
def test_mistakes_are_named(setting, words, drawn_lists):
    done, _ = drawn_lists(setting)
    assert done.status != 0
    assert words in done.err
