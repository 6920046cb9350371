"""Contact sheets."""

import numpy as np
import pytest
from PIL import Image

from reidlit.data.sample import Sample
from reidlit.visualize.contact_sheet import EMPTY, LABEL, Row, Tile, choose_rows, draw_contact_sheet
from reidlit.visualize.ranked_list import FRAME, GAP, HEADER, HEIGHT, PAPER, QUERY, WIDTH


def listed(pids, cameras, shots=3):
    return [Sample(f"{pid}_{camid}_{shot}", pid, camid) for pid in pids for camid in cameras for shot in range(shots)]


def test_images_keep_aspect_ratio_and_queries_are_framed(tmp_path):
    Image.fromarray(np.full((100, 100, 3), 77, np.uint8)).save(tmp_path / "square.png")
    (tmp_path / "broken.png").touch()
    tiles = [Tile(str(tmp_path / "square.png"), 0, query=True), Tile(str(tmp_path / "broken.png"), -1)]
    path = draw_contact_sheet([Row("train\nid 1", tiles), Row("id 2", [])], tmp_path / "new" / "sheet.png", "a title")
    with Image.open(path) as sheet:
        cell = WIDTH + 2 * FRAME + GAP
        assert [sheet.getpixel((left + 1, HEADER + 1)) for left in (LABEL, LABEL + cell)] == [QUERY, PAPER]
        middle = LABEL + FRAME + WIDTH // 2
        column = [sheet.getpixel((middle, HEADER + FRAME + y)) for y in range(HEIGHT)]
        assert (column.count((77, 77, 77)), column.count(EMPTY)) == (WIDTH, HEIGHT - WIDTH)
        assert sheet.getpixel((middle + cell, HEADER + FRAME + HEIGHT // 2)) == EMPTY
        assert sheet.width > LABEL + 2 * cell


def test_empty_rows_are_refused(tmp_path):
    with pytest.raises(ValueError, match="rows"):
        draw_contact_sheet([], tmp_path / "sheet.png")


def test_choice_is_random_and_covers_all_cameras():
    samples = {
        "train": listed(range(10, 20), range(3)),
        "query": listed(range(30, 36), range(3), shots=1),
        "gallery": listed(range(30, 50), range(3)),  # 36 to 49 are distractors; the first shots are also queries
    }
    rows = choose_rows(samples, identities=7, images=4, seed=3, junk_pids=range(10, 14))
    assert rows == choose_rows(samples, identities=7, images=4, seed=3, junk_pids=range(10, 14))
    assert rows != choose_rows(samples, identities=7, images=4, seed=4, junk_pids=range(10, 14))
    labels = [row.label.split("\n") for row in rows]
    assert [split for split, *_ in labels] == ["train"] * 4 + ["test"] * 3
    pids = [int(identity.removeprefix("id ")) for _, identity, *_ in labels]
    assert set(pids) <= set(range(14, 20)) | set(range(30, 36))
    assert len(set(pids)) == 7
    assert pids == sorted(pids)
    assert {tuple(rest) for _, _, *rest in labels} == {("9 images", "3 cameras")}
    for row in rows:
        assert len({tile.path for tile in row.tiles}) == 4
        assert {tile.camid for tile in row.tiles} == {0, 1, 2}
        queries = [tile.query for tile in row.tiles]
        assert queries == ([True] * 3 + [False] if row.label.startswith("test") else [False] * 4)


@pytest.mark.parametrize("split", ["train", "query"])
def test_single_split_gets_all_rows(split):
    rows = choose_rows({split: listed(range(5), [0])}, identities=4, images=9, seed=0)
    assert [len(row.tiles) for row in rows] == [3] * 4
    assert choose_rows({split: listed(range(5), [0])}, identities=0, images=9, seed=0) == []
    assert choose_rows({}, identities=4, images=9, seed=0) == []


def test_tracklet_shows_its_first_frame():
    (row,) = choose_rows({"train": [Sample(("a", "b"), 1, 2)]}, identities=1, images=5, seed=0)
    assert row.tiles == [Tile("a", 2)]
