"""Image tables: reading, writing, and random splits into train, query and gallery."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from reidlit.data.csv_reader import Line, read_csv
from reidlit.data.datamodule import ALL_SPLITS
from reidlit.data.splits import drawn_order
from reidlit.escaping import for_cell
from reidlit.files import atomic_write

TEST = "test"  # split of images that are divided randomly into query and gallery
ROLES = (*ALL_SPLITS, TEST)
TRACKLET_COLUMNS = ("tracklet", "frame")  # ignored by image datasets


class Row(NamedTuple):
    """Row of an image table; unknown fields are empty.

    Attributes:
        path: Path of the image, absolute or relative to a root, with `/` as separator.
        pid: Name of the identity.
        camid: Name of the camera.
        split: One of `ROLES`.
        dsetid: Name of the dataset that the image comes from.
        drawn_with: Settings of the random split.
        tracklet: Name of the tracklet that the image belongs to.
        frame: Number of the frame in the tracklet.
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
    """Return True if all rows have a final split."""
    return all(row.split in ALL_SPLITS for row in rows)


def draw_splits(rows: Sequence[Row], test_fraction: float, seed: int, unit: str = "images") -> list[Row]:
    """Assign a random split to rows without one, and divide rows of split `test` into query and gallery.

    All images of an identity go to either train or test. An identity is eligible for testing if it was seen by two
    cameras or, if cameras are unknown, has two images. Each camera of a test identity contributes one random query, and
    the other images form the gallery, which always keeps an image of another camera. If cameras are unknown, the
    identity contributes one query.

    Args:
        rows: Rows sorted by path, with unique paths.
        test_fraction: Fraction of the eligible identities to test on, at least one identity. 0 uses all rows for
            training; 1 uses all for testing, with ineligible identities as distractors in the gallery.
        seed: Random seed; the result depends only on the seed and the rows.
        unit: Plural name of a row ("images", "tracklets"), for messages.

    Raises:
        ValueError: If no identity is eligible or fewer than two remain for training.
    """
    if any(not row.split for row in rows):
        test_pids = _draw_test_pids(rows, test_fraction, seed, unit)
        rows = [row._replace(split=TEST if row.pid in test_pids else "train") for row in rows]
    shuffled = [rows[i] for i in drawn_order(len(rows), seed) if rows[i].split == TEST]
    groups = [group for group in _by_pid(shuffled).values() if _can_be_queried(group)]
    if shuffled and not groups:
        raise ValueError(_no_query(shuffled, unit))
    queries = {row.path for group in groups for row in _queries(group)}
    return [
        row._replace(split="query" if row.path in queries else "gallery") if row.split == TEST else row for row in rows
    ]


def apply_table(file: Path, rows: Sequence[Row], settings: str) -> list[Row]:
    """Assign to each row the split stored in a table.

    Args:
        file: Path of the table.
        rows: Rows sorted by path, with unique paths.
        settings: Settings with which a split would be drawn now.

    Returns:
        The rows with splits; an image that is both query and gallery entry occurs twice.

    Raises:
        ValueError: If the table is invalid, lists different images or was drawn with different settings.
    """
    remedy = "Delete the file to draw a new split, or choose another data.split_file or data.name."
    stored = read_table(file)
    if not is_decided(stored):
        raise ValueError(f"data.split_file={file}: the column split must contain train, query or gallery. {remedy}")
    if other := next((row.drawn_with for row in stored if row.drawn_with not in ("", settings)), None):
        raise ValueError(f"data.split_file={file} was drawn with {other} instead of {settings}. {remedy}")
    current, previous = ({row.path: row for row in table} for table in (rows, stored))
    added, removed = len(current.keys() - previous.keys()), len(previous.keys() - current.keys())
    changed = sum(not _labels_agree(current[path], previous[path]) for path in current.keys() & previous.keys())
    if added or removed or changed:
        raise ValueError(
            f"data.split_file={file} does not match the data: {added} added, {removed} removed, and {changed} with "
            f"another identity, camera or split. {remedy}"
        )
    return [current[row.path]._replace(split=row.split) for row in sorted(stored)]


def read_table(file: Path) -> list[Row]:
    """Read an image table from a UTF-8 CSV file with a header, delimited by commas, semicolons or tabs.

    The columns `path` and `pid` are required. The columns `camid`, `split` and `dsetid` are optional, but must not have
    empty cells. `tracklet` and `frame` are optional, and other columns are ignored. An image may occur twice only if it
    is both query and gallery entry.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the table is invalid; the message names the line.
    """
    _, lines = read_csv(
        file,
        lambda titles: {"path", "pid"}.issubset(titles),
        "the columns path and pid",
        lower=True,
        unique=Row._fields,
    )
    seen: dict[str, dict[str, Line]] = defaultdict(dict)
    rows: dict[int, Row] = {}
    for line in lines:
        row = _row(line)
        earlier = seen[row.path]
        if earlier and _is_duplicate(row, [rows[other.number] for other in earlier.values()]):
            raise ValueError(
                f"{line.location}: {row.path!r} is a duplicate of line {min(earlier.values()).number}. An image may be "
                "listed twice only as query and gallery with the same labels."
            )
        earlier[row.split] = line
        rows[line.number] = row
    return list(rows.values())


def write_table(file: Path, rows: Sequence[Row]) -> None:
    """Write a table in the format of `read_table`, atomically and without empty columns.

    Raises:
        ValueError: If the file cannot be written.
    """
    columns = [position for position, values in enumerate(zip(*rows, strict=True)) if any(values)]
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")  # quotes preserve leading blanks of a path
    writer.writerow([Row._fields[column] for column in columns])
    writer.writerows([for_cell(row[column]) for column in columns] for row in rows)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, text.getvalue().encode())
    except OSError as error:
        raise ValueError(
            f"Cannot write the random split to {file} ({error}). Set data.split_file to a file in a writable folder."
        ) from error


def _draw_test_pids(rows: Sequence[Row], fraction: float, seed: int, unit: str) -> set[str]:
    """Return random identities for testing."""
    groups = _by_pid(rows)
    eligible = [pid for pid, group in groups.items() if _can_be_queried(group)]
    if fraction == 0:
        return set()
    if not eligible:
        raise ValueError(_no_query(rows, unit))
    if fraction == 1:
        return set(groups)
    number = max(1, round(fraction * len(eligible)))
    if len(groups) - number < 2:
        raise ValueError(
            f"data.test_fraction={fraction} leaves {len(groups) - number} of {len(groups)} identities for training, "
            "but at least 2 are required. Choose a smaller fraction, 0 to train on all identities, or 1 to test on "
            "all."
        )
    return {eligible[i] for i in drawn_order(len(eligible), seed)[:number]}


def _can_be_queried(group: Sequence[Row]) -> bool:
    """Return True if a query of this identity can have a match in the gallery."""
    return len({row.camid for row in group}) > 1 if group[0].camid else len(group) > 1


def _queries(group: Sequence[Row]) -> list[Row]:
    """Return the first image of each camera, but leave one camera out if the gallery would otherwise lack a match."""
    by_camera: dict[str, list[Row]] = defaultdict(list)
    for row in group:
        by_camera[row.camid].append(row)
    single = [camera for camera, images in by_camera.items() if len(images) == 1]
    num_gallery_cameras = len(by_camera) - len(single)  # if each camera contributed a query
    if len(by_camera) > 1 and num_gallery_cameras < 2:
        del by_camera[single[0]]
    return [images[0] for images in by_camera.values()]


def _no_query(rows: Sequence[Row], unit: str) -> str:
    if rows[0].camid:
        return (
            f"No identity has {unit} from two cameras, so no query can have a match. To match within a camera, set "
            "data.camera_pattern=null for folders or remove the column camid from a table."
        )
    return (
        f"No identity has two {unit}, so no query can have a match. Set data.test_fraction=0 to train on all of them."
    )


def _by_pid(rows: Iterable[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.pid].append(row)
    return groups


def _row(line: Line) -> Row:
    """Return the row that a line describes."""
    cells = {column: line.cells[column] for column in Row._fields if column in line.cells}
    required = [column for column in cells if column not in TRACKLET_COLUMNS]
    if empty := next((column for column in required if not cells[column].strip()), None):
        remedy = "" if empty in ("path", "pid") else " or remove the column"
        raise ValueError(f"{line.location}: {empty} is empty. Fill it in on every line{remedy}.")
    if cells.get("split", TEST).strip() not in ROLES:
        raise ValueError(f"{line.location}: split={cells['split']!r} is invalid: must be one of {', '.join(ROLES)}.")
    path = PurePath(cells.pop("path").rstrip()).as_posix()  # a path may start with blanks
    return Row(path, **{column: value.strip() for column, value in cells.items()})


def _labels_agree(row: Row, stored: Row) -> bool:
    """Return True if a row and its stored version have the same labels and compatible splits."""
    splits = {"": ALL_SPLITS, TEST: ("query", "gallery")}.get(row.split, (row.split,))
    return (row.pid, row.camid) == (stored.pid, stored.camid) and stored.split in splits


def _is_duplicate(row: Row, earlier: Sequence[Row]) -> bool:
    """Return True unless the row lists an earlier image, with equal labels, as query and gallery."""
    splits = {other.split for other in earlier}
    same = all(other._replace(split=row.split) == row for other in earlier)
    return not same or row.split in splits or splits | {row.split} != {"query", "gallery"}
