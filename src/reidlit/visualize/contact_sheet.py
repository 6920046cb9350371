"""Contact sheets: some identities of a dataset with their images, to see what one is going to train on."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from reidlit.data.datamodule import Split, count
from reidlit.data.decode import decode
from reidlit.data.images import Read
from reidlit.data.sample import Sample
from reidlit.visualize.ranked_list import CAPTION, FRAME, GAP, HEADER, HEIGHT, INK, PAPER, QUERY, WIDTH

LABEL = 96  # width of the column that says who is shown, in pixels
EMPTY = (225, 225, 225)  # around an image of another shape than its cell, and instead of one that cannot be read


class Tile(NamedTuple):
    """One image; of a tracklet, the first frame."""

    path: str
    camid: int
    query: bool = False


class Row(NamedTuple):
    """One identity. `label` may have several lines."""

    label: str
    tiles: Sequence[Tile]


def choose_rows(
    samples: Mapping[Split, Sequence[Sample]],
    identities: int,
    images: int,
    seed: int,
    junk_pids: Collection[int] = (),
) -> list[Row]:
    """Draw identities by lot, half from training and half from the queries, and images of each from all its cameras.

    Args:
        samples: Of each split; any may be missing.
        identities: How many, or all if there are fewer.
        images: At most so many each.
        seed: Of the draw.
        junk_pids: Which are no identities.

    Returns:
        Rows by part and pid; in each the queries first, then by camera.
    """
    generator = np.random.default_rng(seed)
    # Of each identity the samples, and whether each is a query; it may be in the gallery too.
    parts: dict[str, dict[int, dict[Sample, bool]]] = {"train": defaultdict(dict), "test": defaultdict(dict)}
    for split, listed in samples.items():
        for sample in listed:
            if sample.pid not in junk_pids:
                group = parts["train" if split == "train" else "test"][sample.pid]
                group[sample] = group.get(sample, False) or split == "query"
    if "query" in samples:  # the others of the gallery are distractors
        asked = {sample.pid for sample in samples["query"]}
        parts["test"] = {pid: group for pid, group in parts["test"].items() if pid in asked}
    shares = {"train": identities - identities // 2 if parts["test"] else identities}
    shares["test"] = identities - (shares["train"] if parts["train"] else 0)
    rows = []
    for part, groups in parts.items():
        for pid in sorted(generator.permutation(sorted(groups))[: shares[part]].tolist()):
            have = count(list(groups[pid]))
            unit = "images" if isinstance(next(iter(groups[pid])).path, str) else "tracklets"
            label = f"{part}\nid {pid}\n{have.images} {unit}\n{have.cameras} cameras"
            rows.append(Row(label, _pick(groups[pid], images, generator)))
    return rows


def _pick(group: Mapping[Sample, bool], images: int, generator: np.random.Generator) -> list[Tile]:
    """Draw so that every camera has its turn, and queries before the gallery."""
    members = list(group.items())
    taken: dict[tuple[bool, int], int] = defaultdict(int)
    drawn = []
    for index in generator.permutation(len(members)):
        sample, query = members[index]
        drawn.append((taken[query, sample.camid], not query, sample.camid, int(index)))
        taken[query, sample.camid] += 1
    chosen = sorted(drawn)[:images]
    return [_tile(*members[index]) for *_, index in sorted(chosen, key=lambda each: each[1:])]


def _tile(sample: Sample, query: bool) -> Tile:
    return Tile(sample.path if isinstance(sample.path, str) else sample.path[0], sample.camid, query)


def draw_contact_sheet(rows: Sequence[Row], path: Path, title: str = "", read: Read = decode) -> Path:
    """Draw one row an identity; queries have a blue frame. Images keep their shape.

    Args:
        rows: What to draw; at least one.
        path: The .png file to write.
        title: Written on top.
        read: path -> (H, W, 3) uint8 RGB. An image that it cannot read is shown as an empty cell that says so.

    Returns:
        `path`.

    Raises:
        ValueError: If there is no row.
    """
    if not rows:
        raise ValueError("rows is empty: give at least one identity to draw.")
    columns = max(len(row.tiles) for row in rows)
    cell = (WIDTH + 2 * FRAME + GAP, HEIGHT + 2 * FRAME + CAPTION + GAP)
    sheet = Image.new("RGB", (columns * cell[0] + LABEL + GAP, len(rows) * cell[1] + HEADER + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), title, fill=INK, font=ImageFont.load_default(14))
    for number, row in enumerate(rows):
        top = HEADER + number * cell[1]
        draw.multiline_text((GAP, top), row.label, fill=INK, font=ImageFont.load_default(12), spacing=4)
        for column, tile in enumerate(row.tiles):
            _draw(sheet, draw, (LABEL + column * cell[0], top), tile, read)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path


def _draw(sheet: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], tile: Tile, read: Read) -> None:
    left, top = corner
    right, bottom = left + WIDTH + 2 * FRAME - 1, top + HEIGHT + 2 * FRAME - 1
    draw.rectangle((left, top, right, bottom), fill=QUERY if tile.query else PAPER)
    draw.rectangle((left + FRAME, top + FRAME, right - FRAME, bottom - FRAME), fill=EMPTY)
    try:
        image = Image.fromarray(read(tile.path))
    except (OSError, ValueError):
        size = "unreadable"
    else:
        size = f"{image.height} x {image.width}"
        shown = ImageOps.contain(image, (WIDTH, HEIGHT))
        sheet.paste(shown, (left + FRAME + (WIDTH - shown.width) // 2, top + FRAME + (HEIGHT - shown.height) // 2))
    camera = f"cam {tile.camid + 1}" if tile.camid >= 0 else "no camera"
    text = f"{'query, ' if tile.query else ''}{camera}\n{size}"
    draw.multiline_text((left, bottom + 3), text, fill=INK, font=ImageFont.load_default(11), spacing=2)
