"""Pictures of maps over images: panels of an image, its map and both together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from reidlit.visualize.ranked_list import CAPTION, GAP, HEADER, HEIGHT, INK, PAPER, WIDTH

ACROSS = 4  # panels in a row
SHARE = 0.5  # of the map's colour in the overlay
TITLE_SIZE, CAPTION_SIZE = 14, 11


class MapPanel(NamedTuple):
    """An image (H, W, 3) uint8 RGB and its map (H, W) in 0 to 1. `caption` may have two lines."""

    image: NDArray[Any]
    heat: NDArray[Any]
    caption: str = ""


def colour_map(heat: NDArray[Any]) -> NDArray[Any]:
    """A map in colours, from dark blue at 0 to red at 1.

    Source: Mikhailov, "Turbo, An Improved Rainbow Colormap for Visualization", Google AI Blog 2019.

    Args:
        heat: (H, W) in 0 to 1.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: if it is of another shape or range.
    """
    if heat.ndim != 2 or not heat.size:
        raise ValueError(f"heat must be a map (H, W), got the shape {heat.shape}.")
    if not (heat.min() >= 0 and heat.max() <= 1):  # NaN fails the comparison too
        raise ValueError(f"heat must be in 0 to 1, got {heat.min():.3g} to {heat.max():.3g}.")
    levels = np.rint(255 * heat).astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)[:, :, ::-1])  # OpenCV's colours are BGR


def overlay(image: NDArray[Any], heat: NDArray[Any]) -> NDArray[Any]:
    """A map in colours over its image.

    Args:
        image: (H, W, 3) uint8 RGB.
        heat: (H, W) in 0 to 1.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: if the two are of different sizes, or of another shape, type or range.
    """
    if image.dtype != np.uint8 or image.shape != (*heat.shape, 3):
        raise ValueError(
            f"image must be (H, W, 3) uint8 with a map (H, W), got {image.shape} of {image.dtype} and a map {heat.shape}."
        )
    mixed = (1 - SHARE) * image + SHARE * colour_map(heat)
    return np.rint(mixed).astype(np.uint8)


def draw_maps(panels: Sequence[MapPanel], path: Path, title: str = "") -> Path:
    """Draw image, map and overlay of each.

    Args:
        panels: what to draw; at least one.
        path: the .png file to write.
        title: written on top.

    Returns:
        `path`.

    Raises:
        ValueError: if there is nothing to draw, or a map does not fit its image.
    """
    if not panels:
        raise ValueError("panels is empty: give at least one image with its map to draw.")
    across = min(ACROSS, len(panels))
    down = -(-len(panels) // across)
    # Images of one panel touch, so that the eye takes them together.
    cell = (3 * WIDTH + GAP, HEIGHT + CAPTION + GAP)
    font = ImageFont.load_default(TITLE_SIZE)
    width = max(across * cell[0] + GAP, round(font.getlength(title)) + 2 * GAP)
    sheet = Image.new("RGB", (width, down * cell[1] + HEADER + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), title, fill=INK, font=font)
    for number, panel in enumerate(panels):
        row, column = divmod(number, across)
        _draw(sheet, draw, (GAP + column * cell[0], HEADER + row * cell[1]), panel)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path


def _draw(sheet: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], panel: MapPanel) -> None:
    left, top = corner
    together = overlay(panel.image, panel.heat)
    for place, shown in enumerate((panel.image, colour_map(panel.heat), together)):
        sheet.paste(Image.fromarray(shown).resize((WIDTH, HEIGHT)), (left + place * WIDTH, top))
    font = ImageFont.load_default(CAPTION_SIZE)
    text = "\n".join(_fitting(line, font) for line in panel.caption.splitlines())
    draw.multiline_text((left, top + HEIGHT + 2), text, fill=INK, font=font, spacing=2)


def _fitting(line: str, font: Any) -> str:
    """The end of a line that is too long: there the names of files differ."""
    if font.getlength(line) <= 3 * WIDTH:
        return line
    kept = line
    while kept and font.getlength(f"...{kept}") > 3 * WIDTH:
        kept = kept[1:]
    return f"...{kept}"
