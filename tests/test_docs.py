"""Tests of the documentation: its code runs, its commands compose, its links resolve and the site builds."""

import re
import shlex
import shutil
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
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(r"(<!-- run -->\n)?^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```", re.MULTILINE | re.DOTALL)
PLACEHOLDER = re.compile(r"\.\.\.|<[^>]+>|\$")  # a value that readers fill in
QUICK = TRAIN[len(TINY) :]
SMALL = {  # settings that make each synthetic dataset small
    "synthetic": TINY,
    "synthetic_attributes": [*TINY, "data.num_identities=24", "data.num_val=6"],
    "synthetic_video": [*TINY, "data.seq_len=2"],
}
FIRST_RUN = "runs/train/first"  # the run of docs/get-started/five-minutes.md, which most guides use
FAST = {
    "README.md",
    "docs/concepts/evaluation.md",
    "docs/concepts/thresholds.md",
    "docs/concepts/why-numbers-differ.md",
    "docs/guides/custom-loss.md",
    "docs/guides/evaluate.md",
    "docs/guides/search-and-verify.md",
}


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def code_blocks(page):
    """Return (is run, language, file name, text) for each code block of a page."""
    return [(bool(run), language, title, text) for run, language, title, text in FENCE.findall(page.read_text())]


def shell_lines(text):
    """Return the lines of a shell block, with continued lines joined and comments removed."""
    lines = (shlex.split(line, comments=True) for line in text.replace("\\\n", " ").splitlines())
    return [words for words in lines if words]


def commands(text):
    """Yield the command and the overrides of each `reidlit` line of a shell block, without placeholders."""
    for words in shell_lines(text):
        if "reidlit" in words:
            _, *arguments = words[words.index("reidlit") :]
            if arguments and not arguments[0].startswith("-"):
                yield arguments[0], [word for word in arguments[1:] if not PLACEHOLDER.search(word)]


def every_command():
    """Yield each command once, labeled with the first page that shows it."""
    pages = {}
    for page in PAGES:
        for _, language, _, text in code_blocks(page):
            if language in ("sh", "bash"):
                for command, arguments in commands(text):
                    pages.setdefault((command, *arguments), page.name)
    for (command, *arguments), page in pages.items():
        yield pytest.param(command, arguments, id=f"{page}: {command} {' '.join(arguments)}"[:100])


@pytest.mark.parametrize(("command", "arguments"), [*every_command()])
def test_commands_compose(command, arguments):
    assert command in COMMANDS
    if "--config-dir" in arguments:
        pytest.skip("the YAML file is on the page, and the page runs")
    overrides = _named(command, [word for word in arguments if not word.startswith("-")])
    parsed = OverridesParser.create().parse_overrides(overrides)
    first_job = [first_value(override) for override in parsed if not override.is_interval_sweep()]
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        compose(command, [override for override in first_job if not override.startswith("hydra")])


def first_value(override):
    """Return an override with the first value of its sweep."""
    if not override.is_sweep_override():
        return override.input_line
    return f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"


@pytest.fixture(scope="module")
def readers_files(tmp_path_factory, trained, drawn):
    """Folder with the files that the pages expect: the first run, synthetic images and a folder of crops."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "last.ckpt").symlink_to(trained / "checkpoints" / "last.ckpt")
    images = sorted(min(drawn.glob("synthetic/*")).glob("*.jpg"))
    for person in sorted({image.name[:4] for image in images})[:4]:
        of_person = [image for image in images if image.name.startswith(person)]
        for image in of_person[:: max(1, len(of_person) // 6)][:6]:  # from several cameras
            crop = folder / "crops" / person / image.name
            crop.parent.mkdir(parents=True, exist_ok=True)
            crop.symlink_to(image)
    (folder / "a.jpg").symlink_to(images[0])
    (folder / "b.jpg").symlink_to(images[1])
    return folder


@pytest.mark.parametrize("name", mostly_slow([name_of(page) for page in PAGES if "```" in page.read_text()], FAST))
def test_code_runs(name, tmp_path, monkeypatch, readers_files, trained, reidlit):
    """Write the files, execute the Python blocks in one namespace and run the marked commands, in the page's order."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for file in readers_files.iterdir():
        (tmp_path / file.name).symlink_to(file)
    shutil.copytree(trained, tmp_path / FIRST_RUN)
    variables = {"__name__": "docs"}
    for run, language, title, text in code_blocks(ROOT / name):
        if title:
            (tmp_path / title).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / title).write_text(text)
        elif language == "python":
            exec(compile(text, name, "exec"), variables)
        elif run:
            for arguments in to_run(text):
                result = reidlit(*arguments)
                assert result.status == 0, result.out[-2000:] + result.err[-4000:]


def to_run(text):
    """Yield the arguments of each line; commands on synthetic data get less data, and the first run is not repeated."""
    for command, *arguments in shell_lines(text):
        assert command == "reidlit"
        if f"hydra.run.dir={FIRST_RUN}" in arguments:
            continue
        dataset = synthetic_dataset(arguments)
        yield [*arguments, *SMALL[dataset], *(QUICK if "train" in arguments else [])] if dataset else arguments


def synthetic_dataset(arguments):
    """Return the synthetic dataset of a command, which is the default of some commands, or None."""
    names = [argument.partition("=")[2] for argument in arguments if re.match(r"(data|features)=", argument)]
    if not names:
        return "synthetic" if arguments[0] in ("train", "test", "doctor", "prepare") else None
    return names[0] if names[0] in SMALL else None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link or link.startswith("mailto:"):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists() or is_generated(target), f"{link}: no such file"
        if anchor and target.suffix == ".md" and target.exists():
            titles = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert anchor in {slug(title) for title in titles}, f"{link}: no such heading"


def is_generated(page):
    """Return True for the pages that mkdocs generates; a strict build checks the links to them."""
    return any((DOCS / "reference" / folder) in page.parents for folder in ("cli", "config"))


def slug(title):
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")


def test_every_page_is_in_the_navigation():
    def pages(node):
        if isinstance(node, str):
            yield node
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            yield from pages(child)

    written = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md") if not is_generated(page)}
    listed = set(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert {page for page in listed if not is_generated(DOCS / page) and page.endswith(".md")} == written


def test_pictures_are_small():
    for picture in (DOCS / "images").iterdir():
        assert picture.stat().st_size < 150_000 or picture.suffix == ".py", picture.name


@pytest.mark.slow
def test_site_builds_without_warnings(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "build_model" in (tmp_path / "site" / "reference" / "python" / "models" / "index.html").read_text()
