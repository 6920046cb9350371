"""Contact sheets: random identities of a dataset with their images."""

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
from reidlit.files import atomic_path
from reidlit.visualize.ranked_list import CAPTION, FRAME, GAP, HEADER, HEIGHT, INK, PAPER, QUERY, WIDTH

LABEL = 96  # width of the label column in pixels
EMPTY = (225, 225, 225)  # background of a cell, visible around and instead of its image


class Tile(NamedTuple):
    """Image of a contact sheet.

    Attributes:
        path: Path of the image, or of the first frame of a tracklet.
        camid: Camera, negative if unknown.
        query: Whether the image is a query.
    """

    path: str
    camid: int
    query: bool = False


class Row(NamedTuple):
    """Row of a contact sheet: one identity.

    Attributes:
        label: Label of the row, possibly with several lines.
        tiles: Images of the identity.
    """

    label: str
    tiles: Sequence[Tile]


def choose_rows(
    samples: Mapping[Split, Sequence[Sample]],
    identities: int,
    images: int,
    seed: int,
    junk_pids: Collection[int] = (),
) -> list[Row]:
    """Choose random identities, half from training and half from the queries, with images of all their cameras.

    Args:
        samples: Samples of each split; splits may be missing.
        identities: Number of identities; all if there are fewer.
        images: Maximum number of images per identity.
        seed: Random seed of the choice.
        junk_pids: pids that are not identities.

    Returns:
        Rows sorted by split and pid. In each row, queries come first, then images sorted by camera.
    """
    generator = np.random.default_rng(seed)
    # part -> pid -> sample -> whether it is a query; a query may be in the gallery as well
    parts: dict[str, dict[int, dict[Sample, bool]]] = {"train": defaultdict(dict), "test": defaultdict(dict)}
    for split, listed in samples.items():
        for sample in listed:
            if sample.pid not in junk_pids:
                group = parts["train" if split == "train" else "test"][sample.pid]
                group[sample] = group.get(sample, False) or split == "query"
    if "query" in samples:  # other identities of the gallery are distractors
        query_pids = {sample.pid for sample in samples["query"]}
        parts["test"] = {pid: group for pid, group in parts["test"].items() if pid in query_pids}
    limits = {"train": identities - identities // 2 if parts["test"] else identities}
    limits["test"] = identities - (limits["train"] if parts["train"] else 0)
    rows = []
    for part, groups in parts.items():
        for pid in sorted(generator.permutation(sorted(groups))[: limits[part]].tolist()):
            have = count(list(groups[pid]))
            unit = "images" if isinstance(next(iter(groups[pid])).path, str) else "tracklets"
            label = f"{part}\nid {pid}\n{have.images} {unit}\n{have.cameras} cameras"
            rows.append(Row(label, _pick(groups[pid], images, generator)))
    return rows


def _pick(group: Mapping[Sample, bool], images: int, generator: np.random.Generator) -> list[Tile]:
    """Choose random images that alternate between cameras, queries first."""
    members = list(group.items())
    taken: dict[tuple[bool, int], int] = defaultdict(int)
    ranked = []
    for index in generator.permutation(len(members)):
        sample, query = members[index]
        ranked.append((taken[query, sample.camid], not query, sample.camid, int(index)))
        taken[query, sample.camid] += 1
    chosen = sorted(ranked)[:images]
    return [_tile(*members[index]) for *_, index in sorted(chosen, key=lambda each: each[1:])]


def _tile(sample: Sample, query: bool) -> Tile:
    return Tile(sample.path if isinstance(sample.path, str) else sample.path[0], sample.camid, query)


def draw_contact_sheet(rows: Sequence[Row], path: Path, title: str = "", read: Read = decode) -> Path:
    """Draw one row per identity. Queries have a blue frame, and images keep their aspect ratio.

    Args:
        rows: Rows to draw; at least one.
        path: Output file (.png).
        title: Title at the top.
        read: Function from a path to an image (H, W, 3) uint8 RGB. An unreadable image becomes an empty, labeled cell.

    Returns:
        `path`.

    Raises:
        ValueError: If `rows` is empty.
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
    with atomic_path(path) as part:
        sheet.save(part)
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
