"""Pictures of ranked lists."""

import numpy as np
import pytest
from PIL import Image

from reidlit.visualize.ranked_list import (
    FRAME,
    GAP,
    HEADER,
    QUERY,
    RIGHT,
    WIDTH,
    WRONG,
    ListedImage,
    RankedList,
    draw_ranked_lists,
)


@pytest.fixture
def image(tmp_path):
    Image.fromarray(np.full((128, 64, 3), 77, np.uint8)).save(tmp_path / "person.png")
    return str(tmp_path / "person.png")


def test_frame_color_shows_correct_matches(image, tmp_path):
    entries = [ListedImage(image, 1, 2, 0.5, True), ListedImage(image, 9, 3, 0.7, False)]
    path = draw_ranked_lists([RankedList(ListedImage(image, 1, 0), entries)], tmp_path / "new" / "lists.png", "a title")
    with Image.open(path) as sheet:
        cell = WIDTH + 2 * FRAME + GAP
        corners = [GAP, 2 * GAP + cell, 2 * GAP + 2 * cell]
        assert [sheet.getpixel((left + 1, HEADER + 1)) for left in corners] == [QUERY, RIGHT, WRONG]
        assert sheet.getpixel((GAP + FRAME + WIDTH // 2, HEADER + 80)) == (77, 77, 77)


def test_lists_may_differ_in_length(image, tmp_path):
    query = ListedImage(image, 1, 0)
    lists = [RankedList(query, [ListedImage(image, 1, 1, 0.1, True)] * 3), RankedList(query, [])]
    with Image.open(draw_ranked_lists(lists, tmp_path / "lists.png")) as sheet:
        assert sheet.width > 4 * WIDTH


def test_empty_lists_are_refused(tmp_path):
    with pytest.raises(ValueError, match="lists"):
        draw_ranked_lists([], tmp_path / "lists.png")


def test_tracklet_is_a_strip_of_evenly_spaced_frames(tmp_path):
    frames = []
    for value in range(0, 250, 50):
        frames.append(str(tmp_path / f"{value}.png"))
        Image.fromarray(np.full((128, 64, 3), value, np.uint8)).save(frames[-1])
    tracklet = ListedImage(frames[0], 1, 0, frames=frames)
    short = ListedImage(frames[3], 2, 1, 0.5, False, frames=frames[3:4])
    with Image.open(draw_ranked_lists([RankedList(tracklet, [short])], tmp_path / "lists.png")) as sheet:
        row = HEADER + FRAME + 80
        shown = [sheet.getpixel((GAP + FRAME + place * WIDTH + WIDTH // 2, row))[0] for place in range(3)]
        assert shown == [0, 100, 200]
        left = 2 * GAP + 3 * WIDTH + 2 * FRAME + GAP
        assert sheet.getpixel((left + FRAME + WIDTH // 2, row)) == (150, 150, 150)
        assert sheet.getpixel((left + 2 * FRAME + WIDTH + 2, row)) == (
            255,
            255,
            255,
        )  # the strip is as wide as its single frame
