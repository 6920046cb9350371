"""Pictures of ranked lists: each query with its nearest gallery images."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from reidlit.data.decode import decode
from reidlit.data.images import Read
from reidlit.files import atomic_path

HEIGHT, WIDTH = 160, 80  # size of an image in pixels
FRAME, GAP, CAPTION, HEADER = 4, 8, 34, 30
RIGHT, WRONG, QUERY, INK, PAPER = (34, 139, 60), (200, 40, 40), (40, 60, 160), (30, 30, 30), (255, 255, 255)
JUNK, NO_LABEL = (150, 150, 150), (205, 205, 205)
STRIP = 3  # frames shown per tracklet


class ListedImage(NamedTuple):
    """Image or tracklet of a ranked list.

    Attributes:
        path: Path of the image, or of the first frame of a tracklet.
        pid: Identity, negative if unknown.
        camid: Camera, negative if unknown.
        distance: Distance to the query; None for the query itself.
        match: Whether it shows the identity of the query; None for the query, and if an identity is unknown.
        junk: Whether the protocol ignores it for this query.
        frames: Paths of all frames of a tracklet in temporal order; empty for an image.
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
        """Paths of the images to draw: the image, or evenly spaced frames of the tracklet."""
        count = min(STRIP, len(self.frames))
        last = len(self.frames) - 1
        return [self.frames[round(last * index / max(count - 1, 1))] for index in range(count)] or [self.path]

    @property
    def verdict(self) -> str:
        """Meaning of the frame color as a word, for color-blind readers."""
        return "junk" if self.junk else {True: "same", False: "other", None: ""}[self.match]

    @property
    def colour(self) -> tuple[int, int, int]:
        """RGB color of the frame."""
        return JUNK if self.junk else {True: RIGHT, False: WRONG, None: NO_LABEL}[self.match]


class RankedList(NamedTuple):
    """Query with its nearest gallery entries, nearest first."""

    query: ListedImage
    entries: Sequence[ListedImage]


def draw_ranked_lists(lists: Sequence[RankedList], path: Path, title: str = "", read: Read = decode) -> Path:
    """Draw ranked lists and save the picture; see `sheet`.

    Args:
        lists: Ranked lists to draw; at least one.
        path: Output file (.png).
        title: Title at the top.
        read: Function from a path to an image (H, W, 3) uint8 RGB.

    Returns:
        `path`.

    Raises:
        ValueError: If `lists` is empty.
    """
    picture = sheet(lists, title, read)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as part:
        picture.save(part)
    return path


def sheet(lists: Sequence[RankedList], title: str = "", read: Read = decode) -> Image.Image:
    """Draw one row per query.

    The frame of an entry is green for the identity of the query, red for another identity, and gray for junk or unknown
    identities. A tracklet is drawn as a strip of some of its frames.

    Args:
        lists: Ranked lists to draw; at least one.
        title: Title at the top.
        read: Function from a path to an image (H, W, 3) uint8 RGB.

    Raises:
        ValueError: If `lists` is empty.
    """
    if not lists:
        raise ValueError("lists is empty: give at least one ranked list.")
    columns = 1 + max(len(ranked.entries) for ranked in lists)
    width = WIDTH * max(len(shown.strip) for ranked in lists for shown in (ranked.query, *ranked.entries))
    cell = (width + 2 * FRAME + GAP, HEIGHT + 2 * FRAME + CAPTION + GAP)
    picture = Image.new("RGB", (columns * cell[0] + 2 * GAP, len(lists) * cell[1] + HEADER + GAP), PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((GAP, GAP), title, fill=INK, font=ImageFont.load_default(14))
    for row, ranked in enumerate(lists):
        top = HEADER + row * cell[1]
        _draw(picture, draw, (GAP, top), ranked.query, QUERY, "query", read)
        for column, entry in enumerate(ranked.entries, start=1):
            left = 2 * GAP + column * cell[0]
            _draw(picture, draw, (left, top), entry, entry.colour, f"{column}: {entry.distance:.3g}", read)
    return picture


def framed(shown: ListedImage, colour: tuple[int, int, int] | None = None, read: Read = decode) -> Image.Image:
    """Draw an image or a tracklet with its frame.

    Args:
        shown: Image or tracklet.
        colour: RGB color of the frame; by default that of `shown`.
        read: Function from a path to an image (H, W, 3) uint8 RGB.
    """
    strip = [Image.fromarray(read(file)).resize((WIDTH, HEIGHT)) for file in shown.strip]
    size = (WIDTH * len(strip) + 2 * FRAME, HEIGHT + 2 * FRAME)
    picture = Image.new("RGB", size, shown.colour if colour is None else colour)
    for index, image in enumerate(strip):
        picture.paste(image, (FRAME + index * WIDTH, FRAME))
    return picture


def _draw(
    picture: Image.Image,
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    shown: ListedImage,
    colour: tuple[int, int, int],
    caption: str,
    read: Read,
) -> None:
    left, top = corner
    picture.paste(framed(shown, colour, read), (left, top))
    camera = f"cam {shown.camid + 1}" if shown.camid >= 0 else "no camera"
    identity = f"id {shown.pid}, " if shown.pid >= 0 else ""
    text = f"{caption} {shown.verdict}\n{identity}{camera}"
    draw.multiline_text(
        (left, top + HEIGHT + 2 * FRAME + 2), text, fill=INK, font=ImageFont.load_default(11), spacing=2
    )
