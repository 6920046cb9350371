"""Tables of images: read, split by chance into train, query and gallery, and written."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from reidlit.data.csv_reader import Line, read_csv
from reidlit.data.datamodule import ALL_SPLITS
from reidlit.data.splits import drawn_order
from reidlit.files import atomic_write

TEST = "test"  # in place of query and gallery where these are to be drawn
ROLES = (*ALL_SPLITS, TEST)
OF_TRACKLETS = ("tracklet", "frame")  # columns that mean nothing to who reads single images


class Row(NamedTuple):
    """An image as a table lists it; what is not known is empty.

    Attributes:
        path: of the file, absolute or below some root, with `/` between folders.
        pid: the identity's name.
        camid: the camera's name.
        split: one of `ROLES`.
        dsetid: the name of the dataset that the image comes from.
        drawn_with: the settings with which its split was drawn.
        tracklet: the name of the tracklet that the image is a frame of.
        frame: its number there.
    """

    path: str
    pid: str
    camid: str = ""
    split: str = ""
    dsetid: str = ""
    drawn_with: str = ""
    tracklet: str = ""
    frame: str = ""


def is_decided(rows: Iterable[Row]) -> bool:
    """Whether nothing is left to draw."""
    return all(row.split in ALL_SPLITS for row in rows)


def draw_splits(rows: Sequence[Row], test_fraction: float, seed: int, unit: str = "images") -> list[Row]:
    """Give a split to each row that has none, and query or gallery to each of split `test`.

    Whole identities go to train or test. Those can be tested that can be queried: with images of two cameras or, where no
    camera is known, with two images. Of such an identity each camera gives one query, drawn by chance, and the rest goes to
    the gallery, where an image of another camera always remains; without cameras the identity gives one query.

    Args:
        rows: sorted by path, each path once.
        test_fraction: how many of the identities that can be queried are tested, at least one, for rows without a split. 0
            trains on all. 1 tests on all; those that cannot be queried are distractors in the gallery then.
        seed: of the draw, which depends on nothing but it and the rows.
        unit: what a row is, for people.

    Raises:
        ValueError: if no identity can be queried, or fewer than two remain for training.
    """
    if any(not row.split for row in rows):
        tested = _tested(rows, test_fraction, seed, unit)
        rows = [row._replace(split=TEST if row.pid in tested else "train") for row in rows]
    shuffled = [rows[i] for i in drawn_order(len(rows), seed) if rows[i].split == TEST]
    groups = [group for group in _by_pid(shuffled).values() if _can_be_queried(group)]
    if shuffled and not groups:
        raise ValueError(_no_query(shuffled, unit))
    queries = {row.path for group in groups for row in _queries(group)}
    return [
        row._replace(split="query" if row.path in queries else "gallery") if row.split == TEST else row for row in rows
    ]


def apply_table(file: Path, rows: Sequence[Row], settings: str) -> list[Row]:
    """Give each row the split that a table has for it.

    Args:
        file: the table.
        rows: sorted by path, each path once.
        settings: those that a split would be drawn with now.

    Returns:
        The rows; twice that which is in query and gallery.

    Raises:
        ValueError: if the table is none, or lists other images, or was drawn with other settings.
    """
    way_out = "Delete that file to have a split drawn anew, or give another data.split_file or data.name."
    kept = read_table(file)
    if not is_decided(kept):
        raise ValueError(f"data.split_file={file}: its column split must say train, query or gallery. {way_out}")
    if other := next((row.drawn_with for row in kept if row.drawn_with not in ("", settings)), None):
        raise ValueError(f"data.split_file={file} was drawn with {other}, not with {settings}. {way_out}")
    now, then = ({row.path: row for row in table} for table in (rows, kept))
    added, removed = len(now.keys() - then.keys()), len(then.keys() - now.keys())
    changed = sum(not _agree(now[path], then[path]) for path in now.keys() & then.keys())
    if added or removed or changed:
        raise ValueError(
            f"data.split_file={file} holds the split of other data: {added} were added since, {removed} removed, and "
            f"{changed} have another identity, camera or split. {way_out}"
        )
    return [now[row.path]._replace(split=row.split) for row in sorted(kept)]


def read_table(file: Path) -> list[Row]:
    """Read a CSV file with a header, in UTF-8, with commas, semicolons or tabs.

    The columns `path` and `pid` are needed; `camid`, `split` and `dsetid` may be there and are then filled in on every line.
    `tracklet` and `frame` are read too; others are passed over. An image may be listed twice only as query and gallery.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not such a table; the line is named.
    """
    _, lines = read_csv(
        file, lambda titles: {"path", "pid"}.issubset(titles), "the columns path and pid", lower=True, known=Row._fields
    )
    seen: dict[str, dict[str, Line]] = defaultdict(dict)
    rows: dict[int, Row] = {}
    for line in lines:
        row = _row(line)
        earlier = seen[row.path]
        if earlier and _repeats(row, [rows[other.number] for other in earlier.values()]):
            raise ValueError(
                f"{line.place}: {row.path!r} is on line {min(earlier.values()).number} already. Only an image that is query "
                "and gallery may be listed twice, with the same labels."
            )
        earlier[row.split] = line
        rows[line.number] = row
    return list(rows.values())


def write_table(file: Path, rows: Sequence[Row]) -> None:
    """Write a table that `read_table` reads, whole or not at all; empty columns are left out.

    Raises:
        ValueError: if it cannot be written.
    """
    columns = [position for position, values in enumerate(zip(*rows, strict=True)) if any(values)]
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")  # quotes keep blanks at the start of a path
    writer.writerow([Row._fields[column] for column in columns])
    writer.writerows([row[column] for column in columns] for row in rows)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, text.getvalue().encode())
    except OSError as error:
        raise ValueError(
            f"The drawn split cannot be written to {file} ({error}). Name a file in a writable folder as data.split_file."
        ) from error


def _tested(rows: Sequence[Row], fraction: float, seed: int, unit: str) -> set[str]:
    """The identities to test on."""
    groups = _by_pid(rows)
    able = [pid for pid, group in groups.items() if _can_be_queried(group)]
    if fraction == 0:
        return set()
    if not able:
        raise ValueError(_no_query(rows, unit))
    if fraction == 1:
        return set(groups)
    number = max(1, round(fraction * len(able)))
    if len(groups) - number < 2:
        raise ValueError(
            f"data.test_fraction={fraction} leaves {len(groups) - number} of {len(groups)} identities for training, which "
            "needs two. Lower it; 0 trains on all, 1 tests on all."
        )
    return {able[i] for i in drawn_order(len(able), seed)[:number]}


def _can_be_queried(group: Sequence[Row]) -> bool:
    """Whether one of an identity's images finds another."""
    return len({row.camid for row in group}) > 1 if group[0].camid else len(group) > 1


def _queries(group: Sequence[Row]) -> list[Row]:
    """The queries of an identity: the first image of each camera, but not all if no other camera were left to find."""
    by_camera: dict[str, list[Row]] = defaultdict(list)
    for row in group:
        by_camera[row.camid].append(row)
    single = [camera for camera, images in by_camera.items() if len(images) == 1]
    num_found = len(by_camera) - len(single)  # cameras that would still be in the gallery
    if len(by_camera) > 1 and num_found < 2:
        del by_camera[single[0]]
    return [images[0] for images in by_camera.values()]


def _no_query(rows: Sequence[Row], unit: str) -> str:
    if rows[0].camid:
        return (
            f"No identity has {unit} of two cameras, so none can be queried. Leave the cameras out to compare within a camera: "
            "folders without data.camera_pattern, which is null then, a table without the column camid."
        )
    return f"No identity has two {unit}, so none can be queried. data.test_fraction=0 trains on all."


def _by_pid(rows: Iterable[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.pid].append(row)
    return groups


def _row(line: Line) -> Row:
    """Return the known columns of a line."""
    known = {column: line.cells[column] for column in Row._fields if column in line.cells}
    needed = [column for column in known if column not in OF_TRACKLETS]
    if empty := next((column for column in needed if not known[column].strip()), None):
        way_out = "" if empty in ("path", "pid") else " or leave the column out"
        raise ValueError(f"{line.place}: {empty} is empty. Fill it in on every line{way_out}.")
    if known.get("split", TEST).strip() not in ROLES:
        raise ValueError(f"{line.place}: split={known['split']!r} must be one of {', '.join(ROLES)}.")
    path = PurePath(known.pop("path").rstrip()).as_posix()  # blanks at its start may belong to it
    return Row(path, **{column: value.strip() for column, value in known.items()})


def _agree(row: Row, kept: Row) -> bool:
    """Whether a row and what a table keeps of it have the same labels, and splits that do not contradict each other."""
    splits = {"": ALL_SPLITS, TEST: ("query", "gallery")}.get(row.split, (row.split,))
    return (row.pid, row.camid) == (kept.pid, kept.camid) and kept.split in splits


def _repeats(row: Row, earlier: Sequence[Row]) -> bool:
    """Whether an image that is listed already is listed again otherwise than as query and gallery."""
    splits = {other.split for other in earlier}
    same = all(other._replace(split=row.split) == row for other in earlier)
    return not same or row.split in splits or splits | {row.split} != {"query", "gallery"}
