"""`reidlit report`, and its page in a browser."""

import json
import re
import shutil

import numpy as np
import pyarrow.parquet
import pytest

from reidlit.commands.report import confused
from reidlit.data.sample import Sample
from reidlit.tables import write_table

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def page_file(trained, command, tmp_path_factory):
    """Write the report of a run; return the HTML file."""
    folder = tmp_path_factory.mktemp("report") / "run"
    shutil.copytree(trained, folder)
    set_precisions(folder)
    printed = command(folder.parent, "report", f"run={folder}", "queries=9", "top_k=4", "confusions=3")
    assert f"report: {folder / 'report.html'}" in printed
    return folder / "report.html"


def set_precisions(folder):
    """Replace the average precisions by distinct values, because a short training may give equal ones."""
    table = pyarrow.parquet.read_table(folder / "per_query.parquet")
    order = np.random.default_rng(0).permutation(len(table))
    ap = pyarrow.array((order + 0.5) / len(table))
    table = table.set_column(table.column_names.index("ap"), "ap", ap)
    pyarrow.parquet.write_table(table, folder / "per_query.parquet")


def test_page_is_complete_and_self_contained(page_file):
    text = page_file.read_text(encoding="utf-8")
    metrics = json.loads((page_file.parent / "metrics.json").read_text())
    assert f"{100 * metrics['test/synthetic/mAP']:.2f}" in text
    for heading in ("Results", "Retrieval", "Verification", "Training", "Queries", "Data", "Configuration"):
        assert f">{heading}" in text, heading
    assert not re.findall(r"(?:src|href)=\"(?!data:image/|#)", text)
    assert "url(" not in re.sub(r"url\(#\w+\)", "", text)
    assert str(page_file.parent.parent) not in re.sub(r"<pre.*?</pre>", "", text, flags=re.DOTALL)
    assert text.count('class="open"') == 9
    assert "torch" in text[text.index('id="run"') :]


def test_page_contains_worst_and_best_queries(page_file):
    table = pyarrow.parquet.read_table(page_file.parent / "per_query.parquet")
    ap = np.sort(100 * table["ap"].to_numpy())
    found = np.array([float(value) for value in re.findall(r'data-ap="([\d.]+)"', page_file.read_text())])
    np.testing.assert_allclose(found[:3], ap[:3], atol=1e-5)
    np.testing.assert_allclose(found[-3:], ap[::-1][:3], atol=1e-5)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser, page_file):
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    problems = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda message: problems.append(message.text))
    opened.on(
        "request",
        lambda request: problems.append(request.url) if not request.url.startswith(("file:", "data:")) else None,
    )
    opened.goto(page_file.as_uri())
    yield opened
    opened.close()
    assert problems == []


def shown(page):
    """Return the data attributes of the visible queries, in the order of the page."""
    return page.eval_on_selector_all("#list > li:not([hidden])", "items => items.map(item => ({...item.dataset}))")


def test_queries_are_sorted(page):
    def values(order, key="ap"):
        page.select_option("[name=order]", order)
        return [float(item[key]) for item in shown(page)]

    assert values("worst") == sorted(values("worst"))
    assert values("best") == sorted(values("worst"), reverse=True)
    assert values("pid", "pid") == sorted(values("pid", "pid"))
    assert len({tuple(values(order)) for order in ("worst", "best", "random")}) == 3


def test_queries_are_filtered(page):
    every = shown(page)
    cameras = {item["camera"] for item in every}
    assert len(cameras) == 2
    chosen = min(cameras)
    page.select_option("[name=camera]", chosen)
    assert {item["camera"] for item in shown(page)} == {chosen}
    count = page.inner_text("#count")
    assert count.startswith(f"{len(shown(page))} of {len(shown(page))} ")
    page.click("button[type=reset]")
    page.wait_for_function(f"document.querySelectorAll('#list > li:not([hidden])').length === {len(every)}")
    middle = sorted(float(item["ap"]) for item in every)[4]
    page.fill("[name=most]", f"{middle:.1f}")
    assert 0 < len(shown(page)) < len(every)
    assert all(float(item["ap"]) <= round(middle, 1) for item in shown(page))
    page.fill("[name=most]", "100")
    page.fill("[name=pid]", every[0]["pid"])
    assert {item["pid"] for item in shown(page)} == {every[0]["pid"]}
    page.fill("[name=pid]", "99999")
    assert shown(page) == []
    assert page.inner_text("#count").startswith("0 of 0")


def test_query_opens_and_closes_by_keyboard(page):
    page.focus("#list > li:not([hidden]) button.open")
    page.keyboard.press("Enter")
    dialog = page.locator("dialog[open]")
    assert dialog.count() == 1
    assert dialog.locator("ol.answers li").count() == 4
    assert dialog.get_by_role("button", name="Close").evaluate("element => element === document.activeElement")
    assert page.evaluate("document.querySelector('dialog').getAttribute('aria-labelledby')") == "opened-title"
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    page.wait_for_function("document.activeElement.matches('button.open')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_legible_in_both_color_schemes_on_a_phone(browser, page_file, scheme):
    context = browser.new_context(color_scheme=scheme, viewport={"width": 360, "height": 740})
    page = context.new_page()
    page.goto(page_file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    paper, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert contrast(paper, ink) > 7
    axis = page.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill")
    assert contrast(page.evaluate("getComputedStyle(document.querySelector('figure')).backgroundColor"), axis) > 4.5
    unnamed = page.evaluate(
        "[...document.querySelectorAll('img, button, select, input')].filter(each => !each.hasAttribute('alt') && !(each.getAttribute('aria-label') || each.textContent || each.labels?.length)).length"
    )
    assert unnamed == 0
    context.close()


def contrast(one, two):
    """Return the contrast ratio of two colors as defined by WCAG."""

    def luminance(color):
        channels = [int(value) / 255 for value in re.findall(r"\d+", color)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


def test_confusions_are_counted_in_both_directions():
    gallery = [Sample("a", 1, 0), Sample("b", 2, 0), Sample("c", 0, 0)]
    columns = {
        "pid": np.array([1, 2, 1, 2]),
        "path": np.array(["q1", "q2", "q3", "q4"]),
        "first_match": np.array([2, 3, 1, 2]),
        "nearest": np.array([[1], [0], [0], [2]]),
        "distance": np.array([[0.5], [0.25], [0.1], [0.1]]),
    }
    (pair,) = confused({"d": (columns, gallery)})  # the third query is correct, the fourth finds a distractor
    assert (pair.pid, pair.other, pair.times, pair.query, pair.answer, pair.distance) == (1, 2, 2, "q2", "a", 0.25)


def test_report_without_images_and_without_test(trained, reidlit, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    done = reidlit("report", "run=run", f"data_root={tmp_path / 'nowhere'}", f"output={tmp_path}/page.html")
    assert done.status == 0, done.err
    text = (tmp_path / "page.html").read_text()
    assert "nowhere" in text
    assert 'id="queries"' not in text
    for name in ("metrics.json", "per_query.parquet"):
        (tmp_path / "run" / name).unlink()
    done = reidlit("report", "run=run")
    assert done.status == 0, done.err
    text = (tmp_path / "run" / "report.html").read_text()
    assert ">Training<" in text
    assert ">Results<" not in text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run=nowhere"], "run=nowhere"),
        (["run=empty"], "run=empty"),
        (["run=unfinished"], "run=unfinished"),
        (["run=empty", "top_k=0"], "top_k=0"),
    ],
)
def test_invalid_arguments_are_named(arguments, expected, reidlit, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "unfinished" / ".hydra").mkdir(parents=True)
    (tmp_path / "unfinished" / ".hydra" / "config.yaml").write_text("model: null\n")
    done = reidlit("report", *arguments)
    assert done.status == 1
    assert expected in done.err
    assert "Traceback" not in done.err


def test_special_characters_are_escaped(trained, reidlit, tmp_path):
    """A file name never becomes markup."""
    shutil.copytree(trained, tmp_path / "run")
    file = tmp_path / "run" / "per_query.parquet"
    table = pyarrow.parquet.read_table(file)
    columns = {name: np.array(table[name].to_pylist()) for name in table.column_names}
    columns["path"] = np.array(["<script>alert(1)</script>.jpg"] * len(columns["path"]))
    write_table(file, columns)
    done = reidlit("report", "run=run")
    assert done.status == 0, done.err
    assert "<script>alert" not in (tmp_path / "run" / "report.html").read_text()
