"""Every parser reads a file name correctly or refuses it by name; the long form tries 10,000 names per parser."""

import os
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from reidlit.cli import _named
from reidlit.config import option, options
from reidlit.data import archive
from reidlit.data.datasets import (
    cuhk01,
    cuhk02,
    cuhk03,
    cuhksysu,
    dukemtmcreid,
    grid,
    ilids,
    market1501,
    msmt17,
    prid,
    sensereid,
    university1652,
    viper,
)
from reidlit.data.datasets.custom import as_samples
from reidlit.data.random_splits import Row, read_table, write_table

pytestmark = pytest.mark.timeout(3600)  # the long form
LONG = bool(os.environ.get("REIDLIT_FAULTS"))
fuzz = settings(
    max_examples=10_000 if LONG else 150,
    deadline=None,
    derandomize=not LONG,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
FOLDER = Path("some folder") / "0007_c3"  # looks like a name of Market-1501, but must be ignored
MOST = 999_999_999

# Non-ASCII digits, white space, an invisible character, and a byte that is not valid UTF-8.
ODD = "0123456789_-+.cps \n\t²٣𝟛½ü\u200b\udc80\x00"  # noqa: RUF001 - unusual characters on purpose
odd_text = st.text(st.sampled_from(ODD) | st.characters(), max_size=30)
file_names = odd_text.filter(lambda name: name and "/" not in name and "\0" not in name)


class Parser(NamedTuple):
    """Name parser of a dataset.

    Attributes:
        parse: Parser under test.
        name: Template of a valid name, with the fields `pid`, `camera` and `n`.
        pids: Smallest and largest pid.
        cameras: Smallest and largest camera.
        grammar: Regular expression of valid names, written independently of the parser. Its groups are pid and camera.
        numbers: Smallest and largest `n`.
        expected: Function from pid, camera and `n` to the parsed pid and camid.
    """

    parse: Callable[[Path], object]
    name: str
    pids: tuple[int, int]
    cameras: tuple[int, int]
    grammar: str
    numbers: tuple[int, int] = (0, 9)
    expected: Callable[[int, int, int], tuple[int, int]] = lambda pid, camera, _: (pid, camera - 1)


def parse_msmt17(path):
    """Parse a line of the lists of MSMT17."""
    name, _, pid = path.name.partition(" ")
    return msmt17.parse_line(f"0000/{name} {pid}", path.parent, True, str(path))


PARSERS = {
    "market1501": Parser(
        market1501.Market1501.parse_name, "{pid:04d}_c{camera}s1_{n:06d}_00.jpg", (-1, 1501), (1, 6), r"(-?\d+)_c(\d)(?!\d).*"
    ),
    "dukemtmcreid": Parser(
        dukemtmcreid.DukeMTMCreID.parse_name, "{pid:04d}_c{camera}_f{n:07d}.jpg", (0, 9999), (1, 8), r"(\d{1,9})_c(\d)(?!\d).*"
    ),
    "cuhk01": Parser(
        cuhk01.CUHK01.parse_name, "{pid:04d}{camera:03d}.png", (0, 9999), (1, 4), r"(\d{4})(\d{3})\..*",
        expected=lambda pid, camera, _: (pid, (camera - 1) // 2),
    ),
    "cuhk02": Parser(
        lambda path: cuhk02.CUHK02.parse_name(path.parent / "P1" / "cam1" / path.name), "{pid:03d}_{n}.png", (0, 9999), (1, 1), r"(\d{1,9})()_.*",
        expected=lambda pid, camera, _: (10_000 + pid, camera - 1),
    ),
    "cuhk03": Parser(
        cuhk03.CUHK03.parse_name, "{n}_{pid:03d}_{camera}_01.png", (0, 999), (1, 2),
        r"[1-5]_(\d{3})_([12])_\d{2}\.png", numbers=(1, 5),
        expected=lambda pid, camera, n: (1000 * n + pid, 2 * (n - 1) + camera - 1),
    ),
    "cuhksysu": Parser(
        cuhksysu.CUHKSYSU.parse_name, "p{pid}_s{n}_1.jpg", (0, MOST), (0, 0), r"p(\d{1,9})_s()\d{1,9}_.*"
    ),
    "grid": Parser(
        grid.GRID.parse_name, "{pid:04d}_{camera}_25004_{n}_32_106_221.jpeg", (0, 250), (1, 8), r"(\d{4})_(\d)_.*"
    ),
    "ilids": Parser(
        ilids.ILIDS.parse_name, "{pid:04d}{camera:03d}.jpg", (0, 9999), (1, 999), r"(\d{4})(\d{3})\..*"
    ),
    "msmt17": Parser(
        parse_msmt17, "0000_000_{camera:02d}_0303morning_{n:04d}_0.jpg {pid}", (0, 3059), (1, 15),
        r"[^_]*_[^_]*_(?=(\d+)[_.])\d+[_.].*\s(\d+)\s*", expected=lambda pid, camera, _: (1041 + pid, camera - 1),
    ),
    "prid": Parser(
        lambda path: prid.PRID.parse_name(path.parent / "cam_a" / path.name), "person_{pid:04d}.png", (1, 749), (1, 1), r"person_(\d{4})()\..*"
    ),
    "sensereid": Parser(
        sensereid.SenseReID.parse_name, "{pid:05d}_{camera}.jpg", (0, MOST), (0, MOST), r"(\d{1,9})_(\d{1,9})(?!\d).*",
        expected=lambda pid, camera, _: (pid, camera),
    ),
    "university1652": Parser(
        lambda path: university1652.University1652.parse_name(path.parent / "drone" / path.name / "1.jpg"), "{pid:04d}", (0, MOST), (1, 1), r"(\d{1,9})()"
    ),
    "viper": Parser(
        lambda path: viper.VIPeR.parse_name(path.parent / "cam_a" / path.name), "{pid:03d}_{n}.bmp", (0, MOST), (1, 1), r"(\d{1,9})()_\d+\..*"
    ),
}  # fmt: skip
WITHOUT_PARSER = {"dukemtmcvidreid"}  # its names must agree within a tracklet, so it is not a plain parser


@st.composite
def valid_names(draw, parser):
    """Generate a valid name with its pid, camera and number."""
    pid, camera, n = (draw(st.integers(*bounds)) for bounds in (parser.pids, parser.cameras, parser.numbers))
    return parser.name.format(pid=pid, camera=camera, n=n), (pid, camera, n)


@st.composite
def mutated_names(draw, parser):
    """Generate a valid name with a few changed characters."""
    name, _ = draw(valid_names(parser))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(name)))
        name = name[:at] + draw(st.sampled_from(["", *ODD])) + name[at + draw(st.integers(0, 2)) :]
    assume(name and "/" not in name and "\0" not in name)
    return name


def test_every_dataset_that_reads_names_is_fuzzed():
    modules = {name: import_module(option("data", name)["_target_"].rpartition(".")[0]) for name in options("data")}
    reading = {name for name, module in modules.items() if hasattr(module, "NAME")}
    assert reading - WITHOUT_PARSER == set(PARSERS)


@pytest.mark.parametrize("dataset", PARSERS)
def test_valid_names_are_parsed_correctly(dataset):
    parser = PARSERS[dataset]

    @fuzz
    @given(valid_names(parser))
    def check(generated):
        name, (pid, camera, n) = generated
        sample = parser.parse(FOLDER / name)
        expected = parser.expected(pid, camera, n)
        assert sample.pid == expected[0]
        if "{camera" in parser.name:
            assert sample.camid == expected[1]

    check()


@pytest.mark.parametrize("dataset", PARSERS)
def test_invalid_names_are_refused_by_name(dataset):
    parser = PARSERS[dataset]
    grammar = re.compile(parser.grammar, re.ASCII | re.DOTALL)

    @fuzz
    @given(mutated_names(parser) | file_names)
    def check(name):
        path = FOLDER / name
        try:
            sample = parser.parse(path)
        except ValueError as error:
            assert path.name in str(error) or repr(path.name)[1:-1] in str(error)  # noqa: PT017 - some names are valid
            return
        assert grammar.fullmatch(path.name), f"{name!r} was parsed as {sample.pid}, {sample.camid}"
        assert 0 <= sample.pid + 1 <= MOST + 10_000
        assert -1 <= sample.camid <= MOST

    check()


@fuzz
@given(odd_text | st.lists(st.sampled_from(["..", ".", "a", "", "C:", "/", "\\", "b c", "..."])).map("/".join))
def test_archive_names_never_lead_outside(name):
    try:
        relative = str(archive.safe_name(name, Path("/data/set")))
    except ValueError as error:
        assert repr(name) in str(error)  # noqa: PT017 - some names are valid
        return
    target = os.path.normpath(f"/data/set/{relative}")
    assert target.startswith("/data/set/")
    assert target.removeprefix("/data/set/") == relative
    assert "\\" not in relative


cells = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
labels = cells.filter(lambda text: text == text.strip())
paths = st.lists(cells.filter(lambda part: "/" not in part and part not in (".", "..")), min_size=1, max_size=3)
rows = st.tuples(
    paths.map("/".join).filter(lambda path: path == path.rstrip()), labels, labels, st.sampled_from(["train", "query"])
).map(lambda columns: Row(*columns))


@fuzz
@given(table=st.lists(rows, min_size=1, max_size=5, unique_by=lambda row: row.path))
def test_table_is_read_as_written(table, tmp_path):
    write_table(tmp_path / "table.csv", table)
    assert read_table(tmp_path / "table.csv") == table


@fuzz
@given(
    header=st.permutations(["path", "pid", "camid", "split", "Other"]),
    text=st.text(st.sampled_from("a1\"',;\t\n\r. ²") | st.characters(codec="utf-8"), max_size=60),
    delimiter=st.sampled_from(",;\t"),
)
def test_arbitrary_table_is_read_or_refused_by_name(header, text, delimiter, tmp_path):
    (tmp_path / "table.csv").write_bytes(f"{delimiter.join(header)}\n{text}".encode())
    try:
        table = read_table(tmp_path / "table.csv")
    except ValueError as error:
        assert str(tmp_path / "table.csv") in str(error)  # noqa: PT017 - most tables are valid
        return
    for row in table:
        assert row.path.strip()
        assert row.pid == row.pid.strip() != ""
        assert row.split in ("train", "query", "gallery", "test")


@fuzz
@given(st.lists(st.tuples(st.sampled_from("ab²٣ 1") | labels, st.just("") | labels), min_size=1, max_size=8))
def test_different_names_of_people_and_cameras_get_different_numbers(people):
    table = [Row(f"{number}.jpg", pid, camid) for number, (pid, camid) in enumerate(people)]
    try:
        samples = as_samples(table, Path("root"))
    except ValueError as error:
        assert any(repr(name) in str(error) for pair in people for name in pair)  # noqa: PT017 - most tables are valid
        return
    for row, sample in zip(table, samples, strict=True):
        for other, second in zip(table, samples, strict=True):
            assert (row.pid == other.pid) == (sample.pid == second.pid)
            if row.camid or row is other:
                assert (row.camid == other.camid) == (sample.camid == second.camid)
            else:
                assert sample.camid < -1
                assert sample.camid != second.camid


printable = st.text(
    st.sampled_from("ab ,;'\"\\\\[]{}()$:%#é²") | st.characters(categories=["L", "N", "P", "S"]), min_size=1
)


@fuzz
@given(
    st.lists(printable.filter(lambda name: not {"=", "/"} & set(name) and name[0] not in "-~+"), min_size=2, max_size=2)
)
def test_files_on_the_command_line_are_parsed_literally(files):
    (setting,) = _named("verify", list(files))
    (override,) = OverridesParser.create().parse_overrides([setting])
    assert override.value() == files
