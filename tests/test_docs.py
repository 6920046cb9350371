"""What the documentation says: its code runs, its commands compose, its links lead somewhere, and the site builds."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from helpers.cli_settings import TINY, TRAIN
from helpers.slow import mostly_slow
from reidlit.cli import COMMANDS, _named
from reidlit.config import CONFIG_DIR

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"(<!-- run -->\n)?^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```", re.MULTILINE | re.DOTALL)
QUICK = {"README.md", "docs/concepts.md", "docs/evaluate.md", "docs/own-loss.md", "docs/use.md"}
PLACEHOLDER = re.compile(r"\.\.\.|<[^>]+>|\$")  # what a reader fills in


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page):
    """(whether it runs, language, file name, text) of each block of code."""
    return [(bool(run), language, title, text) for run, language, title, text in FENCE.findall(page.read_text())]


def commands(text):
    """The words of each `reidlit` command of a shell block, without what a reader fills in."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if "reidlit" in words:
            _, *arguments = words[words.index("reidlit") :]
            if arguments and not arguments[0].startswith("-"):
                yield arguments[0], [word for word in arguments[1:] if not PLACEHOLDER.search(word)]


def every_command():
    """Each command once, with the page that it is on first."""
    found = {}
    for page in PAGES:
        for _, language, _, text in blocks(page):
            if language in ("sh", "bash"):
                for command, arguments in commands(text):
                    found.setdefault((command, *arguments), page.name)
    for (command, *arguments), page in found.items():
        yield pytest.param(command, arguments, id=f"{page}: {command} {' '.join(arguments)}"[:100])


@pytest.mark.parametrize(("command", "arguments"), [*every_command()])
def test_commands_compose(command, arguments):
    assert command in COMMANDS
    if "--config-dir" in arguments:
        pytest.skip("its part is written by its page, which runs")
    given = _named(command, [word for word in arguments if not word.startswith("-")])
    parsed = OverridesParser.create().parse_overrides(given)
    first = [single(override) for override in parsed if not override.is_interval_sweep()]
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        compose(command, [override for override in first if not override.startswith("hydra")])


def single(override):
    """Of a sweep, its first job."""
    if not override.is_sweep_override():
        return override.input_line
    return f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"


@pytest.fixture(scope="module")
def things(tmp_path_factory, trained, drawn):
    """What the pages take for granted in the reader's folder."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "last.ckpt").symlink_to(trained / "checkpoints" / "last.ckpt")
    (folder / "run").symlink_to(trained)
    images = sorted(next(drawn.glob("synthetic/*")).glob("*.jpg"))
    for image in images[:12]:
        crop = folder / "crops" / image.name[:4] / image.name
        crop.parent.mkdir(parents=True, exist_ok=True)
        crop.symlink_to(image)
    (folder / "a.jpg").symlink_to(images[0])
    (folder / "b.jpg").symlink_to(images[1])
    return folder


@pytest.mark.parametrize("name", mostly_slow([name_of(page) for page in PAGES if "```" in page.read_text()], QUICK))
def test_code_runs(name, tmp_path, monkeypatch, things, reidlit):
    """In the order of the page: files are written, Python runs in one namespace, marked commands run on tiny data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    page = ROOT / name
    for thing in things.iterdir():
        (tmp_path / thing.name).symlink_to(thing)
    variables = {"__name__": "docs"}
    for run, language, title, text in blocks(page):
        if title:
            (tmp_path / title).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / title).write_text(text)
        elif language == "python":
            exec(compile(text, name, "exec"), variables)
        elif run:
            for arguments in to_run(text):
                done = reidlit(*arguments)
                assert done.status == 0, done.out[-2000:] + done.err[-4000:]


def to_run(text):
    """The arguments of each line of a block of commands; of those that train on drawn people with fewer of them."""
    for line in text.replace("\\\n", " ").splitlines():
        command, *arguments = shlex.split(line, comments=True)
        assert command == "reidlit"
        yield [*arguments, *(TRAIN if "train" in arguments else TINY)] if smaller(line) else arguments


def smaller(line):
    """Whether a command uses the drawn pedestrians, which are the default."""
    drawn = "data=" not in line or re.search(r"data=synthetic\b", line)
    return bool(re.match(r"reidlit (train|test) ", f"{line} ") and drawn)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link or link.startswith("mailto:"):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{link} leads nowhere"
        if anchor and target.suffix == ".md":
            titles = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert anchor in {slug(title) for title in titles}, f"{link}: no such heading"


def slug(title):
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")


def test_every_page_is_in_the_navigation():
    def pages(node):
        if isinstance(node, str):
            yield node
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            yield from pages(child)

    there = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert set(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])) == there


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "build_model" in (tmp_path / "site" / "api" / "index.html").read_text()
