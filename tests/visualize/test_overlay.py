"""Heat maps over images."""

import numpy as np
import pytest
import torch
from PIL import Image

import reidlit
from reidlit.visualize.activation_map import activation_map
from reidlit.visualize.overlay import COLUMNS, MapPanel, colour_map, draw_maps, overlay
from reidlit.visualize.ranked_list import CAPTION, GAP, HEADER, HEIGHT, PAPER, WIDTH

SIZE = (128, 64)


@pytest.fixture
def corner():
    """Return a gray image with a heat map that is 1 in the lower left corner."""
    heat = np.zeros(SIZE, np.float32)
    heat[96:, :24] = 1
    return MapPanel(np.full((*SIZE, 3), 128, np.uint8), heat, "a name.jpg\nid 7, cam 1")


def test_high_values_are_red_and_low_values_are_blue():
    cold, hot = colour_map(np.array([[0, 1]], np.float32))[0].astype(int)
    assert hot[0] > 100
    assert max(hot[1:]) < 20
    assert cold[2] > max(cold[:2])


def test_overlay_averages_image_and_map(corner):
    result = overlay(corner.image, corner.heat).astype(float)
    np.testing.assert_allclose(result, (128 + colour_map(corner.heat)) / 2, atol=0.5)


def test_textured_corner_is_red_in_the_overlay():
    torch.manual_seed(0)
    model = reidlit.build_model("resnet18", 3, image_size=SIZE).eval()
    image = np.zeros((*SIZE, 3), np.uint8)
    image[:32, 32:] = np.random.default_rng(0).integers(0, 256, (32, 32, 3))
    batch = torch.from_numpy(image).permute(2, 0, 1)[None]
    heat = activation_map(model, batch, "backbone.network.layer1")[0].numpy()
    assert heat[:32, 32:].mean() > 2 * heat[64:].mean()
    shown = overlay(np.zeros_like(image), heat).astype(int)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert row < 40
    assert column >= 24
    assert shown[row, column].argmax() == 0
    assert shown[110, 10].argmax() == 2


def test_sheet_contains_image_map_and_overlay(corner, tmp_path):
    path = draw_maps([corner] * (COLUMNS + 1), tmp_path / "new" / "sheet.png", "a title")
    width, height = 3 * WIDTH + GAP, HEIGHT + CAPTION + GAP
    with Image.open(path) as sheet:
        assert sheet.mode == "RGB"
        assert sheet.size == (COLUMNS * width + GAP, 2 * height + HEADER + GAP)
        for column, row in ((0, 0), (COLUMNS - 1, 0), (0, 1)):
            left, top = GAP + column * width, HEADER + row * height
            image, heat, both = (sheet.getpixel((left + place * WIDTH + 8, top + HEIGHT - 8)) for place in range(3))
            assert image == (128, 128, 128)
            assert heat == tuple(colour_map(np.ones((1, 1)))[0, 0])
            assert both[0] > 100
            assert max(both[1:]) < 80
            above = sheet.getpixel((left + WIDTH + 8, top + 8))
            assert above == tuple(colour_map(np.zeros((1, 1)))[0, 0])
            caption = sheet.crop((left, top + HEIGHT, left + 3 * WIDTH, top + HEIGHT + CAPTION))
            assert np.array(caption).min() < 100
        assert sheet.getpixel((GAP + width + 8, HEADER + height + 8)) == PAPER  # the second row has one panel


def test_long_captions_stay_within_their_panel(corner, tmp_path):
    long = corner._replace(caption="folder_" * 40 + "0001.jpg")
    with Image.open(draw_maps([long, corner._replace(caption="")], tmp_path / "sheet.png")) as sheet:
        top = HEADER + HEIGHT
        right = sheet.crop((GAP + 3 * WIDTH, top, sheet.width, top + CAPTION))
        assert (np.array(right) == PAPER).all()


def test_long_title_widens_the_sheet(corner, tmp_path):
    with Image.open(draw_maps([corner], tmp_path / "sheet.png", "word " * 30)) as sheet:
        assert sheet.width > 3 * WIDTH + 2 * GAP


@pytest.mark.parametrize(
    ("image", "heat", "expected"),
    [
        (np.zeros((4, 2, 3), np.uint8), np.zeros((2, 4)), r"\(4, 2, 3\).*uint8.*\(2, 4\)"),
        (np.zeros((4, 2, 3)), np.zeros((4, 2)), "float64"),
        (np.zeros((4, 2, 3), np.uint8), np.full((4, 2), np.nan), "heat.*nan"),
        (np.zeros((4, 2, 3), np.uint8), np.full((4, 2), 255), "heat.*255"),
    ],
)
def test_invalid_image_or_map_is_refused(image, heat, expected):
    with pytest.raises(ValueError, match=expected):
        overlay(image, heat)


def test_empty_input_is_refused(tmp_path):
    with pytest.raises(ValueError, match="panels"):
        draw_maps([], tmp_path / "sheet.png")
    with pytest.raises(ValueError, match=r"heat.*\(2, 2, 3\)"):
        colour_map(np.zeros((2, 2, 3)))
