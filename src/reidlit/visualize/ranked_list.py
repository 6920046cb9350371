"""Ranked lists as a picture: each query and what the gallery answered."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from reidlit.data.decode import decode
from reidlit.data.images import Read

HEIGHT, WIDTH = 160, 80  # of a shown image, in pixels
FRAME, GAP, CAPTION, HEADER = 4, 8, 34, 30
RIGHT, WRONG, QUERY, INK, PAPER = (34, 139, 60), (200, 40, 40), (40, 60, 160), (30, 30, 30), (255, 255, 255)
JUNK, NO_LABEL = (150, 150, 150), (205, 205, 205)
STRIP = 3  # frames of a tracklet, side by side


class ListedImage(NamedTuple):
    """One image of a list.

    Attributes:
        path: of the image.
        pid: its identity, negative where unknown.
        camid: its camera, likewise.
        distance: to the query; `None` for the query itself.
        match: whether it shows the query's identity; `None` for the query, and where an identity is unknown.
        junk: whether the protocol leaves it out.
        frames: of a tracklet, all its images in temporal order; `path` is the first.
    """

    path: str
    pid: int
    camid: int
    distance: float | None = None
    match: bool | None = None
    junk: bool = False
    frames: Sequence[str] = ()

    @property
    def strip(self) -> list[str]:
        """What is drawn: the image, or some frames from all over the tracklet."""
        count = min(STRIP, len(self.frames))
        last = len(self.frames) - 1
        return [self.frames[round(last * place / max(count - 1, 1))] for place in range(count)] or [self.path]

    @property
    def verdict(self) -> str:
        """The frame's colour in a word, for those who cannot tell green from red."""
        return "junk" if self.junk else {True: "same", False: "other", None: ""}[self.match]

    @property
    def colour(self) -> tuple[int, int, int]:
        """Of the frame."""
        return JUNK if self.junk else {True: RIGHT, False: WRONG, None: NO_LABEL}[self.match]


class RankedList(NamedTuple):
    """A query and the gallery entries nearest to it, nearest first."""

    query: ListedImage
    entries: Sequence[ListedImage]


def draw_ranked_lists(lists: Sequence[RankedList], path: Path, title: str = "", read: Read = decode) -> Path:
    """Write a `sheet`.

    Args:
        lists: what to draw; at least one.
        path: the .png file to write.
        title: written on top.
        read: path -> (H, W, 3) uint8 RGB.

    Returns:
        `path`.

    Raises:
        ValueError: if there is no list.
    """
    drawn = sheet(lists, title, read)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.save(path)
    return path


def sheet(lists: Sequence[RankedList], title: str = "", read: Read = decode) -> Image.Image:
    """Draw one row a query: a green frame means the same identity, a red one another, a grey one junk or unknown.

    A tracklet is a strip of some of its frames.

    Args:
        lists: what to draw; at least one.
        title: written on top.
        read: path -> (H, W, 3) uint8 RGB.

    Returns:
        The picture.

    Raises:
        ValueError: if there is no list.
    """
    if not lists:
        raise ValueError("lists is empty: give at least one ranked list to draw.")
    columns = 1 + max(len(ranked.entries) for ranked in lists)
    width = WIDTH * max(len(shown.strip) for ranked in lists for shown in (ranked.query, *ranked.entries))
    cell = (width + 2 * FRAME + GAP, HEIGHT + 2 * FRAME + CAPTION + GAP)
    drawn = Image.new("RGB", (columns * cell[0] + 2 * GAP, len(lists) * cell[1] + HEADER + GAP), PAPER)
    draw = ImageDraw.Draw(drawn)
    draw.text((GAP, GAP), title, fill=INK, font=ImageFont.load_default(14))
    for row, ranked in enumerate(lists):
        top = HEADER + row * cell[1]
        _draw(drawn, draw, (GAP, top), ranked.query, QUERY, "query", read)
        for column, entry in enumerate(ranked.entries, start=1):
            left = 2 * GAP + column * cell[0]
            _draw(drawn, draw, (left, top), entry, entry.colour, f"{column}: {entry.distance:.3g}", read)
    return drawn


def framed(shown: ListedImage, colour: tuple[int, int, int] | None = None, read: Read = decode) -> Image.Image:
    """One image of a list in its frame, or in a frame of another colour; a tracklet as a strip."""
    strip = [Image.fromarray(read(file)).resize((WIDTH, HEIGHT)) for file in shown.strip]
    size = (WIDTH * len(strip) + 2 * FRAME, HEIGHT + 2 * FRAME)
    drawn = Image.new("RGB", size, shown.colour if colour is None else colour)
    for place, image in enumerate(strip):
        drawn.paste(image, (FRAME + place * WIDTH, FRAME))
    return drawn


def _draw(
    drawn: Image.Image,
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    shown: ListedImage,
    colour: tuple[int, int, int],
    caption: str,
    read: Read,
) -> None:
    left, top = corner
    drawn.paste(framed(shown, colour, read), (left, top))
    camera = f"cam {shown.camid + 1}" if shown.camid >= 0 else "no camera"
    who = f"id {shown.pid}, " if shown.pid >= 0 else ""
    text = f"{caption} {shown.verdict}\n{who}{camera}"
    draw.multiline_text(
        (left, top + HEIGHT + 2 * FRAME + 2), text, fill=INK, font=ImageFont.load_default(11), spacing=2
    )
