"""Heat maps over images: panels with an image, its map and the overlay."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from reidlit.files import atomic_path
from reidlit.visualize.ranked_list import CAPTION, GAP, HEADER, HEIGHT, INK, PAPER, WIDTH

COLUMNS = 4  # panels per row
ALPHA = 0.5  # weight of the map in the overlay
TITLE_SIZE, CAPTION_SIZE = 14, 11


class MapPanel(NamedTuple):
    """Image with its heat map.

    Attributes:
        image: (H, W, 3) uint8 RGB image.
        heat: (H, W) map in [0, 1].
        caption: Caption of at most two lines.
    """

    image: NDArray[Any]
    heat: NDArray[Any]
    caption: str = ""


def colour_map(heat: NDArray[Any]) -> NDArray[Any]:
    """Color a map from dark blue at 0 to red at 1.

    Source: Mikhailov, "Turbo, An Improved Rainbow Colormap for Visualization", Google AI Blog 2019.

    Args:
        heat: (H, W) map in [0, 1].

    Returns:
        (H, W, 3) uint8 RGB image.

    Raises:
        ValueError: If `heat` has another shape or range.
    """
    if heat.ndim != 2 or not heat.size:
        raise ValueError(f"heat of shape {heat.shape} is invalid: must be a non-empty map (H, W).")
    if not (heat.min() >= 0 and heat.max() <= 1):  # NaN fails the comparison too
        raise ValueError(f"heat from {heat.min():.3g} to {heat.max():.3g} is invalid: must be in [0, 1].")
    levels = np.rint(255 * heat).astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)[:, :, ::-1])  # OpenCV returns BGR


def overlay(image: NDArray[Any], heat: NDArray[Any]) -> NDArray[Any]:
    """Blend a colored map with its image.

    Args:
        image: (H, W, 3) uint8 RGB image.
        heat: (H, W) map in [0, 1].

    Returns:
        (H, W, 3) uint8 RGB image.

    Raises:
        ValueError: If image and map differ in size, or have another shape, type or range.
    """
    if image.dtype != np.uint8 or image.shape != (*heat.shape, 3):
        raise ValueError(
            f"image of shape {image.shape} and type {image.dtype} is invalid: must be (H, W, 3) uint8 with a map (H, "
            f"W) of the same size, got a map of shape {heat.shape}."
        )
    mixed = (1 - ALPHA) * image + ALPHA * colour_map(heat)
    return np.rint(mixed).astype(np.uint8)


def draw_maps(panels: Sequence[MapPanel], path: Path, title: str = "") -> Path:
    """Draw the image, the map and the overlay of each panel.

    Args:
        panels: Panels to draw; at least one.
        path: Output file (.png).
        title: Title at the top.

    Returns:
        `path`.

    Raises:
        ValueError: If `panels` is empty, or a map does not fit its image.
    """
    if not panels:
        raise ValueError("panels is empty: give at least one image with its map.")
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    # No gap between the images of one panel.
    cell = (3 * WIDTH + GAP, HEIGHT + CAPTION + GAP)
    font = ImageFont.load_default(TITLE_SIZE)
    width = max(columns * cell[0] + GAP, round(font.getlength(title)) + 2 * GAP)
    sheet = Image.new("RGB", (width, rows * cell[1] + HEADER + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), title, fill=INK, font=font)
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        _draw(sheet, draw, (GAP + column * cell[0], HEADER + row * cell[1]), panel)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as part:
        sheet.save(part)
    return path


def _draw(sheet: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], panel: MapPanel) -> None:
    left, top = corner
    images = (panel.image, colour_map(panel.heat), overlay(panel.image, panel.heat))
    for index, image in enumerate(images):
        sheet.paste(Image.fromarray(image).resize((WIDTH, HEIGHT)), (left + index * WIDTH, top))
    font = ImageFont.load_default(CAPTION_SIZE)
    text = "\n".join(_shortened(line, font) for line in panel.caption.splitlines())
    draw.multiline_text((left, top + HEIGHT + 2), text, fill=INK, font=font, spacing=2)


def _shortened(line: str, font: Any) -> str:
    """Shorten a long line at its start, because file names differ at their end."""
    if font.getlength(line) <= 3 * WIDTH:
        return line
    kept = line
    while kept and font.getlength(f"...{kept}") > 3 * WIDTH:
        kept = kept[1:]
    return f"...{kept}"
